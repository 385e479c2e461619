//! Quotes: one per model and issuer, replaced before it ends or runs out of nonces.

use crate::config::ServedModel;
use gristmill_audit::NonceTree;
use gristmill_net::pay::{Offer, OfferError};
use gristmill_types::{
    AccountId, Amount, ChainId, DataPolicy, Limits, ModelId, ProcessorNonce, Quote, QuoteHash, SecretKey,
    Signed,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Requests under one quote at most: leaves of its nonce tree.
const NONCES: u32 = 1 << 14;
/// A quote is replaced when so many nonces are left.
const NONCES_LOW: u32 = 1 << 10;
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
    /// None for a quote of an earlier run: it is recognised, and starts no request.
    nonces: Option<NonceTree>,
    next: AtomicU32,
}

impl OwnQuote {
    /// A nonce that no request had before; `None` if they have run out.
    pub(crate) fn nonce(&self) -> Option<ProcessorNonce> {
        // `fetch_update` and not `fetch_add`: the counter must not wrap round to used leaves.
        let index =
            self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(1)).ok()?;
        self.nonces.as_ref()?.reveal(index)
    }

    /// Whether a nonce is left.
    pub(crate) fn has_nonce(&self) -> bool {
        self.nonces.is_some() && self.next.load(Ordering::Relaxed) < NONCES
    }

    fn stale(&self, now_ms: u64, margin_ms: u64) -> bool {
        now_ms.saturating_add(margin_ms) > self.signed.body.valid_until_ms
            || self.next.load(Ordering::Relaxed) > NONCES - NONCES_LOW
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
    current: HashMap<ModelId, Arc<OwnQuote>>,
    known: HashMap<QuoteHash, Arc<OwnQuote>>,
}

impl Quotes {
    /// The current quote of a model, unless it is about to end. Half of a quote's time is left to
    /// whoever fetches it.
    pub(crate) fn current(&self, terms: &Terms, model: &ModelId, now_ms: u64) -> Option<Arc<OwnQuote>> {
        let margin_ms = terms.validity_ms() / 2;
        self.current.get(model).filter(|quote| !quote.stale(now_ms, margin_ms)).cloned()
    }

    /// Takes a new quote, which is durable, as the current one of its model.
    pub(crate) fn replace(&mut self, quote: &Arc<OwnQuote>, now_ms: u64) {
        self.current.insert(quote.signed.body.model, Arc::clone(quote));
        self.known.retain(|_, quote| is_known(&quote.signed, now_ms));
        self.remember(Arc::clone(quote));
    }

    /// How many are current, in force, and have a nonce left.
    pub(crate) fn live(&self, now_ms: u64) -> usize {
        self.current.values().filter(|quote| quote.has_nonce() && !quote.stale(now_ms, 0)).count()
    }

    /// Recognises a quote, of this run or an earlier one.
    pub(crate) fn remember(&mut self, quote: Arc<OwnQuote>) {
        self.known.insert(quote.hash, quote);
    }

    /// The own quote of that hash.
    pub(crate) fn find(&self, hash: &QuoteHash) -> Option<Arc<OwnQuote>> {
        self.known.get(hash).map(Arc::clone)
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

/// A quote of an earlier run.
pub(crate) fn earlier(signed: Signed<Quote>) -> Result<OwnQuote, QuoteError> {
    let offer = Offer::new(signed.clone(), SUGGESTED_DEPOSIT)?;
    Ok(OwnQuote { hash: signed.body.hash(), signed, offer, nonces: None, next: AtomicU32::new(0) })
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
    let signed = Signed::sign(quote, &terms.account);
    let offer = Offer::new(signed.clone(), SUGGESTED_DEPOSIT)?;
    Ok(OwnQuote { hash: signed.body.hash(), signed, offer, nonces: Some(nonces), next: AtomicU32::new(0) })
}
