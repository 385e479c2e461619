//! Following what final blocks do.
//!
//! The node sends one server-sent event per block. This reads the stream, and resumes after the last block
//! when the connection is lost, so that a caller sees every block once and in order.

use crate::{
    client::{Client, reason, refusal},
    error::ClientError,
    schema::BlockEvents,
};
use futures::{Stream, StreamExt as _, stream};
use gristmill_net::sse::Reader;
use reqwest::{Method, Response};
use std::time::Duration;

/// Most bytes of one event.
const MAX_EVENT: usize = 64 << 20;
/// A connection on which not even a comment arrives for this long is dead; nodes send one every
/// 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

struct Follower {
    client: Client,
    next: Option<u64>,
    connection: Option<Connection>,
    pause: Duration,
}

struct Connection {
    response: Response,
    events: Reader,
}

impl Client {
    /// The height of the block that comes next.
    pub async fn next_height(&self) -> Result<u64, ClientError> {
        Ok(self.latest_block().await?.map_or(0, |block| block.height).saturating_add(1))
    }

    /// The same, once the node says so: it is asked again after each pause.
    pub async fn await_next_height(&self, pause: Duration) -> u64 {
        loop {
            match self.next_height().await {
                Ok(next) => return next,
                Err(error) => tracing::warn!(%error, "the ledger cannot be followed; trying again"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows what blocks do, from a height, or from now on. The node's word. Lost connections are
    /// taken up again; an `Err` is what interrupted the stream, which goes on after it. From now on, a
    /// connection that is lost before the first block begins anew: whoever must not miss one asks for the
    /// [next height](Self::next_height) first.
    pub fn follow(
        &self,
        from: Option<u64>,
    ) -> impl Stream<Item = Result<BlockEvents, ClientError>> + Send + use<> {
        let follower =
            Follower { client: self.clone(), next: from, connection: None, pause: Duration::from_millis(50) };
        stream::unfold(follower, |mut follower| async move {
            let item = follower.next().await;
            Some((item, follower))
        })
        .boxed()
    }
}

impl Follower {
    async fn next(&mut self) -> Result<BlockEvents, ClientError> {
        let result = self.try_next().await;
        match &result {
            Ok(event) => {
                self.next = event.height.checked_add(1);
                self.pause = Duration::from_millis(50);
            }
            Err(_) => {
                self.connection = None;
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(Duration::from_secs(5));
            }
        }
        result
    }

    async fn try_next(&mut self) -> Result<BlockEvents, ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        loop {
            let wrong = |error: &dyn std::fmt::Display| ClientError::Answer(error.to_string());
            if let Some(event) = connection.events.next_event() {
                let event = serde_json::from_str(&event.data).map_err(|error| wrong(&error))?;
                self.connection = Some(connection);
                return Ok(event);
            }
            let chunk = tokio::time::timeout(SILENCE, connection.response.chunk()).await;
            let lost =
                |reason: String| ClientError::Unreachable { url: self.client.url().to_owned(), reason };
            match chunk {
                Ok(Ok(Some(chunk))) => connection.events.feed(&chunk).map_err(|error| wrong(&error))?,
                Ok(Ok(None)) => return Err(lost("the node ended the stream".into())),
                Ok(Err(error)) => return Err(lost(reason(&error))),
                Err(_) => return Err(lost("nothing arrived for a minute".into())),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let from = self.next.map(|next| format!("?from={next}")).unwrap_or_default();
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: self.client.url().to_owned(),
            reason: reason(&error),
        };
        let request = self.client.request(Method::GET, &format!("/v1/events{from}"));
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await.map_err(unreachable)?;
            return Err(refusal(status, &body));
        }
        Ok(Connection { response, events: Reader::with_limit(MAX_EVENT) })
    }
}
