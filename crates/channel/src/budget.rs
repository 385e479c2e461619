//! Budgets of API keys, exact at every moment: spent + held ≤ limit.
//!
//! A budget counts lanes. A lane is bound to one key at a time; what its reservation may still come
//! to is *held*, what its receipts say is *spent*. The figures are cumulative on the lane, exactly
//! those of [`LaneUse`](crate::LaneUse), so that writing one twice changes nothing.
//!
//! A hold belongs into the same commit as the reservation that it is for: then a restart finds
//! either both or none, and the hold stays until the lane is reconciled. A lane that moves to
//! another key leaves what it spent with the old one.

use crate::{
    error::{BudgetError, ReplayError},
    pending::Pending,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An API key, by a digest of it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct KeyId(pub Digest);

/// A lane of any channel of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct LaneRef {
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
}

/// One durable change. The numbers of the variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BudgetRecord {
    /// A key has this limit from now on.
    Key {
        /// The key.
        key: KeyId,
        /// The most that it may ever spend.
        limit: Amount,
    },
    /// A key is gone.
    Removed {
        /// The key.
        key: KeyId,
    },
    /// A lane counts for a key.
    Lane {
        /// The lane.
        at: LaneRef,
        /// The key.
        key: KeyId,
        /// Cumulative on the lane.
        reserved: Amount,
        /// Cumulative on the lane.
        spent: Amount,
    },
    /// A lane is over: nothing is held for it any more.
    Closed {
        /// The lane.
        at: LaneRef,
    },
    /// All that came before, in one record.
    Checkpoint(Box<State>),
}

/// What is durable. Opaque outside of this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct State {
    keys: BTreeMap<KeyId, KeyUse>,
    lanes: BTreeMap<LaneRef, Entry>,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct KeyUse {
    /// The most that it may ever spend.
    pub limit: Amount,
    /// What it spent.
    pub spent: Amount,
    /// What is held for what may be spent.
    pub held: Amount,
}

impl KeyUse {
    /// What is neither spent nor held.
    pub fn room(&self) -> Amount {
        self.limit.saturating_sub(self.spent).saturating_sub(self.held)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Entry {
    key: KeyId,
    reserved: Amount,
    spent: Amount,
}

impl Entry {
    fn held(&self) -> Amount {
        self.reserved.saturating_sub(self.spent)
    }
}

/// The budgets of a gateway's API keys.
#[derive(Debug, Default)]
pub struct Budgets {
    state: State,
}

impl Budgets {
    /// Rebuilds the budgets from their log; an empty log is no keys.
    pub fn replay(records: impl IntoIterator<Item = BudgetRecord>) -> Result<Self, ReplayError> {
        let mut budgets = Self::default();
        for (index, record) in (0u64..).zip(records) {
            let broken = |_| ReplayError::Broken { index, reason: "a budget's figures do not follow" };
            budgets.state.apply(record).map_err(broken)?;
        }
        Ok(budgets)
    }

    /// Rebuilds the budgets from the bytes of their log.
    pub fn replay_bytes<B: AsRef<[u8]>>(log: impl IntoIterator<Item = B>) -> Result<Self, ReplayError> {
        let records: Result<Vec<_>, _> = (0u64..)
            .zip(log)
            .map(|(index, bytes)| {
                gristmill_types::decode(bytes.as_ref()).map_err(|_| ReplayError::Undecodable { index })
            })
            .collect();
        Self::replay(records?)
    }

    /// Adds a key, or changes its limit. The limit cannot go below what is spent and held.
    pub fn set_limit(&mut self, key: KeyId, limit: Amount) -> Result<Pending<BudgetRecord>, BudgetError> {
        if let Some(of) = self.state.keys.get(&key) {
            let least = of.spent.checked_add(of.held).ok_or(BudgetError::Overflow)?;
            if limit < least {
                return Err(BudgetError::LimitTooLow { least });
            }
        }
        self.change(BudgetRecord::Key { key, limit })
    }

    /// Removes a key that holds nothing.
    pub fn remove(&mut self, key: KeyId) -> Result<Pending<BudgetRecord>, BudgetError> {
        let of = self.state.keys.get(&key).ok_or(BudgetError::UnknownKey)?;
        if !of.held.is_zero() {
            return Err(BudgetError::InUse { held: of.held });
        }
        self.change(BudgetRecord::Removed { key })
    }

    /// Where a key stands.
    pub fn of(&self, key: &KeyId) -> Option<KeyUse> {
        self.state.keys.get(key).copied()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyId, &KeyUse)> {
        self.state.keys.iter()
    }

    /// Counts a lane for a key: holds more, spends, or releases, by the lane's cumulative figures.
    /// Refuses what would exceed the key's limit. `None` if nothing changes.
    pub fn track(
        &mut self,
        at: LaneRef,
        key: KeyId,
        reserved: Amount,
        spent: Amount,
    ) -> Result<Option<Pending<BudgetRecord>>, BudgetError> {
        if self.state.lanes.get(&at) == Some(&Entry { key, reserved, spent }) {
            return Ok(None);
        }
        let before = self.of(&key).ok_or(BudgetError::UnknownKey)?;
        let mut after = self.state.clone_of(&at, &key);
        after.apply(BudgetRecord::Lane { at, key, reserved, spent })?;
        let then = after.keys.get(&key).ok_or(BudgetError::UnknownKey)?;
        let (old, new) = (total(&before)?, total(then)?);
        if new > then.limit && new > old {
            let needed = new.saturating_sub(old);
            return Err(BudgetError::Exceeded { needed, room: before.room(), limit: then.limit });
        }
        self.change(BudgetRecord::Lane { at, key, reserved, spent }).map(Some)
    }

    /// Counts a lane as [`track`](Self::track) does, but without regard to the limit: for what has
    /// happened and cannot be refused, that is, spending that only a processor's copy or the ledger
    /// showed after a stale backup was restored.
    pub fn adopt(
        &mut self,
        at: LaneRef,
        key: KeyId,
        reserved: Amount,
        spent: Amount,
    ) -> Result<Pending<BudgetRecord>, BudgetError> {
        self.change(BudgetRecord::Lane { at, key, reserved, spent })
    }

    /// Ends the counting of a lane: what it spent stays, what was held is free.
    pub fn close(&mut self, at: LaneRef) -> Result<Option<Pending<BudgetRecord>>, BudgetError> {
        if !self.state.lanes.contains_key(&at) {
            return Ok(None);
        }
        self.change(BudgetRecord::Closed { at }).map(Some)
    }

    /// One record that replaces the whole log, for compaction.
    pub fn checkpoint(&self) -> BudgetRecord {
        BudgetRecord::Checkpoint(Box::new(self.state.clone()))
    }

    /// Whether the durable state equals another's.
    pub fn same_state(&self, other: &Self) -> bool {
        self.state == other.state
    }

    fn change(&mut self, record: BudgetRecord) -> Result<Pending<BudgetRecord>, BudgetError> {
        self.state.apply(record.clone())?;
        Ok(Pending::new(record))
    }
}

fn total(of: &KeyUse) -> Result<Amount, BudgetError> {
    of.spent.checked_add(of.held).ok_or(BudgetError::Overflow)
}

impl State {
    /// The part of the state that a change of one lane and one key touches.
    fn clone_of(&self, at: &LaneRef, key: &KeyId) -> Self {
        let entry = self.lanes.get(at);
        let keys = [Some(*key), entry.map(|entry| entry.key)];
        let keys = keys.into_iter().flatten().filter_map(|key| Some((key, *self.keys.get(&key)?)));
        Self { keys: keys.collect(), lanes: entry.map(|entry| (*at, *entry)).into_iter().collect() }
    }

    /// Applies one record; on an error nothing has changed.
    fn apply(&mut self, record: BudgetRecord) -> Result<(), BudgetError> {
        match record {
            BudgetRecord::Key { key, limit } => {
                let new = KeyUse { limit, spent: Amount::ZERO, held: Amount::ZERO };
                self.keys.entry(key).or_insert(new).limit = limit;
                Ok(())
            }
            BudgetRecord::Removed { key } => {
                self.keys.remove(&key).ok_or(BudgetError::UnknownKey)?;
                Ok(())
            }
            BudgetRecord::Closed { at } => {
                let entry = self.lanes.get(&at).copied().ok_or(BudgetError::Inconsistent)?;
                self.release(&entry)?;
                self.lanes.remove(&at);
                Ok(())
            }
            BudgetRecord::Lane { at, key, reserved, spent } => {
                self.apply_lane(at, Entry { key, reserved, spent })
            }
            BudgetRecord::Checkpoint(state) => {
                *self = *state;
                Ok(())
            }
        }
    }

    fn apply_lane(&mut self, at: LaneRef, new: Entry) -> Result<(), BudgetError> {
        if new.reserved < new.spent {
            return Err(BudgetError::Inconsistent);
        }
        let old = self.lanes.get(&at).copied();
        // What the lane had come to before this key counts for another, or for nobody.
        let base = old.map_or(Amount::ZERO, |old| old.spent);
        let mut of = *self.keys.get(&new.key).ok_or(BudgetError::UnknownKey)?;
        if let Some(old) = old.filter(|old| old.key == new.key) {
            of.held = of.held.checked_sub(old.held()).ok_or(BudgetError::Inconsistent)?;
        }
        let spends = new.spent.checked_sub(base).ok_or(BudgetError::Inconsistent)?;
        of.spent = of.spent.checked_add(spends).ok_or(BudgetError::Overflow)?;
        of.held = of.held.checked_add(new.held()).ok_or(BudgetError::Overflow)?;
        if let Some(old) = old.filter(|old| old.key != new.key) {
            self.release(&old)?;
        }
        self.keys.insert(new.key, of);
        self.lanes.insert(at, new);
        Ok(())
    }

    fn release(&mut self, entry: &Entry) -> Result<(), BudgetError> {
        // The key of a lane may have been removed since.
        if let Some(of) = self.keys.get_mut(&entry.key) {
            of.held = of.held.checked_sub(entry.held()).ok_or(BudgetError::Inconsistent)?;
        }
        Ok(())
    }
}
