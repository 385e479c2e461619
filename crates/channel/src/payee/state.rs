//! The payee's durable state and the records that build it.

use super::{Live, Paid};
use crate::{
    meter::{Ask, Meter},
    view::LedgerView,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{
    Amount, Approval, ChannelTerms, Order, Quote, QuoteHash, Receipt, Signed, Usage, Voucher,
};
use std::collections::BTreeMap;

/// One durable change. The numbers of the variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum PayeeRecord {
    /// The channel is taken on. Always first.
    Opened {
        /// What the channel is about.
        terms: ChannelTerms,
        /// What the ledger showed.
        view: LedgerView,
    },
    /// The ledger showed something new.
    Ledger(LedgerView),
    /// A voucher was accepted.
    Voucher {
        /// The whole voucher.
        voucher: Signed<Voucher>,
        /// The quote, with the first voucher of the lane.
        quote: Option<Box<Quote>>,
        /// The lane's use at that moment.
        used: Usage,
    },
    /// A request was taken on under the lane's last voucher.
    Ordered {
        /// The whole order.
        order: Signed<Order>,
        /// What it asks for.
        ask: Ask,
    },
    /// A receipt was signed.
    Receipt(Box<Signed<Receipt>>),
    /// The payer approved the last receipt.
    Approval(Signed<Approval>),
    /// All that came before, in one record.
    Checkpoint(Box<State>),
    /// Lanes below are given up: no voucher is taken on them any more.
    Retiring {
        /// The floor that the ledger is asked for.
        to: u32,
    },
}

/// What is durable of one channel. Opaque outside of this crate.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct State {
    pub(super) terms: ChannelTerms,
    pub(super) view: LedgerView,
    /// Lanes below are given up, though the ledger may not know it yet.
    pub(super) retiring: u32,
    pub(super) quotes: BTreeMap<QuoteHash, Quote>,
    pub(super) lanes: BTreeMap<u32, Lane>,
}

/// What is durable of one lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Lane {
    /// The highest voucher.
    pub(super) voucher: Signed<Voucher>,
    /// The highest sequence number under which a request was taken on.
    pub(super) ordered_seq: u64,
    /// The request in flight.
    pub(super) request: Option<Request>,
    /// The lane's use, as of the last voucher or receipt.
    pub(super) used: Usage,
    /// The last receipt.
    pub(super) receipt: Option<Signed<Receipt>>,
    /// The last approval; of this or an earlier receipt.
    pub(super) approval: Option<Signed<Approval>>,
}

/// A request that was taken on and has no last receipt yet.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Request {
    pub(super) order: Signed<Order>,
    pub(super) ask: Ask,
}

impl Lane {
    /// Whether a receipt answers the highest voucher.
    pub(super) fn is_answered(&self) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| receipt.body.seq >= self.voucher.body.0.seq)
    }

    /// What the receipts say was spent.
    pub(super) fn spent(&self) -> Amount {
        self.receipt.as_ref().map_or(Amount::ZERO, |receipt| receipt.body.spent)
    }

    /// The volatile part as it stands after a restart.
    pub(super) fn live(&self) -> Live {
        let claim = &self.voucher.body.0;
        Live {
            paid: Paid { seq: claim.seq, amount: claim.amount, usage: claim.usage },
            used: self.used,
            ordered_ms: 0,
            delivery: None,
            receipt: self.receipt.clone(),
            approval: self.approval.clone(),
            answered: None,
        }
    }
}

impl State {
    pub(super) const fn new(terms: ChannelTerms, view: LedgerView) -> Self {
        let retiring = view.floor;
        Self { terms, view, retiring, quotes: BTreeMap::new(), lanes: BTreeMap::new() }
    }

    /// Whether vouchers are taken on the lane.
    pub(super) const fn takes(&self, lane: u32) -> bool {
        lane >= self.retiring && self.view.has_lane(lane)
    }

    /// The quote of a lane.
    pub(super) fn quote_of(&self, lane: &Lane) -> Option<&Quote> {
        self.quotes.get(&lane.voucher.body.0.quote)
    }

    /// A meter for a request on the lane, from its use so far.
    pub(super) fn cost(&self, lane: &Lane, usage: &Usage) -> Option<Amount> {
        self.quote_of(lane)?.prices.cost(usage)
    }

    /// A meter for a request on the lane.
    pub(super) fn meter(
        &self,
        lane: &Lane,
        ask: Ask,
        base: Usage,
    ) -> Option<Result<Meter, crate::error::MeterError>> {
        let quote = self.quote_of(lane)?;
        Some(Meter::new(&quote.prices, &quote.limits, ask, base))
    }

    /// Applies one record. The rules that need signatures or time were checked when the record was
    /// made; this checks what holds the state together.
    pub(super) fn apply(&mut self, record: PayeeRecord) -> Result<(), &'static str> {
        match record {
            PayeeRecord::Opened { .. } => Err("the channel is open already"),
            PayeeRecord::Checkpoint(state) => {
                *self = *state;
                Ok(())
            }
            PayeeRecord::Ledger(view) => {
                if !view.follows(&self.view) {
                    return Err("the ledger's view goes back");
                }
                self.retiring = self.retiring.max(view.floor);
                self.view = view;
                self.lanes.retain(|lane, _| self.view.has_lane(*lane));
                self.drop_unused_quotes();
                Ok(())
            }
            PayeeRecord::Voucher { voucher, quote, used } => self.apply_voucher(voucher, quote, used),
            PayeeRecord::Ordered { order, ask } => {
                let lane = self.lane(order.body.lane)?;
                lane.ordered_seq = lane.voucher.body.0.seq;
                lane.request = Some(Request { order, ask });
                Ok(())
            }
            PayeeRecord::Receipt(receipt) => {
                let lane = self.lane(receipt.body.lane)?;
                if !receipt.body.usage.covers(&lane.used) || receipt.body.seq > lane.voucher.body.0.seq {
                    return Err("a receipt goes back or is ahead of its voucher");
                }
                lane.used = receipt.body.usage;
                if receipt.body.last {
                    lane.request = None;
                }
                lane.receipt = Some(*receipt);
                Ok(())
            }
            PayeeRecord::Retiring { to } => {
                if to < self.retiring {
                    return Err("a lane that was given up comes back");
                }
                self.retiring = to;
                Ok(())
            }
            PayeeRecord::Approval(approval) => {
                let lane = approval.body.0.lane;
                self.lane(lane)?.approval = Some(approval);
                Ok(())
            }
        }
    }

    fn apply_voucher(
        &mut self,
        voucher: Signed<Voucher>,
        quote: Option<Box<Quote>>,
        used: Usage,
    ) -> Result<(), &'static str> {
        let claim = voucher.body.0;
        if !self.takes(claim.lane) {
            return Err("a voucher is for a lane that is not open");
        }
        if let Some(lane) = self.lanes.get_mut(&claim.lane) {
            let last = &lane.voucher.body.0;
            // The same record twice is what a retried append leaves.
            if claim.seq < last.seq || (claim.seq == last.seq && lane.voucher != voucher) {
                return Err("a voucher's sequence number goes back");
            }
            if claim.amount < last.amount || !used.covers(&lane.used) {
                return Err("a voucher goes back");
            }
            lane.voucher = voucher;
            lane.used = used;
            return Ok(());
        }
        if let Some(quote) = quote {
            self.quotes.insert(claim.quote, *quote);
        }
        if !self.quotes.contains_key(&claim.quote) {
            return Err("the quote of a lane is missing");
        }
        let lane = Lane { voucher, ordered_seq: 0, request: None, used, receipt: None, approval: None };
        self.lanes.insert(claim.lane, lane);
        Ok(())
    }

    fn lane(&mut self, lane: u32) -> Result<&mut Lane, &'static str> {
        self.lanes.get_mut(&lane).ok_or("a record is for a lane without a voucher")
    }

    /// At most one quote per lane stays.
    fn drop_unused_quotes(&mut self) {
        let lanes = &self.lanes;
        self.quotes.retain(|hash, _| lanes.values().any(|lane| lane.voucher.body.0.quote == *hash));
    }
}
