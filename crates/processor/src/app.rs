//! What all parts of a running processor share.

use crate::{
    books::Books,
    config::{Config, ServedModel},
    event::Event,
    metrics::Metrics,
    quotes::{OwnQuote, Quotes, Terms, earlier, make},
    shelf::Shelf,
};
use gristmill_client::{Client, Sender};
use gristmill_ledger::Genesis;
use gristmill_net::{openai::ApiError, pay::Cashier};
use gristmill_store::Store;
use gristmill_types::{AccountId, LineId, ModelId, QuoteHash};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The log of quotes.
pub(crate) const QUOTES_LOG: &str = "quotes";

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How a processor comes to its end: step by step, see `Handle::stop`.
#[derive(Default)]
pub(crate) struct Stop {
    /// What was ordered and has no receipt yet.
    pub(crate) requests: TaskTracker,
    /// No more orders are taken.
    pub(crate) orders: CancellationToken,
    /// Answers end where they stand.
    pub(crate) answers: CancellationToken,
    /// Nobody is answered any more.
    pub(crate) all: CancellationToken,
}

/// A running processor.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) genesis: Genesis,
    pub(crate) ledger: Client,
    pub(crate) sender: Sender,
    pub(crate) shelf: Shelf,
    pub(crate) books: Books,
    pub(crate) cashier: Cashier,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) quotes: Mutex<Quotes>,
    /// One new quote at a time.
    pub(crate) making: tokio::sync::Mutex<()>,
    pub(crate) store: Store,
    pub(crate) terms: Terms,
    pub(crate) lines: Mutex<HashMap<ModelId, Vec<LineId>>>,
    /// Ledger time as last seen.
    pub(crate) clock_ms: AtomicU64,
    pub(crate) stop: Stop,
    pub(crate) events: broadcast::Sender<Event>,
}

impl App {
    /// The account that is paid.
    pub(crate) fn account(&self) -> AccountId {
        self.config.account.account()
    }

    /// The key that signs receipts, as an account.
    pub(crate) fn receipt_account(&self) -> AccountId {
        self.terms.receipt_key
    }

    /// Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        unix_ms()
    }

    /// Ledger time as last seen, in milliseconds.
    pub(crate) fn ledger_clock_ms(&self) -> u64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    /// The current quote of a model, made new and written down where the last is about to end.
    pub(crate) async fn quote(&self, model: &ServedModel) -> Result<Arc<OwnQuote>, ApiError> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "no quote could be made");
            ApiError::internal("The processor cannot make a quote at the moment.")
        };
        if let Some(quote) = self.quotes().current(&self.terms, &model.id, self.now_ms()) {
            return Ok(quote);
        }
        let _making = self.making.lock().await;
        if let Some(quote) = self.quotes().current(&self.terms, &model.id, self.now_ms()) {
            return Ok(quote);
        }
        let quote = make(&self.terms, model, self.now_ms()).map_err(|error| failed(&error))?;
        let record = self.quotes().record(&quote, self.now_ms());
        self.store.write(record).await.map_err(|error| failed(&error))?;
        let quote = Arc::new(quote);
        self.quotes().replace(&quote);
        Ok(quote)
    }

    fn quotes(&self) -> MutexGuard<'_, Quotes> {
        self.quotes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many quotes start requests now.
    pub(crate) fn live_quotes(&self) -> usize {
        self.quotes().live(self.now_ms())
    }

    /// An own quote by its hash, as long as it is remembered.
    pub(crate) fn find_quote(&self, hash: &QuoteHash) -> Option<Arc<OwnQuote>> {
        let signed = {
            let quotes = self.quotes();
            if let Some(quote) = quotes.starting(hash) {
                return Some(quote);
            }
            quotes.known(hash)?.clone()
        };
        earlier(signed).map(Arc::new).ok()
    }

    /// Tells the owner. Nobody may be listening.
    pub(crate) fn emit(&self, event: Event) {
        drop(self.events.send(event));
    }
}
