//! `transfer_shares`: shares of a model line to another account.
//!
//! Both sides draw first what their shares have earned, in the credits of every issuer in which the
//! line was ever paid. The sender names those issuers, so that all keys follow from the payload; the
//! line counts its pools, so that none is left out: from a pool that was not drawn, the recipient
//! would earn what was paid before it held anything. No other holder is looked at.

use super::{Action, Events, Stop, Transaction, check_list};
use crate::{
    accrual,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::MAX_GENESIS_ISSUERS,
    record::{LinePools, Pool, Shares},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, LineId, StateKey};
use serde::{Deserialize, Serialize};

/// Shares of the sender's.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TransferShares {
    /// Of which line.
    pub line: LineId,
    /// Who receives them.
    pub to: AccountId,
    /// How many, of a million.
    pub shares: u64,
    /// Exactly the issuers in whose credits the line has a royalty pool, ascending.
    pub issuers: Vec<AccountId>,
}

impl Action for TransferShares {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::line_pools(&self.line));
        for issuer in &self.issuers {
            keys.push(keys::pool(&self.line, issuer));
        }
        for holder in [&tx.sender, &self.to] {
            keys.push(keys::shares(&self.line, holder));
            for issuer in &self.issuers {
                keys.push(keys::accrual(&self.line, issuer, holder));
                keys.push(keys::balance(holder, issuer));
            }
        }
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.shares == 0 {
            return Err(Malformed::ZeroAmount);
        }
        if self.to == tx.sender {
            return Err(Malformed::ToSelf);
        }
        check_list(self.issuers.iter(), "issuers", 0, MAX_GENESIS_ISSUERS)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let (line, from, to) = (self.line, tx.sender, self.to);
        let held: Shares = overlay.get(&keys::shares(&line, &from))?.ok_or(Rejection::NoShares)?;
        let rest = held.shares.checked_sub(self.shares).ok_or(Rejection::TooFewShares)?;
        let to_held = overlay.get::<Shares>(&keys::shares(&line, &to))?.map_or(0, |held| held.shares);
        self.check_pools(overlay)?;
        let mut events = Events::new();
        for issuer in &self.issuers {
            for (holder, shares) in [(from, held.shares), (to, to_held)] {
                let amount = accrual::pay(overlay, &line, issuer, &holder, shares)?;
                if !amount.is_zero() {
                    events.push(Event::RoyaltyClaimed { line, issuer: *issuer, holder, amount });
                }
            }
            if rest == 0 {
                // Whoever leaves leaves no record. Less than a grain of its earnings stays in the pool.
                overlay.remove(&keys::accrual(&line, issuer, &from))?;
            }
        }
        let from_key = keys::shares(&line, &from);
        if rest == 0 {
            overlay.remove(&from_key)?;
        } else {
            overlay.put(&from_key, Shares { shares: rest, ..held })?;
        }
        let shares = to_held.checked_add(self.shares).ok_or(Fault::Range)?;
        overlay.put(&keys::shares(&line, &to), Shares { line, holder: to, shares })?;
        events.push(Event::SharesTransferred { line, from, to, shares: self.shares });
        Ok(events)
    }
}

impl TransferShares {
    /// The issuers named must be those of the line's pools.
    fn check_pools(&self, overlay: &mut Overlay<'_>) -> Result<(), Stop> {
        let pools = overlay.get::<LinePools>(&keys::line_pools(&self.line))?;
        let mut same = usize::from(pools.map_or(0, |pools| pools.count)) == self.issuers.len();
        for issuer in &self.issuers {
            same &= overlay.get::<Pool>(&keys::pool(&self.line, issuer))?.is_some();
        }
        if same { Ok(()) } else { Err(Rejection::PoolsDiffer.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params::SHARES,
        record::Accrual,
        tx::{ClaimRoyalty, Settle},
        world::*,
    };
    use gristmill_types::ChannelTerms;

    fn transfer(to: u8, shares: u64, issuers: &[u8]) -> TransferShares {
        let mut issuers: Vec<_> = issuers.iter().map(|number| id(*number)).collect();
        issuers.sort();
        TransferShares { line: line(), to: id(to), shares, issuers }
    }

    fn pay(world: &mut World, terms: ChannelTerms, seq: u64, amount: u128) {
        let claims = vec![approval(claim(&terms, 0, seq, amount))];
        world.must(PAYEE, Settle { terms, claims, floor: None });
    }

    fn draw(world: &mut World, holder: u8) -> u128 {
        let held = world.balance(holder);
        world.must(holder, ClaimRoyalty { line: line(), issuer: id(ISSUER) });
        world.balance(holder) + FEE - held
    }

    fn held(world: &World, holder: u8) -> Option<u64> {
        world.get::<Shares>(&keys::shares(&line(), &id(holder))).map(|held| held.shares)
    }

    #[test]
    fn both_sides_earn_by_what_they_held() {
        let (mut world, terms) = World::with_channel(100_000_000);
        // The royalty of these is a tenth; a multiple of 15625 spreads without a rest.
        pay(&mut world, terms, 1, 10_000_000);
        let (before, stranger) = (world.balance(MODELER), world.balance(STRANGER));
        let events = world.must(MODELER, transfer(STRANGER, SHARES / 4, &[ISSUER]));
        let (line, from, to, issuer) = (line(), id(MODELER), id(STRANGER), id(ISSUER));
        let expected = [
            Event::RoyaltyClaimed { line, issuer, holder: from, amount: grains(1_000_000) },
            Event::SharesTransferred { line, from, to, shares: SHARES / 4 },
        ];
        assert_eq!(events, expected);
        assert_eq!(world.balance(MODELER), before - FEE + 1_000_000);
        assert_eq!(world.balance(STRANGER), stranger, "nothing from the time before");
        assert_eq!((held(&world, MODELER), held(&world, STRANGER)), (Some(SHARES / 4 * 3), Some(SHARES / 4)));
        pay(&mut world, terms, 2, 30_000_000);
        // Moving more pays both what they have earned since.
        let events = world.must(MODELER, transfer(STRANGER, SHARES / 4, &[ISSUER]));
        let paid = |holder, amount| Event::RoyaltyClaimed { line, issuer, holder, amount: grains(amount) };
        assert_eq!(events[..2], [paid(from, 1_500_000), paid(to, 500_000)]);
        pay(&mut world, terms, 3, 50_000_000);
        assert_eq!((draw(&mut world, MODELER), draw(&mut world, STRANGER)), (1_000_000, 1_000_000));
    }

    #[test]
    fn all_of_them_and_back() {
        let (mut world, terms) = World::with_channel(100_000_000);
        let accrual = |world: &World, holder| {
            world.get::<Accrual>(&keys::accrual(&line(), &id(ISSUER), &id(holder))).is_some()
        };
        world.must(MODELER, transfer(STRANGER, SHARES, &[]));
        assert_eq!((held(&world, MODELER), held(&world, STRANGER)), (None, Some(SHARES)));
        let claims = ClaimRoyalty { line: line(), issuer: id(ISSUER) };
        assert_eq!(world.rejected(MODELER, claims), Rejection::NoShares);
        pay(&mut world, terms, 1, 10_000_000);
        assert_eq!(draw(&mut world, STRANGER), 1_000_000);
        world.must(STRANGER, transfer(MODELER, SHARES, &[ISSUER]));
        assert_eq!((accrual(&world, STRANGER), accrual(&world, MODELER)), (false, true));
        // Who left and comes back earns from its return on.
        pay(&mut world, terms, 2, 20_000_000);
        world.must(MODELER, transfer(STRANGER, SHARES, &[ISSUER]));
        pay(&mut world, terms, 3, 30_000_000);
        assert_eq!(draw(&mut world, STRANGER), 1_000_000);
    }

    #[test]
    fn refused() {
        let (mut world, terms) = World::with_channel(100_000_000);
        assert_eq!(world.rejected(STRANGER, transfer(POOR, 1, &[])), Rejection::NoShares);
        assert_eq!(world.rejected(MODELER, transfer(POOR, SHARES + 1, &[])), Rejection::TooFewShares);
        assert_eq!(world.rejected(MODELER, transfer(POOR, 1, &[ISSUER])), Rejection::PoolsDiffer);
        pay(&mut world, terms, 1, 10_000_000);
        for issuers in [&[][..], &[OTHER_ISSUER], &[ISSUER, OTHER_ISSUER], &[STRANGER]] {
            assert_eq!(world.rejected(MODELER, transfer(POOR, 1, issuers)), Rejection::PoolsDiffer);
        }
        world.must(MODELER, transfer(POOR, 1, &[ISSUER]));
        assert_eq!(world.malformed(MODELER, transfer(POOR, 0, &[])), Malformed::ZeroAmount);
        assert_eq!(world.malformed(MODELER, transfer(MODELER, 1, &[])), Malformed::ToSelf);
        let double = transfer(POOR, 1, &[ISSUER, ISSUER]);
        assert_eq!(world.malformed(MODELER, double), Malformed::Unsorted { what: "issuers" });
    }
}
