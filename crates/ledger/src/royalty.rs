//! Royalty arithmetic: the part of a payment, and a pool that many share without a loop.
//!
//! A pool counts what one share has earned since the beginning as an index scaled by 2⁶⁴; what the
//! division by the number of shares leaves over is carried to the next payment. A holder's draw is
//! its shares times what the index rose since its last draw; the part of a grain that it cannot draw
//! stays in the pool and is kept for it. So nothing is lost, nothing is paid twice, and neither a
//! payment nor a draw looks at any other holder.

use crate::{
    params::{FULL_BPS, SHARES},
    record::{Accrual, Pool},
    rejection::Rejection,
};
use gristmill_types::{AccountId, Amount, LineId};

const SCALE_BITS: u32 = 64;

/// The royalty in a cumulative amount that rose from `old` to `new`: the difference of the floors,
/// so that the total does not depend on how the amount was cut into payments. `None` if it does not
/// fit.
pub(crate) fn part(old: Amount, new: Amount, bps: u16) -> Option<Amount> {
    let floor = |amount: Amount| amount.checked_mul_div(u128::from(bps), u128::from(FULL_BPS));
    floor(new)?.checked_sub(floor(old)?)
}

/// A pool that nothing was paid into.
pub(crate) fn empty_pool(line: &LineId, issuer: &AccountId) -> Pool {
    Pool { line: *line, issuer: *issuer, balance: Amount::ZERO, index: 0, remainder: 0 }
}

/// Spreads a payment over the shares. It does not change the pool's balance.
pub(crate) fn distribute(pool: &mut Pool, amount: Amount) -> Result<(), Rejection> {
    let spread = || {
        let scaled = amount.grains().checked_mul(1u128.checked_shl(SCALE_BITS)?)?;
        let scaled = scaled.checked_add(u128::from(pool.remainder))?;
        let index = pool.index.checked_add(scaled.checked_div(u128::from(SHARES))?)?;
        let remainder = u64::try_from(scaled.checked_rem(u128::from(SHARES))?).ok()?;
        Some((index, remainder))
    };
    (pool.index, pool.remainder) = spread().ok_or(Rejection::PoolFull)?;
    Ok(())
}

/// What a holder of `shares` may draw when the index rose from `seen` to `index`, and the fraction
/// of a grain that it keeps for later.
pub(crate) fn draw(shares: u64, seen: u128, index: u128, fraction: u64) -> Option<(Amount, u64)> {
    // The rise is split in two so that each product fits: it may have 128 bits, the shares have 20.
    let rise = index.checked_sub(seen)?;
    let shares = u128::from(shares);
    let whole = rise.checked_shr(SCALE_BITS)?.checked_mul(shares)?;
    let low = (rise & u128::from(u64::MAX)).checked_mul(shares)?.checked_add(u128::from(fraction))?;
    let grains = whole.checked_add(low.checked_shr(SCALE_BITS)?)?;
    let fraction = u64::try_from(low & u128::from(u64::MAX)).ok()?;
    Some((Amount::from_grains(grains), fraction))
}

/// What a holder of so many shares would draw from the pool now, given how far it has drawn. `None`
/// where the records do not belong together.
pub fn due(pool: &Pool, drawn: Option<&Accrual>, shares: u64) -> Option<Amount> {
    let (seen, fraction) = drawn.map_or((0, 0), |drawn| (drawn.index, drawn.fraction));
    draw(shares, seen, pool.index, fraction).map(|(amount, _)| amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool() -> Pool {
        empty_pool(&LineId::new([1; 32]), &AccountId::new([2; 32]))
    }

    #[test]
    fn parts_are_differences_of_floors() {
        let grains = Amount::from_grains;
        for (old, new, bps, royalty) in [
            (0, 10_000, 1_000, 1_000),
            (0, 9, 1_000, 0),
            (9, 10, 1_000, 1),
            (0, 10, 1_000, 1),
            (5, 5, 10_000, 0),
            (0, 1 << 63, 10_000, 1 << 63),
            (0, 1 << 63, 0, 0),
        ] {
            assert_eq!(part(grains(old), grains(new), bps), Some(grains(royalty)), "{old} {new} {bps}");
        }
        assert_eq!(part(grains(2), grains(1), 10_000), None);
    }

    #[test]
    fn the_largest_payment_fits_and_a_full_pool_says_so() {
        let mut pool = pool();
        assert_eq!(distribute(&mut pool, crate::params::MAX_DEPOSIT), Ok(()));
        assert_eq!(draw(SHARES, 0, pool.index, 0).unwrap().0, Amount::from_grains((1 << 63) - 1));
        pool.index = u128::MAX;
        let full = pool.clone();
        assert_eq!(distribute(&mut pool, Amount::from_credits(1)), Err(Rejection::PoolFull));
        assert_eq!(pool, full);
        assert!(draw(SHARES, 0, u128::MAX, u64::MAX).is_some());
    }

    proptest! {
        /// Holders together never draw more than was paid in, and less by under a grain each.
        #[test]
        fn draws_add_up(
            payments in prop::collection::vec(0u64..=1 << 40, 1..20),
            cuts in prop::collection::btree_set(1..SHARES, 0..5),
            often in any::<bool>(),
        ) {
            let mut bounds: Vec<u64> = cuts.into_iter().collect();
            bounds.insert(0, 0);
            bounds.push(SHARES);
            let mut holders: Vec<_> = bounds.windows(2).map(|w| (w[1] - w[0], 0u128, 0u64, 0u128)).collect();
            let mut pool = pool();
            let mut paid = 0u128;
            for payment in &payments {
                distribute(&mut pool, Amount::from_grains(u128::from(*payment))).unwrap();
                paid += u128::from(*payment);
                if often {
                    draw_all(&mut holders, pool.index);
                }
            }
            draw_all(&mut holders, pool.index);
            let drawn: u128 = holders.iter().map(|h| h.3).sum();
            prop_assert!(drawn <= paid, "{drawn} of {paid}");
            prop_assert!(paid - drawn <= holders.len() as u128, "{drawn} of {paid}");
            // Drawing often or once comes to the same for each.
            for (shares, index, fraction, total) in &holders {
                let (once, rest) = draw(*shares, 0, pool.index, 0).unwrap();
                prop_assert_eq!((once.grains(), rest, *index), (*total, *fraction, pool.index));
            }
        }
    }

    fn draw_all(holders: &mut [(u64, u128, u64, u128)], index: u128) {
        for (shares, seen, fraction, total) in holders {
            let (amount, rest) = draw(*shares, *seen, index, *fraction).unwrap();
            (*seen, *fraction) = (index, rest);
            *total += amount.grains();
        }
    }
}
