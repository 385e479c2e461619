//! Transactions on their way into a block.

use super::{Pool, Refusal};
use crate::block::Tx;
use commonware_cryptography::sha256::Digest;
use std::time::Duration;

/// Transactions taken for a block. Dropped without [`propose`](Self::propose), because the round
/// was given up, they wait again.
pub struct Taken {
    pub(super) pool: Pool,
    pub(super) txs: Vec<Tx>,
}

/// What to do with a transaction that cannot be in the block now.
pub enum Verdict {
    /// Its nonce is ahead: keep it for a while.
    Ahead {
        /// The sender's next nonce.
        expected: u64,
    },
    /// It is in another block already, which is not final yet.
    Included {
        /// That block's height.
        height: u64,
        /// The view that it was proposed in.
        view: u64,
        /// The block.
        block: Digest,
    },
    /// It is in a final block, which is published soon or was just published.
    Final {
        /// That block's height.
        height: u64,
        /// What to say if it was published, and its submitter came too late to hear of it.
        refusal: Refusal,
    },
    /// It can never be valid.
    Never(Refusal),
}

impl Taken {
    /// No transactions.
    pub fn nothing(pool: &Pool) -> Self {
        Self { pool: pool.clone(), txs: Vec::new() }
    }

    /// The transactions, in the order in which they should be executed.
    pub fn txs(&self) -> &[Tx] {
        &self.txs
    }

    /// The block exists: what is refused leaves it, the rest is remembered until it is decided.
    /// Returns the block's transactions.
    pub fn refuse(&mut self, refused: impl IntoIterator<Item = (usize, Verdict)>, now: Duration) -> Vec<Tx> {
        let mut state = self.pool.state();
        let mut txs: Vec<Option<Tx>> = std::mem::take(&mut self.txs).into_iter().map(Some).collect();
        for (position, verdict) in refused {
            let Some(tx) = txs.get_mut(position).and_then(Option::take) else { continue };
            match verdict {
                Verdict::Ahead { expected } => state.park(tx, expected, now),
                Verdict::Included { height, view, block } => {
                    state.proposed.entry(height).or_default().push((block, view, vec![tx]));
                }
                // Its submitter hears of it when the block is published.
                Verdict::Final { height, .. } if height > state.published => state.release(&tx.hash()),
                Verdict::Final { refusal, .. } => state.refuse(&tx, &refusal),
                Verdict::Never(problem) => {
                    tracing::debug!(tx = %tx.hash(), %problem, "transaction dropped");
                    state.refuse(&tx, &problem);
                }
            }
        }
        self.txs = txs.into_iter().flatten().collect();
        self.txs.iter().for_each(|tx| state.advance(tx));
        if !state.turns.is_empty() {
            // What was parked behind them is ready.
            self.pool.filled.notify_one();
        }
        self.txs.clone()
    }

    /// The block was proposed: its transactions wait for it.
    pub fn propose(mut self, height: u64, view: u64, block: Digest) {
        let txs = std::mem::take(&mut self.txs);
        if !txs.is_empty() {
            self.pool.state().proposed.entry(height).or_default().push((block, view, txs));
        }
    }
}

impl std::ops::Drop for Taken {
    fn drop(&mut self) {
        if self.txs.is_empty() {
            return;
        }
        let txs = std::mem::take(&mut self.txs);
        let mut state = self.pool.state();
        txs.into_iter().for_each(|tx| state.wait(tx));
        drop(state);
        self.pool.filled.notify_one();
    }
}
