//! `top_up`: the payer adds to an open channel.

use super::{Action, Events, Stop, Transaction};
use crate::{
    channel::{ChannelBook, check_terms},
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::MAX_DEPOSIT,
    posting::{Side, post},
    rejection::Rejection,
    spending::{self, check_payer},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// More deposit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TopUp {
    /// Which channel.
    pub terms: ChannelTerms,
    /// How much is added.
    pub amount: Amount,
}

impl Action for TopUp {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::channel(&self.terms.id()));
        keys.push(keys::balance(&self.terms.payer, &self.terms.issuer));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_payer(&self.terms, tx)?;
        if self.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        if self.amount > MAX_DEPOSIT {
            return Err(Malformed::OutOfBounds { what: "the amount" });
        }
        Ok(())
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let ChannelTerms { payer, payee, issuer, .. } = self.terms;
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_open()?;
        let channel = book.id();
        let total = book.channel()?.deposit.checked_add(self.amount);
        let deposit = total.filter(|total| *total <= MAX_DEPOSIT).ok_or(Rejection::DepositTooLarge)?;
        let (from, to) = (Side::Account(&payer), Side::Channel(&channel));
        spending::count(overlay, &payer, &tx.sender, &issuer, self.amount)?;
        post(overlay, &issuer, from, to, self.amount)?;
        Ok(vec![Event::ChannelToppedUp { channel, payer, payee, issuer, amount: self.amount, deposit }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tx::{CloseChannel, RequestClose},
        world::*,
    };

    #[test]
    fn adds() {
        let (mut world, terms) = World::with_channel(500);
        let events = world.must(PAYER, TopUp { terms, amount: grains(1) });
        assert!(matches!(events[..], [Event::ChannelToppedUp { deposit, .. }] if deposit == grains(501)));
        assert_eq!(world.channel(&terms).deposit, grains(501));
    }

    #[test]
    fn refused() {
        let (mut world, terms) = World::with_channel(500);
        let top_up = |amount| TopUp { terms, amount: grains(amount) };
        assert_eq!(world.malformed(PAYEE, top_up(1)), Malformed::Sender { who: "payer" });
        assert_eq!(world.malformed(PAYER, top_up(0)), Malformed::ZeroAmount);
        let most = MAX_DEPOSIT.grains();
        assert_eq!(world.malformed(PAYER, top_up(most + 1)), Malformed::OutOfBounds { what: "the amount" });
        assert_eq!(world.rejected(PAYER, top_up(most - 499)), Rejection::DepositTooLarge);
        assert_eq!(world.rejected(PAYER, top_up(most - 500)), Rejection::InsufficientBalance);
        let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
        let unknown = TopUp { terms: other, amount: grains(1) };
        assert_eq!(world.rejected(PAYER, unknown), Rejection::UnknownChannel);
        world.must(PAYER, RequestClose { terms });
        assert_eq!(world.rejected(PAYER, top_up(1)), Rejection::ChannelClosing);
        world.must(PAYEE, CloseChannel { terms, lanes: vec![] });
        assert_eq!(world.rejected(PAYER, top_up(1)), Rejection::ChannelClosed);
    }
}
