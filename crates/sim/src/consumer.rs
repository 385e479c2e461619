//! A consumer: any OpenAI client, as plain as can be.

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use gristmill_net::{
    http::read_body,
    openai::ApiError,
    sse::{self, Event},
};
use serde_json::{Value, json};
use std::{fmt, pin::Pin};

const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Sends requests to an endpoint. A refusal is an [`ApiError`] inside of the `anyhow::Error`.
#[derive(Clone)]
pub struct Consumer {
    http: reqwest::Client,
    base_url: String,
    api_key: String,
    model: String,
}

type Events = Pin<Box<dyn futures::Stream<Item = Result<Event, String>> + Send>>;

/// An answer that comes in chunks. Dropping it closes the connection.
pub struct Stream(Events);

impl Consumer {
    /// A consumer of the endpoint (a URL that ends in `/v1`) who asks for this model.
    pub fn new(base_url: &str, api_key: &str, model: &str) -> Result<Self> {
        Ok(Self {
            http: gristmill_net::http::client()?,
            base_url: base_url.to_owned(),
            api_key: api_key.to_owned(),
            model: model.to_owned(),
        })
    }

    /// A chat request with one message, to be changed as needed.
    pub fn request(&self, text: &str) -> Value {
        json!({"model": self.model, "messages": [{"role": "user", "content": text}]})
    }

    /// Sends a chat request and reads the whole answer.
    pub async fn chat(&self, request: &Value) -> Result<Value> {
        self.send("/chat/completions", request).await
    }

    /// Sends a request to a route below `/v1` and reads the whole answer.
    pub async fn send(&self, path: &str, request: &Value) -> Result<Value> {
        let answer = self.post(path, request).await?;
        let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body).context("the answer is not JSON")
    }

    /// Asks one thing.
    pub async fn ask(&self, text: &str) -> Result<Value> {
        self.chat(&self.request(text)).await
    }

    /// Sends a chat request whose answer is streamed; `stream` is set for it.
    pub async fn stream(&self, request: &Value) -> Result<Stream> {
        let mut request = request.clone();
        request["stream"] = json!(true);
        let answer = self.post("/chat/completions", &request).await?;
        let events = sse::read(answer.bytes_stream(), sse::MAX_EVENT_BYTES);
        Ok(Stream(Box::pin(events.map(|event| event.map_err(|error| error.to_string())))))
    }

    /// Reads a route below `/v1`, for example `/channels`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = self.http.get(format!("{}{path}", self.base_url)).bearer_auth(&self.api_key);
        let answer = checked(request.send().await?).await?;
        let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body).context("the answer is not JSON")
    }

    async fn post(&self, path: &str, request: &Value) -> Result<reqwest::Response> {
        let url = format!("{}{path}", self.base_url);
        checked(self.http.post(url).bearer_auth(&self.api_key).json(request).send().await?).await
    }
}

async fn checked(answer: reqwest::Response) -> Result<reqwest::Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await?;
    Err(ApiError::from_answer(status, &body).into())
}

impl Stream {
    /// The next chunk; `None` after `[DONE]`. A stream that ends without it, or with an error, fails.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        let event = self.0.next().await.context("the stream ended without [DONE]")?;
        let event = event.map_err(anyhow::Error::msg)?;
        if event.data == sse::DONE {
            return Ok(None);
        }
        let chunk: Value = serde_json::from_str(&event.data).context("a chunk is not JSON")?;
        anyhow::ensure!(chunk.get("error").is_none(), "the stream ended with an error: {chunk}");
        Ok(Some(chunk))
    }

    /// Reads on to the end; gives the text and the last chunk that carries a usage.
    pub async fn rest(&mut self) -> Result<(String, Value)> {
        let (mut text, mut usage) = (String::new(), Value::Null);
        while let Some(chunk) = self.next().await? {
            text.push_str(content(&chunk));
            if chunk["usage"].is_object() {
                usage = chunk;
            }
        }
        Ok((text, usage))
    }
}

/// The text that a chunk brings.
fn content(chunk: &Value) -> &str {
    chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default()
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
