//! `mint`: an issuer brings credits into being, for money that it received.
//!
//! Each deposit of money has an id of the issuer's choice (for example the hash of a bank's
//! reference) that can be minted for once. What is outstanding stays under the issuer's cap; what is
//! minted on one day, by block time and UTC, under its daily limit.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::DAY_MS,
    posting::{Side, post},
    record::{Deposit, Issuer},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, Digest, StateKey};
use serde::{Deserialize, Serialize};

/// Credits of the sender, for a deposit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Mint {
    /// The deposit of money that backs them.
    pub deposit: Digest,
    /// Who receives them.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

impl Action for Mint {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::issuer(&tx.sender));
        keys.push(keys::deposit(&tx.sender, &self.deposit));
        keys.push(keys::balance(&self.to, &tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.amount.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let Self { deposit, to, amount } = *self;
        let issuer_key = keys::issuer(&tx.sender);
        let mut issuer: Issuer = overlay.get(&issuer_key)?.ok_or(Rejection::NotIssuer)?;
        let deposit_key = keys::deposit(&tx.sender, &deposit);
        if overlay.get::<Deposit>(&deposit_key)?.is_some() {
            return Err(Rejection::DepositUsed.into());
        }
        let total = outstanding(&issuer).ok_or(Fault::Range)?.checked_add(amount);
        if total.is_none_or(|total| total > issuer.cap) {
            return Err(Rejection::OverCap.into());
        }
        let day = context.time_ms.checked_div(DAY_MS).ok_or(Fault::Range)?;
        let today = if issuer.day == day { issuer.minted_on_day } else { Amount::ZERO };
        let today = today
            .checked_add(amount)
            .filter(|today| *today <= issuer.daily_limit)
            .ok_or(Rejection::OverDailyLimit)?;
        issuer.day = day;
        issuer.minted_on_day = today;
        overlay.put(&issuer_key, issuer)?;
        let record = Deposit { issuer: tx.sender, deposit, to, amount, time_ms: context.time_ms };
        overlay.put(&deposit_key, record)?;
        post(overlay, &tx.sender, Side::Outside, Side::Account(&to), amount)?;
        Ok(vec![Event::Minted { issuer: tx.sender, deposit, to, amount }])
    }
}

/// What the issuer has outstanding.
fn outstanding(issuer: &Issuer) -> Option<Amount> {
    issuer.genesis.checked_add(issuer.minted)?.checked_sub(issuer.burned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tx::Burn, world::*};

    fn mint(deposit: u8, amount: u128) -> Mint {
        Mint { deposit: Digest::new([deposit; 32]), to: id(POOR), amount: grains(amount) }
    }

    /// An issuer that may have 1000 above genesis outstanding and mint 600 a day.
    fn world() -> World {
        let mut genesis = genesis();
        let outstanding: u128 = genesis.balances.iter().map(|balance| balance.amount.grains()).sum();
        genesis.issuers[0].cap = grains(outstanding + 1_000);
        genesis.issuers[0].daily_limit = grains(600);
        World::from(&genesis)
    }

    #[test]
    fn mints_once_for_a_deposit() {
        let mut world = world();
        let events = world.must(ISSUER, mint(1, 400));
        let event = Event::Minted {
            issuer: id(ISSUER),
            deposit: Digest::new([1; 32]),
            to: id(POOR),
            amount: grains(400),
        };
        assert_eq!(events, [event]);
        assert_eq!(world.balance(POOR), 400);
        assert_eq!(world.rejected(ISSUER, mint(1, 1)), Rejection::DepositUsed);
        // Each issuer has its own deposits, and needs somebody's credits for the fee.
        let mut other = world.sign(OTHER_ISSUER, mint(1, 5)).body;
        other.fee_issuer = id(OTHER_ISSUER);
        let signed = gristmill_types::Signed::sign(other, &key(OTHER_ISSUER));
        assert!(matches!(world.run(signed), Err(crate::Invalid::CannotPayFee { .. })));
    }

    #[test]
    fn limits() {
        let mut world = world();
        assert_eq!(world.rejected(ISSUER, mint(1, 601)), Rejection::OverDailyLimit);
        world.must(ISSUER, mint(1, 600));
        assert_eq!(world.rejected(ISSUER, mint(2, 1)), Rejection::OverDailyLimit);
        // The limit is of the day, by block time.
        world.wait(DAY_MS - world.context.time_ms - 1);
        assert_eq!(world.rejected(ISSUER, mint(2, 1)), Rejection::OverDailyLimit);
        assert_eq!(world.context.time_ms, DAY_MS);
        for (amount, rejection) in [(401, Rejection::OverCap), (u128::MAX, Rejection::OverCap)] {
            assert_eq!(world.rejected(ISSUER, mint(2, amount)), rejection);
        }
        world.must(ISSUER, mint(2, 400));
        // What is burned makes room.
        world.must(ISSUER, Burn { amount: grains(150) });
        world.must(ISSUER, mint(3, 150));
        assert_eq!(world.rejected(ISSUER, mint(4, 1)), Rejection::OverCap);
    }

    #[test]
    fn only_issuers() {
        let mut world = world();
        assert_eq!(world.rejected(PAYER, mint(1, 1)), Rejection::NotIssuer);
        assert_eq!(world.malformed(ISSUER, mint(1, 0)), Malformed::ZeroAmount);
    }
}
