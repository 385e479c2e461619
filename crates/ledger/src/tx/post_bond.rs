//! `post_bond`: a processor puts credits at stake, now or from what it will earn. See `bond`.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::{FULL_BPS, MAX_DEPOSIT},
    posting::{Side, post},
    record::{Bond, Issuer, Processor},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, StateKey};
use serde::{Deserialize, Serialize};

/// The sender's bond in one issuer's credits. Posting again adds, and replaces target and part.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PostBond {
    /// Whose credits.
    pub issuer: AccountId,
    /// Posted now, from the sender's balance; may be nothing.
    pub amount: Amount,
    /// Earnings are withheld until the bond holds so much.
    pub target: Amount,
    /// Which part of each earning, in basis points, at most 10 000.
    pub withhold_bps: u16,
}

impl Action for PostBond {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::processor(&tx.sender));
        keys.push(keys::bond(&tx.sender, &self.issuer));
        keys.push(keys::balance(&tx.sender, &self.issuer));
        keys.push(keys::issuer(&self.issuer));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.amount > MAX_DEPOSIT || self.target > MAX_DEPOSIT {
            return Err(Malformed::OutOfBounds { what: "the bond" });
        }
        if self.withhold_bps > FULL_BPS {
            return Err(Malformed::OutOfBounds { what: "the part that is withheld" });
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let processor = tx.sender;
        if overlay.get::<Processor>(&keys::processor(&processor))?.is_none() {
            return Err(Rejection::NotProcessor.into());
        }
        let Self { issuer, amount, target, withhold_bps } = *self;
        // A bond of nothing in credits of nobody would be a part of no supply.
        if overlay.get::<Issuer>(&keys::issuer(&issuer))?.is_none() {
            return Err(Rejection::UnknownIssuer.into());
        }
        let key = keys::bond(&processor, &issuer);
        let before = match overlay.get::<Bond>(&key)? {
            Some(bond) if bond.unbonding_ms.is_some() => return Err(Rejection::Unbonding.into()),
            Some(bond) => bond.held,
            None => Amount::ZERO,
        };
        let held = before.checked_add(amount).filter(|held| *held <= MAX_DEPOSIT);
        let held = held.ok_or(Rejection::BondTooLarge)?;
        let bond = Bond { processor, issuer, held: before, target, withhold_bps, unbonding_ms: None };
        overlay.put(&key, bond)?;
        post(overlay, &issuer, Side::Account(&processor), Side::Bond(&processor), amount)?;
        Ok(vec![Event::BondPosted { processor, issuer, amount, held, target, withhold_bps }])
    }
}
