//! Moves value: the only code that does. Every posting takes from one side and gives the same
//! amount to another, in one issuer's credits.

use crate::{
    invalid::Fault,
    keys,
    overlay::Overlay,
    record::{Balance, Bond, Channel, Issuer, LinePools, Pool, Redemption},
    rejection::Rejection,
    royalty,
    tx::Stop,
};
use gristmill_types::{AccountId, Amount, ChannelId, LineId};

/// Where value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side<'a> {
    /// An account's balance.
    Account(&'a AccountId),
    /// A channel's deposit. Taking from it is a settlement.
    Channel(&'a ChannelId),
    /// A channel's deposit, given back. Only taken from.
    Refund(&'a ChannelId),
    /// A model line's royalty pool.
    Pool(&'a LineId),
    /// A holder's redemption, by its number.
    Redemption(&'a AccountId, u64),
    /// A processor's bond.
    Bond(&'a AccountId),
    /// Nowhere: taking from it mints, giving to it burns.
    Outside,
}

/// Moves the amount. `Rejected` if an account's balance does not suffice, if a channel would have
/// held too much, or if a pool cannot count higher.
pub(crate) fn post(
    overlay: &mut Overlay<'_>,
    issuer: &AccountId,
    from: Side<'_>,
    to: Side<'_>,
    amount: Amount,
) -> Result<(), Stop> {
    if amount.is_zero() {
        return Ok(());
    }
    take(overlay, issuer, from, amount)?;
    give(overlay, issuer, to, amount)
}

fn take(overlay: &mut Overlay<'_>, issuer: &AccountId, from: Side<'_>, amount: Amount) -> Result<(), Stop> {
    match from {
        Side::Account(account) => {
            let key = keys::balance(account, issuer);
            let balance: Balance = overlay.get(&key)?.ok_or(Rejection::InsufficientBalance)?;
            let rest = balance.amount.checked_sub(amount).ok_or(Rejection::InsufficientBalance)?;
            if rest.is_zero() {
                overlay.remove(&key)?;
            } else {
                overlay.put(&key, Balance { amount: rest, ..balance })?;
            }
        }
        Side::Channel(id) => {
            let key = keys::channel(id);
            let mut channel: Channel = overlay.expect(&key)?;
            if channel.available() < amount {
                return Err(Fault::Range.into());
            }
            channel.settled = sum(channel.settled, amount)?;
            overlay.put(&key, channel)?;
        }
        Side::Refund(id) => {
            let key = keys::channel(id);
            let mut channel: Channel = overlay.expect(&key)?;
            if channel.available() < amount {
                return Err(Fault::Range.into());
            }
            channel.refunded = sum(channel.refunded, amount)?;
            overlay.put(&key, channel)?;
        }
        Side::Pool(line) => {
            let key = keys::pool(line, issuer);
            let mut pool: Pool = overlay.expect(&key)?;
            pool.balance = pool.balance.checked_sub(amount).ok_or(Fault::Range)?;
            overlay.put(&key, pool)?;
        }
        Side::Redemption(holder, number) => {
            let key = keys::redemption(holder, number);
            let mut locked: Redemption = overlay.expect(&key)?;
            locked.amount = locked.amount.checked_sub(amount).ok_or(Fault::Range)?;
            overlay.put(&key, locked)?;
        }
        Side::Bond(processor) => {
            let key = keys::bond(processor, issuer);
            let mut bond: Bond = overlay.expect(&key)?;
            bond.held = bond.held.checked_sub(amount).ok_or(Fault::Range)?;
            overlay.put(&key, bond)?;
        }
        Side::Outside => {
            let key = keys::issuer(issuer);
            let mut record: Issuer = overlay.expect(&key)?;
            record.minted = sum(record.minted, amount)?;
            overlay.put(&key, record)?;
        }
    }
    Ok(())
}

fn give(overlay: &mut Overlay<'_>, issuer: &AccountId, to: Side<'_>, amount: Amount) -> Result<(), Stop> {
    match to {
        Side::Account(account) => {
            let key = keys::balance(account, issuer);
            let held = overlay.get::<Balance>(&key)?.map_or(Amount::ZERO, |balance| balance.amount);
            overlay.put(&key, Balance { account: *account, issuer: *issuer, amount: sum(held, amount)? })?;
        }
        Side::Channel(id) => {
            let key = keys::channel(id);
            let mut channel: Channel = overlay.expect(&key)?;
            channel.deposit = sum(channel.deposit, amount)?;
            overlay.put(&key, channel)?;
        }
        Side::Pool(line) => {
            let key = keys::pool(line, issuer);
            let mut pool = match overlay.get::<Pool>(&key)? {
                Some(pool) => pool,
                None => {
                    count_pool(overlay, line)?;
                    royalty::empty_pool(line, issuer)
                }
            };
            pool.balance = sum(pool.balance, amount)?;
            royalty::distribute(&mut pool, amount)?;
            overlay.put(&key, pool)?;
        }
        Side::Redemption(holder, number) => {
            let key = keys::redemption(holder, number);
            let mut locked: Redemption = overlay.expect(&key)?;
            locked.amount = sum(locked.amount, amount)?;
            overlay.put(&key, locked)?;
        }
        Side::Bond(processor) => {
            let key = keys::bond(processor, issuer);
            let mut bond: Bond = overlay.expect(&key)?;
            bond.held = sum(bond.held, amount)?;
            overlay.put(&key, bond)?;
        }
        Side::Outside => {
            let key = keys::issuer(issuer);
            let mut record: Issuer = overlay.expect(&key)?;
            record.burned = sum(record.burned, amount)?;
            overlay.put(&key, record)?;
        }
        // Nothing is ever given to a refund.
        Side::Refund(_) => return Err(Fault::Range.into()),
    }
    Ok(())
}

/// A line gets its first payment in an issuer's credits.
fn count_pool(overlay: &mut Overlay<'_>, line: &LineId) -> Result<(), Fault> {
    let key = keys::line_pools(line);
    let count = overlay.get::<LinePools>(&key)?.map_or(0, |pools| pools.count);
    let count = count.checked_add(1).ok_or(Fault::Range)?;
    overlay.put(&key, LinePools { line: *line, count })
}

fn sum(a: Amount, b: Amount) -> Result<Amount, Fault> {
    a.checked_add(b).ok_or(Fault::Range)
}
