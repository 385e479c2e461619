//! When a block may be reported as final.
//!
//! Marshal hands a block to the state machine only after the block and its certificate are durable.
//! Three things follow, and only after all of them are durable as well does anybody outside learn
//! of the block, and does marshal count it as processed:
//!
//! 1. the state after the block ([`Tee`] waits for the state machine's acknowledgement);
//! 2. what the block did (the [index](crate::index), written while the state is being written);
//! 3. then the [view](crate::view) changes, the submitters are answered, and the block is
//!    acknowledged.
//!
//! A crash before the last step means that the block is delivered again and all steps run again.
//! Each is idempotent, so nothing is lost and nothing is applied twice.

use crate::{
    block::Block,
    index::{Applied, Index},
    metrics::Metrics,
    pool::Pool,
    state::Env,
    view::View,
};
use commonware_actor::Feedback;
use commonware_consensus::{Heightable as _, Reporter, marshal::Update};
use commonware_macros::select;
use commonware_runtime::Handle;
use commonware_utils::{
    Acknowledgement as _,
    acknowledgement::{Exact, ExactWaiter},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// More than marshal delivers without an acknowledgement.
pub(crate) const BACKLOG: usize = 64;

/// A block on its way through the state machine.
pub(crate) struct Delivery {
    height: u64,
    state_durable: ExactWaiter,
    acknowledge: Exact,
}

/// Stands between marshal and the state machine, and holds back marshal's acknowledgement.
#[derive(Clone)]
pub(crate) struct Tee<R> {
    inner: R,
    deliveries: mpsc::Sender<Delivery>,
}

impl<R> Tee<R> {
    /// Forwards to `inner` and announces each block.
    pub(crate) fn new(inner: R, deliveries: mpsc::Sender<Delivery>) -> Self {
        Self { inner, deliveries }
    }
}

impl<R: Reporter<Activity = Update<Block>>> Reporter for Tee<R> {
    type Activity = Update<Block>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match activity {
            Update::Block(block, acknowledge) => {
                let (acknowledge_state, state_durable) = Exact::handle();
                let delivery = Delivery { height: block.height().get(), state_durable, acknowledge };
                if self.deliveries.try_send(delivery).is_err() {
                    return Feedback::Closed;
                }
                self.inner.report(Update::Block(block, acknowledge_state))
            }
            tip @ Update::Tip(..) => self.inner.report(tip),
        }
    }
}

/// Makes outcomes durable and publishes blocks, in order.
pub(crate) struct Publisher<E: Env> {
    /// Where outcomes go.
    pub index: Index<E>,
    /// What the outside sees.
    pub view: View,
    /// Who waits for transactions.
    pub pool: Pool,
    /// What is counted.
    pub metrics: Metrics,
    /// Blocks on their way.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// What blocks did, sent when they were applied, before they are durable.
    pub applied: mpsc::Receiver<Arc<Applied>>,
}

impl<E: Env> Publisher<E> {
    /// Runs until the node stops.
    ///
    /// # Panics
    ///
    /// If the index cannot be written: the node must not go on without it.
    pub(crate) async fn run(mut self) {
        let mut writing = BTreeMap::new();
        while let Some(mut delivery) = self.deliveries.recv().await {
            loop {
                select! {
                    durable = &mut delivery.state_durable => {
                        if durable.is_err() {
                            return;
                        }
                        break;
                    },
                    applied = self.applied.recv() => {
                        let Some(applied) = applied else { return };
                        self.write(&mut writing, applied).await;
                    },
                }
            }
            while let Ok(applied) = self.applied.try_recv() {
                self.write(&mut writing, applied).await;
            }
            // A block that the state already reflected is acknowledged without being applied.
            if let Some((applied, durable)) = writing.remove(&delivery.height) {
                durable.await.expect("outcomes were not written; free disk space and restart");
                let hashes = applied.outcomes.iter().map(|outcome| &outcome.hash);
                self.metrics.settled(self.pool.ages(hashes, Instant::now()).into_iter());
                self.view.publish(&applied);
                self.view.settle(&self.pool, &applied);
            }
            delivery.acknowledge.acknowledge();
        }
    }

    async fn write(&self, writing: &mut BTreeMap<u64, (Arc<Applied>, Handle<()>)>, applied: Arc<Applied>) {
        let durable =
            self.index.put(&applied).await.expect("outcomes were not written; free disk space and restart");
        writing.insert(applied.height, (applied, durable));
    }
}
