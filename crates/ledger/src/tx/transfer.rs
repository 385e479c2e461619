//! `transfer`: the sender gives credits to another account.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    posting::{Side, post},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, StateKey};
use serde::{Deserialize, Serialize};

/// Credits to another account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transfer {
    /// Who receives them.
    pub to: AccountId,
    /// Whose credits.
    pub issuer: AccountId,
    /// How much.
    pub amount: Amount,
}

impl Action for Transfer {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::balance(&tx.sender, &self.issuer));
        keys.push(keys::balance(&self.to, &self.issuer));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        if self.to == tx.sender {
            return Err(Malformed::ToSelf);
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let Self { to, issuer, amount } = *self;
        post(overlay, &issuer, Side::Account(&tx.sender), Side::Account(&to), amount)?;
        Ok(vec![Event::Transferred { from: tx.sender, to, issuer, amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rejection::Rejection, world::*};

    fn transfer(to: u8, issuer: u8, amount: u128) -> Transfer {
        Transfer { to: id(to), issuer: id(issuer), amount: grains(amount) }
    }

    #[test]
    fn moves_credits() {
        let mut world = World::new();
        let events = world.must(PAYER, transfer(POOR, ISSUER, 1_000));
        let (from, to, issuer) = (id(PAYER), id(POOR), id(ISSUER));
        assert_eq!(events, [Event::Transferred { from, to, issuer, amount: grains(1_000) }]);
        assert_eq!(world.balance(PAYER), START - 1_000 - FEE);
        assert_eq!(world.balance(POOR), 1_000);
        assert_eq!(world.balance(TREASURY), START + FEE);
        // The whole rest, after the fee: an empty balance leaves no record.
        world.must(PAYER, transfer(POOR, ISSUER, START - 1_000 - 2 * FEE));
        assert_eq!(world.balance(PAYER), 0);
        assert!(!world.state.contains_key(&keys::balance(&id(PAYER), &id(ISSUER))));
        // To and from the account that collects the fees.
        world.must(POOR, transfer(TREASURY, ISSUER, 5));
        world.must(TREASURY, transfer(POOR, ISSUER, 5));
    }

    #[test]
    fn refused() {
        let mut world = World::new();
        for (to, issuer, amount) in [
            (POOR, ISSUER, START - FEE + 1),
            (POOR, ISSUER, u128::MAX),
            (POOR, OTHER_ISSUER, 1),
            (POOR, STRANGER, 1),
        ] {
            let rejection = world.clone().rejected(PAYER, transfer(to, issuer, amount));
            assert_eq!(rejection, Rejection::InsufficientBalance, "{amount}");
        }
        assert_eq!(world.malformed(PAYER, transfer(POOR, ISSUER, 0)), Malformed::ZeroAmount);
        assert_eq!(world.malformed(PAYER, transfer(PAYER, ISSUER, 1)), Malformed::ToSelf);
    }
}
