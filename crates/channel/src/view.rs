//! What the ledger says about a channel, as far as the two roles need it.

use crate::error::{PayeeError, ReplayError};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, PublicKey};
use std::collections::BTreeMap;

/// Lanes that are open at a time: those from the floor on.
pub const LANES: u32 = 64;

/// How long before a closing channel's deadline the payee stops to accept vouchers, in milliseconds
/// of ledger time. It needs that time to settle.
pub const CLOSING_MARGIN_MS: u64 = 60_000;

/// Where a channel stands on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Phase {
    /// Paid from at any time.
    Open,
    /// The payer asked to close; claims count until the deadline.
    Closing {
        /// Ledger time in milliseconds.
        deadline_ms: u64,
    },
    /// Nothing can be claimed any more.
    Closed,
}

impl Phase {
    const fn rank(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Closing { .. } => 1,
            Self::Closed => 2,
        }
    }
}

/// The final state of a channel on the ledger. The shell reads it with a proof.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LedgerView {
    /// All that was ever deposited, top-ups included.
    pub deposit: Amount,
    /// All that was ever paid out to the payee side, over all lanes that ever were.
    pub settled: Amount,
    /// Lanes below are retired: nothing more is payable on them.
    pub floor: u32,
    /// Open, closing or closed.
    pub phase: Phase,
    /// What was paid out on lanes from the floor on; absent is nothing.
    pub lanes: BTreeMap<u32, Amount>,
}

impl LedgerView {
    /// A channel that has just opened.
    pub const fn opened(deposit: Amount) -> Self {
        Self { deposit, settled: Amount::ZERO, floor: 0, phase: Phase::Open, lanes: BTreeMap::new() }
    }

    /// What was paid out on a lane.
    pub fn settled_on(&self, lane: u32) -> Amount {
        self.lanes.get(&lane).copied().unwrap_or_default()
    }

    /// Whether the lane is within the open range.
    pub const fn has_lane(&self, lane: u32) -> bool {
        lane >= self.floor && lane < self.floor.saturating_add(LANES)
    }

    /// What was paid out on retired lanes; `None` if the figures contradict each other.
    pub fn retired(&self) -> Option<Amount> {
        self.settled.checked_sub(sum(self.lanes.values().copied())?)
    }

    /// Whether the figures make sense by themselves.
    fn consistent(&self) -> bool {
        self.lanes.keys().all(|lane| self.has_lane(*lane))
            && self.settled <= self.deposit
            && self.retired().is_some()
    }

    /// Whether this view can come after `older`: nothing on the ledger goes back.
    pub(crate) fn follows(&self, older: &Self) -> bool {
        self.consistent()
            && self.deposit >= older.deposit
            && self.settled >= older.settled
            && self.floor >= older.floor
            && self.phase.rank() >= older.phase.rank()
            && older
                .lanes
                .iter()
                .all(|(lane, settled)| *lane < self.floor || self.settled_on(*lane) >= *settled)
    }
}

/// The sum; `None` if it does not fit.
pub(crate) fn sum(mut amounts: impl Iterator<Item = Amount>) -> Option<Amount> {
    amounts.try_fold(Amount::ZERO, Amount::checked_add)
}

/// The keys of a channel, checked once.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) voucher: PublicKey,
    pub(crate) receipt: PublicKey,
    pub(crate) payee: PublicKey,
}

impl Keys {
    pub(crate) fn of(terms: &ChannelTerms) -> Result<Self, ReplayError> {
        let key = |account| PublicKey::try_from(account).map_err(|_| ReplayError::BadKey);
        Ok(Self {
            voucher: key(&terms.voucher_key)?,
            receipt: key(&terms.receipt_key)?,
            payee: key(&terms.payee)?,
        })
    }
}

/// Whether a claim may still be accepted at this ledger time.
pub(crate) fn accepts(phase: Phase, clock_ms: u64) -> Result<(), PayeeError> {
    match phase {
        Phase::Open => Ok(()),
        Phase::Closing { deadline_ms } if clock_ms.saturating_add(CLOSING_MARGIN_MS) < deadline_ms => Ok(()),
        Phase::Closing { .. } | Phase::Closed => Err(PayeeError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(deposit: u128, settled: u128, floor: u32, lanes: &[(u32, u128)]) -> LedgerView {
        LedgerView {
            deposit: Amount::from_grains(deposit),
            settled: Amount::from_grains(settled),
            floor,
            phase: Phase::Open,
            lanes: lanes.iter().map(|(lane, grains)| (*lane, Amount::from_grains(*grains))).collect(),
        }
    }

    #[test]
    fn nothing_on_the_ledger_goes_back() {
        let old = view(100, 30, 2, &[(2, 10), (5, 5)]);
        assert_eq!(old.retired(), Some(Amount::from_grains(15)));
        for (new, follows) in [
            (old.clone(), true),
            (view(150, 40, 2, &[(2, 10), (5, 15)]), true),
            (view(100, 30, 3, &[(5, 5)]), true),
            (view(99, 30, 2, &[(2, 10), (5, 5)]), false),
            (view(100, 29, 2, &[(2, 10), (5, 5)]), false),
            (view(100, 30, 1, &[(2, 10), (5, 5)]), false),
            (view(100, 30, 2, &[(2, 9), (5, 5)]), false),
            (view(100, 30, 2, &[(2, 10)]), false),
            // Contradictions within one view.
            (view(100, 101, 2, &[(2, 10), (5, 5)]), false),
            (view(100, 30, 2, &[(2, 26), (5, 5)]), false),
            (view(100, 30, 2, &[(2, 10), (5, 5), (66, 1)]), false),
            (view(u128::MAX, u128::MAX, 2, &[(2, u128::MAX), (5, 5)]), false),
        ] {
            assert_eq!(new.follows(&old), follows, "{new:?}");
        }
        let mut closing = old.clone();
        closing.phase = Phase::Closing { deadline_ms: 7 };
        assert!(closing.follows(&old) && !old.follows(&closing));
    }

    #[test]
    fn the_margin_before_the_deadline() {
        let closing = Phase::Closing { deadline_ms: 1_000_000 };
        for (phase, clock_ms, ok) in [
            (Phase::Open, u64::MAX, true),
            (closing, 1_000_000 - CLOSING_MARGIN_MS - 1, true),
            (closing, 1_000_000 - CLOSING_MARGIN_MS, false),
            (closing, u64::MAX, false),
            (Phase::Closed, 0, false),
        ] {
            assert_eq!(accepts(phase, clock_ms).is_ok(), ok, "{phase:?} at {clock_ms}");
        }
    }
}
