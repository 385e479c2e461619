//! The bounded HTTP client and the shared parts of our servers.

use crate::openai::{ApiError, Shape};
use axum::{extract::Request, middleware::Next, response::Response};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue};
use std::{fmt, sync::Once, time::Duration};

/// The header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may be silent. Streams carry a sign of life every ten seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const MAX_IDLE_PER_HOST: usize = 64;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot start: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// A client for talking to other members: no redirects (a payment goes where it was meant to go or
/// nowhere), no proxies from the environment, bounded waits.
pub fn client() -> Result<reqwest::Client, ClientError> {
    ensure_tls();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .tcp_nodelay(true)
        .user_agent(concat!("gristmill/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Chooses the TLS implementation of the process, once. `reqwest` is built without one, so that a
/// second copy of a cryptographic library is never linked; without this call its clients panic.
pub fn ensure_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another part of the process has chosen already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError<E: fmt::Display> {
    /// More bytes than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection failed.
    #[error("the body broke off: {0}")]
    Transport(E),
}

/// Reads a whole body of at most `limit` bytes, of a request (`Body::into_data_stream`) or of an
/// answer (`reqwest::Response::bytes_stream`).
pub async fn read_body<S, E>(body: S, limit: usize) -> Result<Bytes, BodyError<E>>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(BodyError::Transport)?;
        let held = first.len().saturating_add(whole.len());
        if held.saturating_add(part.len()) > limit {
            return Err(BodyError::TooLarge(limit));
        }
        // Most bodies come in one part, which needs no copy.
        if held == 0 {
            first = part;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&part);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

impl<E: fmt::Display> From<BodyError<E>> for ApiError {
    fn from(error: BodyError<E>) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::too_large(limit),
            BodyError::Transport(error) => Self::malformed(error),
        }
    }
}

/// The id of a request: in the log, in the answer's header, and in the answer itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    own: String,
    caller: Option<String>,
}

impl RequestId {
    /// A new id of 96 random bits. Should the system have no randomness, the id says so: it names a
    /// request in logs and secures nothing.
    pub fn random() -> Self {
        let mut bytes = [0; 12];
        let own = match getrandom::fill(&mut bytes) {
            Ok(()) => hex::encode(bytes),
            Err(_) => "none".to_owned(),
        };
        Self { own, caller: None }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.own
    }

    /// The id that the caller gave the request, if it has the form of ours: it finds the same request in
    /// the caller's log.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The id as OpenAI's clients expect it in an answer of this shape.
    pub fn of(&self, shape: Shape) -> String {
        match shape {
            Shape::Chat => format!("chatcmpl-{}", self.own),
            Shape::Text => format!("cmpl-{}", self.own),
            Shape::Embeddings => format!("embd-{}", self.own),
        }
    }

    fn from_caller(headers: &http::HeaderMap) -> Option<String> {
        let text = headers.get(REQUEST_ID)?.to_str().ok()?;
        let ours = text.len() == 24 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ours.then(|| text.to_owned())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.own)
    }
}

/// Middleware: gives each request an id as an extension, and its answer the same id as a header.
/// What a caller sends under that name is noted beside it and not taken over, so that ids are ours.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId { caller: RequestId::from_caller(request.headers()), ..RequestId::random() };
    let header = HeaderValue::from_str(id.as_str());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Extension, Router, body::Body, routing::get};
    use futures::stream;
    use std::convert::Infallible;

    fn parts(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn bodies_are_bounded_over_all_their_parts() {
        for (list, limit, expected) in [
            (&[][..], 0, Some("")),
            (&["abc"], 3, Some("abc")),
            (&["ab", "", "c", "d"], 4, Some("abcd")),
            (&["abc"], 2, None),
            (&["ab", "c"], 2, None),
        ] {
            let body = read_body(parts(list), limit).await.ok();
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{list:?}");
        }
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err("reset")]);
        assert!(matches!(read_body(broken, 9).await, Err(BodyError::Transport("reset"))));
    }

    #[tokio::test]
    async fn each_request_has_its_own_id() {
        let app = Router::new()
            .route("/", get(|Extension(id): Extension<RequestId>| async move { id.of(Shape::Chat) }))
            .route(
                "/caller",
                get(|Extension(id): Extension<RequestId>| async move { format!("{:?}", id.caller()) }),
            )
            .layer(axum::middleware::from_fn(identify));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let ask = || async {
            let request = client().unwrap().get(format!("http://{address}/")).header(REQUEST_ID, "forged");
            let answer = request.send().await.unwrap();
            let id = answer.headers()[REQUEST_ID].to_str().unwrap().to_owned();
            let body = read_body(answer.bytes_stream(), 100).await.unwrap();
            assert_eq!(body, format!("chatcmpl-{id}"));
            id
        };
        let (first, second) = (ask().await, ask().await);
        assert!(first != second && first.len() == 24);
        for (sent, noted) in [(first.as_str(), true), ("forged", false), (&first.to_uppercase(), false)] {
            let request = client().unwrap().get(format!("http://{address}/caller")).header(REQUEST_ID, sent);
            let body = request.send().await.unwrap().text().await.unwrap();
            assert_eq!(body, format!("{:?}", noted.then_some(sent)));
        }
    }

    #[tokio::test]
    async fn the_client_follows_no_redirect() {
        let app = Router::new().route(
            "/",
            get(|| async {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = http::StatusCode::TEMPORARY_REDIRECT;
                response.headers_mut().insert("location", HeaderValue::from_static("/elsewhere"));
                response
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let answer = client().unwrap().get(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(answer.status(), http::StatusCode::TEMPORARY_REDIRECT);
    }
}
