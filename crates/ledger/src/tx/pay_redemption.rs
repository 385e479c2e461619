//! `pay_redemption`: an issuer says that it has paid for locked credits, which burns them.
//!
//! It may do so as long as they are locked, also after the deadline. An issuer sends the money when
//! this is final: until then the holder may take the credits back, if the deadline has come.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    posting::{Side, post},
    record::Redemption,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, StateKey};
use serde::{Deserialize, Serialize};

/// A redemption of the sender's credits that it pays.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PayRedemption {
    /// Whose redemption.
    pub holder: AccountId,
    /// Its number: the nonce of the request.
    pub number: u64,
}

impl Action for PayRedemption {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::redemption(&self.holder, self.number));
        keys.push(keys::issuer(&tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let Self { holder, number } = *self;
        let key = keys::redemption(&holder, number);
        let locked: Redemption = overlay.get(&key)?.ok_or(Rejection::NoSuchRedemption)?;
        let (issuer, amount) = (locked.issuer, locked.amount);
        if issuer != tx.sender {
            return Err(Rejection::OtherIssuer.into());
        }
        post(overlay, &issuer, Side::Redemption(&holder, number), Side::Outside, amount)?;
        overlay.remove(&key)?;
        Ok(vec![Event::RedemptionPaid { holder, number, issuer, amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Issuer, tx::RequestRedemption, world::*};

    #[test]
    fn burns_what_was_locked_once() {
        let mut world = World::new();
        let wait_ms = world.rules.params.min_redemption_ms;
        let request = RequestRedemption {
            issuer: id(ISSUER),
            amount: grains(400),
            reference: "order 7".into(),
            wait_ms,
        };
        world.must(PAYER, request.clone());
        world.must(PAYER, request);
        let supply = |world: &World| {
            let issuer: Issuer = world.get(&keys::issuer(&id(ISSUER))).unwrap();
            issuer.genesis.grains() + issuer.minted.grains() - issuer.burned.grains()
        };
        let before = supply(&world);
        let pay = |number| PayRedemption { holder: id(PAYER), number };
        for (sender, payload, rejection) in [
            (STRANGER, pay(0), Rejection::OtherIssuer),
            (OTHER_ISSUER, pay(0), Rejection::OtherIssuer),
            (PAYER, pay(0), Rejection::OtherIssuer),
            (ISSUER, pay(2), Rejection::NoSuchRedemption),
        ] {
            if sender == OTHER_ISSUER {
                world.must(
                    PAYER,
                    crate::tx::Transfer { to: id(sender), issuer: id(ISSUER), amount: grains(50) },
                );
            }
            assert_eq!(world.rejected(sender, payload), rejection);
        }
        let events = world.must(ISSUER, pay(0));
        let (holder, issuer, amount) = (id(PAYER), id(ISSUER), grains(400));
        assert_eq!(events, [Event::RedemptionPaid { holder, number: 0, issuer, amount }]);
        assert_eq!(supply(&world), before - 400);
        assert_eq!(world.rejected(ISSUER, pay(0)), Rejection::NoSuchRedemption);
        // The other one is paid late: it was still locked.
        world.wait(wait_ms);
        world.must(ISSUER, pay(1));
        assert_eq!(supply(&world), before - 800);
    }
}
