//! The events of a paid answer.
//!
//! ```text
//! event: payment-start         {"requestId","promptTokens","processorNonce"}      once, first
//! data: {chunk with "gristmill":{"ids":[…]}}                                      as tokens come
//! event: payment-need-voucher  {"channelId","lane","requiredCumulative",…}        when the window is used up
//! data: {"error":{…}}                                                             if the processor fails
//! event: payment-receipt       {…,"receipt"}                                      once, last
//! data: [DONE]
//! ```
//!
//! They go out only on a connection that presented a credential, and a gateway passes none of them on:
//! stock clients fail at events that they do not know.

use super::{PaymentReceipt, ReceiptError, amount_text, read_amount};
use crate::{
    Base64,
    openai::{ApiError, Chunk},
    sse::{self, DONE, Event},
};
use bytes::Bytes;
use gristmill_types::{Amount, ChannelId, ProcessorNonce};
use mpp::server::sse::NeedVoucherEvent;
use serde::{Deserialize, Serialize};

const START: &str = "payment-start";
const NEED_VOUCHER: &str = "payment-need-voucher";
const RECEIPT: &str = "payment-receipt";
/// Every event of ours starts with this; one that this version does not know is skipped.
const PREFIX: &str = "payment-";

/// The first event: what the consumer needs to check and count from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The request's id at the processor.
    pub request_id: String,
    /// Tokens of the prompt by the processor's count; the consumer compares it with its own.
    pub prompt_tokens: u32,
    /// The processor's share of the sampling seed, revealed; none where the request fixed the seed.
    pub processor_nonce: Option<Base64<ProcessorNonce>>,
}

/// The lane's promise is used up: nothing more is delivered until it rises to `required`.
///
/// A wish, not a bill: the consumer signs for what it counted itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedVoucher {
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// The cumulative amount that would go on.
    pub required: Amount,
    /// The cumulative amount promised so far.
    pub accepted: Amount,
    /// What the channel holds.
    pub deposit: Amount,
}

/// The protocol's event, with our lane beside it.
#[derive(Serialize, Deserialize)]
struct NeedVoucherJson {
    #[serde(flatten)]
    event: NeedVoucherEvent,
    lane: u32,
}

/// One thing that happened on a paid stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The request began.
    Start(Start),
    /// A part of the answer.
    Chunk(Box<Chunk>),
    /// The promise is used up.
    NeedVoucher(NeedVoucher),
    /// The processor failed.
    Failed(ApiError),
    /// The request ended; the receipt says how.
    Receipt(Box<PaymentReceipt>),
    /// The stream ended.
    Done,
    /// A payment event of a later version; to be skipped, never to be passed on.
    Unknown,
}

/// An event that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the processor's event '{name}' does not read: {reason}")]
pub struct EventError {
    name: String,
    reason: String,
}

impl Item {
    /// The bytes of the event. An unknown one has none.
    pub fn to_event(&self) -> Result<Bytes, ReceiptError> {
        let json =
            |name: &str, text: serde_json::Result<String>| sse::format(name, &text.unwrap_or_default());
        Ok(match self {
            Self::Start(start) => json(START, serde_json::to_string(start)),
            Self::Chunk(chunk) => chunk.to_event(),
            Self::NeedVoucher(need) => {
                let event = NeedVoucherEvent {
                    channel_id: need.channel.to_string(),
                    required_cumulative: amount_text(need.required),
                    accepted_cumulative: amount_text(need.accepted),
                    deposit: amount_text(need.deposit),
                };
                json(NEED_VOUCHER, serde_json::to_string(&NeedVoucherJson { event, lane: need.lane }))
            }
            Self::Failed(error) => sse::format("", &error.body()),
            Self::Receipt(receipt) => sse::format(RECEIPT, &receipt.to_json()?),
            Self::Done => sse::done(),
            Self::Unknown => Bytes::new(),
        })
    }

    /// Reads an event of a paid stream.
    pub fn read(event: &Event) -> Result<Self, EventError> {
        let wrong = |reason: String| EventError { name: event.name.chars().take(40).collect(), reason };
        let data = event.data.as_str();
        match event.name.as_str() {
            START => Ok(Self::Start(serde_json::from_str(data).map_err(|error| wrong(error.to_string()))?)),
            NEED_VOUCHER => read_need(data).map(Self::NeedVoucher).map_err(wrong),
            RECEIPT => PaymentReceipt::from_json(data)
                .map(|receipt| Self::Receipt(Box::new(receipt)))
                .map_err(|error| wrong(error.to_string())),
            name if name.starts_with(PREFIX) => Ok(Self::Unknown),
            _ if data == DONE => Ok(Self::Done),
            _ => read_message(data).map_err(wrong),
        }
    }
}

fn read_need(data: &str) -> Result<NeedVoucher, String> {
    let NeedVoucherJson { event, lane } = serde_json::from_str(data).map_err(|error| error.to_string())?;
    let amount = |text: &str| read_amount(text).ok_or_else(|| format!("'{text}' is no amount"));
    Ok(NeedVoucher {
        channel: event.channel_id.parse().map_err(|_| "channelId is no channel id".to_owned())?,
        lane,
        required: amount(&event.required_cumulative)?,
        accepted: amount(&event.accepted_cumulative)?,
        deposit: amount(&event.deposit)?,
    })
}

/// A chunk or an error: both come as plain data, told apart by the member `error`.
fn read_message(data: &str) -> Result<Item, String> {
    match serde_json::from_str::<Chunk>(data) {
        Ok(chunk) => Ok(Item::Chunk(Box::new(chunk))),
        Err(error) => {
            let value: serde_json::Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
            if value.get("error").is_none() {
                return Err(error.to_string());
            }
            Ok(Item::Failed(ApiError::from_event(data)))
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
