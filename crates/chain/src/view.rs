//! What the outside sees of the ledger: only what is final and durable.
//!
//! Held in memory, rebuilt when the node starts: the head, the listings, in which block each
//! transaction is, which transactions touched each lane, and the most recent blocks' outcomes. [`publish`](crate::publish) is the only
//! writer.

use crate::{
    catalog::Catalog,
    index::Applied,
    pool::{Final, Pool},
};
use gristmill_ledger::Event;
use gristmill_types::{BlockHash, ChannelId, TxHash};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Blocks whose outcomes are kept in memory, for those who follow closely.
const RECENT_BLOCKS: usize = 64;

/// The longest time between blocks while a deadline is pending; ledger time counts no more of it.
pub(crate) const DEADLINE_PERIOD: Duration =
    Duration::from_millis(gristmill_ledger::params::MAX_CLOCK_STEP_MS);

/// The last final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: BlockHash,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time, milliseconds.
    pub clock_ms: u64,
}

#[derive(Default)]
struct State {
    catalog: Catalog,
    /// Where each transaction is: the first eight bytes of its hash, and a height. Eight bytes keep
    /// the index at about 25 bytes a transaction; a collision costs a look into a second block.
    blocks: BTreeSet<(u64, u64)>,
    /// Where a transaction took, capped or paid a claim: channel, lane, height, position. About 60
    /// bytes for each lane of each settlement.
    claims: BTreeSet<(ChannelId, u32, u64, u32)>,
    recent: VecDeque<Arc<Applied>>,
}

/// The view. Cheap to clone; clones are the same view.
#[derive(Clone)]
pub struct View {
    state: Arc<RwLock<State>>,
    head: watch::Sender<Head>,
    /// Wakes the proposer. `watch` wakes its receivers in a random order, which would make
    /// simulations differ from run to run.
    published: Arc<Notify>,
}

impl State {
    /// Learns in which block transactions are, and which lanes they touched.
    fn index(&mut self, applied: &Applied) {
        self.blocks.extend(applied.outcomes.iter().map(|outcome| (prefix(&outcome.hash), applied.height)));
        for (position, outcome) in (0..).zip(&applied.outcomes) {
            let lanes = outcome.events.iter().filter_map(Event::claim_lane);
            self.claims.extend(lanes.map(|(channel, lane)| (channel, lane, applied.height, position)));
        }
    }
}

fn prefix(hash: &TxHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl View {
    /// A view of the ledger at the head, which knows no transactions yet.
    pub fn new(head: Head) -> Self {
        Self { state: Arc::default(), head: watch::Sender::new(head), published: Arc::default() }
    }

    /// Reads the listings.
    pub fn catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner).catalog)
    }

    /// Replaces the listings and the head by what a scan at start found.
    pub fn restore(&self, head: Head, catalog: Catalog) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).catalog = catalog;
        self.head.send_replace(head);
    }

    /// Learns what a block of the index did.
    pub fn learn(&self, applied: &Applied) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).index(applied);
    }

    /// The last final block.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Follows the last final block.
    pub fn follow(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// What a recent block did.
    pub fn recent(&self, height: u64) -> Option<Arc<Applied>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let first = state.recent.front()?.height;
        let offset = usize::try_from(height.checked_sub(first)?).ok()?;
        state.recent.get(offset).filter(|applied| applied.height == height).cloned()
    }

    /// Heights of the blocks that may hold the transaction, the likeliest first.
    pub fn blocks_of(&self, hash: &TxHash) -> Vec<u64> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = prefix(hash);
        state.blocks.range((prefix, 0)..=(prefix, u64::MAX)).map(|(_, height)| *height).collect()
    }

    /// Where transactions took, capped or paid claims on a lane: heights and positions, oldest first,
    /// and how many there are in all.
    pub fn claims(
        &self,
        channel: &ChannelId,
        lane: u32,
        skip: usize,
        limit: usize,
    ) -> (Vec<(u64, u32)>, usize) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let all = state.claims.range((*channel, lane, 0, 0)..=(*channel, lane, u64::MAX, u32::MAX));
        let page = all.clone().skip(skip).take(limit);
        (page.map(|(_, _, height, position)| (*height, *position)).collect(), all.count())
    }

    /// A block is final and durable.
    pub fn publish(&self, applied: &Arc<Applied>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in &applied.changes {
            state.catalog.apply(key, value.as_deref());
        }
        state.index(applied);
        if state.recent.back().is_some_and(|last| last.height + 1 != applied.height) {
            state.recent.clear();
        }
        state.recent.push_back(applied.clone());
        if state.recent.len() > RECENT_BLOCKS {
            state.recent.pop_front();
        }
        drop(state);
        self.head.send_replace(Head {
            height: applied.height,
            hash: applied.hash,
            time_ms: applied.time_ms,
            clock_ms: applied.clock_ms,
        });
        self.published.notify_waiters();
    }

    /// Resolves when a block above the height is final.
    pub(crate) async fn beyond(&self, height: u64) {
        loop {
            let published = self.published.notified();
            if self.head().height > height {
                return;
            }
            published.await;
        }
    }

    /// Tells the submitters of a published block's transactions.
    pub fn settle(&self, pool: &Pool, applied: &Arc<Applied>) {
        let hashes = applied.outcomes.iter().map(|outcome| &outcome.hash);
        for (position, waiters) in pool.settle(applied.height, hashes) {
            let outcome = usize::try_from(position).ok().and_then(|position| applied.outcomes.get(position));
            let Some(outcome) = outcome.cloned() else { continue };
            let settled = Arc::new(Final { block: applied.hash, height: applied.height, position, outcome });
            for waiter in waiters {
                let _ = waiter.send(Ok(settled.clone()));
            }
        }
    }

    /// How long after the last block the next one is due although nothing waits, because a deadline
    /// is pending; `None` if none is.
    pub fn due_after(&self) -> Option<Duration> {
        let clock_ms = self.head().clock_ms;
        let deadline_ms = self.catalog(Catalog::latest_deadline_ms);
        let left = deadline_ms.checked_sub(clock_ms).filter(|left| *left > 0)?;
        Some(Duration::from_millis(left).min(DEADLINE_PERIOD))
    }
}
