//! What a processor is told when it starts.

use gristmill_engine::{Condition, Embedder, Engine, Load};
use gristmill_tokenizer::Tokenizer;
use gristmill_types::{AccountId, DataPolicy, EMBEDDINGS_CLASS, ModelId, Prices, SecretKey};
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
    /// How long a consumer may take to read what is on its way to it.
    pub reader_patience: Duration,
    /// How long a channel with something to settle stays quiet before its claims go to the ledger.
    pub settle_after: Duration,
    /// How long approved claims wait at most on a channel that is never quiet.
    pub settle_at_latest: Duration,
    /// How long a receipt waits for its approval before the claim goes to the ledger without one.
    pub approval_patience: Duration,
    /// How often every channel is read from the ledger, with proof. Between, the node's word is taken for what
    /// payers do.
    pub look_every: Duration,
    /// How long running answers may take to end by themselves when the processor stops.
    pub stop_patience: Duration,
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
            reader_patience: Duration::from_secs(30),
            settle_after: Duration::from_millis(500),
            settle_at_latest: Duration::from_secs(30),
            approval_patience: Duration::from_secs(60),
            look_every: Duration::from_secs(60),
            stop_patience: Duration::from_secs(5),
        }
    }
}

/// What computes a model.
#[derive(Clone)]
pub enum Compute {
    /// Answers to prompts.
    Answers(Arc<dyn Engine>),
    /// Vectors of texts. They are paid by the tokens of the texts alone.
    Embeddings(Arc<dyn Embedder>),
}

impl Compute {
    /// The engine class that quotes name.
    pub(crate) fn class(&self) -> String {
        match self {
            Self::Answers(engine) => engine.info().class.clone(),
            Self::Embeddings(embedder) => format!("{EMBEDDINGS_CLASS}{}", embedder.info().class),
        }
    }

    /// What it is doing now.
    pub(crate) fn load(&self) -> Load {
        match self {
            Self::Answers(engine) => engine.load(),
            Self::Embeddings(embedder) => embedder.load(),
        }
    }

    /// Whether it takes requests at all.
    pub(crate) fn condition(&self) -> Condition {
        match self {
            Self::Answers(engine) => engine.condition(),
            Self::Embeddings(embedder) => embedder.condition(),
        }
    }

    /// Requests that it computes or keeps waiting at most.
    pub(crate) fn places(&self) -> usize {
        match self {
            Self::Answers(engine) => engine.info().max_running.saturating_add(engine.info().max_queued),
            Self::Embeddings(embedder) => embedder.info().max_queued.saturating_add(1),
        }
    }

    /// Tokens of a request in all, and of its output, at most.
    pub(crate) fn limits(&self) -> (u32, u32) {
        match self {
            Self::Answers(engine) => (engine.info().context_tokens, engine.info().context_tokens),
            Self::Embeddings(embedder) => {
                let inputs = u32::try_from(embedder.info().max_inputs).unwrap_or(u32::MAX);
                (embedder.info().context_tokens.saturating_mul(inputs).saturating_add(1), 1)
            }
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
    pub compute: Compute,
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
