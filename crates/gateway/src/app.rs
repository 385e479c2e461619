//! What all parts of a running gateway share.

use crate::{
    accounts::Accounts,
    config::Config,
    event::Event,
    market::{Market, Seller},
    metrics::Metrics,
    peer::Peer,
    traffic::Traffic,
    turns::Turns,
};
use gristmill_client::{Client, Sender};
use gristmill_ledger::Genesis;
use gristmill_store::Store;
use gristmill_types::ChannelId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A running gateway.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) genesis: Genesis,
    pub(crate) ledger: Client,
    pub(crate) sender: Sender,
    /// Sends what defends channels.
    pub(crate) guard: Sender,
    pub(crate) http: reqwest::Client,
    pub(crate) store: Store,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) market: Market,
    pub(crate) metrics: Arc<Metrics>,
    /// One opening or top-up at a time.
    pub(crate) funding: tokio::sync::Mutex<()>,
    /// Requests for several answers.
    pub(crate) several: Turns,
    /// Lanes whose request was given up before its receipt came, and what went over them: as long as the
    /// request holds the lane, and no longer.
    pub(crate) orphans: Mutex<BTreeMap<(ChannelId, u32), Traffic>>,
    /// Requests for several answers that may wait for their turn.
    pub(crate) queueing: Semaphore,
    /// Requests that may wait for a lane.
    pub(crate) waiting: Semaphore,
    /// Channels that are being brought in order, and what tells them of more to do.
    pub(crate) tidying: Mutex<BTreeMap<ChannelId, Arc<Notify>>>,
    /// Vouchers and approvals on their way.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    /// Some time after that: answers end.
    pub(crate) ending: CancellationToken,
    pub(crate) events: broadcast::Sender<Event>,
}

impl App {
    /// Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn peer(&self, seller: &Seller) -> Peer {
        Peer::new(self.http.clone(), seller.processor, &seller.endpoint)
    }

    /// Counts what happened, and tells the owner. Nobody may be listening.
    pub(crate) fn emit(&self, event: Event) {
        if let Event::Paid { prompt_tokens, completion_tokens, cost, .. } = &event {
            self.metrics.paid(*prompt_tokens, *completion_tokens, *cost);
        }
        drop(self.events.send(event));
    }

    pub(crate) fn warn(&self, message: String) {
        tracing::warn!("{message}");
        self.emit(Event::Warning { message });
    }
}
