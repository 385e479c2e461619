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
