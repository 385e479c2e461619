//! Prices, and what a use costs.

use crate::Amount;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// What one model costs at one processor, each price in grains per 10⁶ units.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Prices {
    /// Grains per 10⁶ input (prompt) tokens.
    pub input_per_mtok: Amount,
    /// Grains per 10⁶ output (generated) tokens.
    pub output_per_mtok: Amount,
    /// Grains per 10⁶ seconds of processing.
    pub per_msec: Amount,
    /// Grains per 10⁶ requests.
    pub per_mreq: Amount,
}

/// Cumulative counters of use on one lane.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Usage {
    /// Input (prompt) tokens.
    pub input_tokens: u64,
    /// Output (generated and delivered) tokens.
    pub output_tokens: u64,
    /// Milliseconds of processing.
    pub millis: u64,
    /// Requests.
    pub requests: u64,
}

impl Usage {
    /// The sum of the counters, or `None` if one does not fit.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            input_tokens: self.input_tokens.checked_add(other.input_tokens)?,
            output_tokens: self.output_tokens.checked_add(other.output_tokens)?,
            millis: self.millis.checked_add(other.millis)?,
            requests: self.requests.checked_add(other.requests)?,
        })
    }

    /// Whether no counter is below the other's.
    pub fn covers(&self, other: &Self) -> bool {
        self.input_tokens >= other.input_tokens
            && self.output_tokens >= other.output_tokens
            && self.millis >= other.millis
            && self.requests >= other.requests
    }
}

impl Prices {
    /// What cumulative use costs in all, rounded up once over the whole sum; `None` if it does not
    /// fit. Rounding the total, and not each request, makes the cost of a lane independent of how
    /// its use was cut into requests.
    pub fn cost(&self, usage: &Usage) -> Option<Amount> {
        const UNITS: u128 = 1_000_000;
        const MILLIS: u128 = 1_000;
        let term = |price: Amount, count: u64, scale: u128| {
            price.grains().checked_mul(u128::from(count))?.checked_mul(scale)
        };
        let total = term(self.input_per_mtok, usage.input_tokens, MILLIS)?
            .checked_add(term(self.output_per_mtok, usage.output_tokens, MILLIS)?)?
            .checked_add(term(self.per_msec, usage.millis, 1)?)?
            .checked_add(term(self.per_mreq, usage.requests, MILLIS)?)?;
        Some(Amount::from_grains(total.div_ceil(UNITS.checked_mul(MILLIS)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input_tokens: u64, output_tokens: u64, millis: u64, requests: u64) -> Usage {
        Usage { input_tokens, output_tokens, millis, requests }
    }

    #[test]
    fn costs() {
        let prices = Prices {
            input_per_mtok: Amount::from_credits(1),
            output_per_mtok: Amount::from_credits(2),
            per_msec: Amount::from_credits(3_000),
            per_mreq: Amount::from_credits(5),
        };
        for (used, grains) in [
            (usage(0, 0, 0, 0), 0),
            (usage(1, 0, 0, 0), 1_000),
            (usage(0, 1, 0, 0), 2_000),
            (usage(0, 0, 1, 0), 3_000),
            (usage(0, 0, 0, 1), 5_000),
            (usage(10, 20, 1_000, 2), 10_000 + 40_000 + 3_000_000 + 10_000),
        ] {
            assert_eq!(prices.cost(&used), Some(Amount::from_grains(grains)), "{used:?}");
        }
    }

    #[test]
    fn rounds_up_once_over_the_total() {
        let prices = Prices { output_per_mtok: Amount::from_grains(1), ..Prices::default() };
        for (tokens, grains) in [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(prices.cost(&usage(0, tokens, 0, 0)), Some(Amount::from_grains(grains)));
        }
    }

    #[test]
    fn a_cost_that_does_not_fit_is_none() {
        let prices = Prices { output_per_mtok: Amount::from_grains(u128::MAX), ..Prices::default() };
        assert_eq!(prices.cost(&usage(0, 2, 0, 0)), None);
    }
}
