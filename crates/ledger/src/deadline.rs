//! Deadlines, in ledger time. The latest is kept, so that the ledger's clock goes on until it is past.

use crate::{executor::Context, invalid::Fault, keys, overlay::Overlay, record::Deadlines};

/// Now + `after_ms`, noted.
pub(crate) fn set(overlay: &mut Overlay<'_>, context: &Context, after_ms: u64) -> Result<u64, Fault> {
    let deadline_ms = context.clock_ms.checked_add(after_ms).ok_or(Fault::Range)?;
    let key = keys::deadlines();
    let latest_ms = overlay.get::<Deadlines>(&key)?.map_or(0, |known| known.latest_ms);
    if deadline_ms > latest_ms {
        overlay.put(&key, Deadlines { latest_ms: deadline_ms })?;
    }
    Ok(deadline_ms)
}
