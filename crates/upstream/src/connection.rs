//! The connections to one upstream, and what may be said of what goes wrong on them.

use crate::{Address, ApiKey, UpstreamError};
use gristmill_net::http::read_body;
use http::{StatusCode, header};
use serde_json::Value;
use std::time::Duration;

/// Longer answers are no answers of this API.
pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;
/// What is read of a refusal, and what is told of it.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
const MAX_WORDS: usize = 300;
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// How to talk to one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    pub(crate) address: Address,
    key: Option<ApiKey>,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) words: String,
}

impl Http {
    pub(crate) fn new(address: Address, key: Option<ApiKey>) -> Result<Self, UpstreamError> {
        gristmill_net::http::ensure_tls();
        // No redirects: the key goes where it was meant to go. Waits for answers are bounded by whoever
        // asks, since a first token may take minutes.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .user_agent(concat!("gristmill/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| UpstreamError::Client(error.to_string()))?;
        Ok(Self { client, address, key })
    }

    pub(crate) fn get(&self, url: String) -> reqwest::RequestBuilder {
        self.authorized(self.client.get(url))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.authorized(self.client.post(self.address.api(path)).json(body))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self.key.as_ref().and_then(ApiKey::authorization) {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// What went wrong on the way, for a person: without the URL, with the cause.
    pub(crate) fn reason(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(of) = cause {
            let more = of.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = of.source();
        }
        self.words(&text)
    }

    /// Words of the other side, short and without the key.
    pub(crate) fn words(&self, text: &str) -> String {
        let text = match &self.key {
            Some(key) => key.redact(text),
            None => text.to_owned(),
        };
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if plain.chars().count() <= MAX_WORDS {
            return plain;
        }
        format!("{}…", plain.chars().take(MAX_WORDS).collect::<String>())
    }

    /// Reads why the upstream refused.
    pub(crate) async fn refusal(&self, answer: reqwest::Response) -> Refusal {
        let status = answer.status();
        let body = read_body(answer.bytes_stream(), MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&body).ok().and_then(|value| error_words(&value));
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        let words = self.words(&said);
        let words = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
        Refusal { status, words }
    }
}

/// The message of an error in the shapes that are in use.
pub(crate) fn error_words(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|error| !error.is_null()).or_else(|| value.get("detail"));
    let error = error.or_else(|| (value["object"] == "error").then_some(value))?;
    let text = error.as_str().or_else(|| error["message"].as_str());
    Some(text.map_or_else(|| error.to_string(), str::to_owned))
}
