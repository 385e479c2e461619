//! What can be claimed on the ledger, and what the counterparty may see.

use super::{Payee, PayeeRecord, state::Lane};
use crate::{
    copy::{ChannelCopy, LaneCopy},
    error::PayeeError,
    pending::Pending,
    view::LANES,
};
use gristmill_types::{Amount, Approval, Receipt, Signed, Voucher};

/// With so many lanes left, idle ones are given up before their quote ends.
const SCARCE: u32 = LANES / 4;
/// How long after its last request was taken on an answered lane counts as idle, in milliseconds.
const IDLE_MS: u64 = 10_000;

/// What a lane has to claim. An honest payee claims what its receipts say, and nothing beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The lane.
    pub lane: u32,
    /// The payer's co-signature, if it is above what was paid out: pays at once.
    pub approval: Option<Signed<Approval>>,
    /// The highest voucher that a receipt answers; with that receipt it pays after the ledger's waiting time.
    pub voucher: Signed<Voucher>,
    /// The last receipt. It answers exactly that voucher, thus caps it.
    pub receipt: Signed<Receipt>,
    /// Whether a later voucher has come: the lane is in use.
    pub goes_on: bool,
    /// What the approval pays beyond what was paid out.
    pub at_once: Amount,
    /// What is owed in all beyond what was paid out; `owed − at_once` needs the voucher.
    pub owed: Amount,
}

impl Payee {
    /// The durable claims that would pay something now. What was answered on a lane is claimed also while its
    /// next request runs: a lane that is always in use would never be paid otherwise. What came under a
    /// voucher that no receipt answers is left out: sign one first.
    pub fn claims_to_settle(&self) -> Vec<Settlement> {
        let view = &self.state.view;
        let claims = self.state.lanes.iter().filter_map(|(lane, of)| {
            let live = self.live.get(lane)?;
            let receipt = live.receipt.as_ref()?;
            let answers = |voucher: &&Signed<Voucher>| voucher.body.0.seq == receipt.body.seq;
            let voucher = [Some(&of.voucher), live.answered.as_ref()].into_iter().flatten().find(answers)?;
            let settled = view.settled_on(*lane);
            let owed = receipt.body.spent.checked_sub(settled).filter(|owed| !owed.is_zero())?;
            let approved = live.approval.as_ref().map(|approval| approval.body.0.amount);
            let at_once = approved.unwrap_or_default().saturating_sub(settled);
            let approval = live.approval.clone().filter(|_| !at_once.is_zero());
            Some(Settlement {
                lane: *lane,
                approval,
                voucher: voucher.clone(),
                receipt: receipt.clone(),
                goes_on: voucher.body.0.seq < of.voucher.body.0.seq,
                at_once,
                owed,
            })
        });
        claims.collect()
    }

    /// Gives up the lowest lanes as far as they are done: nothing in flight, answered, all paid out,
    /// and not needed any more. That is so when the lane's quote has ended, or when three quarters of
    /// the lanes are taken and this one has been idle for a while: a payer that comes back to it just
    /// then is refused, has lost nothing, and takes a fresh lane. `now_ms` is Unix time.
    pub fn retire(&mut self, now_ms: u64) -> Result<Option<Pending<PayeeRecord>>, PayeeError> {
        let to = self.retirable(now_ms);
        if to <= self.state.retiring {
            return Ok(None);
        }
        self.change(PayeeRecord::Retiring { to }).map(Some).map_err(|_| PayeeError::StaleView)
    }

    /// Where [`retire`](Self::retire) would put the floor.
    pub fn retirable(&self, now_ms: u64) -> u32 {
        let (from, lanes) = (self.state.retiring, &self.state.lanes);
        let crowded = self.lanes_left() <= SCARCE;
        // A number that is missing between may be on its way here; it is given up with a later one.
        let done = lanes.range(from..).take_while(|(lane, of)| self.is_done(**lane, of, now_ms, crowded));
        done.last().map_or(from, |(lane, _)| lane.saturating_add(1))
    }

    /// The floor to ask the ledger for when settling: lanes below are given up.
    pub const fn retiring(&self) -> u32 {
        self.state.retiring
    }

    /// How many lanes no voucher has come for yet.
    pub fn lanes_left(&self) -> u32 {
        let floor = self.state.view.floor;
        let end = self.state.lanes.keys().next_back().map_or(floor, |lane| lane.saturating_add(1));
        LANES.saturating_sub(end.saturating_sub(floor))
    }

    fn is_done(&self, lane: u32, of: &Lane, now_ms: u64, crowded: bool) -> bool {
        let ended = self.state.quote_of(of).is_none_or(|quote| quote.valid_until_ms < now_ms);
        let ordered_ms = self.live.get(&lane).map_or(0, |live| live.ordered_ms);
        let idle = crowded && ordered_ms.saturating_add(IDLE_MS) <= now_ms;
        let settled = self.state.view.settled_on(lane);
        let paid = self.spent(lane).is_ok_and(|(_, cost)| cost <= settled);
        let seq = of.voucher.body.0.seq;
        let answered = of.receipt.as_ref().is_some_and(|r| r.body.last && r.body.seq >= seq);
        (ended || idle) && paid && answered && of.request.is_none()
    }

    /// What the payer may see to reconcile. Of the payee's own word only what is durable; of the
    /// payer's all that has come in, so that no voucher that is about to count is hidden.
    pub fn copy(&self) -> ChannelCopy {
        let lanes = self.state.lanes.iter().map(|(lane, of)| {
            let live = self.live.get(lane);
            LaneCopy {
                lane: *lane,
                voucher: of.voucher.clone(),
                receipt: live.and_then(|live| live.receipt.clone()),
                approval: live.and_then(|live| live.approval.clone()),
            }
        });
        ChannelCopy { lanes: lanes.collect() }
    }
}
