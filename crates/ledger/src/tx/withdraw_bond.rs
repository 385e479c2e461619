//! `withdraw_bond`: a processor gets back the bond that it asked for, once its time is over.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    posting::{Side, post},
    record::Bond,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, StateKey};
use serde::{Deserialize, Serialize};

/// The end of the sender's bond.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WithdrawBond {
    /// Whose credits it is in.
    pub issuer: AccountId,
}

impl Action for WithdrawBond {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::bond(&tx.sender, &self.issuer));
        keys.push(keys::balance(&tx.sender, &self.issuer));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (processor, issuer) = (tx.sender, self.issuer);
        let key = keys::bond(&processor, &issuer);
        let bond: Bond = overlay.get(&key)?.ok_or(Rejection::NoBond)?;
        let deadline_ms = bond.unbonding_ms.ok_or(Rejection::NotUnbonding)?;
        if context.time_ms < deadline_ms {
            return Err(Rejection::UnbondingNotOver.into());
        }
        let amount = bond.held;
        post(overlay, &issuer, Side::Bond(&processor), Side::Account(&processor), amount)?;
        overlay.remove(&key)?;
        Ok(vec![Event::BondReturned { processor, issuer, amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params::MAX_DEPOSIT,
        tx::{PostBond, RegisterProcessor, Settle, Unbond},
        world::*,
    };
    use gristmill_types::Amount;

    fn bond(amount: u128, target: u128, withhold_bps: u16) -> PostBond {
        PostBond { issuer: id(ISSUER), amount: grains(amount), target: grains(target), withhold_bps }
    }

    fn held(world: &World) -> Option<u128> {
        world.get::<Bond>(&keys::bond(&id(PAYEE), &id(ISSUER))).map(|bond| bond.held.grains())
    }

    fn earn(world: &mut World, terms: gristmill_types::ChannelTerms, seq: u64, amount: u128) -> (u128, u128) {
        let claims = vec![approval(claim(&terms, 0, seq, amount))];
        let events = world.must(PAYEE, Settle { terms, claims, floor: None });
        let [Event::ClaimPaid { earned, bonded, .. }] = events.as_slice() else { panic!("{events:?}") };
        (earned.grains(), bonded.grains())
    }

    #[test]
    fn grows_from_earnings_up_to_its_target_and_comes_back() {
        let (mut world, terms) = World::with_channel(10_000);
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        world.must(PAYEE, bond(50, 200, 2_500));
        assert_eq!(held(&world), Some(50));
        let before = world.balance(PAYEE);
        // A tenth is royalty; of the rest a quarter is withheld, 225, but only 150 are missing.
        assert_eq!(earn(&mut world, terms, 1, 400), (360, 90));
        assert_eq!(world.balance(PAYEE), before + 270 - FEE);
        assert_eq!(earn(&mut world, terms, 2, 1_400), (900, 60));
        assert_eq!(earn(&mut world, terms, 3, 2_400), (900, 0));
        assert_eq!(held(&world), Some(200));
        let unbond = Unbond { issuer: id(ISSUER), wait_ms: world.rules.params.unbonding_ms };
        let withdraw = WithdrawBond { issuer: id(ISSUER) };
        assert_eq!(world.rejected(PAYEE, withdraw.clone()), Rejection::NotUnbonding);
        let deadline_ms = world.context.time_ms + unbond.wait_ms;
        let event = Event::UnbondingBegan {
            processor: id(PAYEE),
            issuer: id(ISSUER),
            held: grains(200),
            deadline_ms,
        };
        assert_eq!(world.must(PAYEE, unbond.clone()), [event]);
        assert_eq!(world.rejected(PAYEE, unbond), Rejection::Unbonding);
        assert_eq!(world.rejected(PAYEE, bond(1, 1_000, 10_000)), Rejection::Unbonding);
        // Nothing is withheld from now on.
        assert_eq!(earn(&mut world, terms, 4, 2_500), (90, 0));
        world.wait(deadline_ms - 1 - world.context.time_ms);
        assert_eq!(world.rejected(PAYEE, withdraw.clone()), Rejection::UnbondingNotOver);
        let before = world.balance(PAYEE);
        let event = Event::BondReturned { processor: id(PAYEE), issuer: id(ISSUER), amount: grains(200) };
        assert_eq!(world.must(PAYEE, withdraw.clone()), [event]);
        assert_eq!((world.balance(PAYEE), held(&world)), (before + 200 - FEE, None));
        assert_eq!(world.rejected(PAYEE, withdraw), Rejection::NoBond);
    }

    #[test]
    fn all_of_it_from_earnings() {
        let (mut world, terms) = World::with_channel(10_000);
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        world.must(PAYEE, bond(0, 1_000, 10_000));
        assert_eq!(earn(&mut world, terms, 1, 400), (360, 360));
        world.must(PAYEE, bond(7, 360, 10_000));
        assert_eq!(earn(&mut world, terms, 2, 800), (360, 0));
        assert_eq!(held(&world), Some(367));
    }

    #[test]
    fn refused() {
        let mut world = World::new();
        assert_eq!(world.rejected(PAYEE, bond(1, 1, 1)), Rejection::NotProcessor);
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        assert_eq!(world.rejected(PAYEE, bond(START, 1, 1)), Rejection::InsufficientBalance);
        let of_nobody = PostBond { issuer: id(STRANGER), ..bond(0, 0, 0) };
        assert_eq!(world.rejected(PAYEE, of_nobody), Rejection::UnknownIssuer);
        let unbond = Unbond { issuer: id(ISSUER), wait_ms: world.rules.params.unbonding_ms };
        assert_eq!(world.rejected(PAYEE, unbond.clone()), Rejection::NoBond);
        world.must(PAYEE, bond(1, 1, 1));
        assert_eq!(world.rejected(PAYEE, bond(MAX_DEPOSIT.grains(), 1, 1)), Rejection::BondTooLarge);
        let over = Amount::from_grains(MAX_DEPOSIT.grains() + 1);
        for bad in [
            PostBond { amount: over, ..bond(1, 1, 1) },
            PostBond { target: over, ..bond(1, 1, 1) },
            bond(1, 1, 10_001),
        ] {
            assert!(matches!(world.malformed(PAYEE, bad), Malformed::OutOfBounds { .. }));
        }
        for wait_ms in [unbond.wait_ms - 1, unbond.wait_ms + 1] {
            let bad = Unbond { wait_ms, ..unbond.clone() };
            assert!(matches!(world.malformed(PAYEE, bad), Malformed::OutOfBounds { .. }));
        }
    }
}
