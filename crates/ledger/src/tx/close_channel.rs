//! `close_channel`: the end of a channel. By the payee at any time; by anybody once the payer's
//! request has reached its deadline; never while a claim is pending. The payer gets back the rest.

use super::{Action, Events, Stop, Transaction, check_list, settle::MAX_LANES};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    record::ChannelState,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// The end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CloseChannel {
    /// Which channel.
    pub terms: ChannelTerms,
    /// Exactly the lanes that have a record, ascending; they are deleted.
    pub lanes: Vec<u32>,
}

impl Action for CloseChannel {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::balance(&self.terms.payer, &self.terms.issuer));
        keys.extend(self.lanes.iter().map(|lane| keys::lane(&id, *lane)));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_list(self.lanes.iter(), "lanes", 0, MAX_LANES)
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        let due = matches!(
            book.channel()?.state,
            ChannelState::Closing { deadline_ms } if deadline_ms <= context.clock_ms
        );
        if !due && tx.sender != self.terms.payee {
            return Err(Rejection::NotYetClosable.into());
        }
        book.remove_lanes(&self.lanes, |_| true)?;
        book.close()?;
        Ok(book.into_events())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Event,
        record::Lane,
        tx::{RequestClose, Settle},
        world::*,
    };

    fn settle(terms: ChannelTerms, item: crate::tx::SettleClaim) -> Settle {
        Settle { terms, claims: vec![item], floor: None }
    }

    #[test]
    fn by_the_payee_at_any_time() {
        let (mut world, terms) = World::with_channel(500);
        for lane in [3, 60] {
            world.must(PAYEE, settle(terms, approval(claim(&terms, lane, 1, 100))));
        }
        let held = world.balance(PAYER);
        for lanes in [vec![], vec![3], vec![60], vec![3, 4, 60], vec![3, 64]] {
            let close = CloseChannel { terms, lanes };
            assert_eq!(world.rejected(PAYEE, close), Rejection::LanesDiffer);
        }
        let events = world.must(PAYEE, CloseChannel { terms, lanes: vec![3, 60] });
        let ChannelTerms { payer, payee, issuer, .. } = terms;
        let (channel, settled, refund) = (terms.id(), grains(200), grains(300));
        assert_eq!(events, [Event::ChannelClosed { channel, payer, payee, issuer, settled, refund }]);
        assert_eq!(world.balance(PAYER), held + 300);
        assert_eq!(world.get::<Lane>(&keys::lane(&terms.id(), 3)), None);
        let record = world.channel(&terms);
        assert_eq!((record.state, record.available()), (ChannelState::Closed, grains(0)));
        let again = CloseChannel { terms, lanes: vec![] };
        assert_eq!(world.rejected(PAYEE, again), Rejection::ChannelClosed);
        let late = settle(terms, approval(claim(&terms, 0, 1, 100)));
        assert_eq!(world.rejected(PAYEE, late), Rejection::ChannelClosed);
    }

    #[test]
    fn by_anybody_after_the_deadline() {
        let (mut world, terms) = World::with_channel(500);
        let close = CloseChannel { terms, lanes: vec![] };
        for sender in [PAYER, STRANGER] {
            assert_eq!(world.rejected(sender, close.clone()), Rejection::NotYetClosable);
        }
        let deadline_ms = world.context.clock_ms + GRACE_MS;
        world.must(PAYER, RequestClose { terms });
        world.wait(deadline_ms - 1 - world.context.clock_ms);
        assert_eq!(world.rejected(PAYER, close.clone()), Rejection::NotYetClosable);
        assert_eq!(world.context.clock_ms, deadline_ms);
        world.must(STRANGER, close);
        assert_eq!(world.balance(PAYER), START - 3 * FEE - FEE, "two refused, one request, one opening");
    }

    #[test]
    fn never_with_a_pending_claim() {
        let (mut world, terms) = World::with_channel(500);
        world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 1, 100))));
        let close = CloseChannel { terms, lanes: vec![0] };
        assert_eq!(world.rejected(PAYEE, close.clone()), Rejection::ClaimsPending);
        world.must(PAYER, RequestClose { terms });
        world.wait(2 * GRACE_MS);
        assert_eq!(world.rejected(PAYER, close), Rejection::ClaimsPending, "withdraw first");
        let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
        let unknown = CloseChannel { terms: other, lanes: vec![] };
        assert_eq!(world.rejected(PAYEE, unknown), Rejection::UnknownChannel);
    }

    #[test]
    fn malformed() {
        let (mut world, terms) = World::with_channel(500);
        for lanes in [vec![1, 1], vec![2, 1]] {
            let error = world.malformed(PAYEE, CloseChannel { terms, lanes });
            assert_eq!(error, Malformed::Unsorted { what: "lanes" });
        }
        let error = world.malformed(PAYEE, CloseChannel { terms, lanes: (0..65).collect() });
        assert_eq!(error, Malformed::Count { what: "lanes", min: 0, max: 64 });
    }
}
