//! `show_receipt`: the payee's own word against a claim that is pending. Anybody may send it; the
//! payer, or somebody who watches for it, has the interest. The rules are in `channel`.

use super::{Action, Events, Stop, Transaction, settle::verify_receipt};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, Receipt, Signed, StateKey};
use serde::{Deserialize, Serialize};

/// A receipt against a pending claim.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ShowReceipt {
    /// Which channel.
    pub terms: ChannelTerms,
    /// The receipt. Its model and quote are not looked at: a payee who writes others into it than
    /// those of the lane has still said what was spent there.
    pub receipt: Box<Signed<Receipt>>,
}

impl Action for ShowReceipt {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::lane(&id, self.receipt.body.lane));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        let body = &self.receipt.body;
        if (body.chain, body.channel) != (self.terms.chain, self.terms.id()) {
            return Err(Malformed::Mismatch { what: "the receipt" });
        }
        verify_receipt(&self.terms, &self.receipt)
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, _tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        book.cap(&self.receipt.body)?;
        Ok(book.into_events())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Event,
        record::Cap,
        rejection::Rejection,
        tx::{Settle, SettleClaim, Withdraw},
        world::*,
    };

    fn settle(terms: ChannelTerms, item: SettleClaim) -> Settle {
        Settle { terms, claims: vec![item], floor: None }
    }

    fn show(terms: ChannelTerms, seq: u64, spent: u128) -> ShowReceipt {
        ShowReceipt { terms, receipt: receipt(&terms, 0, seq, spent) }
    }

    #[test]
    fn lowers_a_pending_claim() {
        let (mut world, terms) = World::with_channel(1_000);
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 10, 900))));
        // Refused ones in between change nothing.
        assert_eq!(world.rejected(PAYER, show(terms, 9, 100)), Rejection::ReceiptTooOld);
        assert_eq!(world.rejected(PAYER, show(terms, 10, 900)), Rejection::ReceiptChangesNothing);
        let events = world.must(PAYER, show(terms, 12, 600));
        let (channel, payer, payee) = (terms.id(), terms.payer, terms.payee);
        let event = Event::ClaimCapped {
            channel,
            payer,
            payee,
            lane: 0,
            seq: 12,
            spent: grains(600),
            removed: false,
        };
        assert_eq!(events, [event]);
        // The lowest of several wins, whoever shows it.
        world.must(STRANGER, show(terms, 10, 500));
        assert_eq!(world.rejected(PAYER, show(terms, 12, 600)), Rejection::ReceiptChangesNothing);
        let pending = world.lane(&terms, 0).unwrap().pending.unwrap();
        let cap = Cap { seq: 10, spent: grains(500), usage: tokens(10) };
        assert_eq!((pending.through(), pending.cap), (10, Some(cap)));
        world.wait(GRACE_MS);
        assert_eq!(world.rejected(PAYER, show(terms, 10, 1)), Rejection::ContestOver);
        let lanes = vec![crate::tx::MaturedLane { lane: 0, lines: vec![line()] }];
        let held = world.balance(PAYEE);
        world.must(STRANGER, Withdraw { terms, lanes });
        assert_eq!(world.balance(PAYEE), held + 450, "500 less the royalty");
        assert_eq!(world.lane(&terms, 0).unwrap().seq, 10);
    }

    #[test]
    fn removes_a_claim_that_is_worth_nothing_more() {
        let (mut world, terms) = World::with_channel(1_000);
        world.must(PAYEE, settle(terms, approval(claim(&terms, 0, 5, 300))));
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 6, 900))));
        let events = world.must(PAYER, show(terms, 8, 300));
        assert!(matches!(events[..], [Event::ClaimCapped { removed: true, .. }]));
        let lane = world.lane(&terms, 0).unwrap();
        assert_eq!((lane.pending, lane.seq, world.channel(&terms).pending), (None, 8, 0));
        // No claim that the receipt speaks about comes back.
        for seq in [6, 7, 8] {
            let again = settle(terms, voucher(claim(&terms, 0, seq, 900)));
            assert_eq!(world.rejected(PAYEE, again), Rejection::StaleClaim);
        }
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 9, 900))));
    }

    #[test]
    fn a_capped_claim_is_replaced_only_from_above_the_cap() {
        let (mut world, terms) = World::with_channel(1_000);
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 4, 400))));
        world.must(PAYER, show(terms, 6, 100));
        for (seq, amount, rejection) in
            [(5, 900, Rejection::StaleClaim), (6, 900, Rejection::StaleClaim), (7, 100, Rejection::NotHigher)]
        {
            let claim = settle(terms, voucher(claim(&terms, 0, seq, amount)));
            assert_eq!(world.rejected(PAYEE, claim), rejection);
        }
        // Worth more than the capped one, though less than what that one promised.
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 7, 200))));
        let pending = world.lane(&terms, 0).unwrap().pending.unwrap();
        assert_eq!((pending.effective(), pending.cap), (grains(200), None));
    }

    #[test]
    fn refused() {
        let (mut world, terms) = World::with_channel(1_000);
        assert_eq!(world.rejected(PAYER, show(terms, 1, 1)), Rejection::NothingPending, "no lane");
        world.must(PAYEE, settle(terms, approval(claim(&terms, 0, 1, 100))));
        assert_eq!(world.rejected(PAYER, show(terms, 1, 1)), Rejection::NothingPending, "a lane");
        let high = ShowReceipt { terms, receipt: receipt(&terms, 64, 1, 1) };
        assert_eq!(world.rejected(PAYER, high), Rejection::LaneTooHigh);
        let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
        assert_eq!(world.rejected(PAYER, show(other, 1, 1)), Rejection::UnknownChannel);
        let mixed = ShowReceipt { terms, receipt: receipt(&other, 0, 1, 1) };
        assert_eq!(world.malformed(PAYER, mixed), Malformed::Mismatch { what: "the receipt" });
        let mut forged = show(terms, 1, 1);
        forged.receipt.body.spent = grains(0);
        assert_eq!(world.malformed(PAYER, forged), Malformed::Signature { what: "the receipt" });
    }
}
