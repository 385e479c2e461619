//! The accounts: channels and budgets under one lock, durable before they count.
//!
//! A reservation on a lane and the hold on the budget that it is for go into one commit, so a crash
//! leaves both or none.

use crate::{
    error::{BuyError, StartError},
    keys::{NameRecord, Names},
};
use gristmill_channel::{BudgetError, Budgets, KeyId, KeyUse, LaneRef, LaneUse, Payer, PayerRecord, Pending};
use gristmill_net::openai::ApiError;
use gristmill_store::{Batch, Store, Ticket, rusqlite::types::Value};
use gristmill_types::{AccountId, Amount, ChannelId, SecretKey, decode, encode};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const BUDGETS: &str = "budgets";
const NAMES: &str = "key-names";
const CHANNEL_PREFIX: &str = "channel/";
/// A log with so many records is replaced by one that holds all of them.
const LONG: usize = 1_024;

/// All that the gateway promised and may spend.
pub(crate) struct Accounts {
    state: Mutex<State>,
    store: Store,
    voucher_key: SecretKey,
}

/// What is behind the lock.
pub(crate) struct State {
    budgets: Budgets,
    names: Names,
    payers: BTreeMap<ChannelId, Payer>,
    /// What the change under way writes, and confirms when that is durable.
    batch: Batch,
    pending: Vec<(ChannelId, Pending<PayerRecord>)>,
    /// Records in each log, with those of the change under way.
    records: BTreeMap<String, usize>,
}

/// Changes that are queued for the log and not yet durable.
#[must_use = "wait until it is durable before acting on it"]
pub(crate) struct Queued {
    accounts: Arc<Accounts>,
    pending: Vec<(ChannelId, Pending<PayerRecord>)>,
    ticket: Option<Ticket>,
}

impl Accounts {
    /// Rebuilds everything from the logs.
    pub(crate) fn load(store: Store, voucher_key: SecretKey) -> Result<Arc<Self>, StartError> {
        let broken = |log: &str, reason: String| StartError::Records { log: log.to_owned(), reason };
        let mut records = BTreeMap::new();
        let mut load = |log: &str| -> Result<_, StartError> {
            let rows = store.load(log)?;
            records.insert(log.to_owned(), rows.len());
            Ok(rows)
        };
        let budgets =
            Budgets::replay_bytes(load(BUDGETS)?).map_err(|error| broken(BUDGETS, error.to_string()))?;
        let mut names = Names::default();
        for row in load(NAMES)? {
            let record = decode(row.as_ref()).map_err(|error| broken(NAMES, error.to_string()))?;
            names.apply(record).map_err(|record| broken(NAMES, format!("{record:?} does not follow")))?;
        }
        let mut payers = BTreeMap::new();
        for log in store.logs("")? {
            if [BUDGETS, NAMES].contains(&log.as_str()) {
                continue;
            }
            if !log.starts_with(CHANNEL_PREFIX) {
                return Err(broken(&log, "nothing here has that name".to_owned()));
            }
            let payer = Payer::replay_bytes(load(&log)?, voucher_key.clone())
                .map_err(|error| broken(&log, error.to_string()))?;
            if log != log_of(&payer.id()) {
                return Err(broken(&log, "it is another channel's".to_owned()));
            }
            payer.verify().map_err(|error| broken(&log, error.to_string()))?;
            payers.insert(payer.id(), payer);
        }
        let state =
            Mutex::new(State { budgets, names, payers, batch: Batch::new(), pending: Vec::new(), records });
        Ok(Arc::new(Self { state, store, voucher_key }))
    }

    /// The key that signs vouchers.
    pub(crate) const fn voucher_key(&self) -> &SecretKey {
        &self.voucher_key
    }

    /// The state, to read. Changes go through [`change`](Self::change).
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes under the lock and queues their records in the same order, as one commit.
    pub(crate) async fn change<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut State) -> Result<T, BuyError>,
    ) -> Result<(T, Queued), BuyError> {
        let slot = self.store.slot().await?;
        let mut state = self.lock();
        let result = act(&mut state);
        state.shorten();
        // What changed before an error is changed, and its record is written all the same.
        let batch = std::mem::take(&mut state.batch);
        let pending = std::mem::take(&mut state.pending);
        let ticket = if batch.is_empty() { None } else { Some(slot.write(batch)) };
        drop(state);
        Ok((result?, Queued { accounts: Arc::clone(self), pending, ticket }))
    }

    /// Changes an API key's limit.
    pub(crate) async fn set_limit(self: &Arc<Self>, key: KeyId, limit: Amount) -> Result<(), BuyError> {
        let ((), queued) = self.change(|state| state.set_limit(key, limit)).await?;
        queued.durable().await
    }
}

impl Accounts {
    /// Gives back what idle lanes hold beyond what was signed.
    pub(crate) async fn trim(self: &Arc<Self>) -> Result<(), BuyError> {
        let channels: Vec<_> = self.lock().payers().map(Payer::id).collect();
        // A commit for each: a commit holds so many records at most.
        for channel in channels {
            let trim = |state: &mut State| {
                // One that was closed meanwhile holds nothing.
                let Ok(payer) = state.payer(&channel) else { return Ok(()) };
                let trimmed = payer.trim();
                let lanes: Vec<u32> = payer.lane_uses().iter().map(|of| of.lane).collect();
                for pending in trimmed {
                    state.record_whole(&channel, pending);
                }
                lanes.into_iter().try_for_each(|lane| state.record(&channel, lane, None))
            };
            let ((), queued) = self.change(trim).await?;
            queued.durable().await?;
        }
        Ok(())
    }
}

impl Queued {
    /// Waits until the changes are on disk, and lets them count.
    pub(crate) async fn durable(self) -> Result<(), BuyError> {
        if let Some(ticket) = self.ticket {
            ticket.await?;
        }
        let mut state = self.accounts.lock();
        for (channel, pending) in self.pending {
            if let Some(payer) = state.payers.get_mut(&channel) {
                payer.confirm(pending);
            }
        }
        Ok(())
    }
}

impl State {
    /// A channel's machine, to read or to sign with.
    pub(crate) fn payer(&mut self, channel: &ChannelId) -> Result<&mut Payer, BuyError> {
        self.payers.get_mut(channel).ok_or(BuyError::NoChannel)
    }

    /// All channels.
    pub(crate) fn payers(&self) -> impl Iterator<Item = &Payer> {
        self.payers.values()
    }

    /// Channels to a payee, the newest last.
    pub(crate) fn payers_to(&self, payee: &AccountId) -> impl Iterator<Item = &Payer> {
        self.payers.values().filter(move |payer| payer.terms().payee == *payee)
    }

    /// Where an API key stands.
    pub(crate) fn key(&self, key: &KeyId) -> Option<KeyUse> {
        self.budgets.of(key)
    }

    /// All API keys, by their ids.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&KeyId, &KeyUse)> {
        self.budgets.keys()
    }

    /// What people call the API keys.
    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }

    /// Adds an API key, or changes its limit.
    pub(crate) fn set_limit(&mut self, key: KeyId, limit: Amount) -> Result<(), BuyError> {
        let pending = self.budgets.set_limit(key, limit)?;
        self.append(BUDGETS, pending.bytes());
        Ok(())
    }

    /// Names an API key, or ends it.
    pub(crate) fn rename(&mut self, record: NameRecord) -> Result<(), BuyError> {
        let bytes = encode(&record);
        self.names
            .apply(record)
            .map_err(|record| ApiError::internal(format!("{record:?} does not follow")))?;
        self.append(NAMES, bytes);
        Ok(())
    }

    /// Takes on a channel.
    pub(crate) fn open(&mut self, payer: Payer, first: Pending<PayerRecord>) {
        let channel = payer.id();
        self.payers.insert(channel, payer);
        self.record_whole(&channel, first);
    }

    /// Queues a change of a channel, and brings the budgets in line with the lane's figures.
    pub(crate) fn record(
        &mut self,
        channel: &ChannelId,
        lane: u32,
        pending: Option<Pending<PayerRecord>>,
    ) -> Result<(), BuyError> {
        if let Some(pending) = pending {
            self.record_whole(channel, pending);
        }
        let of = self.payer(channel)?.lane_use(lane)?;
        let Some(key) = of.budget else { return Ok(()) };
        let at = LaneRef { channel: *channel, lane };
        // A reservation never exceeds the budget's room, which the same lock guards. What the limit
        // would refuse is therefore spending that has happened already, and that is counted.
        let tracked = match self.budgets.track(at, key, of.reserved, of.spent) {
            Err(BudgetError::Exceeded { .. }) => Some(self.budgets.adopt(at, key, of.reserved, of.spent)?),
            other => other?,
        };
        if let Some(pending) = tracked {
            self.append(BUDGETS, pending.bytes());
        }
        Ok(())
    }

    /// Queues a change that concerns no lane in particular.
    pub(crate) fn record_whole(&mut self, channel: &ChannelId, pending: Pending<PayerRecord>) {
        self.append(&log_of(channel), pending.bytes());
        self.pending.push((*channel, pending));
    }

    /// Ends the budgets' counting of a lane that is over, with what it came to.
    pub(crate) fn close_lane(&mut self, channel: &ChannelId, of: &LaneUse) -> Result<(), BuyError> {
        let at = LaneRef { channel: *channel, lane: of.lane };
        if let Some(key) = of.budget {
            let pending = self.budgets.adopt(at, key, of.spent, of.spent)?;
            self.append(BUDGETS, pending.bytes());
        }
        if let Some(pending) = self.budgets.close(at)? {
            self.append(BUDGETS, pending.bytes());
        }
        Ok(())
    }

    /// Forgets a channel that the ledger has closed. Its receipts stay, and its record on the ledger.
    pub(crate) fn forget(&mut self, channel: &ChannelId) {
        if self.payers.remove(channel).is_some() {
            let log = log_of(channel);
            self.batch = std::mem::take(&mut self.batch).remove(&log);
            self.records.remove(&log);
        }
    }

    /// Replaces long logs by one record each, in the commit under way.
    fn shorten(&mut self) {
        let long: Vec<String> =
            self.records.iter().filter(|(_, records)| **records > LONG).map(|(log, _)| log.clone()).collect();
        for log in long {
            // There are few keys, and each has at most two records.
            if log == NAMES {
                continue;
            }
            let whole = if log == BUDGETS {
                encode(&self.budgets.checkpoint())
            } else {
                let Some(payer) = self.payers.values().find(|payer| log_of(&payer.id()) == log) else {
                    continue;
                };
                encode(&payer.checkpoint())
            };
            self.batch = std::mem::take(&mut self.batch).replace(&log, vec![whole]);
            self.records.insert(log, 1);
        }
    }

    /// Writes a row of the gateway's own tables in the same commit.
    pub(crate) fn sql(&mut self, statement: &'static str, parameters: Vec<Value>) {
        self.batch = std::mem::take(&mut self.batch).sql(statement, parameters);
    }

    fn append(&mut self, log: &str, record: Vec<u8>) {
        *self.records.entry(log.to_owned()).or_default() += 1;
        self.batch = std::mem::take(&mut self.batch).append(log, record);
    }
}

fn log_of(channel: &ChannelId) -> String {
    format!("{CHANNEL_PREFIX}{channel}")
}
