//! The gateway's side of a processor's routes.

use crate::error::BuyError;
use bytes::Bytes;
use gristmill_channel::{ChannelCopy, LaneCopy};
use gristmill_net::{
    http::{REQUEST_ID, RequestId, read_body},
    openai::{ApiError, Shape},
    pay::{Action, Challenge, Expected, Problem},
    peer::{ChannelState, MAX_PEER_BYTES},
    sse,
};
use gristmill_tokenizer::{MAX_BUNDLE_BYTES, TextBundle, TextError, Tokenizer};
use gristmill_types::{AccountId, ChannelId, Digest};
use http::{StatusCode, header};
use std::{sync::Arc, time::Duration};

/// Refusals are short.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How long the small routes may take. Answers stream for as long as they last.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One processor.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    http: reqwest::Client,
    processor: AccountId,
    url: String,
}

impl Peer {
    pub(crate) fn new(http: reqwest::Client, processor: AccountId, endpoint: &str) -> Self {
        Self { http, processor, url: endpoint.trim_end_matches('/').to_owned() }
    }

    /// Who it is.
    pub(crate) const fn processor(&self) -> AccountId {
        self.processor
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> BuyError {
        BuyError::Unreachable { processor: self.processor, reason: error.to_string() }
    }

    fn misbehaved(&self, what: impl std::fmt::Display) -> BuyError {
        BuyError::Misbehaved { processor: self.processor, what: what.to_string() }
    }

    fn answer_url(&self, shape: Shape) -> String {
        format!("{}{}", self.url, shape.path())
    }

    /// Asks without paying, for the challenge.
    pub(crate) async fn challenge(
        &self,
        shape: Shape,
        body: Bytes,
        expected: &Expected,
        now_ms: u64,
    ) -> Result<Challenge, BuyError> {
        let request = self.http.post(self.answer_url(shape));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let answer = request.timeout(TIMEOUT).send().await.map_err(|error| self.unreachable(error))?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED {
            return Err(self.refusal(answer).await);
        }
        Challenge::read(answer.headers(), expected, now_ms)
            .map_err(|error| BuyError::Challenge { processor: self.processor, error })
    }

    /// Places an order; the answer is a stream. The id is for the processor's log.
    pub(crate) async fn order(
        &self,
        challenge: &Challenge,
        action: &Action,
        shape: Shape,
        body: Bytes,
        id: &RequestId,
    ) -> Result<reqwest::Response, BuyError> {
        let authorization = challenge.authorize(action).map_err(|error| self.misbehaved(error))?;
        let request = self
            .http
            .post(self.answer_url(shape))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, authorization)
            .header(REQUEST_ID, id.as_str())
            .body(body);
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() && sse::is_event_stream(answer.headers().get(header::CONTENT_TYPE)) {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    /// Sends a voucher or an approval.
    pub(crate) async fn pay(&self, challenge: &Challenge, action: &Action) -> Result<(), BuyError> {
        let authorization = challenge.authorize(action).map_err(|error| self.misbehaved(error))?;
        // Payments are taken on every route.
        let request = self.http.post(self.answer_url(Shape::Chat));
        let request = request.header(header::AUTHORIZATION, authorization).timeout(TIMEOUT);
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer).await) }
    }

    async fn refusal(&self, answer: reqwest::Response) -> BuyError {
        let status = answer.status();
        let problem = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        let body = read_body(answer.bytes_stream(), MAX_ERROR_BYTES).await.unwrap_or_default();
        if problem {
            return BuyError::Refused { processor: self.processor, problem: Problem::read(status, &body) };
        }
        let error = Box::new(ApiError::from_answer(status, &body));
        BuyError::Answered { processor: self.processor, error }
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Bytes, BuyError> {
        let request = self.http.get(format!("{}{path}", self.url)).timeout(TIMEOUT);
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        read_body(answer.bytes_stream(), limit).await.map_err(|error| self.unreachable(error))
    }

    /// The tokenizer behind a quote, checked by its content.
    pub(crate) async fn tokenizer(&self, digest: &Digest) -> Result<Arc<Tokenizer>, BuyError> {
        let bytes = self.get(&format!("/v1/tokenizers/{digest}"), MAX_BUNDLE_BYTES).await?;
        // One that is not what its digest says is the processor's; one that does not work is its publisher's.
        let bundle = TextBundle::from_bytes_checked(&bytes, digest).map_err(|error| match error {
            TextError::WrongDigest { .. } => self.misbehaved(error),
            error => error.into(),
        })?;
        Ok(Tokenizer::new(bundle)?)
    }

    /// What the processor holds of a channel.
    pub(crate) async fn copy(&self, channel: &ChannelId) -> Result<ChannelCopy, BuyError> {
        let bytes = self.get(&format!("/v1/channels/{channel}"), MAX_PEER_BYTES).await?;
        let state = ChannelState::parse(&bytes).map_err(|error| self.misbehaved(error))?;
        if state.channel != *channel {
            return Err(self.misbehaved("it answered for another channel"));
        }
        let lanes = state.lanes.into_iter().filter_map(|lane| {
            Some(LaneCopy {
                lane: lane.lane,
                voucher: lane.voucher?.0,
                receipt: lane.receipt.map(|receipt| receipt.0),
                approval: lane.approval.map(|approval| approval.0),
            })
        });
        Ok(ChannelCopy { lanes: lanes.collect() })
    }
}
