//! Labels whose values come from outside, bounded: so many have a series of their own, the rest share one.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Values that have a series of their own at most.
pub const MAX_VALUES: usize = 64;
/// What the values beyond are called.
pub const OTHER: &str = "other";

/// The values of a label that have a series of their own. First come, first served, for the life of the
/// process: a series that vanishes and comes back would look like a restart.
#[derive(Debug, Default)]
pub struct Bounded(Mutex<BTreeSet<String>>);

impl Bounded {
    /// The value to use: this one, or [`OTHER`] where there is no room for it.
    pub fn admit(&self, value: String) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&value) {
            return value;
        }
        if known.len() >= MAX_VALUES {
            return OTHER.to_owned();
        }
        known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_have_their_own_series() {
        let bounded = Bounded::default();
        for number in 0..MAX_VALUES {
            assert_eq!(bounded.admit(number.to_string()), number.to_string());
        }
        assert_eq!(bounded.admit("one more".to_owned()), OTHER);
        assert_eq!(bounded.admit("0".to_owned()), "0");
    }
}
