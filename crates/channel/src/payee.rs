//! The payee's side: what a processor accepts, delivers, and can claim.
//!
//! One [`Payee`] is one channel. Vouchers are checked in an order that puts cheap checks first and
//! the signature last, so that a flood of nonsense costs little.
//!
//! What is durable of a lane: its quote, the highest voucher with the use at its acceptance, the
//! order in flight, the last receipt, the last approval. What is not: tokens delivered since the
//! last voucher. After a crash the lane therefore stands at the use that its last record shows, in
//! the payer's favour, and [`Payee::unanswered`] names the lanes that need a receipt for that.

mod accept;
mod deliver;
mod settle;
mod state;

pub use accept::Authentic;
pub use deliver::{ReceiptParts, Spend};
pub use settle::Settlement;
pub use state::PayeeRecord;

use crate::{
    error::{PayeeError, ReplayError},
    meter::Meter,
    pending::Pending,
    view::{Keys, LedgerView},
};
use gristmill_types::{Amount, Approval, ChannelId, ChannelTerms, Receipt, Signed, Usage, Voucher};
use state::State;
use std::collections::BTreeMap;

/// What became of an artefact that was handed in.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is new: make the record durable, then confirm.
    New(Pending<PayeeRecord>),
    /// The exact same bytes are durable already. Nothing more is delivered for them.
    Duplicate,
}

/// What is confirmed of a lane's voucher: the part that may be spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Paid {
    seq: u64,
    amount: Amount,
    usage: Usage,
}

/// The part of a lane that a crash forgets.
#[derive(Clone, Debug, Default)]
struct Live {
    paid: Paid,
    used: Usage,
    /// When the last request was taken on, in Unix time; 0 after a restart.
    ordered_ms: u64,
    delivery: Option<Delivery>,
    /// The last receipt and approval that are confirmed: all that others may see of them.
    receipt: Option<Signed<Receipt>>,
    approval: Option<Signed<Approval>>,
    /// The last voucher that a receipt answers, once a later one has come. After a restart none: a receipt
    /// for the later one comes first.
    answered: Option<Signed<Voucher>>,
}

/// A request in flight.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    meter: Meter,
    /// Cumulative on the lane: the order's cap.
    cap: Amount,
    /// Whether the order's record is durable.
    started: bool,
}

/// The payee's side of one channel.
#[derive(Debug)]
pub struct Payee {
    id: ChannelId,
    keys: Keys,
    state: State,
    live: BTreeMap<u32, Live>,
}

impl Payee {
    /// Takes on a channel that the ledger shows. The record is the first of the channel's log.
    pub fn open(terms: ChannelTerms, view: LedgerView) -> Result<(Self, Pending<PayeeRecord>), ReplayError> {
        let record = PayeeRecord::Opened { terms, view };
        let payee = Self::replay([record.clone()])?;
        Ok((payee, Pending::new(record)))
    }

    /// Rebuilds the machine from its log. Requests that were in flight are over.
    pub fn replay(records: impl IntoIterator<Item = PayeeRecord>) -> Result<Self, ReplayError> {
        let mut state: Option<State> = None;
        for (index, record) in (0u64..).zip(records) {
            let broken = |reason| ReplayError::Broken { index, reason };
            match (&mut state, record) {
                (None, PayeeRecord::Opened { terms, view }) => state = Some(State::new(terms, view)),
                (None, PayeeRecord::Checkpoint(checkpoint)) => state = Some(*checkpoint),
                (None, _) => return Err(ReplayError::NotOpened),
                (Some(_), PayeeRecord::Opened { .. }) => return Err(ReplayError::OpenedTwice { index }),
                (Some(state), record) => state.apply(record).map_err(broken)?,
            }
        }
        let state = state.ok_or(ReplayError::NotOpened)?;
        let live = state.lanes.iter().map(|(lane, of)| (*lane, of.live())).collect();
        Ok(Self { id: state.terms.id(), keys: Keys::of(&state.terms)?, state, live })
    }

    /// Rebuilds the machine from the bytes of its log.
    pub fn replay_bytes<B: AsRef<[u8]>>(log: impl IntoIterator<Item = B>) -> Result<Self, ReplayError> {
        let records: Result<Vec<_>, _> = (0u64..)
            .zip(log)
            .map(|(index, bytes)| {
                gristmill_types::decode(bytes.as_ref()).map_err(|_| ReplayError::Undecodable { index })
            })
            .collect();
        Self::replay(records?)
    }

    /// Marks a change as durable.
    pub fn confirm(&mut self, pending: Pending<PayeeRecord>) {
        match pending.into_record() {
            PayeeRecord::Voucher { voucher, .. } => {
                let claim = voucher.body.0;
                if let Some(live) = self.live.get_mut(&claim.lane)
                    && claim.seq >= live.paid.seq
                {
                    live.paid = Paid { seq: claim.seq, amount: claim.amount, usage: claim.usage };
                }
            }
            PayeeRecord::Ordered { order, .. } => {
                if let Some(live) = self.live.get_mut(&order.body.lane)
                    && let Some(delivery) = &mut live.delivery
                {
                    delivery.started = true;
                }
            }
            PayeeRecord::Receipt(receipt) => {
                if let Some(live) = self.live.get_mut(&receipt.body.lane) {
                    live.receipt = Some(*receipt);
                }
            }
            PayeeRecord::Approval(approval) => {
                if let Some(live) = self.live.get_mut(&approval.body.0.lane) {
                    live.approval = Some(approval);
                }
            }
            PayeeRecord::Opened { .. }
            | PayeeRecord::Ledger(_)
            | PayeeRecord::Checkpoint(_)
            | PayeeRecord::Retiring { .. } => {}
        }
    }

    /// The channel's id.
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// The channel's terms.
    pub const fn terms(&self) -> &ChannelTerms {
        &self.state.terms
    }

    /// The ledger's view as last observed.
    pub const fn view(&self) -> &LedgerView {
        &self.state.view
    }

    /// Takes in what the ledger says, as long as it does not go back. Lanes below the floor are
    /// dropped.
    pub fn observe(&mut self, view: LedgerView) -> Result<Option<Pending<PayeeRecord>>, PayeeError> {
        if view == self.state.view {
            return Ok(None);
        }
        if !view.follows(&self.state.view) {
            return Err(PayeeError::StaleView);
        }
        let pending = self.change(PayeeRecord::Ledger(view)).map_err(|_| PayeeError::StaleView)?;
        self.live.retain(|lane, _| self.state.lanes.contains_key(lane));
        Ok(Some(pending))
    }

    /// One record that replaces the whole log, for compaction: write it as the first of a new one.
    pub fn checkpoint(&self) -> PayeeRecord {
        PayeeRecord::Checkpoint(Box::new(self.state.clone()))
    }

    /// Verifies the signatures of all artefacts that still matter.
    pub fn verify(&self) -> Result<(), ReplayError> {
        for (lane, of) in &self.state.lanes {
            let bad = ReplayError::BadSignature { lane: *lane };
            of.voucher.verify_strict(&self.keys.voucher).map_err(|_| bad.clone())?;
            if let Some(receipt) = &of.receipt {
                receipt.verify_strict(&self.keys.receipt).map_err(|_| bad.clone())?;
            }
            if let Some(approval) = &of.approval {
                approval.verify_strict(&self.keys.voucher).map_err(|_| bad)?;
            }
        }
        Ok(())
    }

    /// Applies a change to the durable state, and hands out its record.
    fn change(&mut self, record: PayeeRecord) -> Result<Pending<PayeeRecord>, &'static str> {
        self.state.apply(record.clone())?;
        Ok(Pending::new(record))
    }

    /// Whether the durable state equals another machine's.
    pub fn same_state(&self, other: &Self) -> bool {
        self.state == other.state
    }

    /// A digest of the durable state, to compare machines by.
    pub fn state_digest(&self) -> gristmill_types::Digest {
        gristmill_types::sha256(&[&gristmill_types::encode(&self.state)])
    }
}
