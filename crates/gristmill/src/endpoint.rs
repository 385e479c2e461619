//! Talks to the running exchange's gateway: JSON in, JSON out, errors in words.

use crate::{failure::Failure, home::Running};
use anyhow::Result;
use futures::{Stream, StreamExt as _};
use gristmill_net::{http::read_body, openai::ApiError, sse};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Answers of the gateway's routes are far smaller.
const MAX_ANSWER_BYTES: usize = 16 << 20;

const MAX_EVENT_BYTES: usize = 1 << 20;

/// The gateway of the running exchange.
pub(crate) struct Endpoint {
    http: reqwest::Client,
    base_url: String,
    api_key: String,
    operator_key: String,
}

impl Endpoint {
    /// The gateway that this exchange announced.
    pub(crate) fn new(running: &Running) -> Result<Self> {
        Ok(Self {
            http: gristmill_net::http::client()?,
            base_url: running.base_url.clone(),
            api_key: running.api_key.clone(),
            operator_key: running.operator_key.clone(),
        })
    }

    /// `GET` of a path below `/v1`, as the operator.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, None).await
    }

    /// A call of a path below `/v1`, as the operator.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        let request = self.http.request(method, format!("{}{path}", self.base_url));
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = Self::read(self.ask(request, &self.operator_key).await?).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Where the home's API key stands.
    pub(crate) async fn key(&self) -> Result<Value> {
        let request = self.http.get(format!("{}/key", self.base_url));
        Ok(serde_json::from_slice(&Self::read(self.ask(request, &self.api_key).await?).await?)?)
    }

    /// `GET` as the operator; none where the gateway has nothing of that name.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let request = self.http.get(format!("{}{path}", self.base_url));
        let answer = self.ask(request, &self.operator_key).await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&Self::read(answer).await?)?))
    }

    /// `POST` of a path below `/v1`, of which the answer comes in events.
    pub(crate) async fn stream(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<impl Stream<Item = Result<sse::Event>> + use<>> {
        let request = self.http.post(format!("{}{path}", self.base_url)).json(body);
        let answer = self.ask(request, &self.api_key).await?;
        if !answer.status().is_success() {
            return Err(Self::failure(answer).await);
        }
        let broken = |error| {
            Failure::new(format!("the gateway's answer broke off: {error}"))
                .next("see what was paid: gristmill receipt list")
        };
        let events = sse::read(answer.bytes_stream(), MAX_EVENT_BYTES);
        Ok(events.map(move |event| event.map_err(|error| broken(error).into())))
    }

    async fn ask(&self, request: reqwest::RequestBuilder, key: &str) -> Result<reqwest::Response> {
        let answer = request.bearer_auth(key).send().await.map_err(|error| {
            Failure::new(format!("the gateway at {} does not answer: {error}", self.base_url))
                .next("see whether the exchange is well: gristmill status")
        })?;
        Ok(answer)
    }

    async fn read(answer: reqwest::Response) -> Result<bytes::Bytes> {
        if !answer.status().is_success() {
            return Err(Self::failure(answer).await);
        }
        Ok(read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await?)
    }

    /// Why the gateway refused.
    async fn failure(answer: reqwest::Response) -> anyhow::Error {
        let (status, path) = (answer.status(), answer.url().path().to_owned());
        let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await.unwrap_or_default();
        let next = match status.as_u16() {
            402 => "see what is left of account, keys and channels: gristmill status",
            401 => {
                "if the home's key was revoked, stop the exchange, then start the exchange again, which makes another: gristmill up"
            }
            404 if path.contains("/receipts") => "see what there is: gristmill receipt list",
            _ if path.contains("/keys") && status.is_client_error() => {
                "see which there are: gristmill api-key list; and what it takes: gristmill help api-key"
            }
            404 => "see what there is: gristmill market",
            400..500 if status.as_u16() != 429 => "see what it takes: gristmill help ask, and docs/start.md",
            429 | 503 => "try again in a moment; gristmill status tells how the exchange is",
            _ => "see how the exchange is: gristmill status; who sells it: gristmill market",
        };
        Failure::new(ApiError::from_answer(status, &body).message).next(next).into()
    }
}
