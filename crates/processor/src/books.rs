//! The books: the payee's side of every channel, durable before it counts.

use crate::{
    error::{Refused, StartError},
    start::OTHER_LOGS,
};
use gristmill_channel::{Accepted, Payee, PayeeError, PayeeRecord, Pending, Phase};
use gristmill_net::pay::Refusal;
use gristmill_store::{Batch, Store, Ticket, rusqlite::types::Value};
use gristmill_types::ChannelId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// Channels that are kept in memory at most. A channel costs its payer a deposit and a fee.
const MAX_CHANNELS: usize = 100_000;

/// A log with so many records is replaced by one that holds all of them.
const LONG: usize = 512;

/// One channel's book.
pub(crate) struct Book {
    log: String,
    payee: Mutex<Payee>,
    /// Records in the log; changed under the payee's lock.
    records: AtomicUsize,
    /// Whether the log was removed; set under the payee's lock.
    gone: AtomicBool,
    /// Counts confirmed changes, so that a delivery that waits for a voucher notices it.
    changes: watch::Sender<u64>,
    store: Store,
}

/// An SQL statement with its parameters.
pub(crate) type Statement = (&'static str, Vec<Value>);

/// A change that is queued for the log and not yet durable.
#[must_use = "wait until it is durable before acting on it"]
pub(crate) struct Queued {
    book: Arc<Book>,
    pending: Vec<Pending<PayeeRecord>>,
    ticket: Option<Ticket>,
}

impl Book {
    fn new(payee: Payee, records: usize, store: Store) -> Self {
        Self {
            log: log_of(&payee.id()),
            payee: Mutex::new(payee),
            records: AtomicUsize::new(records),
            gone: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            store,
        }
    }

    /// The machine. A panic elsewhere while it was held leaves it at a whole change or before one.
    pub(crate) fn payee(&self) -> MutexGuard<'_, Payee> {
        self.payee.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes under the lock and queues their records in the same order.
    pub(crate) async fn change<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Payee) -> Result<(T, Vec<Pending<PayeeRecord>>), PayeeError>,
    ) -> Result<(T, Queued), Refused> {
        self.change_noting(act, |_| Vec::new()).await
    }

    /// The same, and where there is a record, statements on the processor's own tables go into its commit.
    pub(crate) async fn change_noting<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Payee) -> Result<(T, Vec<Pending<PayeeRecord>>), PayeeError>,
        note: impl FnOnce(&T) -> Vec<Statement>,
    ) -> Result<(T, Queued), Refused> {
        let slot = self.store.slot().await?;
        let mut payee = self.payee();
        if self.gone.load(Ordering::Relaxed) {
            return Err(PayeeError::Closed.into());
        }
        let (value, pending) = act(&mut payee)?;
        let ticket = if pending.is_empty() {
            None
        } else {
            let records = self.records.load(Ordering::Relaxed).saturating_add(pending.len());
            let batch = if records > LONG {
                self.records.store(1, Ordering::Relaxed);
                Batch::new().replace(&self.log, vec![gristmill_types::encode(&payee.checkpoint())])
            } else {
                self.records.store(records, Ordering::Relaxed);
                pending.iter().fold(Batch::new(), |batch, record| batch.append(&self.log, record.bytes()))
            };
            let batch = note(&value).into_iter().fold(batch, |batch, (sql, row)| batch.sql(sql, row));
            Some(slot.write(batch))
        };
        drop(payee);
        Ok((value, Queued { book: Arc::clone(self), pending, ticket }))
    }

    /// Tells of every confirmed change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Queued {
    /// Waits until the change is on disk, and lets it count.
    pub(crate) async fn durable(self) -> Result<(), Refused> {
        if let Some(ticket) = self.ticket {
            ticket.await?;
        }
        let mut payee = self.book.payee();
        for pending in self.pending {
            payee.confirm(pending);
        }
        drop(payee);
        self.book.changes.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }
}

/// The record of something new, none for a duplicate.
pub(crate) fn record_of(accepted: Accepted) -> Option<Pending<PayeeRecord>> {
    match accepted {
        Accepted::New(pending) => Some(pending),
        Accepted::Duplicate => None,
    }
}

/// All channels' books.
pub(crate) struct Books {
    store: Store,
    open: RwLock<HashMap<ChannelId, Arc<Book>>>,
    /// How many there may be.
    most: usize,
}

impl Books {
    /// Rebuilds every book from its log.
    pub(crate) fn load(store: Store) -> Result<Self, StartError> {
        let mut open = HashMap::new();
        for log in store.logs("")? {
            if OTHER_LOGS.contains(&log.as_str()) {
                continue;
            }
            let broken = |reason: String| StartError::Records { log: log.clone(), reason };
            if !log.starts_with(LOG_PREFIX) {
                return Err(broken("nothing here has that name".to_owned()));
            }
            let rows = store.load(&log)?;
            let records = rows.len();
            let payee = Payee::replay_bytes(rows).map_err(|error| broken(error.to_string()))?;
            if log != log_of(&payee.id()) {
                return Err(broken("the log is another channel's".to_owned()));
            }
            payee.verify().map_err(|error| broken(error.to_string()))?;
            open.insert(payee.id(), Arc::new(Book::new(payee, records, store.clone())));
        }
        Ok(Self { store, open: RwLock::new(open), most: MAX_CHANNELS })
    }

    /// The book of a channel.
    pub(crate) fn get(&self, channel: &ChannelId) -> Option<Arc<Book>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(channel).cloned()
    }

    /// Opens a book with its first record, unless another request did so in the meantime.
    pub(crate) async fn open(&self, payee: Payee, first: Pending<PayeeRecord>) -> Result<Arc<Book>, Refused> {
        let slot = self.store.slot().await?;
        let queued = {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(book) = open.get(&payee.id()) {
                return Ok(Arc::clone(book));
            }
            if open.len() >= self.most {
                return Err(Refusal::Internal("this processor keeps no more channels".to_owned()).into());
            }
            let book = Arc::new(Book::new(payee, 1, self.store.clone()));
            let ticket = slot.write(Batch::new().append(&book.log, first.bytes()));
            let channel = book.payee().id();
            open.insert(channel, Arc::clone(&book));
            Queued { book, pending: vec![first], ticket: Some(ticket) }
        };
        let book = Arc::clone(&queued.book);
        queued.durable().await?;
        Ok(book)
    }

    /// Forgets a channel that the ledger has closed, unless something still runs on it: nothing can be
    /// claimed on it any more, and its record stays on the ledger. Says whether it is forgotten.
    pub(crate) async fn forget(&self, book: &Arc<Book>) -> Result<bool, Refused> {
        let slot = self.store.slot().await?;
        let ticket = {
            let payee = book.payee();
            if payee.view().phase != Phase::Closed || !payee.is_idle() {
                return Ok(false);
            }
            self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&payee.id());
            book.gone.store(true, Ordering::Relaxed);
            slot.write(Batch::new().remove(&book.log))
        };
        ticket.await?;
        Ok(true)
    }

    /// All books.
    pub(crate) fn all(&self) -> Vec<Arc<Book>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

const LOG_PREFIX: &str = "channel/";

fn log_of(channel: &ChannelId) -> String {
    format!("{LOG_PREFIX}{channel}")
}

#[cfg(test)]
mod tests;
