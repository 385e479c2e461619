//! Receipts: what the processor delivered, signed.

use crate::{Amount, ChainId, ChannelId, Digest, ModelId, QuoteHash, Signable, Usage, VoucherHash};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Finish {
    /// The model ended its answer, or a stop sequence was met.
    Stop = 0,
    /// The limit of output tokens or the context was reached.
    Length = 1,
    /// The consumer went away or stopped paying.
    Cancelled = 2,
    /// The processor failed.
    Error = 3,
}

/// Sampling parameters as the canonical sampler uses them.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Sampling {
    /// Temperature in millionths; 0 takes the likeliest token.
    pub temperature_micros: u32,
    /// How many of the likeliest tokens take part, 1 to 64.
    pub top_k: u8,
    /// Of these, the likeliest take part that have this share of the probability together, in
    /// millionths, 1 to 1 000 000; 1 000 000 leaves nobody out.
    pub top_p_micros: u32,
    /// Output tokens at most.
    pub max_tokens: u32,
    /// Texts that end the answer, in the order given.
    pub stop: Vec<String>,
}

/// One leaf of the processor's nonce tree, revealed for one request.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ProcessorNonce {
    /// The nonce itself.
    pub nonce: Digest,
    /// Which leaf.
    pub index: u32,
    /// The leaf's siblings up to the quote's `nonce_root`, lowest first.
    pub path: Vec<Digest>,
}

/// All that is needed, with the prompt and the answer, to compute the answer again.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuditCommitment {
    /// HMAC-SHA-256 of the prompt's token ids (u32, little endian) under the request's salt.
    pub prompt_ids: Digest,
    /// HMAC-SHA-256 of the output's token ids (u32, little endian) under the request's salt.
    pub output_ids: Digest,
    /// How tokens were drawn.
    pub sampling: Sampling,
    /// The consumer's nonce.
    pub consumer_nonce: Digest,
    /// The processor's nonce; none where the consumer fixed the seed and thus the whole draw.
    pub processor_nonce: Option<ProcessorNonce>,
    /// Why it ended.
    pub finish: Finish,
}

/// The processor's word on what a voucher bought. Signed by the receipt key of the quote.
///
/// A receipt at sequence number n caps every claim of the lane with a number up to n at its
/// `spent`; of contradictory receipts the lowest counts.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// The ledger.
    pub chain: ChainId,
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// The sequence number of the last voucher that it answers.
    pub seq: u64,
    /// That voucher.
    pub voucher: VoucherHash,
    /// The model version.
    pub model: ModelId,
    /// The quote.
    pub quote: QuoteHash,
    /// Cumulative use of the lane.
    pub usage: Usage,
    /// Cumulative amount spent on the lane; what the voucher promised beyond it is lane credit.
    pub spent: Amount,
    /// HMAC-SHA-256 of the request's body under the request's salt.
    pub request: Digest,
    /// HMAC-SHA-256 of the answer's text under the request's salt.
    pub response: Digest,
    /// Whether the request has ended. A receipt within a stream is not final.
    pub last: bool,
    /// What an audit recomputes; present on the last receipt of a request.
    pub audit: Option<AuditCommitment>,
}

impl Signable for Receipt {
    const DOMAIN: &'static str = "gristmill/receipt/v1";
}
