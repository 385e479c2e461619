//! Ledger time: what deadlines count.
//!
//! Block time is the proposer's word and jumps when a ledger was halted. Ledger time adds up
//! min(Δt, 10 s) between blocks, so a halt expires nothing. It starts at zero at genesis.

use crate::params::MAX_CLOCK_STEP_MS;

/// A block whose time is not after its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the block's time {time_ms} is not after its parent's {parent_time_ms}")]
pub struct NotAfterParent {
    /// The parent's time.
    pub parent_time_ms: u64,
    /// The block's.
    pub time_ms: u64,
}

/// The ledger time of a block, from its parent's block time and ledger time and its own block time.
pub fn next_clock(parent_time_ms: u64, parent_clock_ms: u64, time_ms: u64) -> Result<u64, NotAfterParent> {
    match time_ms.checked_sub(parent_time_ms) {
        None | Some(0) => Err(NotAfterParent { parent_time_ms, time_ms }),
        // Ledger time never exceeds block time since genesis, so this does not saturate.
        Some(step) => Ok(parent_clock_ms.saturating_add(step.min(MAX_CLOCK_STEP_MS))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_at_most_ten_seconds_a_block() {
        for (parent_time, parent_clock, time, clock) in [
            (0, 0, 1, Some(1)),
            (1_000, 5, 11_000, Some(10_005)),
            (1_000, 5, 11_001, Some(10_005)),
            (1_000, 5, u64::MAX, Some(10_005)),
            (1_000, 5, 1_000, None),
            (1_000, 5, 999, None),
            (u64::MAX, 5, u64::MAX, None),
        ] {
            assert_eq!(next_clock(parent_time, parent_clock, time).ok(), clock, "{parent_time} {time}");
        }
    }
}
