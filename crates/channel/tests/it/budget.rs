//! Budgets: exact at every moment.

use crate::world::*;
use gristmill_channel::{BudgetError, Budgets, KeyId, LaneRef};
use gristmill_types::{Amount, ChannelId};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(lane: u32) -> LaneRef {
    LaneRef { channel: ChannelId::new([1; 32]), lane }
}

fn with_limit(limit: u128) -> Budgets {
    let mut budgets = Budgets::default();
    let _pending = budgets.set_limit(ANN, grains(limit)).unwrap();
    budgets
}

fn figures(budgets: &Budgets, key: KeyId) -> (u128, u128) {
    let of = budgets.of(&key).unwrap();
    (of.spent.grains(), of.held.grains())
}

#[test]
fn hold_spend_release() {
    let mut budgets = with_limit(100);
    let mut track = |lane, reserved, spent| {
        let result = budgets.track(at(lane), ANN, grains(reserved), grains(spent)).map(drop);
        result.map(|()| figures(&budgets, ANN))
    };
    let over = |needed, room| {
        let (needed, room, limit) = (grains(needed), grains(room), grains(100));
        Err(BudgetError::Exceeded { needed, room, limit })
    };
    assert_eq!(track(0, 60, 0), Ok((0, 60)));
    assert_eq!(track(1, 41, 0), over(41, 40));
    assert_eq!(track(1, 40, 0), Ok((0, 100)));
    assert_eq!(track(0, 60, 25), Ok((25, 75)));
    assert_eq!(track(0, 61, 25), over(1, 0));
    assert_eq!(track(0, 25, 25), Ok((25, 40)), "released");
    assert_eq!(track(0, 24, 24), Err(BudgetError::Inconsistent), "spending does not fall");
    assert_eq!(track(0, 25, 26), Err(BudgetError::Inconsistent), "or exceed what is held");
    assert_eq!(track(0, 60, 25), Ok((25, 75)));
    assert_eq!(budgets.remove(ANN), Err(BudgetError::InUse { held: grains(75) }));
    let least = grains(100);
    assert_eq!(budgets.set_limit(ANN, grains(99)), Err(BudgetError::LimitTooLow { least }));
    let _pending = budgets.close(at(0)).unwrap().unwrap();
    assert_eq!(figures(&budgets, ANN), (25, 40));
    assert_eq!(budgets.close(at(0)), Ok(None));
    assert_eq!(budgets.track(at(7), BOB, grains(1), grains(0)), Err(BudgetError::UnknownKey));
}

#[test]
fn a_lane_that_changes_hands_leaves_what_it_spent() {
    let mut budgets = with_limit(100);
    let _pending = budgets.set_limit(BOB, grains(30)).unwrap();
    let _pending = budgets.track(at(0), ANN, grains(80), grains(70)).unwrap();
    let error = budgets.track(at(0), BOB, grains(101), grains(70)).unwrap_err();
    assert_eq!(error, BudgetError::Exceeded { needed: grains(31), room: grains(30), limit: grains(30) });
    let _pending = budgets.track(at(0), BOB, grains(100), grains(70)).unwrap();
    assert_eq!((figures(&budgets, ANN), figures(&budgets, BOB)), ((70, 0), (0, 30)));
    let _pending = budgets.track(at(0), BOB, grains(100), grains(90)).unwrap();
    assert_eq!((figures(&budgets, ANN), figures(&budgets, BOB)), ((70, 0), (20, 10)));
}

#[test]
fn what_has_happened_is_adopted_beyond_the_limit() {
    let mut budgets = with_limit(10);
    let _pending = budgets.adopt(at(0), ANN, grains(25), grains(20)).unwrap();
    assert_eq!(figures(&budgets, ANN), (20, 5));
    assert_eq!(budgets.of(&ANN).unwrap().room(), Amount::ZERO);
    assert!(matches!(budgets.track(at(1), ANN, grains(1), grains(0)), Err(BudgetError::Exceeded { .. })));
    // Releasing and spending what is held are always possible.
    assert!(budgets.track(at(0), ANN, grains(25), grains(25)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random figures against a model that adds everything up anew; and the log rebuilds it.
    #[test]
    fn exact_under_any_sequence(
        steps in prop::collection::vec((0u32..4, 0u8..2, 0u128..60, 0u128..60, 0u8..8), 1..80),
    ) {
        let limits = BTreeMap::from([(ANN, 90u128), (BOB, 50)]);
        let mut budgets = Budgets::default();
        let mut log: Vec<Vec<u8>> = Vec::new();
        for (key, limit) in &limits {
            log.push(budgets.set_limit(*key, grains(*limit)).unwrap().bytes());
        }
        let mut lanes: BTreeMap<u32, (KeyId, u128, u128)> = BTreeMap::new();
        let mut total: BTreeMap<KeyId, u128> = BTreeMap::new();
        for (lane, key, reserved, spent, action) in steps {
            let key = [ANN, BOB][usize::from(key)];
            if action == 0 {
                log.extend(budgets.close(at(lane)).unwrap().map(|pending| pending.bytes()));
                lanes.remove(&lane);
                continue;
            }
            // A closed lane is retired for good; here its id is used again, from nothing spent.
            let before = lanes.get(&lane).copied();
            let spent = before.map_or(0, |(_, _, spent)| spent) + spent;
            let reserved = spent + reserved;
            if let Ok(pending) = budgets.track(at(lane), key, grains(reserved), grains(spent)) {
                log.extend(pending.map(|pending| pending.bytes()));
                *total.entry(key).or_default() += spent - before.map_or(0, |(_, _, spent)| spent);
                lanes.insert(lane, (key, reserved, spent));
            }
            for (key, limit) in &limits {
                let of = budgets.of(key).unwrap();
                let held: u128 = lanes.values().filter(|(k, ..)| k == key).map(|(_, r, s)| r - s).sum();
                prop_assert_eq!(of.held.grains(), held);
                prop_assert_eq!(of.spent.grains(), total.get(key).copied().unwrap_or(0));
                prop_assert!(of.spent.grains() + of.held.grains() <= *limit);
            }
        }
        prop_assert!(Budgets::replay_bytes(&log).unwrap().same_state(&budgets));
        prop_assert!(Budgets::replay([budgets.checkpoint()]).unwrap().same_state(&budgets));
    }
}
