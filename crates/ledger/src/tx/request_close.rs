//! `request_close`: the payer wants what is left of its deposit. Claims are taken until the
//! deadline; the request cannot be taken back.

use super::{Action, Events, Stop, Transaction};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    spending::{self, check_payer},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// The wish to close.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RequestClose {
    /// Which channel.
    pub terms: ChannelTerms,
}

impl Action for RequestClose {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::channel(&self.terms.id()));
        keys.push(keys::deadlines());
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_payer(&self.terms, tx)
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        // The voucher key may only if the payer has authorised it.
        spending::count(overlay, &self.terms.payer, &tx.sender, &self.terms.issuer, Amount::ZERO)?;
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_open()?;
        book.request_close()?;
        Ok(book.into_events())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Event,
        record::{ChannelState, Deadlines},
        rejection::Rejection,
        tx::CloseChannel,
        world::*,
    };

    #[test]
    fn sets_the_deadline_once() {
        let (mut world, terms) = World::with_channel(500);
        let deadline_ms = world.context.clock_ms + GRACE_MS;
        let events = world.must(PAYER, RequestClose { terms });
        let (channel, payer, payee) = (terms.id(), terms.payer, terms.payee);
        assert_eq!(events, [Event::CloseRequested { channel, payer, payee, deadline_ms }]);
        assert_eq!(world.channel(&terms).state, ChannelState::Closing { deadline_ms });
        assert_eq!(world.get(&keys::deadlines()), Some(Deadlines { latest_ms: deadline_ms }));
        assert_eq!(world.rejected(PAYER, RequestClose { terms }), Rejection::ChannelClosing);
        world.must(PAYEE, CloseChannel { terms, lanes: vec![] });
        assert_eq!(world.rejected(PAYER, RequestClose { terms }), Rejection::ChannelClosed);
    }

    #[test]
    fn refused() {
        let (mut world, terms) = World::with_channel(500);
        assert_eq!(world.malformed(PAYEE, RequestClose { terms }), Malformed::Sender { who: "payer" });
        let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
        assert_eq!(world.rejected(PAYER, RequestClose { terms: other }), Rejection::UnknownChannel);
    }
}
