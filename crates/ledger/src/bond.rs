//! Bonds: what a processor puts at stake, so that it has something to lose. Selling needs none, and no
//! transaction takes from a bond yet.
//!
//! A bond is posted from a balance, or grows from earnings: until it has reached its target, a part of
//! each is withheld. When the processor asks it back it stays, and answers for the processor, for the
//! time that the genesis says; nothing is withheld any more.

use crate::{
    invalid::Fault,
    keys,
    overlay::Overlay,
    params::FULL_BPS,
    posting::{Side, post},
    record::Bond,
    tx::Stop,
};
use gristmill_types::{AccountId, Amount, ChannelId};

/// Puts the processor's part of `earned`, which the channel holds for it, into its bond. Says how
/// much that was.
pub(crate) fn withhold(
    overlay: &mut Overlay<'_>,
    processor: &AccountId,
    issuer: &AccountId,
    channel: &ChannelId,
    earned: Amount,
) -> Result<Amount, Stop> {
    let Some(bond) = overlay.get::<Bond>(&keys::bond(processor, issuer))? else {
        return Ok(Amount::ZERO);
    };
    if bond.unbonding_ms.is_some() {
        return Ok(Amount::ZERO);
    }
    let missing = bond.target.saturating_sub(bond.held);
    let part = earned.checked_mul_div(u128::from(bond.withhold_bps), u128::from(FULL_BPS));
    let part = part.ok_or(Fault::Range)?.min(missing);
    post(overlay, issuer, Side::Channel(channel), Side::Bond(processor), part)?;
    Ok(part)
}
