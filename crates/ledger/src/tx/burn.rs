//! `burn`: an issuer takes its own credits out of being.
//!
//! Only the issuer burns, here from its own balance of its own credits: burning is a statement about
//! the reserve, which is the issuer's to make. What a holder redeems burns by `pay_redemption`.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    posting::{Side, post},
    record::Issuer,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, StateKey};
use serde::{Deserialize, Serialize};

/// The sender's own credits, out of its own balance.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Burn {
    /// How much.
    pub amount: Amount,
}

impl Action for Burn {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::issuer(&tx.sender));
        keys.push(keys::balance(&tx.sender, &tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        if overlay.get::<Issuer>(&keys::issuer(&tx.sender))?.is_none() {
            return Err(Rejection::NotIssuer.into());
        }
        post(overlay, &tx.sender, Side::Account(&tx.sender), Side::Outside, self.amount)?;
        Ok(vec![Event::Burned { issuer: tx.sender, amount: self.amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;

    #[test]
    fn burns_the_issuers_own() {
        let mut world = World::new();
        let events = world.must(ISSUER, Burn { amount: grains(400) });
        assert_eq!(events, [Event::Burned { issuer: id(ISSUER), amount: grains(400) }]);
        assert_eq!(world.balance(ISSUER), START - 400 - FEE);
        let issuer: Issuer = world.get(&keys::issuer(&id(ISSUER))).unwrap();
        assert_eq!((issuer.minted, issuer.burned), (grains(0), grains(400)));
    }

    #[test]
    fn refused() {
        let mut world = World::new();
        for (sender, amount, rejection) in [
            (PAYER, 1, Rejection::NotIssuer),
            (ISSUER, START - FEE + 1, Rejection::InsufficientBalance),
            (ISSUER, u128::MAX, Rejection::InsufficientBalance),
        ] {
            assert_eq!(world.clone().rejected(sender, Burn { amount: grains(amount) }), rejection);
        }
        assert_eq!(world.malformed(ISSUER, Burn { amount: grains(0) }), Malformed::ZeroAmount);
    }
}
