//! Amounts of credit, counted in grains.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// An amount of credit in grains. 1 credit = 1 000 000 000 grains.
///
/// Arithmetic is checked: there are no operators, only methods that say what happens at the edges.
/// In JSON an amount is a decimal string of grains, because JSON numbers lose digits above 2⁵³.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Amount(u128);

impl Amount {
    /// No grains.
    pub const ZERO: Self = Self(0);
    /// Grains in one credit.
    pub const GRAINS_PER_CREDIT: u128 = 1_000_000_000;
    /// Digits after the decimal point of an amount in credits.
    const DECIMALS: usize = 9;

    /// An amount of so many grains.
    pub const fn from_grains(grains: u128) -> Self {
        Self(grains)
    }

    /// An amount of so many whole credits (any `u64` fits).
    pub const fn from_credits(credits: u64) -> Self {
        #[allow(clippy::as_conversions, clippy::arithmetic_side_effects)] // widening; 2^64 * 10^9 < 2^128
        Self(credits as u128 * Self::GRAINS_PER_CREDIT)
    }

    /// The grains.
    pub const fn grains(self) -> u128 {
        self.0
    }

    /// Whether this is no grains at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` if it does not fit.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` if it would be below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The difference, or zero if it would be below zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `floor(self * numerator / denominator)`; `None` if the product does not fit or the
    /// denominator is zero.
    pub const fn checked_mul_div(self, numerator: u128, denominator: u128) -> Option<Self> {
        match self.0.checked_mul(numerator) {
            Some(product) => match product.checked_div(denominator) {
                Some(quotient) => Some(Self(quotient)),
                None => None,
            },
            None => None,
        }
    }
}

impl fmt::Display for Amount {
    /// Credits in decimal without trailing zeros, e.g. `0.0123`. The unit is left to the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.checked_div(Self::GRAINS_PER_CREDIT).unwrap_or_default();
        let rest = self.0.checked_rem(Self::GRAINS_PER_CREDIT).unwrap_or_default();
        if rest == 0 {
            return f.pad(&whole.to_string());
        }
        let digits = format!("{rest:0width$}", width = Self::DECIMALS);
        f.pad(&format!("{whole}.{}", digits.trim_end_matches('0')))
    }
}

/// Text that is not an amount in credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Something other than digits with at most one decimal point.
    #[error("an amount is digits with at most one point, for example 12 or 0.5")]
    Malformed,
    /// More than nine digits after the point.
    #[error("an amount has at most 9 digits after the point: the smallest is 0.000000001 credits")]
    TooFine,
    /// More grains than fit.
    #[error("the amount is too large")]
    TooLarge,
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    /// Parses credits in decimal: `12`, `0.5`. No sign, exponent, spaces or separators.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(ParseAmountError::Malformed);
        }
        if fraction.len() > Self::DECIMALS {
            return Err(ParseAmountError::TooFine);
        }
        let whole: u128 = whole.parse().map_err(|_| ParseAmountError::TooLarge)?;
        let fraction: u128 = format!("{fraction:0<width$}", width = Self::DECIMALS)
            .parse()
            .map_err(|_| ParseAmountError::TooLarge)?;
        whole
            .checked_mul(Self::GRAINS_PER_CREDIT)
            .and_then(|grains| grains.checked_add(fraction))
            .map(Self)
            .ok_or(ParseAmountError::TooLarge)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        // One spelling per value: no sign, no leading zero, no exponent.
        let canonical =
            text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
        text.parse().ok().filter(|_| canonical).map(Self).ok_or_else(|| {
            serde::de::Error::custom("an amount is a decimal string of grains, for example \"1500\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        for (grains, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (12_300_000, "0.0123"),
            (1_000_000_000, "1"),
            (1_500_000_000, "1.5"),
            (u128::MAX, "340282366920938463463374607431.768211455"),
        ] {
            let amount = Amount::from_grains(grains);
            assert_eq!(amount.to_string(), text);
            assert_eq!(text.parse(), Ok(amount));
        }
    }

    #[test]
    fn refused_text() {
        use ParseAmountError::{Malformed, TooFine, TooLarge};
        for (text, error) in [
            ("", Malformed),
            (".", Malformed),
            ("1.", Malformed),
            (".5", Malformed),
            ("-1", Malformed),
            ("+1", Malformed),
            ("1e3", Malformed),
            ("1 000", Malformed),
            ("1.2.3", Malformed),
            ("0.0000000001", TooFine),
            ("340282366920938463463374607431.768211456", TooLarge),
            ("999999999999999999999999999999999999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
        }
    }

    #[test]
    fn json_is_a_canonical_string_of_grains() {
        assert_eq!(serde_json::to_string(&Amount::from_credits(2)).unwrap(), "\"2000000000\"");
        for bad in ["1", "\"01\"", "\"1e3\"", "\"-1\"", "\"+1\"", "\"\"", "\"1.0\"", "1.5"] {
            assert!(serde_json::from_str::<Amount>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Amount>("\"0\"").unwrap(), Amount::ZERO);
    }

    #[test]
    fn arithmetic_stops_at_the_edges() {
        let max = Amount::from_grains(u128::MAX);
        let one = Amount::from_grains(1);
        assert_eq!(max.checked_add(one), None);
        assert_eq!(Amount::ZERO.checked_sub(one), None);
        assert_eq!(max.checked_mul_div(2, 2), None);
        assert_eq!(one.checked_mul_div(1, 0), None);
        assert_eq!(Amount::from_grains(7).checked_mul_div(1_000, 10_000), Some(Amount::ZERO));
    }
}
