//! Traces: the times at which a request passed its stages, as each side saw them.
//!
//! Each side writes its trace down in the commit that makes the request's receipt durable. Times are each
//! side's own clock. A trace holds no prompt, no answer and no key.
//!
//! - gateway: `GET /v1/receipts/{id}/trace` → [`Trace`], with an API key.
//! - processor: `GET /v1/receipts/{id}/trace?channel=…&lane=…&seq=…` ([`path`]) → [`Served`], for whoever
//!   knows the receipt's id; the rest says where it is.

use gristmill_types::{Amount, ChannelId, Receipt, Signable as _, TxHash};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use utoipa::ToSchema;

/// Stages of one trace at most; a long answer has a stage for each window.
pub const MAX_STAGES: usize = 96;
/// Requests of which a processor keeps the trace. A gateway keeps it as long as the receipt.
pub const KEPT: u32 = 10_000;

/// One side's trace of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// The request's id in this side's log.
    pub request: String,
    /// Its id in the other side's log, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// The channel that it was paid from.
    #[schema(value_type = String)]
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// Unix time of the first stage, in microseconds.
    pub began_us: u64,
    /// In their order.
    pub stages: Vec<Stage>,
    /// Stages that found no room.
    #[serde(default)]
    pub left_out: u32,
}

/// One stage that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// Microseconds since the first.
    pub after_us: u64,
    /// Which.
    #[schema(value_type = String)]
    pub stage: Cow<'static, str>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A processor's trace, and what became of its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Served {
    /// The trace.
    pub trace: Trace,
    /// When the payer's approval came, Unix time in microseconds.
    pub approved_us: Option<u64>,
    /// The transaction that paid it.
    pub settled: Option<Settled>,
}

/// A settlement on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// The transaction.
    #[schema(value_type = String)]
    pub transaction: TxHash,
    /// The height of its block.
    pub height: u64,
    /// The fee that the processor paid for it.
    #[schema(value_type = String)]
    pub fee: Amount,
}

/// Unix time in microseconds.
pub fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// The receipt that a trace is asked for, beside its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its channel.
    pub channel: ChannelId,
    /// Its lane.
    pub lane: u32,
    /// Its number.
    pub seq: u64,
}

/// Where a processor shows the trace of a receipt.
pub fn path(receipt: &Receipt) -> String {
    let Receipt { channel, lane, seq, .. } = receipt;
    format!("/v1/receipts/{}/trace?channel={channel}&lane={lane}&seq={seq}", receipt.digest())
}

/// Notes the stages of a request as they are reached.
#[derive(Debug)]
pub struct Stages {
    began: Instant,
    began_us: u64,
    stages: Vec<Stage>,
    left_out: u32,
}

impl Stages {
    /// The request is at its first stage now.
    pub fn begin(stage: &'static str) -> Self {
        let first = Stage { after_us: 0, stage: Cow::Borrowed(stage), note: None };
        Self { began: Instant::now(), began_us: now_us(), stages: vec![first], left_out: 0 }
    }

    /// When it began.
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// The request is at a stage now.
    pub fn reach(&mut self, stage: &'static str, note: Option<String>) {
        if self.stages.len() >= MAX_STAGES {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let after_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stages.push(Stage { after_us, stage: Cow::Borrowed(stage), note });
    }

    /// The trace so far.
    pub fn trace(&self, request: String, other: Option<String>, channel: ChannelId, lane: u32) -> Trace {
        let (stages, left_out) = (self.stages.clone(), self.left_out);
        Trace { request, other, channel, lane, began_us: self.began_us, stages, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_order_and_bounded() {
        let mut stages = Stages::begin("asked");
        for number in 0..MAX_STAGES + 4 {
            stages.reach("window", Some(number.to_string()));
        }
        let trace = stages.trace("a".into(), None, ChannelId::new([1; 32]), 2);
        assert_eq!((trace.stages.len(), trace.left_out), (MAX_STAGES, 5));
        assert!(trace.stages.is_sorted_by_key(|stage| stage.after_us));
        let json = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
    }
}
