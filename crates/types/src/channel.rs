//! Artefacts of a payment channel that the payer signs.

use crate::{
    AccountId, Amount, ChainId, ChannelId, Digest, ModelId, QuoteHash, Signable, Usage, VoucherHash, encode,
    sha256,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// What a channel is about; fixed when it opens, and committed to by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ChannelTerms {
    /// The ledger that holds the deposit.
    pub chain: ChainId,
    /// Who pays, and gets back what is not spent.
    pub payer: AccountId,
    /// Who is paid.
    pub payee: AccountId,
    /// Whose credits.
    pub issuer: AccountId,
    /// The key that signs vouchers. One per gateway process; never shared.
    pub voucher_key: AccountId,
    /// The key that signs receipts on the payee's side.
    pub receipt_key: AccountId,
    /// Ledger time between a request to close and the close, and for which a claim without the
    /// payer's co-signature stays pending, in milliseconds.
    pub grace_ms: u64,
    /// The transaction that opens it is unique by sender and nonce; this makes the id unique.
    pub open_nonce: u64,
}

impl ChannelTerms {
    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        sha256(&[b"gristmill/channel/v1", &encode(self)]).into()
    }
}

/// What a lane has come to: the cumulative use and amount at one sequence number.
///
/// A lane is one thread of requests within a channel, pinned to one model and one quote. All
/// counters are cumulative over the lane, so a later claim replaces every earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Claim {
    /// The ledger.
    pub chain: ChainId,
    /// The channel.
    pub channel: ChannelId,
    /// The lane within the channel.
    pub lane: u32,
    /// Rises with every voucher of the lane.
    pub seq: u64,
    /// The model version that the lane is pinned to.
    pub model: ModelId,
    /// The quote that the lane is pinned to.
    pub quote: QuoteHash,
    /// Cumulative use that this claim covers.
    pub usage: Usage,
    /// Cumulative amount.
    pub amount: Amount,
}

/// The payer's promise: the payee may claim up to this much on the lane. Signed by the voucher key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Voucher(pub Claim);

impl Signable for Voucher {
    const DOMAIN: &'static str = "gristmill/voucher/v1";
}

impl Voucher {
    /// The hash that a receipt names.
    pub fn hash(&self) -> VoucherHash {
        self.digest().into()
    }
}

/// The payer's co-signature: exactly this was spent on the lane. A claim that carries it pays at
/// once. Signed by the voucher key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Approval(pub Claim);

impl Signable for Approval {
    const DOMAIN: &'static str = "gristmill/approval/v1";
}

/// The payer's order to process one request under a voucher. It binds the request's body, so that
/// nobody on the way can spend the voucher on another request. Signed by the voucher key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Order {
    /// The ledger.
    pub chain: ChainId,
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// The voucher that pays for the prompt and the first window.
    pub voucher: VoucherHash,
    /// SHA-256 of the request's body.
    pub body: Digest,
    /// The consumer's share of the sampling seed.
    pub consumer_nonce: Digest,
    /// Salt of the digests in the receipt; known to payer and payee only.
    pub salt: Digest,
    /// The most that the payer will sign for on this request beyond what the lane spent before it.
    pub max_amount: Amount,
}

impl Signable for Order {
    const DOMAIN: &'static str = "gristmill/order/v1";
}
