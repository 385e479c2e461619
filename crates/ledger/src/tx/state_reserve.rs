//! `state_reserve`: an issuer says how much money is behind its credits, and by which document.
//!
//! The ledger keeps the last statement and knows nothing of its truth: whoever holds the document
//! compares its hash, and the supply is on the ledger beside it. A statement may be corrected for the
//! same day, but never replaced by one of a day before.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::DAY_MS,
    record::{Issuer, Reserve},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, Digest, StateKey};
use serde::{Deserialize, Serialize};

/// The sender's reserve.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StateReserve {
    /// How much there is, as credits. It may be nothing.
    pub amount: Amount,
    /// At the end of which day, in days since 1970 (UTC). Not after the day of the block.
    pub day: u64,
    /// The hash of the document that says so, for example a bank's or an auditor's.
    pub document: Digest,
}

impl Action for StateReserve {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::issuer(&tx.sender));
        keys.push(keys::reserve(&tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (issuer, Self { amount, day, document }) = (tx.sender, self.clone());
        if overlay.get::<Issuer>(&keys::issuer(&issuer))?.is_none() {
            return Err(Rejection::NotIssuer.into());
        }
        if day > context.time_ms.checked_div(DAY_MS).ok_or(Fault::Range)? {
            return Err(Rejection::ReserveInFuture.into());
        }
        let key = keys::reserve(&issuer);
        if overlay.get::<Reserve>(&key)?.is_some_and(|last| last.day > day) {
            return Err(Rejection::ReserveOlder.into());
        }
        overlay.put(&key, Reserve { issuer, amount, day, document, time_ms: context.time_ms })?;
        Ok(vec![Event::ReserveStated { issuer, amount, day, document }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;

    fn statement(day: u64, amount: u128) -> StateReserve {
        StateReserve { amount: grains(amount), day, document: Digest::new([7; 32]) }
    }

    #[test]
    fn the_last_one_is_kept() {
        let mut world = World::new();
        world.wait(10 * DAY_MS);
        let time_ms = world.context.time_ms;
        let events = world.must(ISSUER, statement(9, 700));
        let (issuer, document) = (id(ISSUER), Digest::new([7; 32]));
        assert_eq!(events, [Event::ReserveStated { issuer, amount: grains(700), day: 9, document }]);
        let kept = |world: &World| world.get::<Reserve>(&keys::reserve(&id(ISSUER)));
        assert_eq!(kept(&world), Some(Reserve { issuer, amount: grains(700), day: 9, document, time_ms }));
        assert_eq!(world.rejected(ISSUER, statement(8, 1)), Rejection::ReserveOlder);
        world.must(ISSUER, statement(9, 0));
        assert_eq!(world.rejected(ISSUER, statement(11, 1)), Rejection::ReserveInFuture);
        world.must(ISSUER, statement(10, 5));
        assert_eq!(kept(&world).map(|reserve| (reserve.day, reserve.amount)), Some((10, grains(5))));
        assert_eq!(world.rejected(PAYER, statement(1, 1)), Rejection::NotIssuer);
    }
}
