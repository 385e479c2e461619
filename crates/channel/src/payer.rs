//! The payer's side: what a gateway promises, counts, and approves.
//!
//! One [`Payer`] is one channel, and one process owns its voucher key. A lane is bound to one API
//! key at a time, for attribution: what is reserved and spent on it counts against that key's
//! budget; an idle lane whose last voucher is answered may be bound to another.
//!
//! # Reserving ahead
//!
//! Signing must not wait for a disk. So [`Payer::start`] reserves, in one durable record, at least
//! the hard cap of the request and a range of sequence numbers, and usually more for the requests to
//! come. [`Payer::voucher`] signs within the confirmed reservation without any further record.
//!
//! # After a crash
//!
//! What was signed within a reservation is not known then. All of it counts as promised (for the
//! deposit and for the budget) and the lane is *in doubt*: nothing is signed on it until
//! [`Payer::reconcile`] has seen the processor's copy. That copy is believed as far as its
//! signatures go: a voucher under our own key, a receipt under the processor's. A processor that
//! hides its highest voucher could later claim up to the reservation that we then released. To
//! bound that, sequence numbers go on above the whole old reservation, so that the next receipt of
//! the lane caps every hidden voucher too.

mod reconcile;
mod reserve;
mod sign;
mod state;
mod verify;

pub use reconcile::{Reconciled, Reconciliation};
pub use reserve::{Plan, Started};
pub use state::{PayerRecord, Reserve, Standing};
pub use verify::Received;

use crate::{
    budget::KeyId,
    error::{PayerError, ReplayError},
    meter::Meter,
    pending::Pending,
    view::{Keys, LedgerView, Phase, sum},
};
use gristmill_types::{
    Amount, ChannelId, ChannelTerms, Claim, Quote, Receipt, SecretKey, Signed, Usage, Voucher,
};
use state::{Lane, State};
use std::collections::{BTreeMap, VecDeque};

/// How many of the last vouchers of a lane are kept in memory: a receipt answers one of them.
const RECENT: usize = 16;

/// The part of a lane that a crash forgets.
#[derive(Debug, Default)]
struct Live {
    /// Whether every signed voucher is known. False from a restart until reconciled.
    known: bool,
    /// Whether a reconciliation waits to be confirmed.
    reconciling: bool,
    /// The confirmed reservation.
    granted: Reserve,
    /// Reservations that are not confirmed yet. Until they are, none shrinks: each confirmation grants anew.
    unconfirmed: u32,
    /// Signed vouchers, the last at the end.
    recent: VecDeque<Signed<Voucher>>,
    /// The request in flight.
    request: Option<Request>,
    /// Whether the last receipt is verified and durable.
    approvable: bool,
}

impl Live {
    fn last(&self) -> Option<&Claim> {
        self.recent.back().map(|voucher| &voucher.body.0)
    }
}

/// A request in flight.
#[derive(Debug)]
struct Request {
    meter: Meter,
    /// Cumulative on the lane.
    cap: Amount,
    /// The number of the first voucher that was signed for it.
    first_seq: Option<u64>,
    /// Nothing more is signed for it.
    given_up: bool,
}

impl Request {
    /// Whether a last receipt with this number is this request's.
    fn ended_by(&self, seq: u64) -> bool {
        self.first_seq.is_some_and(|first| seq >= first)
    }
}

/// What a lane means to a budget: cumulative on the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneUse {
    /// The lane.
    pub lane: u32,
    /// Whose budget it counts against; none for a lane that only the processor's copy showed.
    pub budget: Option<KeyId>,
    /// The most that may come to be spent, at least `spent`.
    pub reserved: Amount,
    /// What the receipts say was spent, or what the ledger paid out if that is more.
    pub spent: Amount,
}

/// What a new view of the ledger meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Lanes that are over, by the floor or with the channel, and what they came to; their budgets'
    /// entries can be closed with it.
    pub retired: Vec<LaneUse>,
    /// Lanes on which more was paid out than the receipts say, and how much in all. It counts as
    /// spent from now on.
    pub overclaimed: Vec<(u32, Amount)>,
}

/// The payer's side of one channel.
#[derive(Debug)]
pub struct Payer {
    id: ChannelId,
    keys: Keys,
    secret: SecretKey,
    state: State,
    live: BTreeMap<u32, Live>,
}

impl Payer {
    /// Takes on a channel that the ledger shows. The record is the first of the channel's log.
    pub fn open(
        terms: ChannelTerms,
        view: LedgerView,
        secret: SecretKey,
    ) -> Result<(Self, Pending<PayerRecord>), ReplayError> {
        let record = PayerRecord::Opened { terms: Box::new(terms), view };
        let payer = Self::replay([record.clone()], secret)?;
        Ok((payer, Pending::new(record)))
    }

    /// Rebuilds the machine from its log. Lanes with an open reservation are in doubt.
    pub fn replay(
        records: impl IntoIterator<Item = PayerRecord>,
        secret: SecretKey,
    ) -> Result<Self, ReplayError> {
        let mut state: Option<State> = None;
        for (index, record) in (0u64..).zip(records) {
            let broken = |reason| ReplayError::Broken { index, reason };
            match (&mut state, record) {
                (None, PayerRecord::Opened { terms, view }) => state = Some(State::new(*terms, view)),
                (None, PayerRecord::Checkpoint(checkpoint)) => state = Some(*checkpoint),
                (None, _) => return Err(ReplayError::NotOpened),
                (Some(_), PayerRecord::Opened { .. }) => return Err(ReplayError::OpenedTwice { index }),
                (Some(state), record) => state.apply(record).map_err(broken)?,
            }
        }
        let state = state.ok_or(ReplayError::NotOpened)?;
        if secret.account() != state.terms.voucher_key {
            return Err(ReplayError::WrongKey);
        }
        let live = state.lanes.iter().map(|(lane, of)| (*lane, of.live())).collect();
        Ok(Self { id: state.terms.id(), keys: Keys::of(&state.terms)?, secret, state, live })
    }

    /// Rebuilds the machine from the bytes of its log.
    pub fn replay_bytes<B: AsRef<[u8]>>(
        log: impl IntoIterator<Item = B>,
        secret: SecretKey,
    ) -> Result<Self, ReplayError> {
        let records: Result<Vec<_>, _> = (0u64..)
            .zip(log)
            .map(|(index, bytes)| {
                gristmill_types::decode(bytes.as_ref()).map_err(|_| ReplayError::Undecodable { index })
            })
            .collect();
        Self::replay(records?, secret)
    }

    /// Marks a change as durable.
    pub fn confirm(&mut self, pending: Pending<PayerRecord>) {
        match pending.into_record() {
            PayerRecord::Lane { lane, reserved, .. } | PayerRecord::Reserved { lane, reserved, .. } => {
                if let Some(live) = self.live.get_mut(&lane) {
                    live.granted = live.granted.larger(reserved);
                    live.unconfirmed = live.unconfirmed.saturating_sub(1);
                }
            }
            PayerRecord::Receipt { receipt, .. } => {
                let lane = receipt.body.lane;
                let verified = self
                    .state
                    .lanes
                    .get(&lane)
                    .is_some_and(|of| of.verified && of.receipt.as_ref() == Some(&*receipt));
                if let Some(live) = self.live.get_mut(&lane)
                    && verified
                {
                    live.approvable = true;
                }
            }
            PayerRecord::Reconciled { lane, .. } => {
                if let Some(of) = self.state.lanes.get(&lane) {
                    self.live.insert(lane, of.live());
                }
            }
            PayerRecord::Opened { .. }
            | PayerRecord::Ledger(_)
            | PayerRecord::Trimmed { .. }
            | PayerRecord::GivenUp { .. }
            | PayerRecord::Capped { .. }
            | PayerRecord::Checkpoint(_) => {}
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
    pub fn observe(
        &mut self,
        view: LedgerView,
    ) -> Result<(Observed, Option<Pending<PayerRecord>>), PayerError> {
        if view == self.state.view {
            return Ok((Observed::default(), None));
        }
        if !view.follows(&self.state.view) {
            return Err(PayerError::StaleView);
        }
        let mut observed = Observed::default();
        for (lane, settled) in &view.lanes {
            let known = self.state.lanes.get(lane).map_or(Amount::ZERO, |of| of.spent);
            // Said once for each rise.
            if *settled > known.max(self.state.view.settled_on(*lane)) {
                observed.overclaimed.push((*lane, *settled));
            }
        }
        let over = |lane: u32| view.phase == Phase::Closed || !view.has_lane(lane);
        observed.retired = self.lane_uses().into_iter().filter(|of| over(of.lane)).collect();
        self.charge_unknown(&view, &mut observed.retired);
        let pending = self.change(PayerRecord::Ledger(view)).map_err(|_| PayerError::StaleView)?;
        self.live.retain(|lane, _| self.state.lanes.contains_key(lane));
        Ok((observed, Some(pending)))
    }

    /// Charges what the ledger paid out on lanes that are over, beyond what their receipts say: the
    /// ledger keeps one sum for them. It is put down to the lanes with a voucher that no receipt answers,
    /// then to the others, as far as they were reserved.
    fn charge_unknown(&self, view: &LedgerView, over: &mut [LaneUse]) {
        let Some((now, before)) = view.retired().zip(self.state.view.retired()) else { return };
        let paid = now.saturating_sub(before);
        let known = sum(over.iter().map(|of| of.spent)).unwrap_or(paid);
        let mut unknown = paid.saturating_sub(known);
        over.sort_by_key(|of| self.is_answered(of.lane));
        for of in over {
            let part = unknown.min(of.reserved.saturating_sub(of.spent));
            of.spent = of.spent.checked_add(part).unwrap_or(of.spent);
            unknown = unknown.saturating_sub(part);
        }
    }

    /// Whether the last receipt answers every voucher that may have been signed on the lane.
    fn is_answered(&self, lane: u32) -> bool {
        let (Some(of), Some(live)) = (self.state.lanes.get(&lane), self.live.get(&lane)) else {
            return false;
        };
        live.known && live.last().is_none_or(|last| of.answered(last.seq))
    }

    /// What each lane means to its budget.
    pub fn lane_uses(&self) -> Vec<LaneUse> {
        let view = &self.state.view;
        self.state.lanes.iter().map(|(lane, of)| of.lane_use(*lane, view.settled_on(*lane))).collect()
    }

    /// What a lane means to its budget.
    pub fn lane_use(&self, lane: u32) -> Result<LaneUse, PayerError> {
        Ok(self.lane(lane)?.lane_use(lane, self.state.view.settled_on(lane)))
    }

    /// Lanes that must be reconciled before they can be used.
    pub fn in_doubt(&self) -> Vec<u32> {
        self.live.iter().filter(|(_, live)| !live.known).map(|(lane, _)| *lane).collect()
    }

    /// Lanes with a request in flight: started, and not yet ended by a receipt.
    pub fn in_flight(&self) -> Vec<u32> {
        self.live.iter().filter(|(_, live)| live.request.is_some()).map(|(lane, _)| *lane).collect()
    }

    /// The last voucher that was signed on the lane, as far as it is known: to send again to a
    /// processor whose copy is behind.
    pub fn latest(&self, lane: u32) -> Option<&Signed<Voucher>> {
        self.live.get(&lane)?.recent.back()
    }

    /// The voucher with that number, if it is one of the lane's last.
    pub fn signed(&self, lane: u32, seq: u64) -> Option<&Signed<Voucher>> {
        self.live.get(&lane)?.recent.iter().find(|voucher| voucher.body.0.seq == seq)
    }

    /// The receipt to show on the ledger against a pending claim: of those that cap it, the lowest.
    /// None if the claim is within what the receipts say.
    pub fn challenge(&self, claim: &Claim) -> Option<&Signed<Receipt>> {
        let lane = self.state.lanes.get(&claim.lane)?;
        [&lane.receipt, &lane.lowest]
            .into_iter()
            .flatten()
            .filter(|receipt| receipt.body.seq >= claim.seq && receipt.body.spent < claim.amount)
            .min_by_key(|receipt| receipt.body.spent)
    }

    /// The quote that a lane is pinned to, unless only the processor's copy showed the lane.
    pub fn quote(&self, lane: u32) -> Option<&Signed<Quote>> {
        self.state.lanes.get(&lane)?.quote.as_deref()
    }

    /// The lane's use by the last receipt.
    pub fn receipted(&self, lane: u32) -> Usage {
        self.state.lanes.get(&lane).map(|of| of.usage).unwrap_or_default()
    }

    /// What of the deposit is not reserved and was not paid out.
    pub fn room(&self) -> Amount {
        let total = self.state.committed().unwrap_or(self.state.view.deposit);
        self.state.view.deposit.saturating_sub(total)
    }

    /// One record that replaces the whole log, for compaction: write it as the first of a new one.
    pub fn checkpoint(&self) -> PayerRecord {
        PayerRecord::Checkpoint(Box::new(self.state.clone()))
    }

    /// Verifies the signatures of all artefacts that still matter.
    pub fn verify(&self) -> Result<(), ReplayError> {
        for (lane, of) in &self.state.lanes {
            let bad = ReplayError::BadSignature { lane: *lane };
            if let Some(quote) = &of.quote {
                quote.verify_strict(&self.keys.payee).map_err(|_| bad.clone())?;
            }
            if let Some(voucher) = &of.voucher {
                voucher.verify_strict(&self.keys.voucher).map_err(|_| bad.clone())?;
            }
            for receipt in [&of.receipt, &of.lowest].into_iter().flatten() {
                receipt.verify_strict(&self.keys.receipt).map_err(|_| bad.clone())?;
            }
        }
        Ok(())
    }

    /// Whether the durable state equals another machine's.
    pub fn same_state(&self, other: &Self) -> bool {
        self.state == other.state
    }

    /// A digest of the durable state, to compare machines by.
    pub fn state_digest(&self) -> gristmill_types::Digest {
        gristmill_types::sha256(&[&gristmill_types::encode(&self.state)])
    }

    /// Applies a change to the durable state, and hands out its record.
    fn change(&mut self, record: PayerRecord) -> Result<Pending<PayerRecord>, &'static str> {
        self.state.apply(record.clone())?;
        Ok(Pending::new(record))
    }

    fn lane(&self, lane: u32) -> Result<&Lane, PayerError> {
        self.state.lanes.get(&lane).ok_or(PayerError::UnknownLane { lane })
    }

    fn live_mut(&mut self, lane: u32) -> Result<&mut Live, PayerError> {
        self.live.get_mut(&lane).ok_or(PayerError::UnknownLane { lane })
    }

    /// What was counted on the lane: the request in flight, or what the last receipt left.
    fn counted(&self, lane: u32) -> Result<Usage, PayerError> {
        let request = self.live.get(&lane).and_then(|live| live.request.as_ref());
        Ok(match request {
            Some(request) => *request.meter.used(),
            None => self.lane(lane)?.usage,
        })
    }
}
