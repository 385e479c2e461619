//! Quotes: one per model and issuer, replaced before it ends or runs out of nonces.
//!
//! A quote's tree of nonces takes a mebibyte. The current quote of a model has its tree, and the one before it,
//! under which requests are on their way. Of all others the signed quote is left: claims are made under them.

use crate::{app::QUOTES_LOG, config::ServedModel};
use gristmill_audit::NonceTree;
use gristmill_net::pay::{Offer, OfferError};
use gristmill_store::Batch;
use gristmill_types::{
    AccountId, Amount, ChainId, DataPolicy, Limits, ModelId, ProcessorNonce, Quote, QuoteHash, SecretKey,
    Signed,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Requests under one quote at most: leaves of its nonce tree.
const NONCES: u32 = 1 << 14;
/// A quote is replaced when so many nonces are left.
const NONCES_LOW: usize = 1 << 10;
/// How long a quote that has ended is still recognised, in milliseconds: requests under way end and are
/// approved, and an approval that got lost is sent again.
const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// What a payer is told to put into a channel, as a hint.
const SUGGESTED_DEPOSIT: Amount = Amount::from_credits(1);

/// Why no quote can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuoteError {
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// No nonces.
    #[error("{0}")]
    Nonces(String),
    /// It does not make a challenge.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// A quote with what the processor keeps to itself about it.
pub(crate) struct OwnQuote {
    /// The hash that vouchers name.
    pub(crate) hash: QuoteHash,
    /// What consumers get.
    pub(crate) signed: Signed<Quote>,
    /// The same as a challenge.
    pub(crate) offer: Offer,
    /// None for an earlier quote: it is recognised, and starts no request.
    nonces: Option<Nonces>,
}

/// The nonces of a quote, and which are left.
struct Nonces {
    tree: NonceTree,
    left: Mutex<Left>,
}

/// Leaves that no request had.
struct Left {
    /// All from here on.
    next: u32,
    /// Those that were given back.
    back: Vec<u32>,
}

impl Nonces {
    fn new(tree: NonceTree) -> Self {
        Self { tree, left: Mutex::new(Left { next: 0, back: Vec::new() }) }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are left.
    fn count(&self) -> usize {
        let left = self.left();
        let fresh = self.tree.leaves().saturating_sub(left.next);
        left.back.len().saturating_add(usize::try_from(fresh).unwrap_or(usize::MAX))
    }
}

impl OwnQuote {
    fn new(signed: Signed<Quote>, tree: Option<NonceTree>) -> Result<Self, QuoteError> {
        let offer = Offer::new(signed.clone(), SUGGESTED_DEPOSIT)?;
        Ok(Self { hash: signed.body.hash(), signed, offer, nonces: tree.map(Nonces::new) })
    }

    /// A nonce that no request had before; `None` if they have run out.
    pub(crate) fn nonce(&self) -> Option<ProcessorNonce> {
        let nonces = self.nonces.as_ref()?;
        let mut left = nonces.left();
        let index = left.back.pop().unwrap_or(left.next);
        let nonce = nonces.tree.reveal(index)?;
        left.next = left.next.max(index.saturating_add(1));
        Some(nonce)
    }

    /// Gives back a nonce that nobody has seen: its request did not start.
    pub(crate) fn give_back(&self, nonce: &ProcessorNonce) {
        if let Some(nonces) = &self.nonces {
            nonces.left().back.push(nonce.index);
        }
    }

    /// Whether a nonce is left.
    pub(crate) fn has_nonce(&self) -> bool {
        self.nonces.as_ref().is_some_and(|nonces| nonces.count() > 0)
    }

    fn stale(&self, now_ms: u64, margin_ms: u64) -> bool {
        now_ms.saturating_add(margin_ms) > self.signed.body.valid_until_ms
            || self.nonces.as_ref().is_none_or(|nonces| nonces.count() < NONCES_LOW)
    }
}

/// What all quotes of a processor share.
pub(crate) struct Terms {
    pub(crate) chain: ChainId,
    pub(crate) account: SecretKey,
    pub(crate) receipt_key: AccountId,
    pub(crate) issuer: AccountId,
    pub(crate) window_tokens: u32,
    pub(crate) data_policy: DataPolicy,
    pub(crate) validity: Duration,
}

/// All quotes of a processor.
#[derive(Default)]
pub(crate) struct Quotes {
    /// Of each model the current one, and the one before: gateways that have it may still order under it.
    starting: HashMap<ModelId, (Arc<OwnQuote>, Option<Arc<OwnQuote>>)>,
    known: HashMap<QuoteHash, Signed<Quote>>,
    /// Records in the log.
    records: usize,
}

impl Quotes {
    /// The current quote of a model, unless it is about to end. Half of a quote's time is left to
    /// whoever fetches it.
    pub(crate) fn current(&self, terms: &Terms, model: &ModelId, now_ms: u64) -> Option<Arc<OwnQuote>> {
        let margin_ms = terms.validity_ms() / 2;
        let current = self.starting.get(model).map(|(current, _)| current);
        current.filter(|quote| !quote.stale(now_ms, margin_ms)).cloned()
    }

    /// What makes a new quote durable. Where the log holds more that are forgotten than that are not, it is
    /// written anew without them.
    pub(crate) fn record(&mut self, quote: &OwnQuote, now_ms: u64) -> Batch {
        self.known.retain(|_, quote| is_known(quote, now_ms));
        let record = quote.signed.to_bytes();
        if self.records <= self.known.len().saturating_mul(2) {
            self.records = self.records.saturating_add(1);
            return Batch::new().append(QUOTES_LOG, record);
        }
        let records: Vec<_> = self.known.values().map(Signed::to_bytes).chain([record]).collect();
        self.records = records.len();
        Batch::new().replace(QUOTES_LOG, records)
    }

    /// Takes a new quote, which is durable, as the current one of its model.
    pub(crate) fn replace(&mut self, quote: &Arc<OwnQuote>) {
        let model = quote.signed.body.model;
        let before = self.starting.remove(&model).map(|(current, _)| current);
        self.starting.insert(model, (Arc::clone(quote), before));
        self.known.insert(quote.hash, quote.signed.clone());
    }

    /// How many are current, in force, and have a nonce left.
    pub(crate) fn live(&self, now_ms: u64) -> usize {
        let current = self.starting.values().map(|(current, _)| current);
        current.filter(|quote| quote.has_nonce() && !quote.stale(now_ms, 0)).count()
    }

    /// Recognises a quote of an earlier run, whose record is in the log.
    pub(crate) fn remember(&mut self, quote: Signed<Quote>) {
        self.known.insert(quote.body.hash(), quote);
        self.records = self.records.saturating_add(1);
    }

    /// The own quote of that hash, if requests start under it.
    pub(crate) fn starting(&self, hash: &QuoteHash) -> Option<Arc<OwnQuote>> {
        let all = self.starting.values().flat_map(|(current, before)| [Some(current), before.as_ref()]);
        all.flatten().find(|quote| quote.hash == *hash).cloned()
    }

    /// The own quote of that hash as it was signed.
    pub(crate) fn known(&self, hash: &QuoteHash) -> Option<&Signed<Quote>> {
        self.known.get(hash)
    }
}

impl Terms {
    fn validity_ms(&self) -> u64 {
        u64::try_from(self.validity.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether a quote is in force, or ended so lately that it is still recognised.
pub(crate) fn is_known(quote: &Signed<Quote>, now_ms: u64) -> bool {
    now_ms <= quote.body.valid_until_ms.saturating_add(KEPT_MS)
}

/// An earlier quote, under which no request starts.
pub(crate) fn earlier(signed: Signed<Quote>) -> Result<OwnQuote, QuoteError> {
    OwnQuote::new(signed, None)
}

/// A new quote. Make it durable before it is shown to anybody: who holds it may come back with it after
/// a restart.
pub(crate) fn make(terms: &Terms, model: &ServedModel, now_ms: u64) -> Result<OwnQuote, QuoteError> {
    let valid_until_ms = now_ms.saturating_add(terms.validity_ms());
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let nonces = NonceTree::new(&secret, NONCES).map_err(|error| QuoteError::Nonces(error.to_string()))?;
    let (context_tokens, output_tokens) = model.compute.limits();
    let quote = Quote {
        chain: terms.chain,
        processor: terms.account.account(),
        receipt_key: terms.receipt_key,
        model: model.id,
        issuer: terms.issuer,
        prices: model.prices,
        tokenizer: model.tokenizer.digest(),
        limits: Limits {
            context_tokens,
            output_tokens,
            window_tokens: terms.window_tokens,
            window_ms: 1_000,
        },
        data_policy: terms.data_policy,
        valid_until_ms,
        nonce_root: nonces.root(),
        engine: model.compute.class(),
    };
    OwnQuote::new(Signed::sign(quote, &terms.account), Some(nonces))
}

#[cfg(test)]
mod tests;
