//! Talks to the running exchange's gateway: JSON in, JSON out, errors in words.

use crate::{failure::Failure, home::Running};
use anyhow::Result;
use futures::{Stream, StreamExt as _};
use gristmill_net::{http::read_body, openai::ApiError, sse};
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
}

impl Endpoint {
    /// The gateway that this exchange announced.
    pub(crate) fn new(running: &Running) -> Result<Self> {
        Ok(Self {
            http: gristmill_net::http::client()?,
            base_url: running.base_url.clone(),
            api_key: running.api_key.clone(),
        })
    }

    /// `GET` of a path below `/v1`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.http.get(format!("{}{path}", self.base_url));
        Ok(serde_json::from_slice(&self.send(request).await?)?)
    }

    /// The same; none where the gateway has nothing of that name.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let answer = self.ask(self.http.get(format!("{}{path}", self.base_url))).await?;
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
        let answer = self.ask(self.http.post(format!("{}{path}", self.base_url)).json(body)).await?;
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

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<bytes::Bytes> {
        Self::read(self.ask(request).await?).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let answer = request.bearer_auth(&self.api_key).send().await.map_err(|error| {
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
        let (status, of_receipt) = (answer.status(), answer.url().path().contains("/receipts"));
        let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await.unwrap_or_default();
        let next = match status.as_u16() {
            402 => "see what is left: gristmill wallet show",
            404 if of_receipt => "see what there is: gristmill receipt list",
            404 => "see what there is: gristmill market",
            400..500 if status.as_u16() != 429 => "see how to call it: gristmill help",
            429 | 503 => "try again in a moment; gristmill status tells how the exchange is",
            _ => "see how the exchange is: gristmill status; who sells it: gristmill market",
        };
        Failure::new(ApiError::from_answer(status, &body).message).next(next).into()
    }
}
