//! Comparing with the processor's copy.

use super::{
    Payer, PayerRecord,
    state::{Comparison, Lane},
};
use crate::{
    copy::{ChannelCopy, LaneCopy},
    error::PayerError,
    pending::Pending,
    view::LANES,
};
use gristmill_types::{Amount, Claim};

/// How a lane compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Both sides know the same.
    Agreed,
    /// The lane was in doubt; now both know the same. Confirm, then it can be used.
    Adopted {
        /// What was signed.
        signed: Amount,
        /// What was spent.
        spent: Amount,
    },
    /// The processor holds vouchers of ours that we know nothing of: a stale backup was restored
    /// here, or the voucher key is shared. They are adopted.
    Ahead {
        /// What was signed.
        signed: Amount,
    },
    /// The processor's copy is older than ours, in its voucher or its receipt: send it our last
    /// voucher again. A lane in doubt stays so, and is dropped when the processor retires it.
    Behind,
    /// The processor never saw a voucher of the lane. Confirm, then it can be used.
    Unseen,
    /// The processor has not answered its last voucher with a last receipt, or an earlier
    /// reconciliation is not confirmed yet: ask again later.
    Open,
}

/// What reconciling came to.
#[must_use]
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// Changes to make durable and confirm, in this order.
    pub pending: Vec<Pending<PayerRecord>>,
    /// How each lane compares.
    pub lanes: Vec<(u32, Reconciled)>,
    /// Lanes of the copy that are not believed.
    pub refused: Vec<(u32, PayerError)>,
}

impl Payer {
    /// Gives up a request whose first voucher the processor never got, by all that it shows: the lane is
    /// in doubt until it is compared, and then goes on above every number that was used.
    pub fn doubt(&mut self, lane: u32) -> Result<(), PayerError> {
        let live = self.live_mut(lane)?;
        live.request = None;
        live.known = false;
        Ok(())
    }

    /// Compares with the processor's copy, and adopts what our own signature proves on lanes that
    /// are in doubt. Lanes in use are only compared.
    pub fn reconcile(&mut self, copy: &ChannelCopy) -> Reconciliation {
        self.compare(copy, true)
    }

    /// The same as long as the last voucher of a request that was given up may be on its way: its lane stays in
    /// doubt where the copy does not show it.
    pub fn reconcile_early(&mut self, copy: &ChannelCopy) -> Reconciliation {
        self.compare(copy, false)
    }

    fn compare(&mut self, copy: &ChannelCopy, sure: bool) -> Reconciliation {
        let mut result = Reconciliation::default();
        let bound = usize::try_from(LANES).unwrap_or(usize::MAX);
        for of in copy.lanes.iter().take(bound) {
            match self.reconcile_lane(of, sure) {
                Ok((outcome, pending)) => {
                    result.lanes.push((of.lane, outcome));
                    result.pending.extend(pending);
                }
                Err(error) => result.refused.push((of.lane, error)),
            }
        }
        // A copy that is wrong in one place is not believed to be complete.
        let absent = if result.refused.is_empty() { self.in_doubt() } else { Vec::new() };
        for lane in absent {
            let waits = self.live.get(&lane).is_some_and(|live| live.reconciling);
            if waits || copy.lanes.iter().any(|of| of.lane == lane) {
                continue;
            }
            let of = self.state.lanes.get(&lane);
            if !sure && of.is_some_and(Lane::is_exact) {
                result.lanes.push((lane, Reconciled::Open));
                continue;
            }
            if of.is_none_or(|of| of.voucher.is_some()) {
                result.lanes.push((lane, Reconciled::Behind));
                continue;
            }
            let record =
                PayerRecord::Reconciled { lane, voucher: None, receipt: None, approved: false, done: true };
            if let Ok(pending) = self.change(record) {
                self.live.entry(lane).or_default().reconciling = true;
                result.lanes.push((lane, Reconciled::Unseen));
                result.pending.push(pending);
            }
        }
        result
    }

    fn reconcile_lane(
        &mut self,
        copy: &LaneCopy,
        sure: bool,
    ) -> Result<(Reconciled, Option<Pending<PayerRecord>>), PayerError> {
        let lane = copy.lane;
        self.check_copy(copy)?;
        let claim = copy.voucher.body.0;
        let done =
            copy.receipt.as_ref().is_some_and(|receipt| receipt.body.last && receipt.body.seq == claim.seq);
        let spent = copy.receipt.as_ref().map_or(Amount::ZERO, |receipt| receipt.body.spent);
        let ahead = Reconciled::Ahead { signed: claim.amount };
        let outcome = match (self.state.lanes.get(&lane), self.live.get(&lane)) {
            (Some(of), Some(live)) => {
                let known = live.recent.back();
                let last = known.map_or(0, |voucher| voucher.body.0.seq);
                let beyond = claim.seq > of.reserved.seq || claim.amount > of.reserved.amount;
                let forgot = match &copy.receipt {
                    Some(receipt) => !receipt.body.usage.covers(&of.usage),
                    None => of.receipt.is_some(),
                };
                match live.known {
                    _ if live.reconciling => Reconciled::Open,
                    _ if claim.seq < last || forgot => Reconciled::Behind,
                    true if known == Some(&copy.voucher) => Reconciled::Agreed,
                    true => ahead,
                    false if beyond => ahead,
                    false if !sure && of.waits_for_more(&copy.voucher) => Reconciled::Open,
                    false if done => Reconciled::Adopted { signed: claim.amount, spent },
                    false => Reconciled::Open,
                }
            }
            (_, _) => ahead,
        };
        match outcome {
            Reconciled::Ahead { .. } | Reconciled::Adopted { .. } => {}
            Reconciled::Agreed | Reconciled::Behind | Reconciled::Unseen | Reconciled::Open => {
                return Ok((outcome, None));
            }
        }
        let record = PayerRecord::Reconciled {
            lane,
            voucher: Some(Box::new(copy.voucher.clone())),
            receipt: copy.receipt.clone().map(Box::new),
            // Of what a crash made us forget the last receipt decides: it is within what was signed, and
            // there is no lower one to contest it with. So it is approved; waiting would change nothing.
            approved: matches!(outcome, Reconciled::Adopted { .. }) || self.approved(copy),
            done,
        };
        let pending = self.change(record).map_err(|_| PayerError::UnknownLane { lane })?;
        let live = self.live.entry(lane).or_default();
        live.known = false;
        live.reconciling = true;
        Ok((outcome, Some(pending)))
    }

    /// The copy's signatures and what they say about each other.
    fn check_copy(&self, copy: &LaneCopy) -> Result<(), PayerError> {
        let claim = &copy.voucher.body.0;
        let right = claim.chain == self.state.terms.chain
            && claim.channel == self.id
            && claim.lane == copy.lane
            && self.state.view.has_lane(copy.lane);
        if !right {
            return Err(PayerError::UnknownLane { lane: copy.lane });
        }
        if let Some(of) = self.state.lanes.get(&copy.lane)
            && (of.model != claim.model || of.quote_hash != claim.quote)
        {
            return Err(PayerError::WrongQuote);
        }
        copy.voucher.verify_strict(&self.keys.voucher).map_err(|_| PayerError::BadSignature)?;
        let Some(receipt) = &copy.receipt else { return Ok(()) };
        if receipt.body.lane != copy.lane
            || (receipt.body.seq == claim.seq && receipt.body.voucher != copy.voucher.body.hash())
        {
            return Err(PayerError::WrongReceipt);
        }
        // One that says more than what is held here under the same number is not approved: the lower counts.
        if let Some(of) = self.state.lanes.get(&copy.lane)
            && of.compare(&receipt.body) == Comparison::SaysMore
        {
            return Err(PayerError::WrongReceipt);
        }
        self.check_within(&receipt.body, claim)?;
        receipt.verify_strict(&self.keys.receipt).map_err(|_| PayerError::BadSignature)
    }

    /// Whether the copy shows our own approval of exactly its receipt.
    fn approved(&self, copy: &LaneCopy) -> bool {
        let (Some(receipt), Some(approval)) = (&copy.receipt, &copy.approval) else { return false };
        let claim: &Claim = &approval.body.0;
        claim.chain == receipt.body.chain
            && claim.channel == receipt.body.channel
            && claim.lane == receipt.body.lane
            && claim.seq == receipt.body.seq
            && claim.usage == receipt.body.usage
            && claim.amount == receipt.body.spent
            && approval.verify_strict(&self.keys.voucher).is_ok()
    }
}
