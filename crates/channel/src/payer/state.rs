//! The payer's durable state and the records that build it.

use super::{LaneUse, Live};
use crate::{
    budget::KeyId,
    view::{LedgerView, Phase, sum},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, ModelId, Quote, QuoteHash, Receipt, Signed, Usage, Voucher};
use std::collections::{BTreeMap, btree_map::Entry};

/// How far vouchers of a lane may go without a further record: both bounds inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reserve {
    /// The highest sequence number.
    pub seq: u64,
    /// The highest amount.
    pub amount: Amount,
}

impl Reserve {
    pub(super) fn larger(self, other: Self) -> Self {
        Self { seq: self.seq.max(other.seq), amount: self.amount.max(other.amount) }
    }
}

/// How a receipt was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Standing {
    /// It is right, by what arrived or by what was promised.
    Verified,
    /// It commits to something else than what arrived; accepted, but not approved.
    Disputed,
    /// It contradicts an earlier one and says less: kept to show on the ledger.
    Evidence,
}

/// How a receipt compares with those that were taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It goes on from them.
    Later,
    /// It says nothing new.
    Known,
    /// It contradicts the last one: it says more under the same number.
    SaysMore,
    /// It contradicts them, and says less: it can cap claims that they cannot.
    SaysLess,
}

/// One durable change. The numbers of the variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum PayerRecord {
    /// The channel is taken on. Always first.
    Opened {
        /// What the channel is about.
        terms: Box<ChannelTerms>,
        /// What the ledger showed.
        view: LedgerView,
    },
    /// The ledger showed something new.
    Ledger(LedgerView),
    /// A lane is opened with its first reservation.
    Lane {
        /// The lane.
        lane: u32,
        /// The quote that it is pinned to.
        quote: Box<Signed<Quote>>,
        /// Whose budget it counts against.
        budget: KeyId,
        /// The reservation.
        reserved: Reserve,
    },
    /// A lane's reservation grows, or it is bound to another budget.
    Reserved {
        /// The lane.
        lane: u32,
        /// Whose budget it counts against.
        budget: KeyId,
        /// The reservation.
        reserved: Reserve,
    },
    /// A receipt was taken.
    Receipt {
        /// The voucher that it answers.
        voucher: Box<Signed<Voucher>>,
        /// The receipt.
        receipt: Box<Signed<Receipt>>,
        /// How it was taken.
        standing: Standing,
    },
    /// An idle lane's reservation shrinks to what was signed.
    Trimmed {
        /// The lane.
        lane: u32,
        /// The last voucher that was signed on it.
        voucher: Option<Box<Signed<Voucher>>>,
    },
    /// A lane was compared with the processor's copy.
    Reconciled {
        /// The lane.
        lane: u32,
        /// The processor's highest voucher, under our own key.
        voucher: Option<Box<Signed<Voucher>>>,
        /// The processor's last receipt.
        receipt: Option<Box<Signed<Receipt>>>,
        /// Whether our own approval of exactly that receipt was shown.
        approved: bool,
        /// Whether the lane is done with: the receipt answers the voucher and is the last of its
        /// request.
        done: bool,
    },
    /// All that came before, in one record.
    Checkpoint(Box<State>),
    /// The request in flight is given up: its reservation shrinks to what was signed, and it waits for its receipt.
    GivenUp {
        /// The lane.
        lane: u32,
        /// The number of the last voucher that was signed on it.
        seq: u64,
        /// Its amount.
        amount: Amount,
    },
    /// The reservation of a lane with a request in flight shrinks to what that can cost.
    Capped {
        /// The lane.
        lane: u32,
        /// The request's hard cap, cumulative on the lane.
        amount: Amount,
    },
}

/// What is durable of one channel. Opaque outside of this crate.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct State {
    pub(super) terms: ChannelTerms,
    pub(super) view: LedgerView,
    /// The lowest lane id that was never used.
    pub(super) next_lane: u32,
    pub(super) lanes: BTreeMap<u32, Lane>,
}

/// What is durable of one lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Lane {
    pub(super) model: ModelId,
    pub(super) quote_hash: QuoteHash,
    /// Missing for a lane that only the processor's copy showed; such a lane is not used again.
    pub(super) quote: Option<Box<Signed<Quote>>>,
    pub(super) budget: Option<KeyId>,
    pub(super) reserved: Reserve,
    /// Numbers up to this one may have been used.
    pub(super) used_seq: u64,
    /// Whether nothing beyond `voucher` can have been signed.
    pub(super) quiet: bool,
    /// The highest voucher that a record shows.
    pub(super) voucher: Option<Signed<Voucher>>,
    pub(super) receipt: Option<Signed<Receipt>>,
    /// Whether the counts of `receipt` were verified.
    pub(super) verified: bool,
    /// The lowest of contradicting receipts.
    pub(super) lowest: Option<Signed<Receipt>>,
    /// Use and amount by the last receipt.
    pub(super) usage: Usage,
    pub(super) spent: Amount,
}

impl Lane {
    const fn new(model: ModelId, quote_hash: QuoteHash) -> Self {
        let nothing = Usage { input_tokens: 0, output_tokens: 0, millis: 0, requests: 0 };
        Self {
            model,
            quote_hash,
            quote: None,
            budget: None,
            reserved: Reserve { seq: 0, amount: Amount::ZERO },
            used_seq: 0,
            quiet: true,
            voucher: None,
            receipt: None,
            verified: false,
            lowest: None,
            usage: nothing,
            spent: Amount::ZERO,
        }
    }

    /// Whether the last receipt caps every voucher up to this number.
    pub(super) fn capped(&self, seq: u64) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| receipt.body.seq >= seq)
    }

    /// Whether, besides, it is the last one of its request.
    pub(super) fn answered(&self, seq: u64) -> bool {
        self.capped(seq) && self.receipt.as_ref().is_some_and(|receipt| receipt.body.last)
    }

    /// How a receipt compares with those that were taken before.
    pub(super) fn compare(&self, new: &Receipt) -> Comparison {
        let Some(earlier) = self.receipt.as_ref().map(|receipt| &receipt.body) else {
            return Comparison::Later;
        };
        if new.seq < earlier.seq {
            return Comparison::Known;
        }
        if !new.usage.covers(&earlier.usage) {
            let lowest = self.lowest.as_ref().map_or(earlier.spent, |lowest| lowest.body.spent);
            let less = new.spent < lowest.min(earlier.spent);
            return if less { Comparison::SaysLess } else { Comparison::Known };
        }
        match (new.seq == earlier.seq, new.usage == earlier.usage) {
            (false, _) => Comparison::Later,
            (true, true) if new.last && !earlier.last => Comparison::Later,
            (true, true) => Comparison::Known,
            (true, false) => Comparison::SaysMore,
        }
    }

    /// Whether numbers up to the reservation's were used: a request was given up, or a restored backup was behind.
    pub(super) const fn is_exact(&self) -> bool {
        !self.quiet && self.used_seq == self.reserved.seq
    }

    /// Whether a later voucher than this one was signed, and may be on its way. One of which we waited to see how it
    /// ends is not waited for again.
    pub(super) fn waits_for_more(&self, shown: &Signed<Voucher>) -> bool {
        let seq = shown.body.0.seq;
        let awaited = self.voucher.as_ref() == Some(shown) && !self.capped(seq);
        self.is_exact() && seq < self.reserved.seq && !awaited
    }

    fn voucher_seq(&self) -> u64 {
        self.voucher.as_ref().map_or(0, |voucher| voucher.body.0.seq)
    }

    fn voucher_amount(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |voucher| voucher.body.0.amount)
    }

    /// What can come to be spent: the reservation, unless the lane is quiet and a receipt caps it.
    /// What the ledger paid out is spent, whatever the receipts say.
    pub(super) fn lane_use(&self, lane: u32, settled: Amount) -> LaneUse {
        let capped = self.quiet && (self.voucher.is_none() || self.answered(self.voucher_seq()));
        let spent = self.spent.max(settled);
        let reserved = if capped { spent } else { self.reserved.amount.max(spent) };
        LaneUse { lane, budget: self.budget, reserved, spent }
    }

    /// The volatile part as it stands after a restart.
    pub(super) fn live(&self) -> Live {
        Live {
            known: self.quiet,
            reconciling: false,
            unconfirmed: 0,
            granted: if self.quiet { Reserve::default() } else { self.reserved },
            recent: self.voucher.iter().cloned().collect(),
            request: None,
            approvable: self.verified,
        }
    }

    fn take_receipt(&mut self, receipt: Signed<Receipt>, verified: bool) {
        self.usage = receipt.body.usage;
        self.spent = receipt.body.spent;
        self.receipt = Some(receipt);
        self.verified = verified;
    }
}

impl State {
    pub(super) const fn new(terms: ChannelTerms, view: LedgerView) -> Self {
        let next_lane = view.floor;
        Self { terms, view, next_lane, lanes: BTreeMap::new() }
    }

    /// What is promised or paid out in all; `None` if it does not fit.
    pub(super) fn committed(&self) -> Option<Amount> {
        let lanes = self.lanes.iter().map(|(lane, of)| of.reserved.amount.max(self.view.settled_on(*lane)));
        // Lanes that were paid on but are unknown here count with what was paid.
        let unknown = self.view.lanes.iter().filter(|(lane, _)| !self.lanes.contains_key(lane));
        sum(lanes.chain(unknown.map(|(_, settled)| *settled)))?.checked_add(self.view.retired()?)
    }

    /// Applies one record.
    pub(super) fn apply(&mut self, record: PayerRecord) -> Result<(), &'static str> {
        match record {
            PayerRecord::Opened { .. } => Err("the channel is open already"),
            PayerRecord::Checkpoint(state) => {
                *self = *state;
                Ok(())
            }
            PayerRecord::Ledger(view) => {
                if !view.follows(&self.view) {
                    return Err("the ledger's view goes back");
                }
                self.next_lane = self.next_lane.max(view.floor);
                self.view = view;
                let closed = self.view.phase == Phase::Closed;
                self.lanes.retain(|lane, _| !closed && self.view.has_lane(*lane));
                Ok(())
            }
            PayerRecord::Lane { lane, quote, budget, reserved } => {
                if lane < self.next_lane || !self.view.has_lane(lane) {
                    return Err("a lane's id does not rise or is not open");
                }
                let mut new = Lane::new(quote.body.model, gristmill_types::Quote::hash(&quote.body));
                new.quote = Some(quote);
                new.budget = Some(budget);
                new.reserved = reserved;
                new.quiet = false;
                self.lanes.insert(lane, new);
                self.next_lane = lane.saturating_add(1);
                Ok(())
            }
            PayerRecord::Reserved { lane, budget, reserved } => {
                let lane = self.lane(lane)?;
                if reserved != reserved.larger(lane.reserved) {
                    return Err("a reservation shrinks");
                }
                lane.reserved = reserved;
                lane.budget = Some(budget);
                lane.quiet = false;
                Ok(())
            }
            PayerRecord::Receipt { voucher, receipt, standing } => {
                let lane = self.lane(receipt.body.lane)?;
                match standing {
                    Standing::Evidence => lane.lowest = Some(*receipt),
                    Standing::Verified | Standing::Disputed => {
                        if voucher.body.0.seq >= lane.voucher_seq() {
                            lane.voucher = Some(*voucher);
                        }
                        lane.take_receipt(*receipt, standing == Standing::Verified);
                    }
                }
                Ok(())
            }
            PayerRecord::Trimmed { lane, voucher } => {
                let lane = self.lane(lane)?;
                if let Some(voucher) = voucher {
                    lane.voucher = Some(*voucher);
                }
                lane.used_seq = lane.used_seq.max(lane.voucher_seq());
                lane.reserved = Reserve { seq: lane.used_seq, amount: lane.voucher_amount() };
                lane.quiet = true;
                Ok(())
            }
            PayerRecord::GivenUp { lane, seq, amount } => {
                let lane = self.lane(lane)?;
                // The voucher itself is not kept: a processor may have none of it, or an older one.
                lane.used_seq = lane.used_seq.max(seq);
                lane.reserved = Reserve { seq: lane.used_seq, amount };
                Ok(())
            }
            PayerRecord::Capped { lane, amount } => {
                let lane = self.lane(lane)?;
                if amount < lane.voucher_amount() {
                    return Err("a reservation shrinks below what was signed");
                }
                lane.reserved.amount = lane.reserved.amount.min(amount);
                Ok(())
            }
            PayerRecord::Reconciled { lane, voucher, receipt, approved, done } => {
                self.apply_reconciled(lane, voucher, receipt, approved, done)
            }
        }
    }

    fn apply_reconciled(
        &mut self,
        id: u32,
        voucher: Option<Box<Signed<Voucher>>>,
        receipt: Option<Box<Signed<Receipt>>>,
        approved: bool,
        done: bool,
    ) -> Result<(), &'static str> {
        if !self.view.has_lane(id) {
            return Err("a reconciled lane is not open");
        }
        if let Entry::Vacant(vacant) = self.lanes.entry(id) {
            let claim = &voucher.as_ref().ok_or("a lane was reconciled from nothing")?.body.0;
            vacant.insert(Lane::new(claim.model, claim.quote));
            self.next_lane = self.next_lane.max(id.saturating_add(1));
        }
        let lane = self.lane(id)?;
        if let Some(voucher) = voucher {
            lane.voucher = Some(*voucher);
        }
        if let Some(receipt) = receipt {
            let known = lane.verified && lane.receipt.as_ref() == Some(&*receipt);
            lane.take_receipt(*receipt, known || approved);
        }
        lane.used_seq = lane.used_seq.max(lane.reserved.seq).max(lane.voucher_seq());
        lane.reserved.seq = lane.used_seq;
        let amount = lane.voucher_amount();
        lane.reserved.amount = if done { amount } else { lane.reserved.amount.max(amount) };
        lane.quiet = done;
        Ok(())
    }

    fn lane(&mut self, lane: u32) -> Result<&mut Lane, &'static str> {
        self.lanes.get_mut(&lane).ok_or("a record is for an unknown lane")
    }
}
