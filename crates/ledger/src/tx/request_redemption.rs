//! `request_redemption`: a holder locks credits, for which their issuer shall pay money.
//!
//! Locked credits exist until the issuer says that it has paid (`pay_redemption`), which burns them.
//! If it has not by the deadline, the holder takes them back (`cancel_redemption`). Neither side can
//! do anything else with them meanwhile. Where the money goes to, holder and issuer know by the
//! reference; the ledger does not.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::MAX_REDEMPTION_MS,
    posting::{Side, post},
    record::Redemption,
    text,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, StateKey};
use serde::{Deserialize, Serialize};

/// Credits of the sender to be paid for.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RequestRedemption {
    /// Whose credits.
    pub issuer: AccountId,
    /// How much.
    pub amount: Amount,
    /// What the issuer knows the payment by, at most 64 bytes. Everybody can read it.
    pub reference: String,
    /// How long the issuer has, by block time: at least what the genesis says.
    pub wait_ms: u64,
}

impl Action for RequestRedemption {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::balance(&tx.sender, &self.issuer));
        keys.push(keys::redemption(&tx.sender, tx.nonce));
    }

    fn check(&self, tx: &Transaction, rules: &Rules) -> Result<(), Malformed> {
        if self.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        // As small ones cost little and hide the others.
        if self.amount < rules.params.min_deposit {
            return Err(Malformed::OutOfBounds {
                what: "the amount (at least the smallest deposit of a channel)",
            });
        }
        if self.issuer == tx.sender {
            return Err(Malformed::ToSelf);
        }
        if !(rules.params.min_redemption_ms..=MAX_REDEMPTION_MS).contains(&self.wait_ms) {
            return Err(Malformed::OutOfBounds { what: "the time to pay a redemption" });
        }
        text::reference(&self.reference)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (holder, number, issuer, amount) = (tx.sender, tx.nonce, self.issuer, self.amount);
        // Days are long against any outage, so they are counted by block time: ledger time would keep an
        // idle ledger awake all the while.
        let deadline_ms = context.time_ms.checked_add(self.wait_ms).ok_or(Fault::Range)?;
        let reference = self.reference.clone();
        let locked = Redemption {
            holder,
            number,
            issuer,
            amount: Amount::ZERO,
            reference: reference.clone(),
            deadline_ms,
        };
        // The number is the nonce, which is used once: no such redemption exists.
        overlay.put(&keys::redemption(&holder, number), locked)?;
        post(overlay, &issuer, Side::Account(&holder), Side::Redemption(&holder, number), amount)?;
        Ok(vec![Event::RedemptionRequested { holder, number, issuer, amount, reference, deadline_ms }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Deadlines, rejection::Rejection, world::*};

    fn request(world: &World, amount: u128) -> RequestRedemption {
        RequestRedemption {
            issuer: id(ISSUER),
            amount: grains(amount),
            reference: "order 7".into(),
            wait_ms: world.rules.params.min_redemption_ms,
        }
    }

    #[test]
    fn locks() {
        let mut world = World::new();
        let request = request(&world, 400);
        let deadline_ms = world.context.time_ms + request.wait_ms;
        let events = world.must(PAYER, request);
        let (holder, issuer) = (id(PAYER), id(ISSUER));
        let locked = Redemption {
            holder,
            number: 0,
            issuer,
            amount: grains(400),
            reference: "order 7".into(),
            deadline_ms,
        };
        assert_eq!(world.get(&keys::redemption(&holder, 0)), Some(locked.clone()));
        let Redemption { number, amount, reference, .. } = locked;
        let event = Event::RedemptionRequested { holder, number, issuer, amount, reference, deadline_ms };
        assert_eq!(events, [event]);
        assert_eq!(world.balance(PAYER), START - FEE - 400);
        // The ledger need not stay awake for it.
        assert_eq!(world.get::<Deadlines>(&keys::deadlines()), None);
    }

    #[test]
    fn refused() {
        let mut world = World::new();
        let good = request(&world, 400);
        let most = RequestRedemption { amount: grains(START - FEE + 1), ..good.clone() };
        assert_eq!(world.rejected(PAYER, most), Rejection::InsufficientBalance);
        // Credits of somebody who issues none are held by nobody.
        let nobody = RequestRedemption { issuer: id(STRANGER), ..good.clone() };
        assert_eq!(world.rejected(PAYER, nobody), Rejection::InsufficientBalance);
        assert_eq!(world.malformed(ISSUER, good.clone()), Malformed::ToSelf);
        let nothing = RequestRedemption { amount: grains(0), ..good.clone() };
        assert_eq!(world.malformed(PAYER, nothing), Malformed::ZeroAmount);
        for wait_ms in [good.wait_ms - 1, MAX_REDEMPTION_MS + 1] {
            let what = "the time to pay a redemption";
            let bad = RequestRedemption { wait_ms, ..good.clone() };
            assert_eq!(world.malformed(PAYER, bad), Malformed::OutOfBounds { what });
        }
        for reference in ["", &"r".repeat(65), "line\nbreak", "ä"] {
            let bad = RequestRedemption { reference: reference.into(), ..good.clone() };
            assert!(matches!(world.malformed(PAYER, bad), Malformed::Text { .. }), "{reference:?}");
        }
        world.must(PAYER, RequestRedemption { reference: "r".repeat(64), ..good });
    }
}
