//! The door of the mempool: decode, check what needs no state, verify signatures in batches.
//!
//! One thread takes whatever has arrived, up to [`MAX_BATCH`] transactions, and verifies the
//! signatures together: under load that costs a quarter of verifying one by one, and a lone
//! transaction still goes through at once. A batch that fails is halved until the bad ones are
//! found, so one bad signature costs its sender's peers little.

use crate::{
    block::{Keys, Tx, verify_signatures},
    pool::{Pool, Refusal, Waiter},
};
use bytes::Bytes;
use commonware_parallel::Sequential;
use gristmill_ledger::{Invalid, Malformed, Rules, SignedTx};
use gristmill_types::encode;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, oneshot};

/// Most transactions verified together.
const MAX_BATCH: usize = 2_048;
/// Most requests that wait at the door.
const QUEUE: usize = 4_096;

enum Request {
    /// One transaction; the waiter learns when it is final or refused.
    One(Tx, Waiter),
    /// Many transactions; the answer is how many were taken.
    Many(Vec<Tx>, oneshot::Sender<usize>),
}

/// Submits transactions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission {
    requests: mpsc::Sender<Request>,
    rules: Arc<Rules>,
    pool: Pool,
}

impl Admission {
    /// Starts the thread; it ends when the last clone is dropped.
    pub(crate) fn start(pool: Pool, rules: Arc<Rules>) -> std::io::Result<Self> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let worker = Worker { requests: receiver, pool: pool.clone(), keys: Keys::default() };
        std::thread::Builder::new().name("gristmill-admission".into()).spawn(move || worker.run())?;
        Ok(Self { requests, rules, pool })
    }

    /// Reads a transaction and checks all but its signature.
    pub(crate) fn read(&self, bytes: Bytes) -> Result<Tx, Refusal> {
        let refuse = |malformed: Malformed| Refusal::invalid(&Invalid::Malformed(malformed));
        let tx = Tx::decode(bytes).map_err(refuse)?;
        tx.checked(&self.rules).map_err(|malformed| refuse(malformed.clone()))?;
        Ok(tx)
    }

    /// Submits one transaction. The receiver answers when it is final or refused.
    pub(crate) fn submit(&self, tx: Tx) -> Result<oneshot::Receiver<crate::pool::Answer>, Refusal> {
        let (waiter, receiver) = oneshot::channel();
        self.requests.try_send(Request::One(tx, waiter)).map_err(|_| Refusal::Full)?;
        Ok(receiver)
    }

    /// Submits many transactions in order and returns how many were taken. Waits while the pool has
    /// no room; reads a batch while the one before it is verified.
    pub(crate) async fn submit_many(&self, txs: &[SignedTx]) -> Result<usize, Refusal> {
        let mut taken = 0;
        let mut pending: Option<oneshot::Receiver<usize>> = None;
        for batch in txs.chunks(MAX_BATCH) {
            let batch = batch.iter().map(|tx| self.read(encode(tx).into())).collect::<Result<Vec<_>, _>>()?;
            while !self.pool.has_room(2 * MAX_BATCH) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let (sender, receiver) = oneshot::channel();
            if self.requests.send(Request::Many(batch, sender)).await.is_err() {
                return Err(Refusal::Stopping);
            }
            if let Some(before) = pending.replace(receiver) {
                taken += before.await.unwrap_or(0);
            }
        }
        if let Some(last) = pending {
            taken += last.await.unwrap_or(0);
        }
        Ok(taken)
    }
}

struct Worker {
    requests: mpsc::Receiver<Request>,
    pool: Pool,
    keys: Keys,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Worker {
    fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let mut singles = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::One(tx, waiter) => singles.push((tx, waiter)),
                    Request::Many(txs, reply) => {
                        let _ = reply.send(self.admit_many(&txs));
                    }
                }
                next = if singles.len() < MAX_BATCH { self.requests.try_recv().ok() } else { None };
            }
            let txs: Vec<Tx> = singles.iter().map(|(tx, _)| tx.clone()).collect();
            let verified = verify(&txs, &mut self.keys);
            for ((tx, waiter), verified) in singles.into_iter().zip(verified) {
                if verified {
                    // A refusal reaches the waiter.
                    let _ = self.pool.insert(tx, Some(waiter), now());
                } else {
                    let _ = waiter.send(Err(Refusal::bad_signature()));
                }
            }
        }
    }

    fn admit_many(&mut self, txs: &[Tx]) -> usize {
        let mut taken = 0;
        for batch in txs.chunks(MAX_BATCH) {
            let verified = verify(batch, &mut self.keys);
            let good = batch.iter().zip(verified).filter(|(_, verified)| *verified).map(|(tx, _)| tx.clone());
            taken += self.pool.insert_many(good, now());
        }
        taken
    }
}

/// Which of the transactions are signed by their senders.
fn verify(txs: &[Tx], keys: &mut Keys) -> Vec<bool> {
    let mut verdicts = vec![false; txs.len()];
    verify_into(txs, keys, &mut verdicts);
    verdicts
}

fn verify_into(txs: &[Tx], keys: &mut Keys, verdicts: &mut [bool]) {
    if verify_signatures(&mut rand::rng(), txs, keys, &Sequential) {
        verdicts.fill(true);
    } else if txs.len() > 1 {
        let (txs, verdicts) = (txs.split_at(txs.len() / 2), verdicts.split_at_mut(txs.len() / 2));
        verify_into(txs.0, keys, verdicts.0);
        verify_into(txs.1, keys, verdicts.1);
    }
}
