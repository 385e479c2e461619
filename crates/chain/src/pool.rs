//! The mempool: transactions that were checked and wait for a block.
//!
//! First come, first served between senders; by rising nonce within one sender. Bounded by count
//! and by bytes, and per sender, so that nobody fills it alone. A transaction is in exactly one of
//! three places:
//!
//! - **waiting**: the next proposal takes it;
//! - **parked**: its nonce is ahead of its sender's account. It goes back to waiting when the one
//!   before it is in a block, and is dropped after [`PARKED_FOR`]. Once a sender has one parked, what
//!   is ahead of it as well is parked at once, so nobody wakes the proposer for it;
//! - **proposed**: in a block of ours that is not final yet. If another block wins, it goes back
//!   to waiting, and its sender never learns that there was a race.
//!
//! The pool knows nothing of the ledger's state: the executor decides what is valid, and a block in which
//! nothing would be left is not made.

mod taken;

pub(crate) use taken::{Taken, Verdict};

use crate::block::Tx;
use commonware_cryptography::sha256::Digest;
use gristmill_ledger::{Invalid, Outcome};
use gristmill_types::{AccountId, BlockHash, TxHash};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot};

/// How long a transaction whose nonce is ahead waits for the ones before it.
pub(crate) const PARKED_FOR: Duration = Duration::from_secs(10);

/// Most submitters that wait for one transaction.
pub(crate) const MAX_WAITERS: usize = 64;

/// Bounds of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most transactions.
    pub count: usize,
    /// Most bytes.
    pub bytes: usize,
    /// Most transactions of one sender.
    pub per_sender: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count: 131_072, bytes: 64 << 20, per_sender: 16_384 }
    }
}

/// A final transaction.
#[derive(Clone, Debug)]
pub struct Final {
    /// The block that holds it.
    pub block: BlockHash,
    /// The block's height.
    pub height: u64,
    /// Its position in the block.
    pub position: u32,
    /// What it did.
    pub outcome: Outcome,
}

/// Why a transaction is not taken, or was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pool is full.
    #[error("the node has too many transactions waiting; try again in a second")]
    Full,
    /// The sender has too many transactions waiting.
    #[error("this sender has too many transactions waiting; wait until some are final")]
    SenderFull,
    /// Another transaction of the sender with the same nonce is waiting.
    #[error("another transaction of this sender with nonce {nonce} is waiting")]
    NonceTaken {
        /// The nonce.
        nonce: u64,
    },
    /// The ledger says that it cannot be part of any block now.
    #[error("{reason}")]
    Invalid {
        /// A stable word for programs.
        code: &'static str,
        /// The ledger's reason.
        reason: String,
    },
    /// The node is stopping.
    #[error("the node is stopping; submit the same bytes again when it is back")]
    Stopping,
}

impl Refusal {
    /// What [`code`](Self::code) may say.
    pub const CODES: [&str; 10] = [
        "pool_full",
        "sender_full",
        "nonce_taken",
        "nonce_used",
        "nonce_ahead",
        "malformed",
        "cannot_pay_fee",
        "fault",
        "bad_signature",
        "stopping",
    ];

    /// Refused by the ledger.
    pub fn invalid(reason: &Invalid) -> Self {
        let code = match reason {
            Invalid::Malformed(_) => "malformed",
            Invalid::Nonce { .. } => "nonce_used",
            Invalid::CannotPayFee { .. } => "cannot_pay_fee",
            Invalid::SpendingKey { .. } => "spending_key",
            Invalid::Fault(_) => "fault",
        };
        Self::Invalid { code, reason: reason.to_string() }
    }

    /// Not signed by its sender.
    pub fn bad_signature() -> Self {
        let reason = "the signature does not verify under the sender's key".to_owned();
        Self::Invalid { code: "bad_signature", reason }
    }

    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full => "pool_full",
            Self::SenderFull => "sender_full",
            Self::NonceTaken { .. } => "nonce_taken",
            Self::Invalid { code, .. } => code,
            Self::Stopping => "stopping",
        }
    }
}

/// What a submitter learns in the end.
pub(crate) type Answer = Result<Arc<Final>, Refusal>;

/// What a submitter waits for.
pub(crate) type Waiter = oneshot::Sender<Answer>;

/// A transaction that the pool knows.
struct Known {
    tx: Tx,
    /// Who wants to hear of it.
    waiters: Vec<Waiter>,
    /// Whether it takes room: it does until it is in a final block.
    counted: bool,
    /// When it came.
    since: Option<Instant>,
}

impl Known {
    /// Adds somebody who wants to hear of it.
    fn listen(&mut self, waiter: Option<Waiter>) -> Result<(), Refusal> {
        if self.waiters.len() >= MAX_WAITERS {
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        match waiter {
            Some(waiter) if self.waiters.len() >= MAX_WAITERS => {
                let _ = waiter.send(Err(Refusal::Full));
                Err(Refusal::Full)
            }
            waiter => {
                self.waiters.extend(waiter);
                Ok(())
            }
        }
    }
}

/// Transactions of one sender that wait for earlier ones.
#[derive(Default)]
struct Parked {
    /// The nonce that the sender's next transaction needs, as far as this node has seen.
    expected: u64,
    /// By nonce, with the time at which they are given up.
    txs: BTreeMap<u64, (Tx, Duration)>,
}

#[derive(Default)]
struct State {
    /// Waiting transactions of each sender.
    waiting: HashMap<AccountId, BTreeMap<u64, Tx>>,
    /// One entry per waiting transaction, in order of arrival; names whose turn it is.
    turns: VecDeque<AccountId>,
    /// Transactions ahead of their sender's account.
    parked: HashMap<AccountId, Parked>,
    /// Blocks of ours that are not final, by height.
    proposed: BTreeMap<u64, Vec<(Digest, u64, Vec<Tx>)>>,
    /// Every transaction above, and those that are in a final block which was not published yet.
    known: HashMap<TxHash, Known>,
    /// The height of the last published block.
    published: u64,
    senders: HashMap<AccountId, usize>,
    bytes: usize,
    /// Since when there is work and no block came.
    busy: Option<Instant>,
    stopping: bool,
}

/// The pool. Cheap to clone; clones are the same pool.
#[derive(Clone)]
pub struct Pool {
    limits: Limits,
    state: Arc<Mutex<State>>,
    filled: Arc<Notify>,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Arc::default(), filled: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state consistent, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions in the pool.
    pub fn len(&self) -> usize {
        self.state().known.len()
    }

    /// Bytes of the transactions in the pool.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// For how long transactions that can be in a block have waited without any block becoming final.
    pub fn stalled(&self, now: Instant) -> Duration {
        let state = self.state();
        let since = state.busy.filter(|_| state.has_work());
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How long ago these transactions came, of those that came to this pool.
    pub fn ages<'a>(&self, hashes: impl Iterator<Item = &'a TxHash>, now: Instant) -> Vec<Duration> {
        let state = self.state();
        let since = hashes.filter_map(|hash| state.known.get(hash)?.since);
        since.map(|since| now.saturating_duration_since(since)).collect()
    }

    /// Whether the pool has no transactions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the pool has room for so many more transactions of ordinary size.
    pub fn has_room(&self, count: usize) -> bool {
        let state = self.state();
        state.known.len() + count <= self.limits.count && state.bytes < self.limits.bytes
    }

    /// Whether the transaction is in the pool, which means that its signature was verified.
    pub fn knows(&self, hash: &TxHash) -> bool {
        self.state().known.contains_key(hash)
    }

    /// Adds a checked transaction. The same transaction again only adds the waiter.
    pub fn insert(&self, tx: Tx, waiter: Option<Waiter>, now: Duration) -> Result<(), Refusal> {
        let result = self.state().insert(&self.limits, tx, waiter, now);
        self.filled.notify_one();
        result
    }

    /// Adds many checked transactions and counts those taken.
    pub fn insert_many(&self, txs: impl IntoIterator<Item = Tx>, now: Duration) -> usize {
        let mut state = self.state();
        let taken =
            txs.into_iter().filter(|tx| state.insert(&self.limits, tx.clone(), None, now).is_ok()).count();
        drop(state);
        self.filled.notify_one();
        taken
    }

    /// Resolves when a transaction is waiting.
    pub async fn filled(&self) {
        loop {
            let notified = self.filled.notified();
            if !self.state().turns.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Gives up transactions that were parked for too long. Called once a second.
    pub fn expire(&self, now: Duration) {
        self.state().expire(now);
    }

    /// Takes transactions for a block. What is not proposed (`Taken::propose`) goes back.
    pub fn take(&self, count: usize, bytes: usize, now: Duration) -> Taken {
        let mut state = self.state();
        state.expire(now);
        let mut txs = Vec::new();
        let mut total = 0;
        while txs.len() < count {
            let Some(sender) = state.turns.pop_front() else { break };
            let Some(tx) = state.pop_first(&sender) else { continue };
            total += tx.block_bytes();
            if total > bytes {
                state.wait(tx);
                break;
            }
            txs.push(tx);
        }
        Taken { pool: self.clone(), txs }
    }

    /// A view began whose parent is of view `parent`: blocks that we proposed in later views were
    /// skipped, so their transactions wait again.
    pub fn skipped_after(&self, parent: u64) {
        let mut state = self.state();
        let heights: Vec<u64> = state.proposed.keys().copied().collect();
        for height in heights {
            let Some(blocks) = state.proposed.remove(&height) else { continue };
            let (skipped, kept): (Vec<_>, Vec<_>) =
                blocks.into_iter().partition(|(_, view, _)| *view > parent);
            if !kept.is_empty() {
                state.proposed.insert(height, kept);
            }
            skipped.into_iter().flat_map(|(_, _, txs)| txs).for_each(|tx| state.wait(tx));
        }
        drop(state);
        self.filled.notify_one();
    }

    /// A block is final: its transactions leave the pool, those of blocks that lost against it
    /// wait again. The submitters are told by [`settle`](Self::settle).
    pub fn finalized(&self, height: u64, block: &Digest, txs: &[Tx]) {
        let mut state = self.state();
        let later = state.proposed.split_off(&(height + 1));
        let decided = std::mem::replace(&mut state.proposed, later);
        let lost = decided.into_values().flatten().filter(|(digest, _, _)| digest != block);
        lost.flat_map(|(_, _, txs)| txs).for_each(|tx| state.wait(tx));
        for tx in txs {
            state.remove(tx);
            state.advance(tx);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// A block was published: takes the waiters of its transactions, by their position. From here on
    /// the pool does not know these transactions, and the view does.
    pub fn settle<'a>(
        &self,
        height: u64,
        hashes: impl Iterator<Item = &'a TxHash>,
    ) -> Vec<(u32, Vec<Waiter>)> {
        let mut state = self.state();
        state.published = state.published.max(height);
        state.busy = Some(Instant::now());
        let settled = (0..).zip(hashes).map(|(position, hash)| (position, state.forget(hash)));
        settled.filter(|(_, waiters)| !waiters.is_empty()).collect()
    }

    /// Tells every submitter that the node stops.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopping = true;
        for waiter in state.known.drain().flat_map(|(_, known)| known.waiters) {
            let _ = waiter.send(Err(Refusal::Stopping));
        }
    }
}

impl State {
    fn insert(
        &mut self,
        limits: &Limits,
        tx: Tx,
        waiter: Option<Waiter>,
        now: Duration,
    ) -> Result<(), Refusal> {
        let hash = tx.hash();
        if let Some(known) = self.known.get_mut(&hash) {
            return known.listen(waiter);
        }
        let (sender, nonce) = (tx.signed().body.sender, tx.signed().body.nonce);
        let taken = self.waiting.get(&sender).is_some_and(|txs| txs.contains_key(&nonce))
            || self.parked.get(&sender).is_some_and(|parked| parked.txs.contains_key(&nonce));
        let problem = if self.stopping {
            Some(Refusal::Stopping)
        } else if taken {
            Some(Refusal::NonceTaken { nonce })
        } else if self.known.len() >= limits.count || self.bytes + tx.bytes().len() > limits.bytes {
            Some(Refusal::Full)
        } else if self.senders.get(&sender).is_some_and(|count| *count >= limits.per_sender) {
            Some(Refusal::SenderFull)
        } else {
            None
        };
        if let Some(problem) = problem {
            if let Some(waiter) = waiter {
                let _ = waiter.send(Err(problem.clone()));
            }
            return Err(problem);
        }
        let arrived = Instant::now();
        if !self.has_work() {
            self.busy = Some(arrived);
        }
        let waiters = waiter.into_iter().collect();
        self.known.insert(hash, Known { tx: tx.clone(), waiters, counted: true, since: Some(arrived) });
        self.bytes += tx.bytes().len();
        *self.senders.entry(sender).or_default() += 1;
        match self.parked.get(&sender) {
            Some(parked) if parked.expected < nonce => self.park(tx, parked.expected, now),
            _ => self.wait(tx),
        }
        self.expire(now);
        Ok(())
    }

    /// Whether a transaction waits for a block, or is in one that is not final.
    fn has_work(&self) -> bool {
        !self.turns.is_empty() || !self.proposed.is_empty()
    }

    /// Puts a known transaction in line.
    fn wait(&mut self, tx: Tx) {
        let (sender, nonce) = (tx.signed().body.sender, tx.signed().body.nonce);
        let hash = tx.hash();
        if !self.known.contains_key(&hash) {
            return;
        }
        match self.waiting.entry(sender).or_default().insert(nonce, tx) {
            None => self.turns.push_back(sender),
            Some(other) => self.replaced(&hash, &other),
        }
    }

    /// Keeps a known transaction until the ones before it are in a block.
    fn park(&mut self, tx: Tx, expected: u64, now: Duration) {
        let (sender, nonce) = (tx.signed().body.sender, tx.signed().body.nonce);
        let hash = tx.hash();
        if !self.known.contains_key(&hash) {
            return;
        }
        let parked = self.parked.entry(sender).or_default();
        parked.expected = expected;
        if let Some((other, _)) = parked.txs.insert(nonce, (tx, now + PARKED_FOR)) {
            self.replaced(&hash, &other);
        }
    }

    /// Two transactions with one nonce can meet in a line when one of them was taken for a block before
    /// the other came; only one of them can ever be valid. The one whose place was taken is refused.
    fn replaced(&mut self, by: &TxHash, other: &Tx) {
        if other.hash() != *by {
            self.refuse(other, &Refusal::NonceTaken { nonce: other.signed().body.nonce });
        }
    }

    /// A transaction is in a block: what was parked behind it waits again.
    fn advance(&mut self, tx: &Tx) {
        let sender = tx.signed().body.sender;
        let Some(parked) = self.parked.get_mut(&sender) else { return };
        parked.expected = parked.expected.max(tx.signed().body.nonce.saturating_add(1));
        let mut next = parked.expected;
        let mut ready = Vec::new();
        while let Some(first) = parked.txs.first_entry().filter(|first| *first.key() <= next) {
            next = next.max(first.key().saturating_add(1));
            ready.push(first.remove().0);
        }
        if parked.txs.is_empty() {
            self.parked.remove(&sender);
        }
        ready.into_iter().for_each(|tx| self.wait(tx));
    }

    fn pop_first(&mut self, sender: &AccountId) -> Option<Tx> {
        let waiting = self.waiting.get_mut(sender)?;
        let (_, tx) = waiting.pop_first()?;
        if waiting.is_empty() {
            self.waiting.remove(sender);
        }
        Some(tx)
    }

    /// Takes a transaction out of the lines; who waits for it stays known.
    fn remove(&mut self, tx: &Tx) {
        let (sender, nonce) = (tx.signed().body.sender, tx.signed().body.nonce);
        if let Some(waiting) = self.waiting.get_mut(&sender)
            && waiting.get(&nonce).is_some_and(|other| other.hash() == tx.hash())
        {
            waiting.remove(&nonce);
            // The turn stays in line; `take` passes over a turn that finds nothing.
            if waiting.is_empty() {
                self.waiting.remove(&sender);
            }
        }
        if let Some(parked) = self.parked.get_mut(&sender)
            && parked.txs.get(&nonce).is_some_and(|(other, _)| other.hash() == tx.hash())
        {
            parked.txs.remove(&nonce);
            if parked.txs.is_empty() {
                self.parked.remove(&sender);
            }
        }
        self.release(&tx.hash());
    }

    /// Gives back the room that a transaction took, once.
    fn release(&mut self, hash: &TxHash) {
        let tx = match self.known.get_mut(hash) {
            Some(known) if known.counted => {
                known.counted = false;
                known.tx.clone()
            }
            _ => return,
        };
        self.bytes = self.bytes.saturating_sub(tx.bytes().len());
        let sender = tx.signed().body.sender;
        if let Some(count) = self.senders.get_mut(&sender) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&sender);
            }
        }
    }

    /// Knows a transaction no more; its place in line and its room are given back with it.
    fn forget(&mut self, hash: &TxHash) -> Vec<Waiter> {
        let Some(tx) = self.known.get(hash).map(|known| known.tx.clone()) else { return Vec::new() };
        self.remove(&tx);
        self.known.remove(hash).map(|known| known.waiters).unwrap_or_default()
    }

    /// Drops a transaction for good.
    fn refuse(&mut self, tx: &Tx, problem: &Refusal) {
        for waiter in self.forget(&tx.hash()) {
            let _ = waiter.send(Err(problem.clone()));
        }
    }

    /// Gives up what was parked for too long.
    fn expire(&mut self, now: Duration) {
        if self.parked.is_empty() {
            return;
        }
        let mut late = Vec::new();
        self.parked.retain(|_, parked| {
            parked.txs.retain(|_, (tx, until)| {
                let keep = *until > now;
                if !keep {
                    late.push(tx.clone());
                }
                keep
            });
            !parked.txs.is_empty()
        });
        for tx in late {
            let nonce = tx.signed().body.nonce;
            let reason = format!("the transactions before nonce {nonce} did not arrive; submit them first");
            self.refuse(&tx, &Refusal::Invalid { code: "nonce_ahead", reason });
        }
    }
}
