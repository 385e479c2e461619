//! Quotes: what a processor offers, signed.

use crate::{AccountId, ChainId, Digest, ModelId, Prices, QuoteHash, Signable};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// What the processor says that it does with prompts and answers. A signed claim, not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DataPolicy {
    /// Kept in memory while the request runs, nothing written.
    NotStored = 0,
    /// Stored for at most 30 days, to answer disputes; not used for training.
    StoredForDisputes = 1,
    /// May be stored and used.
    MayBeUsed = 2,
}

/// Bounds on a request under a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Limits {
    /// Input and output tokens together.
    pub context_tokens: u32,
    /// Output tokens of one request.
    pub output_tokens: u32,
    /// Output tokens that are delivered ahead of the voucher that pays for them.
    pub window_tokens: u32,
    /// Milliseconds of processing ahead of the voucher, where time is priced.
    pub window_ms: u32,
}

/// A processor's binding offer of one model version. Signed by its account key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Quote {
    /// The ledger.
    pub chain: ChainId,
    /// The processor, which is also the payee.
    pub processor: AccountId,
    /// The key that signs receipts under this quote.
    pub receipt_key: AccountId,
    /// The model version.
    pub model: ModelId,
    /// Whose credits it takes.
    pub issuer: AccountId,
    /// What it costs.
    pub prices: Prices,
    /// The tokenizer by content, so that the payer can count tokens itself.
    pub tokenizer: Digest,
    /// Bounds on a request.
    pub limits: Limits,
    /// What happens to prompts.
    pub data_policy: DataPolicy,
    /// No request starts under the quote after this Unix time in milliseconds.
    pub valid_until_ms: u64,
    /// Root of the Merkle tree of the processor's sampling nonces.
    pub nonce_root: Digest,
    /// The engine class that answers, for example `candle-q8_0-3fa94c01`; at most 64 bytes.
    pub engine: String,
}

impl Signable for Quote {
    const DOMAIN: &'static str = "gristmill/quote/v1";
}

/// How engine classes begin whose answers another server computed: how it draws is not known here.
pub const UPSTREAM_CLASS: &str = "upstream/";

/// How engine classes begin that make vectors of texts and answer no prompts.
pub const EMBEDDINGS_CLASS: &str = "embeddings/";

impl Quote {
    /// Whether it is for vectors of texts, and not for answers.
    pub fn is_for_embeddings(&self) -> bool {
        self.engine.starts_with(EMBEDDINGS_CLASS)
    }

    /// Whether whoever has the model can compute the answers again. Otherwise that the model answered
    /// is the processor's claim.
    pub fn is_recomputable(&self) -> bool {
        !self.engine.starts_with(UPSTREAM_CLASS)
    }

    /// The hash that challenges, vouchers and receipts name.
    pub fn hash(&self) -> QuoteHash {
        self.digest().into()
    }
}
