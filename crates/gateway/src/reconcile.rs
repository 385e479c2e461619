//! Bringing channels in order: after a crash, and after requests that ended without a receipt.
//!
//! The processor's copy is asked for until every lane is settled between the two sides. It is
//! believed as far as its signatures go, and no further; see `gristmill-channel`.

use crate::{
    accounts::State,
    app::App,
    approvals::approval,
    error::BuyError,
    peer::Peer,
    receipts::Entry,
    start::SEND_PATIENCE,
    traffic::{Said, Traffic},
};
use gristmill_channel::{ChannelCopy, Payer, PayerError, Phase, Received, Reconciled, Reconciliation};
use gristmill_net::{
    pay::{Action, Challenge},
    peer::UNKNOWN_CHANNEL,
};
use gristmill_types::{AccountId, ChannelId, ModelId, Receipt, Signed};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The first pause between two tries; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the names of models are asked for, which are for people only.
const NAMES_PATIENCE: Duration = Duration::from_secs(1);
/// A processor that knows no such channel is asked so often before it is believed: an order may be on its way to it.
const UNSEEN_TRIES: u32 = 7;
/// So long the last voucher of a request that was given up may be on its way.
const LAST_PATIENCE: Duration = Duration::from_secs(12);
/// After so many tries the owner is told, and it is tried rarely.
const TRIES: u32 = 60;
const RARELY: Duration = Duration::from_secs(60);

impl App {
    /// Sees in the background to a lane whose request was given up.
    pub(crate) fn put_in_order(
        self: &Arc<Self>,
        peer: Peer,
        challenge: Arc<Challenge>,
        channel: ChannelId,
        lane: u32,
        traffic: Traffic,
    ) {
        // Nothing more is signed for it. As long as it is not among the orphans, nobody else ends it.
        if let Ok(payer) = self.accounts.lock().payer(&channel)
            && let Err(error) = payer.give_up(lane)
        {
            tracing::debug!(%error, %channel, lane, "it was over, or nothing was signed");
        }
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).insert((channel, lane), traffic);
        self.tidy(channel, peer.processor(), Some(peer), Some(challenge));
    }

    /// Sees in the background to channels: lanes that a crash left in doubt, and approvals that did not arrive.
    pub(crate) fn tidy_all(self: &Arc<Self>, which: fn(&Payer) -> bool) {
        let channels: Vec<(ChannelId, AccountId)> = {
            let accounts = self.accounts.lock();
            let open = accounts.payers().filter(|payer| payer.view().phase != Phase::Closed && which(payer));
            open.map(|payer| (payer.id(), payer.terms().payee)).collect()
        };
        for (channel, payee) in channels {
            self.tidy(channel, payee, None, None);
        }
    }

    /// `peer` is where the processor answers, if that is known.
    fn tidy(
        self: &Arc<Self>,
        channel: ChannelId,
        payee: AccountId,
        mut peer: Option<Peer>,
        challenge: Option<Arc<Challenge>>,
    ) {
        let app = Arc::clone(self);
        let more = Arc::new(Notify::new());
        match app.tidying.lock().unwrap_or_else(PoisonError::into_inner).entry(channel) {
            btree_map::Entry::Occupied(tidying) => {
                // Whoever is at it does not wait as long as for what came before.
                tidying.get().notify_one();
                return;
            }
            btree_map::Entry::Vacant(place) => drop(place.insert(Arc::clone(&more))),
        }
        app.tasks.clone().spawn(async move {
            let (mut pause, mut tries, began) = (FIRST_PAUSE, 0_u32, Instant::now());
            loop {
                tries = tries.saturating_add(1);
                let (unseen, sure) = (tries >= UNSEEN_TRIES, began.elapsed() >= LAST_PATIENCE);
                if let Err(error) = app.free_orphans(&channel).await {
                    tracing::debug!(%error, %channel, "what was given up is not freed");
                }
                let tidied = async {
                    // It may have moved since it was asked last.
                    let peer = match peer.take() {
                        Some(peer) => peer,
                        None => app.find(&payee).await?,
                    };
                    app.tidy_once(&channel, &peer, challenge.as_deref(), unseen, sure).await
                };
                let tidied = tidied.await;
                match &tidied {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, %channel, "a channel is not in order yet"),
                }
                if tries == TRIES && app.is_held(&channel) {
                    let why = tidied.err().map(|error| format!(" ({error})")).unwrap_or_default();
                    app.warn(format!(
                        "channel {} could not be brought in order with its processor{why}; what is reserved on it \
                         stays reserved until it can",
                        channel.short()
                    ));
                }
                let longest = if tries < TRIES { LONGEST_PAUSE } else { RARELY };
                pause = (pause * 2).min(longest);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = more.notified() => (pause, tries) = (FIRST_PAUSE, 0),
                    () = app.stopped(&channel) => break,
                }
            }
            app.tidying.lock().unwrap_or_else(PoisonError::into_inner).remove(&channel);
            if !app.orphaned(&channel).is_empty() && !app.stopping.is_cancelled() {
                // One came in after the last look.
                app.tidy(channel, payee, None, challenge);
            }
        });
    }

    /// Frees what requests that were given up hold beyond what was signed.
    async fn free_orphans(&self, channel: &ChannelId) -> Result<(), BuyError> {
        let lanes = self.orphaned(channel);
        if lanes.is_empty() {
            return Ok(());
        }
        let free = |state: &mut State| {
            for lane in lanes {
                let Ok(payer) = state.payer(channel) else { return Ok(()) };
                if let Some(pending) = payer.free(lane) {
                    state.record(channel, lane, Some(pending))?;
                }
            }
            Ok(())
        };
        let ((), queued) = self.accounts.change(free).await?;
        queued.durable().await
    }

    /// Resolves when a stop need not wait for the channel any more: for the receipts of what it cut off, it waits a
    /// little.
    async fn stopped(&self, channel: &ChannelId) {
        self.stopping.cancelled().await;
        if !self.orphaned(channel).is_empty() {
            tokio::time::sleep(SEND_PATIENCE).await;
        }
    }

    /// A processor, where the ledger says that it answers now.
    async fn find(&self, processor: &AccountId) -> Result<Peer, BuyError> {
        let endpoint = self.processor_endpoint(processor).await?.ok_or_else(|| BuyError::Unreachable {
            processor: *processor,
            reason: "it has registered no endpoint".to_owned(),
        })?;
        Ok(Peer::new(self.http.clone(), *processor, &endpoint))
    }

    /// One comparison with the processor's copy. True if the channel is in order.
    async fn tidy_once(
        self: &Arc<Self>,
        channel: &ChannelId,
        peer: &Peer,
        challenge: Option<&Challenge>,
        unseen: bool,
        sure: bool,
    ) -> Result<bool, BuyError> {
        if self.accounts.lock().payer(channel).is_err() {
            // Closed meanwhile: nothing can be claimed on it.
            self.forget_orphans(channel);
            return Ok(true);
        }
        // A processor that has no book has never seen a voucher of the channel.
        let (copy, known) = match peer.copy(channel).await {
            Err(BuyError::Answered { error, .. }) if error.code.as_deref() == Some(UNKNOWN_CHANNEL) => {
                (ChannelCopy::default(), false)
            }
            copy => (copy?, true),
        };
        if !known && !unseen {
            return Ok(false);
        }
        self.adopt(channel, &copy, sure).await?;
        let mut right = self.approve_again(channel, &copy, peer).await?;
        for lane in self.orphaned(channel) {
            if !known && self.answered(channel, lane) {
                // It has seen a voucher and forgot it; whoever runs it may bring its books back.
                tracing::debug!(%channel, lane, "the processor forgot the channel");
                continue;
            }
            if !known {
                let mut accounts = self.accounts.lock();
                if accounts.payer(channel)?.doubt(lane).is_err() {
                    tracing::debug!(%channel, lane, "the lane is gone");
                }
                self.settled(channel, lane);
                continue;
            }
            // A lane that fails must not keep those behind it from being brought in order.
            if let Err(error) = self.tidy_lane(channel, lane, &copy, peer, challenge).await {
                // Its request may be over: then it is the approval that did not arrive.
                right = false;
                tracing::debug!(%error, %channel, lane, "a lane is not in order yet");
            }
        }
        Ok(right && !self.is_held(channel))
    }

    /// Whether lanes of the channel are in doubt or wait for their request's receipt.
    fn is_held(&self, channel: &ChannelId) -> bool {
        let in_doubt = self.accounts.lock().payer(channel).is_ok_and(|payer| !payer.in_doubt().is_empty());
        in_doubt || !self.orphaned(channel).is_empty()
    }

    /// Ends the request of an orphaned lane, as far as the processor's copy allows.
    async fn tidy_lane(
        &self,
        channel: &ChannelId,
        lane: u32,
        copy: &ChannelCopy,
        peer: &Peer,
        challenge: Option<&Challenge>,
    ) -> Result<(), BuyError> {
        let held = copy.lanes.iter().find(|of| of.lane == lane);
        let latest = {
            let mut accounts = self.accounts.lock();
            let payer = accounts.payer(channel)?;
            if payer.lane_use(lane).is_err() {
                // The processor gave the lane up; nothing can be claimed on it.
                self.settled(channel, lane);
                return Ok(());
            }
            payer.latest(lane).cloned()
        };
        match (held, latest) {
            (Some(held), Some(latest)) if held.voucher.body.0.seq >= latest.body.0.seq => {
                let seq = latest.body.0.seq;
                match held.receipt.as_ref().filter(|receipt| receipt.body.last && receipt.body.seq >= seq) {
                    Some(receipt) => self.close_request(channel, lane, receipt, peer, challenge).await,
                    None => Ok(()),
                }
            }
            // The processor never got the last voucher: with it, it can answer with a receipt.
            (_, Some(latest)) => self.send_again(channel, peer, challenge, Action::Voucher(latest)).await,
            // Nothing was signed for the request.
            (_, None) => {
                let mut accounts = self.accounts.lock();
                accounts.payer(channel)?.cancel(lane)?;
                self.settled(channel, lane);
                Ok(())
            }
        }
    }

    /// Takes over what a crash made us forget, as far as it is signed.
    async fn adopt(&self, channel: &ChannelId, copy: &ChannelCopy, sure: bool) -> Result<(), BuyError> {
        let now_ms = self.now_ms();
        let forgot: BTreeSet<ModelId> = {
            let mut accounts = self.accounts.lock();
            let doubted = accounts.payer(channel)?.in_doubt();
            copy.lanes
                .iter()
                .filter(|of| doubted.contains(&of.lane))
                .map(|of| of.voucher.body.0.model)
                .collect()
        };
        let names =
            tokio::time::timeout(NAMES_PATIENCE, self.market.names(&forgot)).await.unwrap_or_default();
        let ((refused, entries), queued) = self
            .accounts
            .change(|state| {
                let payer = state.payer(channel)?;
                let before: BTreeMap<u32, Traffic> =
                    copy.lanes.iter().map(|of| (of.lane, forgotten(payer, of.lane, &names))).collect();
                let result = if sure { payer.reconcile(copy) } else { payer.reconcile_early(copy) };
                let entries = entries(payer, copy, &result, &before, now_ms);
                for pending in result.pending {
                    state.record_whole(channel, pending);
                }
                for (lane, outcome) in result.lanes {
                    if matches!(outcome, Reconciled::Adopted { .. } | Reconciled::Ahead { .. }) {
                        // Its request is over when this is confirmed.
                        self.settled(channel, lane);
                    }
                    state.record(channel, lane, None)?;
                }
                for entry in &entries {
                    entry.insert(state, None);
                }
                Ok((result.refused, entries))
            })
            .await?;
        queued.durable().await?;
        for entry in entries {
            self.emit(entry.paid());
        }
        for (lane, error) in refused {
            tracing::warn!(%channel, lane, %error, "the processor's copy of a lane is not believed");
        }
        Ok(())
    }

    fn orphaned(&self, channel: &ChannelId) -> Vec<u32> {
        let orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.keys().filter(|(of, _)| of == channel).map(|(_, lane)| *lane).collect()
    }

    /// Whether some of the answer had arrived.
    fn answered(&self, channel: &ChannelId, lane: u32) -> bool {
        let orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans
            .get(&(*channel, lane))
            .is_some_and(|traffic| !traffic.ids.is_empty() || !traffic.text.is_empty())
    }

    /// To be called under the lock of the accounts under which the lane becomes free: the next request on it
    /// may be given up at any moment, and its traffic stands under the same key.
    fn settled(&self, channel: &ChannelId, lane: u32) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).remove(&(*channel, lane));
    }

    pub(crate) fn forget_orphans(&self, channel: &ChannelId) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != channel);
    }

    /// Ends a request with the receipt that the stream did not bring. What it counts beyond what
    /// arrived is conceded, as far as it was promised.
    async fn close_request(
        &self,
        channel: &ChannelId,
        lane: u32,
        receipt: &Signed<Receipt>,
        peer: &Peer,
        challenge: Option<&Challenge>,
    ) -> Result<(), BuyError> {
        let traffic = {
            let orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
            orphans.get(&(*channel, lane)).cloned()
        };
        let Some(traffic) = traffic else { return Ok(()) };
        let now_ms = self.now_ms();
        let ((verified, entry), queued) = self
            .accounts
            .change(|state| {
                let payer = state.payer(channel)?;
                let entry = traffic.entry(payer, receipt, now_ms).filter(|entry| !entry.cost.is_zero());
                let said = entry.as_ref().map_or(Said::Right, |entry| {
                    traffic.said(&receipt.body, traffic.is_whole(entry.completion_tokens))
                });
                let (received, counted) = match said {
                    Said::Otherwise(_) | Said::NoVectors(_) => (payer.dispute(receipt)?, false),
                    // After a crash of the processor, its receipt states what was delivered and commits to
                    // nothing. What arrived is paid.
                    Said::Right | Said::Nothing => match payer.receipt(receipt) {
                        Err(PayerError::Overcounted { .. }) => (payer.concede(receipt)?, true),
                        taken => (taken?, true),
                    },
                };
                if !payer.in_flight().contains(&lane) {
                    self.settled(channel, lane);
                }
                // One that was taken before was approved then, or refused for a reason.
                let (pending, verified) = match received {
                    Received::New(pending) => (Some(pending), counted),
                    Received::Evidence(pending) => (Some(pending), false),
                    Received::Duplicate => (None, false),
                };
                state.record(channel, lane, pending)?;
                if let Some(entry) = &entry {
                    traffic.insert(entry, state);
                }
                Ok((verified, entry))
            })
            .await?;
        queued.durable().await?;
        if verified {
            if let Some(entry) = entry {
                self.emit(entry.paid());
            }
            // Where this fails, the next comparison sends it again.
            let approval = approval(self.accounts.lock().payer(channel)?, lane)?;
            if let Some(approval) = approval {
                self.send_again(channel, peer, challenge, Action::Approve(approval)).await?;
            }
        }
        Ok(())
    }
}

/// What is left of the traffic on a lane after a crash: where it stood.
fn forgotten(payer: &Payer, lane: u32, names: &BTreeMap<ModelId, String>) -> Traffic {
    let model = payer.quote(lane).map(|quote| quote.body.model);
    let model = model.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string())).unwrap_or_default();
    let before = (payer.receipted(lane), payer.owed(lane).unwrap_or_default());
    Traffic { model, before, ..Traffic::default() }
}

/// Entries for the receipts that a comparison brought in.
fn entries(
    payer: &Payer,
    copy: &ChannelCopy,
    result: &Reconciliation,
    before: &BTreeMap<u32, Traffic>,
    now_ms: u64,
) -> Vec<Entry> {
    let adopted = result.lanes.iter().filter_map(|(lane, outcome)| match outcome {
        Reconciled::Adopted { .. } | Reconciled::Ahead { .. } => Some(*lane),
        Reconciled::Agreed | Reconciled::Behind | Reconciled::Unseen | Reconciled::Open => None,
    });
    let entries = adopted.filter_map(|lane| {
        let of = copy.lanes.iter().find(|of| of.lane == lane)?;
        before.get(&lane)?.adopted(payer, of.receipt.as_ref()?, &of.voucher, now_ms)
    });
    entries.filter(|entry| !entry.cost.is_zero()).collect()
}
