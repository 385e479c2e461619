//! Taking a claim, and a receipt against one. The rules are in the module above.

use super::ChannelBook;
use crate::{
    event::Event,
    keys,
    record::{Cap, Lane, Model, Pending, RoyaltyPart},
    rejection::Rejection,
    tx::{ClaimProof, SettleClaim, Stop},
};
use gristmill_types::{Amount, ChannelTerms, Claim, LineId, Receipt, Usage};

impl ChannelBook<'_, '_> {
    /// Takes one claim whose signatures were checked.
    pub(crate) fn claim(&mut self, item: &SettleClaim, by_payee: bool) -> Result<(), Stop> {
        let claim = item.proof.claim();
        let mut lane = self.lane_for(claim, &item.lines)?;
        self.mature(&mut lane)?;
        let pending = Pending {
            seq: claim.seq,
            amount: claim.amount,
            usage: claim.usage,
            cap: item.receipt.as_ref().map(|receipt| cap(&receipt.body)),
            deadline_ms: 0,
            by_payee,
        };
        self.check_worth(&lane, pending.effective())?;
        match item.proof {
            ClaimProof::Approval(_) => self.approve(&mut lane, claim)?,
            ClaimProof::Voucher(_) => self.make_pending(&mut lane, pending)?,
        }
        self.put_lane(lane)
    }

    /// The lane that the claim is on, new if this is its first.
    fn lane_for(&mut self, claim: &Claim, lines: &[LineId]) -> Result<Lane, Stop> {
        if let Some(lane) = self.lane(claim.lane)? {
            if (lane.model, lane.quote) != (claim.model, claim.quote) {
                return Err(Rejection::LanePinned.into());
            }
            check_lines(&lane.royalties, lines)?;
            return Ok(lane);
        }
        let model: Model = self.overlay.get(&keys::model(&claim.model))?.ok_or(Rejection::UnknownModel)?;
        check_lines(&model.royalties, lines)?;
        Ok(Lane {
            channel: self.id,
            lane: claim.lane,
            model: claim.model,
            quote: claim.quote,
            royalties: model.royalties,
            paid: Amount::ZERO,
            seq: 0,
            usage: Usage::default(),
            pending: None,
        })
    }

    /// Worth more than what was paid, and no more than the channel holds.
    fn check_worth(&mut self, lane: &Lane, worth: Amount) -> Result<(), Stop> {
        let rise = worth.checked_sub(lane.paid).filter(|rise| !rise.is_zero());
        let rise = rise.ok_or(Rejection::NotHigher)?;
        if rise > self.channel()?.available() {
            return Err(Rejection::OverDeposit.into());
        }
        Ok(())
    }

    fn approve(&mut self, lane: &mut Lane, claim: &Claim) -> Result<(), Stop> {
        if claim.seq < lane.seq {
            return Err(Rejection::StaleClaim.into());
        }
        self.pay(lane, claim.amount, claim.usage, claim.seq)?;
        if let Some(done) = lane.pending.take_if(|pending| pending.effective() <= claim.amount) {
            lane.seq = lane.seq.max(done.through());
        }
        Ok(())
    }

    fn make_pending(&mut self, lane: &mut Lane, mut new: Pending) -> Result<(), Stop> {
        if new.seq <= lane.seq {
            return Err(Rejection::StaleClaim.into());
        }
        if !new.usage.covers(&lane.usage) {
            return Err(Rejection::UsageFell.into());
        }
        if let Some(old) = &lane.pending {
            if old.by_payee && !new.by_payee {
                return Err(Rejection::HeldByPayee.into());
            }
            if new.seq <= old.through() {
                return Err(Rejection::StaleClaim.into());
            }
            if new.effective() <= old.effective() {
                return Err(Rejection::NotHigher.into());
            }
        }
        new.deadline_ms = self.set_deadline()?;
        let ChannelTerms { payer, payee, issuer, .. } = *self.terms;
        let event = Event::ClaimPending {
            channel: self.id,
            payer,
            payee,
            issuer,
            lane: lane.lane,
            seq: new.seq,
            model: lane.model,
            amount: new.effective(),
            deadline_ms: new.deadline_ms,
            by_payee: new.by_payee,
        };
        lane.pending = Some(new);
        self.event(event);
        Ok(())
    }

    /// Lowers a pending claim by the payee's own word, whose signature was checked.
    pub(crate) fn cap(&mut self, receipt: &Receipt) -> Result<(), Stop> {
        let mut lane = self.lane(receipt.lane)?.ok_or(Rejection::NothingPending)?;
        let pending = lane.pending.as_mut().ok_or(Rejection::NothingPending)?;
        if pending.deadline_ms <= self.context.clock_ms {
            return Err(Rejection::ContestOver.into());
        }
        if receipt.seq < pending.seq {
            return Err(Rejection::ReceiptTooOld.into());
        }
        if receipt.spent >= pending.effective() {
            return Err(Rejection::ReceiptChangesNothing.into());
        }
        pending.cap = Some(cap(receipt));
        let paid = lane.paid;
        let removed = lane.pending.take_if(|pending| pending.effective() <= paid);
        if let Some(removed) = &removed {
            lane.seq = lane.seq.max(removed.through());
        }
        let ChannelTerms { payer, payee, .. } = *self.terms;
        self.event(Event::ClaimCapped {
            channel: self.id,
            payer,
            payee,
            lane: lane.lane,
            seq: receipt.seq,
            spent: receipt.spent,
            removed: removed.is_some(),
        });
        self.put_lane(lane)
    }
}

/// Refuses a payload that names other lines than those that are paid.
pub(crate) fn check_lines(royalties: &[RoyaltyPart], named: &[LineId]) -> Result<(), Rejection> {
    let lines = royalties.iter().map(|part| part.line);
    lines.eq(named.iter().copied()).then_some(()).ok_or(Rejection::WrongLine)
}

fn cap(receipt: &Receipt) -> Cap {
    Cap { seq: receipt.seq, spent: receipt.spent, usage: receipt.usage }
}
