//! A way between two members, on which a test decides what gets through.

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use gristmill_ledger::tx::RegisterProcessor;
use gristmill_net::pay::{Action, Credential};
use gristmill_sim::Exchange;
use serde_json::Value;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// What becomes of a request, or of one event of its answer.
#[derive(Clone)]
pub(crate) enum Fate {
    /// It passes.
    Pass,
    /// It passes when the sign is given.
    Wait(watch::Receiver<bool>),
    /// It arrives, and its answer gets lost; an event is the last that passes.
    Lost,
    /// It does not arrive; an event ends the connection.
    Refused,
    /// It does not arrive, and nothing comes back, ever.
    Silent,
    /// In place of an event this comes, again and again.
    Drip(&'static str),
    /// It passes, and the events of its answer are judged one by one.
    Events(Arc<dyn Fn(&str) -> Fate + Send + Sync>),
    /// This path is asked for instead, and the answer comes changed.
    Instead(String, Arc<dyn Fn(Value) -> Value + Send + Sync>),
}

/// A request on its way.
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The payment that it carries.
    pub(crate) fn action(&self) -> Option<Action> {
        Some(Credential::read(&self.headers).ok()??.into_action())
    }

    pub(crate) fn is_approval(&self) -> bool {
        matches!(self.action(), Some(Action::Approve(_)))
    }

    pub(crate) fn is_order(&self) -> bool {
        matches!(self.action(), Some(Action::Order(_)))
    }

    /// Whether it asks for the processor's copy of a channel.
    pub(crate) fn is_copy(&self) -> bool {
        self.path.starts_with("/v1/channels/")
    }
}

type Judge = Box<dyn Fn(&Seen) -> Fate + Send + Sync>;

/// A way that is open.
pub(crate) struct Way {
    /// Where it begins.
    pub(crate) url: String,
    /// Where it leads to; whoever is on it before that is set is refused.
    pub(crate) to: Arc<OnceLock<String>>,
}

struct Gate {
    to: Arc<OnceLock<String>>,
    judge: Judge,
    http: reqwest::Client,
}

impl Way {
    pub(crate) async fn open(judge: impl Fn(&Seen) -> Fate + Send + Sync + 'static) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let to = Arc::new(OnceLock::new());
        let http = gristmill_net::http::client()?;
        let gate = Arc::new(Gate { to: Arc::clone(&to), judge: Box::new(judge), http });
        let router = Router::new().fallback(Gate::pass).with_state(gate);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, to })
    }

    /// Leads it to the ledger: what finds it in the place of the node.
    pub(crate) fn before_ledger(self) -> Box<dyn Fn(&str) -> String + Send + Sync> {
        Box::new(move |node| {
            self.to.get_or_init(|| node.to_owned());
            self.url.clone()
        })
    }

    /// Lays it before the processor, whose endpoint it is from now on.
    pub(crate) async fn before_processor(&self, exchange: &Exchange) -> Result<()> {
        self.to.get_or_init(|| exchange.processor_url());
        register(exchange, &self.url).await
    }
}

/// Makes this the processor's endpoint on the ledger.
pub(crate) async fn register(exchange: &Exchange, endpoint: &str) -> Result<()> {
    let receipt_key = exchange.keys().receipts.account();
    let endpoints = vec![endpoint.to_owned()];
    exchange.sender(&exchange.keys().processor).send(RegisterProcessor { receipt_key, endpoints }).await?;
    Ok(())
}

/// Waits until the sign is given; for ever, where nobody can give it any more.
async fn given(mut sign: watch::Receiver<bool>) {
    if sign.wait_for(|given| *given).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Gate {
    async fn pass(State(gate): State<Arc<Self>>, request: Request) -> Response {
        gate.try_pass(request).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
    }

    async fn try_pass(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await?;
        let (method, headers) = (parts.method, parts.headers);
        let seen = Seen { method: method.clone(), path: parts.uri.to_string(), headers, body: body.clone() };
        let fate = (self.judge)(&seen);
        match &fate {
            Fate::Refused => return Ok(StatusCode::FORBIDDEN.into_response()),
            Fate::Silent => std::future::pending().await,
            Fate::Wait(sign) => given(sign.clone()).await,
            Fate::Pass | Fate::Lost | Fate::Drip(_) | Fate::Events(_) | Fate::Instead(..) => {}
        }
        let path = if let Fate::Instead(path, _) = &fate { path } else { &seen.path };
        let url = format!("{}{path}", self.to.get().context("it leads somewhere")?);
        let answer = self.http.request(method, url).headers(seen.headers).body(body).send().await?;
        if matches!(fate, Fate::Lost) {
            return Ok(StatusCode::BAD_GATEWAY.into_response());
        }
        if let Fate::Instead(_, change) = fate {
            let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
            return Ok(axum::Json(change(answer)).into_response());
        }
        let mut passed = Response::builder().status(answer.status());
        for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
            passed = passed.header(name, value);
        }
        Ok(passed.body(match fate {
            Fate::Events(judge) => judged(answer, judge),
            _ => Body::from_stream(answer.bytes_stream()),
        })?)
    }
}

/// The answer's events, as far as they get through. Where the reader goes away, the connection is closed.
fn judged(mut answer: reqwest::Response, judge: Arc<dyn Fn(&str) -> Fate + Send + Sync>) -> Body {
    let (events, receiver) = mpsc::channel::<Bytes>(1);
    let reader = events.clone();
    let pass = async move {
        let mut held = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            held.extend_from_slice(&chunk);
            while let Some(end) = held.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = held.drain(..end + 2).collect();
                let fate = judge(&String::from_utf8_lossy(&event));
                match &fate {
                    Fate::Wait(sign) => given(sign.clone()).await,
                    Fate::Silent => std::future::pending().await,
                    Fate::Refused => return,
                    Fate::Drip(drop) => {
                        while events.send(Bytes::from_static(drop.as_bytes())).await.is_ok() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                    Fate::Pass | Fate::Lost | Fate::Events(_) | Fate::Instead(..) => {}
                }
                if events.send(event.into()).await.is_err() || matches!(fate, Fate::Lost) {
                    return;
                }
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = pass => {}
            () = reader.closed() => {}
        }
    });
    Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>))
}
