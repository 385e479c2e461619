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
/// 15 seconds, and answer at once.
const SILENCE: Duration = Duration::from_secs(60);

struct Follower {
    client: Client,
    next: Option<u64>,
    connection: Option<Connection>,
    pause: Duration,
    silence: Duration,
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
        Follower::new(self.clone(), from, SILENCE).stream()
    }
}

impl Follower {
    const fn new(client: Client, next: Option<u64>, silence: Duration) -> Self {
        Self { client, next, connection: None, pause: Duration::from_millis(50), silence }
    }

    fn stream(self) -> impl Stream<Item = Result<BlockEvents, ClientError>> + Send + use<> {
        stream::unfold(self, |mut follower| async move {
            let item = follower.next().await;
            Some((item, follower))
        })
        .boxed()
    }

    fn lost(&self, reason: String) -> ClientError {
        ClientError::Unreachable { url: self.client.url().to_owned(), reason }
    }

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
            match tokio::time::timeout(self.silence, connection.response.chunk()).await {
                Ok(Ok(Some(chunk))) => connection.events.feed(&chunk).map_err(|error| wrong(&error))?,
                Ok(Ok(None)) => return Err(self.lost("the node ended the stream".into())),
                Ok(Err(error)) => return Err(self.lost(reason(&error))),
                Err(_) => return Err(self.lost("nothing arrived for a minute".into())),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let from = self.next.map(|next| format!("?from={next}")).unwrap_or_default();
        let request = self.client.request(Method::GET, &format!("/v1/events{from}"));
        let response = tokio::time::timeout(self.silence, async {
            let response = request.send().await?;
            let status = response.status();
            if status.is_success() { Ok(Ok(response)) } else { Ok(Err((status, response.bytes().await?))) }
        });
        let response = response
            .await
            .map_err(|_| self.lost("it does not answer".into()))?
            .map_err(|error: reqwest::Error| self.lost(reason(&error)))?
            .map_err(|(status, body)| refusal(status, &body))?;
        Ok(Connection { response, events: Reader::with_limit(MAX_EVENT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_proof::{Committee, Trust};
    use gristmill_types::{ChainId, SecretKey};

    #[tokio::test]
    async fn a_node_that_says_nothing_is_asked_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let members = Committee::new(&[SecretKey::from_seed(&[1; 32]).account()]).unwrap();
        let trust = Trust::new(ChainId::new([9; 32]), members);
        let client = Client::new(&url, trust).unwrap();
        let mut blocks = Follower::new(client, Some(1), Duration::from_millis(100)).stream();
        // It takes connections, and answers nothing.
        for _ in 0..2 {
            let error = tokio::time::timeout(Duration::from_secs(10), blocks.next()).await.unwrap();
            let error = error.unwrap().unwrap_err().to_string();
            assert!(error.contains("does not answer"), "{error}");
        }
        drop(listener);
    }
}
