//! Vouchers and approvals coming in.

use super::{Accepted, Payee, PayeeRecord};
use crate::{
    error::PayeeError,
    view::{accepts, sum},
};
use gristmill_types::{Amount, Approval, Claim, Digest, Order, Quote, QuoteHash, Signed, Voucher};

/// A voucher with its order whose signatures are the payer's, made by [`Payee::authenticate`].
#[derive(Clone, Debug)]
pub struct Authentic {
    voucher: Signed<Voucher>,
    order: Signed<Order>,
}

impl Authentic {
    /// The order.
    pub(super) const fn order(&self) -> &Signed<Order> {
        &self.order
    }
}

impl Payee {
    /// Finds out, before anything is computed for a request, whether it comes from the payer and can
    /// start a delivery at all. Changes nothing; [`accept_authentic`](Self::accept_authentic) and
    /// [`order_authentic`](Self::order_authentic) do, and look at everything but the signatures again.
    pub fn authenticate(
        &self,
        voucher: &Signed<Voucher>,
        order: &Signed<Order>,
        body: &Digest,
    ) -> Result<Authentic, PayeeError> {
        let claim = &voucher.body.0;
        self.check_address(claim)?;
        if order.body.lane != claim.lane || order.body.voucher != voucher.body.hash() {
            return Err(PayeeError::WrongVoucher);
        }
        self.check_order(&order.body, claim, body)?;
        voucher.verify_strict(&self.keys.voucher).map_err(|_| PayeeError::BadSignature)?;
        order.verify_strict(&self.keys.voucher).map_err(|_| PayeeError::BadSignature)?;
        Ok(Authentic { voucher: voucher.clone(), order: order.clone() })
    }

    /// Accepts a voucher. `find_quote` gives the own quote of that hash, and is asked for the first
    /// voucher of a lane only. `clock_ms` is the ledger's time.
    ///
    /// In order: ledger and channel, phase, lane, pinned model and quote, sequence number, amount
    /// and counters, the sum over all lanes, the signature.
    pub fn accept(
        &mut self,
        voucher: &Signed<Voucher>,
        find_quote: impl FnOnce(&QuoteHash) -> Option<Quote>,
        clock_ms: u64,
    ) -> Result<Accepted, PayeeError> {
        let verify =
            |payee: &Self| voucher.verify_strict(&payee.keys.voucher).map_err(|_| PayeeError::BadSignature);
        self.admit(voucher, find_quote, clock_ms, verify)
    }

    /// Accepts a voucher whose signature was checked before.
    pub fn accept_authentic(
        &mut self,
        authentic: &Authentic,
        find_quote: impl FnOnce(&QuoteHash) -> Option<Quote>,
        clock_ms: u64,
    ) -> Result<Accepted, PayeeError> {
        self.admit(&authentic.voucher, find_quote, clock_ms, |_| Ok(()))
    }

    fn admit(
        &mut self,
        voucher: &Signed<Voucher>,
        find_quote: impl FnOnce(&QuoteHash) -> Option<Quote>,
        clock_ms: u64,
        verify: impl FnOnce(&Self) -> Result<(), PayeeError>,
    ) -> Result<Accepted, PayeeError> {
        let claim = &voucher.body.0;
        self.check_address(claim)?;
        accepts(self.state.view.phase, clock_ms)?;
        if !self.state.takes(claim.lane) {
            return Err(PayeeError::WrongLane { lane: claim.lane, floor: self.state.retiring });
        }
        let quote = match self.state.lanes.get(&claim.lane) {
            Some(lane) => {
                let last = &lane.voucher.body.0;
                if claim.model != last.model || claim.quote != last.quote {
                    return Err(PayeeError::WrongQuote);
                }
                if claim.seq == last.seq {
                    return self.again(voucher);
                }
                if claim.seq < last.seq {
                    return Err(PayeeError::OldSequence { found: claim.seq, last: last.seq });
                }
                if claim.amount < last.amount || !claim.usage.covers(&last.usage) {
                    return Err(PayeeError::Backwards);
                }
                self.check_above_spent(claim)?;
                None
            }
            None if claim.seq == 0 => return Err(PayeeError::OldSequence { found: 0, last: 0 }),
            None => Some(self.check_quote(claim, find_quote)?),
        };
        self.check_sum(claim)?;
        verify(self)?;
        let used = self.live.get(&claim.lane).map(|live| live.used).unwrap_or_default();
        let lane = self.state.lanes.get(&claim.lane);
        let answered = lane.filter(|lane| lane.is_answered()).map(|lane| lane.voucher.clone());
        let record = PayeeRecord::Voucher { voucher: voucher.clone(), quote: quote.map(Box::new), used };
        let pending = self.change(record).map_err(|_| PayeeError::Backwards)?;
        let live = self.live.entry(claim.lane).or_default();
        live.answered = answered.or(live.answered.take());
        Ok(Accepted::New(pending))
    }

    /// Accepts the payer's co-signature of the lane's last receipt, or of an earlier one that says the same.
    pub fn approve(&mut self, approval: &Signed<Approval>) -> Result<Accepted, PayeeError> {
        let claim = &approval.body.0;
        self.check_address(claim)?;
        let lane = self.state.lanes.get(&claim.lane).ok_or(PayeeError::UnknownLane { lane: claim.lane })?;
        if self.live.get(&claim.lane).is_some_and(|live| live.approval.as_ref() == Some(approval)) {
            return Ok(Accepted::Duplicate);
        }
        let receipt = &lane.receipt.as_ref().ok_or(PayeeError::WrongApproval)?.body;
        // A voucher that came when the answer was over is answered by another receipt of the same use; an
        // approval of the one before is as good.
        let matches = claim.seq <= receipt.seq
            && claim.model == receipt.model
            && claim.quote == receipt.quote
            && claim.usage == receipt.usage
            && claim.amount == receipt.spent;
        if !matches {
            return Err(PayeeError::WrongApproval);
        }
        approval.verify_strict(&self.keys.voucher).map_err(|_| PayeeError::BadSignature)?;
        let record = PayeeRecord::Approval(approval.clone());
        self.change(record).map(Accepted::New).map_err(|_| PayeeError::WrongApproval)
    }

    pub(super) fn check_address(&self, claim: &Claim) -> Result<(), PayeeError> {
        if claim.chain != self.state.terms.chain {
            return Err(PayeeError::WrongChain);
        }
        if claim.channel != self.id {
            return Err(PayeeError::WrongChannel);
        }
        Ok(())
    }

    /// A voucher with the number of the last one: the same bytes, or a conflict. Bytes that are not
    /// durable yet come out with their record again, so that nobody is told of them too early.
    fn again(&self, voucher: &Signed<Voucher>) -> Result<Accepted, PayeeError> {
        let claim = &voucher.body.0;
        let lane = self.state.lanes.get(&claim.lane).ok_or(PayeeError::UnknownLane { lane: claim.lane })?;
        if lane.voucher != *voucher {
            return Err(PayeeError::Conflict { seq: claim.seq });
        }
        if self.live.get(&claim.lane).is_some_and(|live| live.paid.seq >= claim.seq) {
            return Ok(Accepted::Duplicate);
        }
        let quote = self.state.quote_of(lane).cloned().map(Box::new);
        let record = PayeeRecord::Voucher { voucher: voucher.clone(), quote, used: lane.used };
        Ok(Accepted::New(crate::Pending::new(record)))
    }

    fn check_quote(
        &self,
        claim: &Claim,
        find_quote: impl FnOnce(&QuoteHash) -> Option<Quote>,
    ) -> Result<Quote, PayeeError> {
        let terms = &self.state.terms;
        let quote = find_quote(&claim.quote).ok_or(PayeeError::WrongQuote)?;
        let ours = quote.hash() == claim.quote
            && quote.chain == terms.chain
            && quote.processor == terms.payee
            && quote.receipt_key == terms.receipt_key
            && quote.issuer == terms.issuer
            && quote.model == claim.model;
        if ours { Ok(quote) } else { Err(PayeeError::WrongQuote) }
    }

    fn check_above_spent(&self, claim: &Claim) -> Result<(), PayeeError> {
        let lane = self.state.lanes.get(&claim.lane).ok_or(PayeeError::UnknownLane { lane: claim.lane })?;
        let used = self.live.get(&claim.lane).map(|live| live.used).unwrap_or(lane.used);
        let spent = self.state.cost(lane, &used).ok_or(PayeeError::Overflow)?;
        if claim.amount < spent.max(lane.spent()) || claim.amount < self.state.view.settled_on(claim.lane) {
            return Err(PayeeError::Backwards);
        }
        Ok(())
    }

    /// The lanes' promises, and what was paid out on retired lanes, fit into the deposit.
    fn check_sum(&self, claim: &Claim) -> Result<(), PayeeError> {
        let view = &self.state.view;
        let others = self.state.lanes.iter().filter(|(lane, _)| **lane != claim.lane);
        // Lanes that were paid on but are unknown here, after a backup was restored, count with what was paid.
        let unknown = view
            .lanes
            .iter()
            .filter(|(lane, _)| **lane != claim.lane && !self.state.lanes.contains_key(lane));
        let promised = others
            .map(|(lane, of)| of.voucher.body.0.amount.max(view.settled_on(*lane)))
            .chain(unknown.map(|(_, settled)| *settled))
            .chain([claim.amount.max(view.settled_on(claim.lane))]);
        let total: Amount = sum(promised)
            .and_then(|promised| promised.checked_add(view.retired()?))
            .ok_or(PayeeError::Overflow)?;
        if total > view.deposit {
            return Err(PayeeError::ExceedsDeposit { sum: total, deposit: view.deposit });
        }
        Ok(())
    }
}
