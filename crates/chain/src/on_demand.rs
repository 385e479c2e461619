//! Blocks only when there is work.
//!
//! Consensus asks the leader of every view for a block. This automaton stands in front of the
//! engine's own and holds the question until there is something to propose:
//!
//! - a transaction waits;
//! - the genesis has not been written yet;
//! - a deadline on the ledger is pending, and the next step of ledger time is due;
//! - the parent is not final although it should be: a block on top makes both final;
//! - the idle time is over. A heartbeat block shows the other validators that the leader lives; a
//!   ledger of one validator needs none, so its idle time is hours.
//!
//! It also holds the answer until the block is durable. The engine votes for a block while it is being
//! written; a lone validator that dies in between would be bound to a block that nobody has.
//!
//! Transactions that the ledger refuses are no work: if nothing is left of those that waited, the
//! application builds no block, and the question is held again. Otherwise anybody could fill the disk
//! with empty blocks for nothing.
//!
//! It waits here because waiting inside the application would hold back the parent's finalization,
//! and it never declines because a declined view lasts until its timeout.

use crate::{
    app::{App, block_hash, now},
    block::Block,
    pool::Pool,
    state::Env,
    view::View,
};
use commonware_consensus::{
    Automaton, CertifiableAutomaton,
    marshal::{core::Mailbox as Marshal, standard::Standard},
    types::Round,
};
use commonware_cryptography::{Digested, sha256::Digest};
use commonware_macros::select;
use commonware_utils::channel::oneshot;
use gristmill_proof::{ConsensusContext, Scheme};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Delays proposals until there is work.
pub(crate) struct OnDemand<E, A> {
    env: Arc<E>,
    inner: A,
    app: App,
    marshal: Marshal<Scheme, Standard<Block>>,
    pool: Pool,
    view: View,
    idle: Duration,
}

impl<E, A: Clone> Clone for OnDemand<E, A> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            inner: self.inner.clone(),
            app: self.app.clone(),
            marshal: self.marshal.clone(),
            pool: self.pool.clone(),
            view: self.view.clone(),
            idle: self.idle,
        }
    }
}

impl<E: Env, A> OnDemand<E, A> {
    /// Stands in front of `inner`.
    pub(crate) fn new(
        env: E,
        inner: A,
        app: App,
        marshal: Marshal<Scheme, Standard<Block>>,
        (pool, view): (Pool, View),
        idle: Duration,
    ) -> Self {
        Self { env: Arc::new(env), inner, app, marshal, pool, view, idle }
    }
}

/// How long a parent may take from its certificate to being published. After a crash in between, no
/// vote for it is cast again, and only a descendant makes it final.
const GRACE: Duration = Duration::from_millis(250);

/// Why there should be a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Transactions wait; the ledger may refuse them.
    Transactions,
    /// It is due, with or without transactions.
    Due,
}

/// Resolves when there is a reason for a block on the parent, for which was asked at `started`.
async fn work<E: Env>(
    env: &E,
    pool: &Pool,
    view: &View,
    (started, idle): (SystemTime, Duration),
    parent: Digest,
) -> Reason {
    let give_up = started + idle;
    loop {
        let last = view.head();
        if last.height == 0 {
            return Reason::Due;
        }
        let mut wake = give_up;
        if last.hash != block_hash(&parent) {
            // Whether a deadline is still pending after the parent shows when it is published.
            wake = wake.min(started + GRACE);
        } else if let Some(due) = view.due_after() {
            let due = Duration::from_millis(last.time_ms) + due;
            wake = wake.min(env.current() + due.saturating_sub(now(env)));
        }
        // What is due comes first: transactions that are refused must not put it off.
        select! {
            () = env.sleep_until(wake) => return Reason::Due,
            () = pool.filled() => return Reason::Transactions,
            // The block that ends the wait may also set or reach a deadline.
            () = view.beyond(last.height) => {},
        }
    }
}

impl<E: Env, A: Automaton<Context = ConsensusContext, Digest = Digest>> Automaton for OnDemand<E, A> {
    type Context = ConsensusContext;
    type Digest = Digest;

    async fn propose(&mut self, context: ConsensusContext) -> oneshot::Receiver<Digest> {
        let (mut response, receiver) = oneshot::channel();
        let Self { pool, view, idle, mut inner, app, marshal, .. } = self.clone();
        let round = context.round;
        // Blocks of ours in views after the parent's were skipped.
        pool.skipped_after(context.parent.0.get());
        self.env.child("propose").spawn(move |env| async move {
            let started = env.current();
            let durable = async {
                let digest = loop {
                    let reason = work(&env, &pool, &view, (started, idle), context.parent.1).await;
                    app.ask(round, reason == Reason::Due);
                    match inner.propose(context.clone()).await.await {
                        Ok(digest) => break digest,
                        Err(_) if app.declined(round) => {}
                        Err(_) => return None,
                    }
                };
                if let Some(block) = app.built(&digest) {
                    let block = Digested::precomputed(block, digest);
                    marshal.verified(round, block).await.then_some(digest)
                } else {
                    Some(digest)
                }
            };
            select! {
                digest = durable => {
                    if let Some(digest) = digest {
                        let _ = response.send(digest);
                    }
                },
                () = response.closed() => {},
            }
        });
        receiver
    }

    async fn verify(&mut self, context: ConsensusContext, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.verify(context, payload).await
    }
}

impl<E: Env, A: CertifiableAutomaton<Context = ConsensusContext, Digest = Digest>> CertifiableAutomaton
    for OnDemand<E, A>
{
    // `prepare` keeps its default, to wait: a block built before its parent is certified could not
    // be held back for lack of work.
    async fn certify(&mut self, round: Round, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.certify(round, payload).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pool::Limits, pool_tests::tx, view::Head};
    use commonware_runtime::{Clock as _, Runner as _, deterministic};
    use gristmill_types::BlockHash;

    #[test]
    fn what_is_due_is_not_put_off_by_transactions() {
        deterministic::Runner::default().start(|env| async move {
            let pool = Pool::new(Limits::default());
            let parent = Digest::from([7; 32]);
            let hash = BlockHash::new(parent.0);
            let view = View::new(Head { height: 3, hash, time_ms: 0, clock_ms: 0 });
            let idle = Duration::from_secs(5);
            let asked = (env.current(), idle);
            pool.insert(tx(1, 0), None, Duration::ZERO).unwrap();
            assert_eq!(work(&env, &pool, &view, asked, parent).await, Reason::Transactions);
            env.sleep(idle).await;
            assert_eq!(work(&env, &pool, &view, asked, parent).await, Reason::Due);
        });
    }
}
