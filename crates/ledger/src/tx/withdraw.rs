//! `withdraw`: pays out pending claims whose time has come. Anybody may send it; the money goes to
//! the payee and the models' lines.

use super::{
    Action, Events, Stop, Transaction, check_list,
    settle::{self, MAX_LANES, push_pools},
};
use crate::{
    channel::{ChannelBook, check_terms, claim::check_lines},
    debt::Owing,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, LineId, StateKey};
use serde::{Deserialize, Serialize};

/// Claims whose time has come.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Withdraw {
    /// Which channel.
    pub terms: ChannelTerms,
    /// 1 to 64 lanes, ascending. If one of them is not due, none is paid.
    pub lanes: Vec<MaturedLane>,
}

/// A lane with a matured claim.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MaturedLane {
    /// The lane.
    pub lane: u32,
    /// The lines that its royalties go to, as in the lane's record.
    pub lines: Vec<LineId>,
}

impl Action for Withdraw {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::balance(&self.terms.payee, &self.terms.issuer));
        for item in &self.lanes {
            keys.push(keys::lane(&id, item.lane));
            push_pools(&item.lines, &self.terms.issuer, keys);
        }
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_list(self.lanes.iter().map(|item| item.lane), "lanes", 1, MAX_LANES)?;
        self.lanes.iter().try_for_each(|item| settle::check_lines(&item.lines))
    }

    fn pays(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn owing(&self, tx: &Transaction) -> Owing {
        // What it owes it must be able to earn.
        let earns = (tx.sender, tx.fee_issuer) == (self.terms.payee, self.terms.issuer);
        if earns { Owing::More } else { Owing::Never }
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, _tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        for item in &self.lanes {
            let mut lane = book.lane(item.lane)?.ok_or(Rejection::NothingPending)?;
            if lane.pending.is_none() {
                return Err(Rejection::NothingPending.into());
            }
            check_lines(&lane.royalties, &item.lines)?;
            if !book.mature(&mut lane)? {
                return Err(Rejection::NotDue.into());
            }
            book.put_lane(lane)?;
        }
        Ok(book.into_events())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, Royalty},
        tx::{CloseChannel, Settle, SettleClaim, TopUp},
        world::*,
    };

    fn settle(terms: ChannelTerms, items: Vec<SettleClaim>) -> Settle {
        Settle { terms, claims: items, floor: None }
    }

    fn withdraw(terms: ChannelTerms, lanes: &[u32]) -> Withdraw {
        Withdraw {
            terms,
            lanes: lanes.iter().map(|lane| MaturedLane { lane: *lane, lines: vec![line()] }).collect(),
        }
    }

    #[test]
    fn pays_when_due() {
        let (mut world, terms) = World::with_channel(1_000);
        let deadline_ms = world.context.clock_ms + GRACE_MS;
        world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 7, 505))]));
        let held = world.balance(PAYEE);
        world.wait(deadline_ms - 1 - world.context.clock_ms);
        assert_eq!(world.rejected(STRANGER, withdraw(terms, &[0])), Rejection::NotDue);
        assert_eq!(world.context.clock_ms, deadline_ms);
        let events = world.must(STRANGER, withdraw(terms, &[0]));
        let event = Event::ClaimPaid {
            channel: terms.id(),
            payer: terms.payer,
            payee: terms.payee,
            issuer: terms.issuer,
            lane: 0,
            seq: 7,
            model: MODEL,
            usage: tokens(7),
            paid: grains(505),
            earned: grains(455),
            owed: grains(0),
            bonded: grains(0),
            royalties: vec![Royalty { line: line(), amount: grains(50) }],
        };
        assert_eq!(events, [event]);
        assert_eq!(world.balance(PAYEE), held + 455);
        let lane = world.lane(&terms, 0).unwrap();
        assert_eq!((lane.paid, lane.seq, lane.usage, lane.pending), (grains(505), 7, tokens(7), None));
        assert_eq!(world.rejected(STRANGER, withdraw(terms, &[0])), Rejection::NothingPending);
    }

    #[test]
    fn a_claim_beyond_the_deposit_is_paid_as_far_as_it_goes() {
        let (mut world, terms) = World::with_channel(1_000);
        // Each fits by itself, both do not.
        let both = vec![voucher(claim(&terms, 0, 1, 800)), voucher(claim(&terms, 1, 1, 800))];
        world.must(PAYEE, settle(terms, both));
        world.wait(GRACE_MS);
        world.must(STRANGER, withdraw(terms, &[0, 1]));
        let (first, second) = (world.lane(&terms, 0).unwrap(), world.lane(&terms, 1).unwrap());
        assert_eq!((first.paid, second.paid), (grains(800), grains(200)));
        assert_eq!((first.seq, second.seq, world.channel(&terms).pending), (1, 0, 0));
        // The rest can be claimed again when the payer adds to the channel.
        let again = settle(terms, vec![voucher(claim(&terms, 1, 1, 800))]);
        assert_eq!(world.rejected(PAYEE, again.clone()), Rejection::OverDeposit);
        world.must(PAYER, TopUp { terms, amount: grains(600) });
        world.must(PAYEE, again);
        world.wait(GRACE_MS);
        world.must(STRANGER, withdraw(terms, &[1]));
        assert_eq!(world.channel(&terms).available(), grains(0));
        world.must(PAYEE, CloseChannel { terms, lanes: vec![0, 1] });
    }

    #[test]
    fn refused() {
        let (mut world, terms) = World::with_channel(1_000);
        let both = vec![voucher(claim(&terms, 0, 1, 100)), approval(claim(&terms, 1, 1, 100))];
        world.must(PAYEE, settle(terms, both));
        world.wait(GRACE_MS);
        let wrong = Withdraw { terms, lanes: vec![MaturedLane { lane: 0, lines: vec![foreign_line()] }] };
        let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
        for (payload, rejection) in [
            (withdraw(terms, &[0, 1]), Rejection::NothingPending),
            (withdraw(terms, &[2]), Rejection::NothingPending),
            (withdraw(terms, &[64]), Rejection::LaneTooHigh),
            (wrong, Rejection::WrongLine),
            (withdraw(other, &[0]), Rejection::UnknownChannel),
        ] {
            assert_eq!(world.rejected(STRANGER, payload), rejection);
        }
        assert_eq!(
            world.malformed(STRANGER, withdraw(terms, &[])),
            Malformed::Count { what: "lanes", min: 1, max: 64 }
        );
        assert_eq!(
            world.malformed(STRANGER, withdraw(terms, &[0, 0])),
            Malformed::Unsorted { what: "lanes" }
        );
        world.must(STRANGER, withdraw(terms, &[0]));
        world.must(PAYEE, CloseChannel { terms, lanes: vec![0, 1] });
        assert_eq!(world.rejected(STRANGER, withdraw(terms, &[0])), Rejection::ChannelClosed);
    }
}
