//! What can be claimed on the ledger, and what the counterparty may see.

use super::Payee;
use crate::copy::{ChannelCopy, LaneCopy};
use gristmill_types::{Amount, Approval, Receipt, Signed, Voucher};

/// What a lane has to claim. An honest payee claims what its receipts say, and nothing beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The lane.
    pub lane: u32,
    /// The payer's co-signature, if it is above what was paid out: pays at once.
    pub approval: Option<Signed<Approval>>,
    /// The highest voucher; with the receipt it pays after the ledger's waiting time.
    pub voucher: Signed<Voucher>,
    /// The last receipt. It answers exactly that voucher, thus caps it.
    pub receipt: Signed<Receipt>,
    /// What the approval pays beyond what was paid out.
    pub at_once: Amount,
    /// What is owed in all beyond what was paid out; `owed − at_once` needs the voucher.
    pub owed: Amount,
}

impl Payee {
    /// The durable claims that would pay something now. Lanes whose last voucher is not answered by a
    /// receipt are left out: sign one first (within a stream, one that is not the last).
    pub fn claims_to_settle(&self) -> Vec<Settlement> {
        let view = &self.state.view;
        let claims = self.state.lanes.iter().filter_map(|(lane, of)| {
            let live = self.live.get(lane)?;
            let receipt = live.receipt.as_ref().filter(|r| r.body.seq == of.voucher.body.0.seq)?;
            let settled = view.settled_on(*lane);
            let owed = receipt.body.spent.checked_sub(settled).filter(|owed| !owed.is_zero())?;
            let approved = live.approval.as_ref().map(|approval| approval.body.0.amount);
            let at_once = approved.unwrap_or_default().saturating_sub(settled);
            let approval = live.approval.clone().filter(|_| !at_once.is_zero());
            Some(Settlement {
                lane: *lane,
                approval,
                voucher: of.voucher.clone(),
                receipt: receipt.clone(),
                at_once,
                owed,
            })
        });
        claims.collect()
    }

    /// The floor to ask for when settling: all lanes below are done (nothing in flight, all paid
    /// out, quote expired). Never above the highest lane in use plus one.
    pub fn retirable(&self, now_ms: u64) -> u32 {
        let done = |lane: &u32| {
            let Some(of) = self.state.lanes.get(lane) else { return true };
            let expired = self.state.quote_of(of).is_none_or(|quote| quote.valid_until_ms < now_ms);
            let paid = self.spent(*lane).is_ok_and(|(_, cost)| cost <= self.state.view.settled_on(*lane));
            expired && paid && of.request.is_none()
        };
        let floor = self.state.view.floor;
        let end = self.state.lanes.keys().next_back().map_or(floor, |lane| lane.saturating_add(1));
        (floor..end).find(|lane| !done(lane)).unwrap_or(end)
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
