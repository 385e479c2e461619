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
use std::{sync::Arc, time::Duration};

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

/// Resolves when there is a reason for a block on the parent.
async fn work<E: Env>(env: &E, pool: &Pool, view: &View, idle: Duration, parent: Digest) {
    let started = env.current();
    let give_up = started + idle;
    loop {
        let last = view.head();
        if last.height == 0 {
            return;
        }
        let mut wake = give_up;
        if last.hash != block_hash(&parent) {
            // Whether a deadline is still pending after the parent shows when it is published.
            wake = wake.min(started + GRACE);
        } else if let Some(due) = view.due_after() {
            let due = Duration::from_millis(last.time_ms) + due;
            wake = wake.min(env.current() + due.saturating_sub(now(env)));
        }
        select! {
                    () = pool.filled() => return,
                    () = env.sleep_until(wake) => return,
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
            select! {
                () = work(&env, &pool, &view, idle, context.parent.1) => {},
                () = response.closed() => return,
            }
            let built = inner.propose(context).await;
            let durable = async {
                let digest = built.await.ok()?;
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
