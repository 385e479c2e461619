//! What a processor is told when it starts.

use gristmill_engine::Engine;
use gristmill_tokenizer::Tokenizer;
use gristmill_types::{AccountId, DataPolicy, ModelId, Prices, SecretKey};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// A processor's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder of the records; it must exist.
    pub folder: PathBuf,
    /// The account that is paid.
    pub account: SecretKey,
    /// The key that signs receipts.
    pub receipt_key: SecretKey,
    /// Whose credits are taken.
    pub issuer: AccountId,
    /// Output tokens that one voucher covers ahead.
    pub window_tokens: u32,
    /// What happens to prompts, as the quotes state it.
    pub data_policy: DataPolicy,
    /// How long a quote binds.
    pub quote_validity: Duration,
    /// How long a request waits for the next voucher before it ends.
    pub voucher_patience: Duration,
    /// How long a channel with something to settle stays quiet before its claims go to the ledger.
    pub settle_after: Duration,
    /// How long approved claims wait at most on a channel that is never quiet.
    pub settle_at_latest: Duration,
    /// How long a receipt waits for its approval before the claim goes to the ledger without one.
    pub approval_patience: Duration,
}

impl Config {
    /// The usual settings for these keys and places.
    pub fn new(
        listen: SocketAddr,
        folder: PathBuf,
        account: SecretKey,
        receipt_key: SecretKey,
        issuer: AccountId,
    ) -> Self {
        Self {
            listen,
            folder,
            account,
            receipt_key,
            issuer,
            window_tokens: 64,
            data_policy: DataPolicy::NotStored,
            quote_validity: Duration::from_secs(24 * 60 * 60),
            voucher_patience: Duration::from_secs(10),
            settle_after: Duration::from_millis(500),
            settle_at_latest: Duration::from_secs(30),
            approval_patience: Duration::from_secs(60),
        }
    }
}

/// A model on the shelf.
#[derive(Clone)]
pub struct ServedModel {
    /// The version on the ledger.
    pub id: ModelId,
    /// Its line's name.
    pub name: String,
    /// What computes it.
    pub engine: Arc<dyn Engine>,
    /// What counts its tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// What it costs here.
    pub prices: Prices,
}

impl std::fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedModel").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}
