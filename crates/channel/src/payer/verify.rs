//! Receipts: verified against what arrived, then approved.

use super::{
    Payer, PayerRecord,
    state::{Comparison, Standing},
};
use crate::{error::PayerError, pending::Pending};
use gristmill_types::{Approval, Claim, Receipt, Signed, Voucher};

/// What became of a receipt.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// It is taken: make the record durable, then confirm. After the last receipt of its request
    /// the lane is free.
    New(Pending<PayerRecord>),
    /// It contradicts an earlier one and says less: kept to show on the ledger.
    Evidence(Pending<PayerRecord>),
    /// This or a later receipt was taken before.
    Duplicate,
}

/// How far a receipt is believed.
#[derive(Clone, Copy)]
enum Trust {
    /// It must count no more than what arrived.
    Full,
    /// It may count up to what was promised.
    Promise,
    /// The same, and whatever it counts it is not approved.
    None,
}

impl Payer {
    /// Takes a receipt if all of it is right: the signature, the voucher that it answers, model and
    /// quote, the cost recomputed from the quote's prices, and counts not above what arrived.
    pub fn receipt(&mut self, receipt: &Signed<Receipt>) -> Result<Received, PayerError> {
        self.take(receipt, Trust::Full)
    }

    /// Takes a receipt that counts more than what arrived, as long as it is within what was
    /// promised: the loss is at most a prompt and a window. For a stream that broke on the way: some of it
    /// did not arrive, and there is nothing to contest the claim with. So it can be approved; to wait for the
    /// ledger's grace would punish the honest and take a lane meanwhile.
    pub fn concede(&mut self, receipt: &Signed<Receipt>) -> Result<Received, PayerError> {
        self.take(receipt, Trust::Promise)
    }

    /// Takes a receipt whose counts may be right, but which does not commit to what arrived. It frees the
    /// lane and caps what can be claimed; it is not approved. What a later receipt of the lane says is
    /// cumulative: its approval covers this one's amount too.
    pub fn dispute(&mut self, receipt: &Signed<Receipt>) -> Result<Received, PayerError> {
        self.take(receipt, Trust::None)
    }

    /// Co-signs the lane's last receipt, which must be verified and durable. The same approval comes
    /// out every time, so it needs no record.
    pub fn approve(&self, lane: u32) -> Result<Signed<Approval>, PayerError> {
        let nothing = PayerError::NothingToApprove { lane };
        let of = self.lane(lane)?;
        let approvable = of.verified && self.live.get(&lane).is_some_and(|live| live.approvable);
        let receipt = of.receipt.as_ref().filter(|_| approvable).ok_or(nothing)?;
        let claim = Claim {
            chain: self.state.terms.chain,
            channel: self.id,
            lane,
            seq: receipt.body.seq,
            model: of.model,
            quote: of.quote_hash,
            usage: receipt.body.usage,
            amount: receipt.body.spent,
        };
        Ok(Signed::sign(Approval(claim), &self.secret))
    }

    fn take(&mut self, receipt: &Signed<Receipt>, trust: Trust) -> Result<Received, PayerError> {
        let body = &receipt.body;
        let lane = body.lane;
        let of = self.lane(lane)?;
        if of.receipt.as_ref() == Some(receipt) || of.lowest.as_ref() == Some(receipt) {
            return Ok(Received::Duplicate);
        }
        if self.live.get(&lane).is_none_or(|live| !live.known) {
            return Err(PayerError::InDoubt { lane });
        }
        let voucher = self.answered_voucher(body)?;
        self.check_within(body, &voucher.body.0)?;
        receipt.verify_strict(&self.keys.receipt).map_err(|_| PayerError::BadSignature)?;
        let voucher = Box::new(voucher.clone());
        match of.compare(body) {
            Comparison::Later => {}
            Comparison::Known => return Ok(Received::Duplicate),
            Comparison::SaysMore => return Err(PayerError::WrongReceipt),
            Comparison::SaysLess => {
                return self.record(voucher, receipt, Standing::Evidence).map(Received::Evidence);
            }
        }
        let counted = self.counted(lane)?;
        let standing = match (counted.covers(&body.usage), trust) {
            (true, Trust::Full | Trust::Promise) | (false, Trust::Promise) => Standing::Verified,
            (_, Trust::None) => Standing::Disputed,
            (false, Trust::Full) => return Err(PayerError::Overcounted { claimed: body.usage, counted }),
        };
        let pending = self.record(voucher, receipt, standing)?;
        let live = self.live_mut(lane)?;
        live.approvable = false;
        // A last receipt may be that of an earlier request, for a voucher that came too late.
        if body.last && live.request.as_ref().is_some_and(|request| request.ended_by(body.seq)) {
            live.request = None;
        }
        Ok(Received::New(pending))
    }

    fn record(
        &mut self,
        voucher: Box<Signed<Voucher>>,
        receipt: &Signed<Receipt>,
        standing: Standing,
    ) -> Result<Pending<PayerRecord>, PayerError> {
        let lane = receipt.body.lane;
        self.change(PayerRecord::Receipt { voucher, receipt: Box::new(receipt.clone()), standing })
            .map_err(|_| PayerError::UnknownLane { lane })
    }

    /// The voucher that the receipt answers, if it is one of the lane's last.
    fn answered_voucher(&self, receipt: &Receipt) -> Result<&Signed<Voucher>, PayerError> {
        let live = self.live.get(&receipt.lane).ok_or(PayerError::UnknownLane { lane: receipt.lane })?;
        live.recent
            .iter()
            .find(|voucher| voucher.body.0.seq == receipt.seq && voucher.body.hash() == receipt.voucher)
            .ok_or(PayerError::WrongReceipt)
    }

    /// Everything about a receipt but its signature and its counts.
    pub(super) fn check_within(&self, receipt: &Receipt, voucher: &Claim) -> Result<(), PayerError> {
        let right = receipt.chain == self.state.terms.chain
            && receipt.channel == self.id
            && receipt.lane == voucher.lane
            && receipt.seq <= voucher.seq
            && receipt.model == voucher.model
            && receipt.quote == voucher.quote;
        if !right {
            return Err(PayerError::WrongReceipt);
        }
        if receipt.spent > voucher.amount || !voucher.usage.covers(&receipt.usage) {
            return Err(PayerError::ReceiptOverVoucher);
        }
        // A lane that only the processor's copy showed has no prices to check against.
        if let Some(quote) = self.state.lanes.get(&receipt.lane).and_then(|of| of.quote.as_ref()) {
            let cost = quote.body.prices.cost(&receipt.usage).ok_or(PayerError::Overflow)?;
            if cost != receipt.spent {
                return Err(PayerError::WrongCost { spent: receipt.spent, cost });
            }
        }
        Ok(())
    }
}
