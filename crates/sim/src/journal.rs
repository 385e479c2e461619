//! What the sides told their owners, over all their starts.

use anyhow::{Result, bail};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, broadcast};

/// Entries that are kept; whoever needs more looks more often.
const KEPT: usize = 100_000;

/// Something that a side told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// The gateway.
    Gateway(gristmill_gateway::Event),
    /// The processor.
    Processor(gristmill_processor::Event),
}

/// All occurrences so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: Mutex<Vec<Occurrence>>,
    news: Notify,
}

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Vec<Occurrence>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far, in order of arrival.
    pub fn all(&self) -> Vec<Occurrence> {
        self.entries().clone()
    }

    /// How much there is so far.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether nothing happened yet.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Waits until `find` makes something of all that happened since the start.
    pub async fn wait<T>(
        &self,
        patience: Duration,
        mut find: impl FnMut(&[Occurrence]) -> Option<T>,
    ) -> Result<T> {
        let search = async {
            loop {
                let news = self.0.news.notified();
                let found = find(&self.entries());
                if let Some(found) = found {
                    return found;
                }
                news.await;
            }
        };
        match tokio::time::timeout(patience, search).await {
            Ok(found) => Ok(found),
            Err(_) => bail!("waited {patience:?} in vain; what happened: {:#?}", self.all()),
        }
    }

    /// Waits for the first occurrence of this kind.
    pub async fn first<T>(
        &self,
        patience: Duration,
        mut pick: impl FnMut(&Occurrence) -> Option<T>,
    ) -> Result<T> {
        self.wait(patience, |entries| entries.iter().find_map(&mut pick)).await
    }

    /// Writes down what a side tells, as long as it lives.
    pub(crate) fn keep<E: Clone + Send + 'static>(
        &self,
        mut events: broadcast::Receiver<E>,
        occurrence: fn(E) -> Occurrence,
    ) {
        let journal = self.clone();
        tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) => {
                        let mut entries = journal.entries();
                        if entries.len() < KEPT {
                            entries.push(occurrence(event));
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "the journal was too slow for some events");
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
                journal.0.news.notify_waiters();
            }
        });
    }
}
