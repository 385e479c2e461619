//! The payee's copy of a channel, for reconciliation.

use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Approval, Receipt, Signed, Voucher};
use serde::{Deserialize, Serialize};

/// What the payee holds of one lane. Every part is signed, so the payer believes nothing else.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LaneCopy {
    /// The lane.
    pub lane: u32,
    /// The highest voucher.
    pub voucher: Signed<Voucher>,
    /// The last receipt.
    pub receipt: Option<Signed<Receipt>>,
    /// The last approval.
    pub approval: Option<Signed<Approval>>,
}

/// What the payee holds of a channel: at most 64 lanes, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ChannelCopy {
    /// The lanes.
    pub lanes: Vec<LaneCopy>,
}
