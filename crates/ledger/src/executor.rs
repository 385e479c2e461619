//! Runs the transactions of one block, one after the other.

use crate::{
    conservation, debt,
    event::Event,
    genesis::Rules,
    invalid::{Fault, Invalid},
    keys,
    overlay::Overlay,
    params::MAX_RECORD_BYTES,
    posting::{self, Side},
    record::Account,
    rejection::Rejection,
    spending,
    tx::{CheckedTx, Stop, Transaction},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChainId, StateKey, TxHash, encode};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

/// The block that transactions run in: all that they may know besides the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Context {
    /// The ledger.
    pub chain: ChainId,
    /// The block's height.
    pub height: u64,
    /// Block time: the proposer's Unix time in milliseconds.
    pub time_ms: u64,
    /// Ledger time, see [`clock`](crate::clock).
    pub clock_ms: u64,
    /// The epoch.
    pub epoch: u64,
}

/// What became of a transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Outcome {
    /// The transaction.
    pub hash: TxHash,
    /// The fee that was taken.
    pub fee: Amount,
    /// Whether it is owed, because the sender has not earned anything yet.
    #[serde(default)]
    pub owed: bool,
    /// Why it had no effect, if it had none.
    pub rejection: Option<Rejection>,
    /// What it did.
    pub events: Vec<Event>,
}

impl Outcome {
    /// `Ok` if the transaction had its effect.
    pub fn result(&self) -> Result<(), Rejection> {
        self.rejection.map_or(Ok(()), Err)
    }
}

/// The state of one block while its transactions run.
pub struct Executor {
    rules: Arc<Rules>,
    context: Context,
    index: BTreeMap<StateKey, usize>,
    slots: Vec<Slot>,
}

/// One record while the block runs: encoded, or `None` where there is none.
pub(crate) struct Slot {
    /// As the last transaction left it.
    pub(crate) now: Option<Vec<u8>>,
    /// As it was before the block, once a transaction has written it.
    before: Option<Option<Vec<u8>>>,
}

/// A slot and its new bytes.
type Write = (usize, Option<Vec<u8>>);

impl Slot {
    pub(crate) const fn new(bytes: Option<Vec<u8>>) -> Self {
        Self { now: bytes, before: None }
    }

    fn write(&mut self, bytes: Option<Vec<u8>>) {
        let old = std::mem::replace(&mut self.now, bytes);
        self.before.get_or_insert(old);
    }

    /// What it is now, if that is not what it was before the block.
    fn changed(self) -> Option<Option<Vec<u8>>> {
        (self.before? != self.now).then_some(self.now)
    }
}

impl Executor {
    /// An executor for one block, with nothing loaded.
    pub fn new(rules: Arc<Rules>, context: Context) -> Self {
        Self { rules, context, index: BTreeMap::new(), slots: Vec::new() }
    }

    /// Hands over records as they were before the block; `None` where there is none. A key that was
    /// loaded before keeps what it has.
    pub fn load(&mut self, records: impl IntoIterator<Item = (StateKey, Option<Vec<u8>>)>) {
        for (key, bytes) in records {
            if let Entry::Vacant(vacant) = self.index.entry(key) {
                vacant.insert(self.slots.len());
                self.slots.push(Slot::new(bytes));
            }
        }
    }

    /// Whether the key was loaded.
    pub fn is_loaded(&self, key: &StateKey) -> bool {
        self.index.contains_key(key)
    }

    /// Applies one transaction whose signature the caller has verified. `Invalid` leaves everything
    /// as it was.
    pub fn apply(&mut self, checked: &CheckedTx) -> Result<Outcome, Invalid> {
        let tx = &checked.tx().body;
        let declared = checked
            .reads()
            .iter()
            .map(|key| self.index.get(key).map(|slot| (*key, *slot)).ok_or(Fault::NotLoaded(*key)))
            .collect::<Result<Vec<_>, _>>();
        debug_assert!(declared.is_ok(), "a declared key was not loaded: {declared:?}");
        let mut overlay = Overlay::new(&self.slots, declared?.into_iter());
        let (fee, owed) = take_fee(tx, &self.rules, &self.context, &mut overlay)?;
        overlay.end_fee_phase();
        let (rejection, events) = match tx.body.action().apply(tx, &mut overlay, &self.context) {
            Ok(events) => (None, events),
            Err(Stop::Rejected(rejection)) => {
                overlay.rollback();
                (Some(rejection), Vec::new())
            }
            Err(Stop::Fault(fault)) => return Err(fault.into()),
        };
        let writes = self.encode_writes(overlay)?;
        for (slot, bytes) in writes {
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.write(bytes);
            }
        }
        Ok(Outcome { hash: checked.hash(), fee, owed, rejection, events })
    }

    /// Encodes what was written and checks, on the bytes, that no value appeared or vanished.
    fn encode_writes(&self, overlay: Overlay<'_>) -> Result<Vec<Write>, Fault> {
        let mut tally = conservation::Tally::default();
        let mut writes = Vec::with_capacity(8);
        for (slot, key, record) in overlay.into_writes() {
            let bytes = record.map(|record| encode(&record));
            if bytes.as_ref().is_some_and(|bytes| bytes.len() > MAX_RECORD_BYTES) {
                return Err(Fault::TooLong(key));
            }
            let before = self.slots.get(slot).and_then(|slot| slot.now.as_deref());
            tally.change(&key, before, bytes.as_deref())?;
            writes.push((slot, bytes));
        }
        let balanced = tally.check();
        debug_assert!(balanced.is_ok(), "{balanced:?}");
        balanced?;
        Ok(writes)
    }

    /// The records that the block changed: new bytes, or `None` where a record was removed.
    pub fn finish(self) -> BTreeMap<StateKey, Option<Vec<u8>>> {
        let mut changes: Vec<_> = self.slots.into_iter().map(Slot::changed).collect();
        let take = |(key, slot): (StateKey, usize)| Some((key, changes.get_mut(slot)?.take()?));
        self.index.into_iter().filter_map(take).collect()
    }
}

/// Takes nonce and fee; says whether the fee is owed instead. They stay taken when the transaction is rejected.
fn take_fee(
    tx: &Transaction,
    rules: &Rules,
    context: &Context,
    overlay: &mut Overlay<'_>,
) -> Result<(Amount, bool), Invalid> {
    let key = keys::account(&tx.sender);
    let mut account: Account = overlay.get(&key)?.unwrap_or(Account { account: tx.sender, nonce: 0 });
    if account.nonce != tx.nonce {
        return Err(Invalid::Nonce { expected: account.nonce, got: tx.nonce });
    }
    account.nonce = account.nonce.checked_add(1).ok_or(Fault::Range)?;
    overlay.put(&key, account)?;
    let fee = rules.params.fees.of(&tx.body);
    // What is no key of the payer's, or has spent its limit, pays for itself: anybody may defend a channel.
    let (payer, refused) = match spending::count(overlay, &tx.fee_payer(), &tx.sender, &tx.fee_issuer, fee) {
        Ok(()) => (tx.fee_payer(), None),
        Err(Stop::Rejected(why)) => (tx.sender, Some(why)),
        Err(Stop::Fault(fault)) => return Err(fault.into()),
    };
    let (from, to) = (Side::Account(&payer), Side::Account(&rules.fee_account));
    match posting::post(overlay, &tx.fee_issuer, from, to, fee) {
        Ok(()) => Ok((fee, false)),
        Err(Stop::Rejected(_)) if let Some(why) = refused => Err(Invalid::SpendingKey { why }),
        Err(Stop::Rejected(_)) if debt::owe(overlay, tx, rules, context, fee)? => Ok((fee, true)),
        Err(Stop::Rejected(_)) => Err(Invalid::CannotPayFee { fee, issuer: tx.fee_issuer }),
        Err(Stop::Fault(fault)) => Err(fault.into()),
    }
}
