//! `cancel_redemption`: the holder takes locked credits back, once the issuer's time to pay is over.

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

/// The end of a redemption of the sender's that was not paid.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CancelRedemption {
    /// Whose credits, as in the request.
    pub issuer: AccountId,
    /// Its number: the nonce of the request.
    pub number: u64,
}

impl Action for CancelRedemption {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::redemption(&tx.sender, self.number));
        keys.push(keys::balance(&tx.sender, &self.issuer));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (holder, issuer, number) = (tx.sender, self.issuer, self.number);
        let key = keys::redemption(&holder, number);
        let locked: Redemption = overlay.get(&key)?.ok_or(Rejection::NoSuchRedemption)?;
        if locked.issuer != issuer {
            return Err(Rejection::OtherIssuer.into());
        }
        if context.time_ms < locked.deadline_ms {
            return Err(Rejection::RedemptionNotDue.into());
        }
        let amount = locked.amount;
        post(overlay, &issuer, Side::Redemption(&holder, number), Side::Account(&holder), amount)?;
        overlay.remove(&key)?;
        Ok(vec![Event::RedemptionCancelled { holder, number, issuer, amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tx::{PayRedemption, RequestRedemption},
        world::*,
    };

    #[test]
    fn not_before_the_deadline() {
        let mut world = World::new();
        let wait_ms = world.rules.params.min_redemption_ms;
        let deadline_ms = world.context.time_ms + wait_ms;
        let reference = "order 7".into();
        let request = RequestRedemption { issuer: id(ISSUER), amount: grains(400), reference, wait_ms };
        world.must(PAYER, request);
        let cancel = CancelRedemption { issuer: id(ISSUER), number: 0 };
        let other = CancelRedemption { issuer: id(OTHER_ISSUER), number: 0 };
        assert_eq!(world.rejected(PAYER, other), Rejection::OtherIssuer);
        assert_eq!(world.rejected(STRANGER, cancel.clone()), Rejection::NoSuchRedemption);
        world.wait(deadline_ms - 1 - world.context.time_ms);
        assert_eq!(world.rejected(PAYER, cancel.clone()), Rejection::RedemptionNotDue);
        assert_eq!(world.context.time_ms, deadline_ms);
        let held = world.balance(PAYER);
        let events = world.must(PAYER, cancel.clone());
        let (holder, issuer, amount) = (id(PAYER), id(ISSUER), grains(400));
        assert_eq!(events, [Event::RedemptionCancelled { holder, number: 0, issuer, amount }]);
        assert_eq!(world.balance(PAYER), held + 400 - FEE);
        assert_eq!(world.rejected(PAYER, cancel), Rejection::NoSuchRedemption);
        let pay = PayRedemption { holder, number: 0 };
        assert_eq!(world.rejected(ISSUER, pay), Rejection::NoSuchRedemption);
    }
}
