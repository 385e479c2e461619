//! What one transaction sees and changes: the records under its declared keys, and no others.

use crate::{
    executor::Slot,
    invalid::Fault,
    record::{Record, Stored},
};
use gristmill_types::{StateKey, decode};

/// One declared key: where its bytes are in the block's state, and what became of them.
struct Entry {
    key: StateKey,
    /// Index of the slot in the block's state.
    slot: usize,
    value: Value,
}

enum Value {
    /// Nobody looked yet.
    Untouched,
    /// Decoded, unchanged.
    Read(Option<Record>),
    /// Changed by the fee phase, which a rejection does not undo.
    Kept(Option<Record>),
    /// Changed by the payload. Beside it what the fee phase left, if it changed the record.
    Written(Option<Record>, Option<Option<Record>>),
}

/// The view of one transaction.
pub(crate) struct Overlay<'a> {
    /// The block's state.
    state: &'a [Slot],
    /// Sorted by key.
    entries: Vec<Entry>,
    /// Whether writes survive a rejection.
    fee_phase: bool,
}

impl<'a> Overlay<'a> {
    /// An overlay over the declared keys, each with its slot, in ascending order of keys.
    pub(crate) fn new(state: &'a [Slot], declared: impl Iterator<Item = (StateKey, usize)>) -> Self {
        let entries = declared.map(|(key, slot)| Entry { key, slot, value: Value::Untouched }).collect();
        Self { state, entries, fee_phase: true }
    }

    /// From here on, writes are undone by [`rollback`](Self::rollback).
    pub(crate) fn end_fee_phase(&mut self) {
        self.fee_phase = false;
    }

    /// Undoes what was written since the end of the fee phase.
    pub(crate) fn rollback(&mut self) {
        for entry in &mut self.entries {
            entry.value = match std::mem::replace(&mut entry.value, Value::Untouched) {
                Value::Written(_, Some(kept)) => Value::Kept(kept),
                Value::Written(_, None) => Value::Untouched,
                value @ (Value::Untouched | Value::Read(_) | Value::Kept(_)) => value,
            };
        }
    }

    /// The record under the key, `None` if there is none.
    pub(crate) fn get<T: Stored + Clone>(&mut self, key: &StateKey) -> Result<Option<T>, Fault> {
        let state = self.state;
        let entry = self.entry(key)?;
        if matches!(entry.value, Value::Untouched) {
            let bytes = state.get(entry.slot).ok_or(Fault::NotLoaded(*key))?;
            let record = match &bytes.now {
                Some(bytes) => Some(decode::<Record>(bytes).map_err(|_| Fault::Damaged(*key))?),
                None => None,
            };
            entry.value = Value::Read(record);
        }
        match &entry.value {
            Value::Untouched => Ok(None), // replaced above
            Value::Read(record) | Value::Kept(record) | Value::Written(record, _) => match record {
                Some(record) => Ok(Some(T::of(record).ok_or(Fault::Damaged(*key))?.clone())),
                None => Ok(None),
            },
        }
    }

    /// The record under the key, which must exist because another record says so.
    pub(crate) fn expect<T: Stored + Clone>(&mut self, key: &StateKey) -> Result<T, Fault> {
        self.get(key)?.ok_or(Fault::Missing(*key))
    }

    /// Puts a record under its key.
    pub(crate) fn put<T: Stored>(&mut self, key: &StateKey, record: T) -> Result<(), Fault> {
        let record = record.into_record();
        debug_assert_eq!(record.key(), *key, "a record is stored under its own key");
        self.write(key, Some(record))
    }

    /// Removes the record under the key.
    pub(crate) fn remove(&mut self, key: &StateKey) -> Result<(), Fault> {
        self.write(key, None)
    }

    fn write(&mut self, key: &StateKey, record: Option<Record>) -> Result<(), Fault> {
        let fee_phase = self.fee_phase;
        let entry = self.entry(key)?;
        entry.value = match std::mem::replace(&mut entry.value, Value::Untouched) {
            _ if fee_phase => Value::Kept(record),
            Value::Kept(kept) => Value::Written(record, Some(kept)),
            Value::Written(_, kept) => Value::Written(record, kept),
            Value::Untouched | Value::Read(_) => Value::Written(record, None),
        };
        Ok(())
    }

    fn entry(&mut self, key: &StateKey) -> Result<&mut Entry, Fault> {
        // A handful of keys for most kinds: looking through them beats a search tree.
        let found = self.entries.iter_mut().find(|entry| entry.key == *key);
        debug_assert!(found.is_some(), "undeclared read of {key}");
        found.ok_or(Fault::Undeclared(*key))
    }

    /// What was written: slot, key, record.
    pub(crate) fn into_writes(self) -> impl Iterator<Item = (usize, StateKey, Option<Record>)> {
        self.entries.into_iter().filter_map(|entry| match entry.value {
            Value::Kept(record) | Value::Written(record, _) => Some((entry.slot, entry.key, record)),
            Value::Untouched | Value::Read(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys, record::Account};
    use gristmill_types::{AccountId, encode};

    fn account(nonce: u64) -> Account {
        Account { account: AccountId::new([1; 32]), nonce }
    }

    fn state(nonce: u64) -> [Slot; 1] {
        [Slot::new(Some(encode(&account(nonce).into_record())))]
    }

    #[test]
    #[should_panic(expected = "undeclared read")]
    fn an_undeclared_read_panics() {
        let state = state(0);
        let declared = [(keys::account(&AccountId::new([1; 32])), 0)];
        let mut overlay = Overlay::new(&state, declared.into_iter());
        let _ = overlay.get::<Account>(&keys::account(&AccountId::new([2; 32])));
    }

    #[test]
    fn a_record_of_another_kind_is_damage() {
        let key = keys::deadlines();
        for bytes in [encode(&account(1).into_record()), vec![], vec![255]] {
            let state = [Slot::new(Some(bytes))];
            let mut overlay = Overlay::new(&state, [(key, 0)].into_iter());
            assert_eq!(overlay.get::<crate::record::Deadlines>(&key), Err(Fault::Damaged(key)));
        }
    }

    #[test]
    fn a_rollback_keeps_what_the_fee_phase_wrote() {
        let key = keys::account(&AccountId::new([1; 32]));
        let empty = keys::deadlines();
        let [old] = state(0);
        let state = [old, Slot::new(None)];
        for (in_fee_phase, after, left) in
            [(None, Some(9), None), (Some(1), None, Some(1)), (Some(1), Some(9), Some(1)), (None, None, None)]
        {
            let declared = [(key, 0), (empty, 1)];
            let mut overlay = Overlay::new(&state, declared.into_iter());
            if let Some(nonce) = in_fee_phase {
                overlay.put(&key, account(nonce)).unwrap();
            }
            overlay.end_fee_phase();
            if let Some(nonce) = after {
                overlay.put(&key, account(nonce)).unwrap();
                overlay.remove(&key).unwrap();
                overlay.put(&empty, crate::record::Deadlines { latest_ms: 1 }).unwrap();
            }
            overlay.rollback();
            assert_eq!(overlay.get::<Account>(&key).unwrap(), Some(account(left.unwrap_or(0))));
            assert_eq!(overlay.get::<crate::record::Deadlines>(&empty).unwrap(), None);
            let writes: Vec<_> = overlay.into_writes().collect();
            let expected: Vec<_> =
                left.into_iter().map(|nonce| (0, key, Some(account(nonce).into_record()))).collect();
            assert_eq!(writes, expected);
        }
    }
}
