//! Pays a holder of shares what they have earned since it last drew. The arithmetic is in `royalty`.
//!
//! Whoever gains or loses shares of a line draws first from every pool of the line, with the shares
//! that it had: afterwards the pools' past belongs to nobody anew.

use crate::{
    invalid::Fault,
    keys,
    overlay::Overlay,
    posting::{Side, post},
    record::{Accrual, Pool},
    royalty,
    tx::Stop,
};
use gristmill_types::{AccountId, Amount, LineId};

/// Brings the holder of `shares` up to date with the pool, which must exist, and pays out the whole
/// grains. Says how many.
pub(crate) fn pay(
    overlay: &mut Overlay<'_>,
    line: &LineId,
    issuer: &AccountId,
    holder: &AccountId,
    shares: u64,
) -> Result<Amount, Stop> {
    let pool: Pool = overlay.expect(&keys::pool(line, issuer))?;
    let key = keys::accrual(line, issuer, holder);
    let (seen, fraction) = overlay.get::<Accrual>(&key)?.map_or((0, 0), |a| (a.index, a.fraction));
    let (amount, fraction) = royalty::draw(shares, seen, pool.index, fraction).ok_or(Fault::Range)?;
    let accrual = Accrual { line: *line, issuer: *issuer, holder: *holder, index: pool.index, fraction };
    overlay.put(&key, accrual)?;
    post(overlay, issuer, Side::Pool(line), Side::Account(holder), amount)?;
    Ok(amount)
}
