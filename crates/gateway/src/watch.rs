//! Watching the ledger: what happens to our channels there, and claims that say too much.

use crate::{app::App, approvals::is_unclear, error::BuyError};
use futures::{FutureExt as _, StreamExt as _, stream};
use gristmill_channel::Payer;
use gristmill_ledger::{Event as LedgerEvent, record::Lane, tx::ShowReceipt};
use gristmill_types::{AccountId, ChannelId, Claim};
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};

/// How long to wait before a channel that could not be read is read again.
const RETRY: Duration = Duration::from_secs(2);

/// Follows the ledger until the gateway stops.
pub(crate) async fn run(app: Arc<App>) {
    let account = app.config.payer;
    // None once: from there on no block is missed, and what was before it comes as no event.
    let following = async {
        let next = app.ledger.await_next_height(RETRY).await;
        stream::once(async { None }).chain(app.ledger.follow(Some(next)).map(Some))
    };
    let mut blocks = pin!(following.flatten_stream());
    // What happens is the node's word: one that leaves a claim out, or says nothing, must not let it mature.
    let every = app.config.look_every;
    let mut looks = tokio::time::interval_at(Instant::now() + every, every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Channels that are to be looked at, until that has worked: a claim that is not contested in time is
    // paid.
    let mut changed: BTreeSet<ChannelId> = BTreeSet::new();
    loop {
        tokio::select! {
            news = blocks.next() => match news {
                Some(Some(Ok(block))) => {
                    let events = block.outcomes.iter().flat_map(|outcome| &outcome.events);
                    changed.extend(events.filter_map(|event| channel_of(event, &account)));
                }
                Some(None) => changed.extend(app.channels()),
                Some(Some(Err(_))) | None => {}
            },
            _ = looks.tick() => {
                changed.extend(app.channels());
                app.tidy_all(is_unclear);
            }
            () = tokio::time::sleep(RETRY), if !changed.is_empty() => {}
            () = app.stopping.cancelled() => return,
        }
        for channel in std::mem::take(&mut changed) {
            if app.stopping.is_cancelled() {
                return;
            }
            if let Err(error) = app.look_at(&channel).await {
                tracing::warn!(%error, %channel, "a channel could not be read from the ledger; trying again");
                changed.insert(channel);
            }
        }
    }
}

fn channel_of(event: &LedgerEvent, account: &AccountId) -> Option<ChannelId> {
    match event {
        LedgerEvent::ChannelToppedUp { channel, payer, .. }
        | LedgerEvent::ClaimPaid { channel, payer, .. }
        | LedgerEvent::ClaimPending { channel, payer, .. }
        | LedgerEvent::FloorRaised { channel, payer, .. }
        | LedgerEvent::CloseRequested { channel, payer, .. }
        | LedgerEvent::ChannelClosed { channel, payer, .. } => (payer == account).then_some(*channel),
        _ => None,
    }
}

impl App {
    fn channels(&self) -> Vec<ChannelId> {
        self.accounts.lock().payers().map(Payer::id).collect()
    }

    /// Takes in what the ledger says of a channel of ours, and contests what is claimed beyond the
    /// receipts.
    pub(crate) async fn look_at(&self, channel: &ChannelId) -> Result<(), BuyError> {
        if self.accounts.lock().payer(channel).is_err() {
            return Ok(());
        }
        self.observe(channel).await?;
        let found = self.ledger.channel(channel).await?;
        let Some(records) = found.value else { return Ok(()) };
        let mut failed = None;
        for lane in &records.lanes {
            // One that cannot be contested must not keep those behind it from being contested.
            if let Err(error) = self.contest(channel, lane, found.clock_ms).await {
                tracing::warn!(%error, %channel, lane = lane.lane, "a claim could not be contested");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Shows the processor's own receipt against a pending claim that is above it.
    async fn contest(&self, channel: &ChannelId, lane: &Lane, clock_ms: u64) -> Result<(), BuyError> {
        // After its deadline a claim cannot be contested any more.
        let Some(pending) = lane.pending.as_ref().filter(|pending| pending.deadline_ms > clock_ms) else {
            return Ok(());
        };
        let (terms, receipt) = {
            let mut accounts = self.accounts.lock();
            let payer = accounts.payer(channel)?;
            let claim = Claim {
                chain: payer.terms().chain,
                channel: *channel,
                lane: lane.lane,
                seq: pending.seq,
                model: lane.model,
                quote: lane.quote,
                usage: pending.usage,
                amount: pending.effective(),
            };
            (*payer.terms(), payer.challenge(&claim).cloned())
        };
        let Some(receipt) = receipt else { return Ok(()) };
        self.warn(format!(
            "the processor claims {} credits on lane {} of channel {}, its receipt says {}; the receipt is shown to the ledger",
            pending.effective(),
            lane.lane,
            channel.short(),
            receipt.body.spent,
        ));
        self.guard.send(ShowReceipt { terms, receipt: Box::new(receipt) }).await?;
        Ok(())
    }

    /// Looks at the channels to a processor again, to see the lanes that it gave up.
    pub(crate) async fn look_at_payee(&self, processor: &AccountId) {
        let channels: Vec<ChannelId> = self.accounts.lock().payers_to(processor).map(Payer::id).collect();
        for channel in channels {
            if let Err(error) = self.look_at(&channel).await {
                tracing::debug!(%error, %channel, "a channel could not be looked at");
            }
        }
    }

    /// Looks at every channel once: for what happened while the gateway was away. One that fails does
    /// not keep the gateway from starting.
    pub(crate) async fn look_at_all(&self) {
        for channel in self.channels() {
            if let Err(error) = self.look_at(&channel).await {
                self.warn(format!("channel {} could not be looked at: {error}", channel.short()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_types::{Amount, ModelId, SecretKey, Usage};

    #[test]
    fn only_the_payers_own_channels_are_looked_at() {
        let account = |byte| SecretKey::from_seed(&[byte; 32]).account();
        let channel = ChannelId::new([1; 32]);
        let event = |payer| LedgerEvent::ClaimPaid {
            channel,
            payer,
            payee: account(2),
            issuer: account(3),
            lane: 0,
            seq: 1,
            model: ModelId::new([4; 32]),
            usage: Usage::default(),
            paid: Amount::ZERO,
            earned: Amount::ZERO,
            owed: Amount::ZERO,
            bonded: Amount::ZERO,
            royalties: vec![],
        };
        assert_eq!(channel_of(&event(account(1)), &account(1)), Some(channel));
        assert_eq!(channel_of(&event(account(7)), &account(1)), None);
        // An outage may have hidden the end of our own top-up.
        let topped_up = LedgerEvent::ChannelToppedUp {
            channel,
            payer: account(1),
            payee: account(2),
            issuer: account(3),
            amount: Amount::ZERO,
            deposit: Amount::ZERO,
        };
        assert_eq!(channel_of(&topped_up, &account(1)), Some(channel));
    }
}
