//! The unpaid routes between a gateway and a processor.
//!
//! - `GET /v1/quotes` → [`Quotes`]: what the processor offers now.
//! - `GET /v1/channels/{id}` → [`ChannelState`]: what the processor holds of a channel, so that a
//!   gateway that crashed or was restored can reconcile. It believes only what its own key signed.
//! - `GET /v1/tokenizers/{digest}`: the text bundle behind a quote's tokenizer digest, as bytes.

use crate::Base64;
use gristmill_types::{Approval, ChannelId, Quote, Receipt, Signed, Voucher};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The code of the 404 that says that a processor knows no such channel.
pub const UNKNOWN_CHANNEL: &str = "unknown_channel";

/// The most quotes that a processor lists.
pub const MAX_QUOTES: usize = 256;
/// The most lanes of a channel that are reported: those that are open, and as many that closed last.
pub const MAX_LANES: usize = 128;
/// The largest answer of these routes but the tokenizer's, in bytes.
pub const MAX_PEER_BYTES: usize = 2 * 1024 * 1024;

/// The quotes that a processor stands by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quotes {
    /// At most [`MAX_QUOTES`].
    #[schema(value_type = Vec<String>)]
    pub quotes: Vec<Base64<Signed<Quote>>>,
}

/// What a processor holds of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelState {
    /// The channel.
    #[schema(value_type = String)]
    pub channel: ChannelId,
    /// At most [`MAX_LANES`], by rising lane id.
    pub lanes: Vec<LaneState>,
}

/// What a processor holds of one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaneState {
    /// The lane.
    pub lane: u32,
    /// The highest voucher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub voucher: Option<Base64<Signed<Voucher>>>,
    /// The last receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub receipt: Option<Base64<Signed<Receipt>>>,
    /// The last approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub approval: Option<Base64<Signed<Approval>>>,
}

/// An answer of a processor that is not what the route promises.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Not the expected JSON.
    #[error("the processor's answer does not read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More items than the route may return.
    #[error("the processor listed {got} {what}, at most {max} are expected")]
    TooMany {
        /// What was listed.
        what: &'static str,
        /// How many.
        got: usize,
        /// How many at most.
        max: usize,
    },
    /// Lanes out of order, or one of them twice.
    #[error("the processor listed lane {0} twice or out of order")]
    LaneOrder(u32),
}

fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), PeerError> {
    if got > max { Err(PeerError::TooMany { what, got, max }) } else { Ok(()) }
}

impl Quotes {
    /// Reads an answer of `GET /v1/quotes`. No signature is checked here.
    pub fn parse(body: &[u8]) -> Result<Self, PeerError> {
        let quotes: Self = serde_json::from_slice(body)?;
        at_most("quotes", quotes.quotes.len(), MAX_QUOTES)?;
        Ok(quotes)
    }
}

impl ChannelState {
    /// Reads an answer of `GET /v1/channels/{id}`. No signature is checked here.
    pub fn parse(body: &[u8]) -> Result<Self, PeerError> {
        let state: Self = serde_json::from_slice(body)?;
        at_most("lanes", state.lanes.len(), MAX_LANES)?;
        let mut previous = None;
        for lane in &state.lanes {
            if previous >= Some(lane.lane) {
                return Err(PeerError::LaneOrder(lane.lane));
            }
            previous = Some(lane.lane);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pay::fixtures;

    fn lane(lane: u32) -> LaneState {
        LaneState { lane, voucher: Some(Base64(fixtures::voucher())), receipt: None, approval: None }
    }

    #[test]
    fn channel_state_round_trip_and_bounds() {
        let channel = fixtures::terms().id();
        let state = ChannelState { channel, lanes: vec![lane(0), lane(7)] };
        let json = serde_json::to_vec(&state).unwrap();
        assert_eq!(ChannelState::parse(&json).unwrap(), state);
        for (lanes, wrong) in
            [(vec![lane(7), lane(7)], 7), (vec![lane(8), lane(7)], 7), (vec![lane(0), lane(0)], 0)]
        {
            let json = serde_json::to_vec(&ChannelState { channel, lanes }).unwrap();
            assert!(matches!(ChannelState::parse(&json), Err(PeerError::LaneOrder(at)) if at == wrong));
        }
        let lanes = (0..=MAX_LANES as u32).map(|id| LaneState { voucher: None, ..lane(id) }).collect();
        let json = serde_json::to_vec(&ChannelState { channel, lanes }).unwrap();
        assert!(matches!(ChannelState::parse(&json), Err(PeerError::TooMany { .. })));
    }

    #[test]
    fn quotes_round_trip_and_bounds() {
        let quotes = Quotes { quotes: vec![Base64(fixtures::quote())] };
        let json = serde_json::to_vec(&quotes).unwrap();
        assert_eq!(Quotes::parse(&json).unwrap(), quotes);
        let quotes = Quotes { quotes: vec![Base64(fixtures::quote()); MAX_QUOTES + 1] };
        let json = serde_json::to_vec(&quotes).unwrap();
        assert!(matches!(Quotes::parse(&json), Err(PeerError::TooMany { .. })));
        assert!(json.len() < MAX_PEER_BYTES);
    }
}
