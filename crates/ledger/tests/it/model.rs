//! The ledger against a naive model: plain maps, own arithmetic, no overlay, no postings. The model
//! says for every transaction, valid or not, what becomes of it and of every record.

mod generate;
mod naive;

use crate::world::World;
use generate::Op;
use gristmill_ledger::{CheckedTx, Executor, Outcome, Record};
use gristmill_types::{StateKey, decode};
use naive::{Naive, Verdict};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::collections::BTreeMap;

/// Runs an operation on the ledger, twice from the same bytes.
fn run(world: &mut World, op: &Op) -> Result<Outcome, gristmill_ledger::Invalid> {
    world.context.clock_ms += op.wait_ms;
    world.context.time_ms += op.wait_ms;
    if let Ok(checked) = CheckedTx::new(op.tx.clone(), &world.rules) {
        let execute = || {
            let mut executor = Executor::new(world.rules.clone(), world.context);
            executor.load(checked.reads().iter().map(|key| (*key, world.state.get(key).cloned())));
            (executor.apply(&checked), executor.finish())
        };
        assert_eq!(execute(), execute(), "the same input gave two outputs");
    }
    world.run(op.tx.clone())
}

/// What the model expects and what the ledger did agree, and so do all records.
fn compare(
    world: &World,
    naive: &Naive,
    op: &Op,
    verdict: &Verdict,
    result: &Result<Outcome, gristmill_ledger::Invalid>,
) {
    let found = match result {
        Ok(outcome) => outcome.rejection.map_or(Verdict::Accepted, Verdict::Rejected),
        Err(_) => Verdict::Invalid,
    };
    assert_eq!(found, *verdict, "{op:#?}\n{result:?}");
    naive.compare(world.state.values().map(|bytes| decode::<Record>(bytes).unwrap()));
}

/// The model's state in a run of the state machine.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    naive: Naive,
    last: Option<Verdict>,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { naive: Naive::new(&generate::genesis()), last: None }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Op> {
        let naive = state.naive.clone();
        any::<u64>().prop_map(move |seed| generate::op(&naive, seed)).boxed()
    }

    fn apply(mut state: Self, op: &Op) -> Self {
        state.last = Some(state.naive.step(op));
        state
    }
}

struct Ledger {
    world: World,
    log: Vec<Op>,
}

impl StateMachineTest for Ledger {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(_: &Reference) -> Self {
        Self { world: World::from(&generate::genesis()), log: Vec::new() }
    }

    fn apply(mut ledger: Self, reference: &Reference, op: Op) -> Self {
        let result = run(&mut ledger.world, &op);
        // `World::run` has scanned the whole state: conservation holds after every transaction.
        compare(&ledger.world, &reference.naive, &op, reference.last.as_ref().unwrap(), &result);
        ledger.log.push(op);
        ledger
    }

    /// The whole history again, from genesis, gives the same state.
    fn teardown(ledger: Self, _: Reference) {
        let mut again = World::from(&generate::genesis());
        again.scans = false;
        for op in &ledger.log {
            let _ = run(&mut again, op);
        }
        let same: BTreeMap<StateKey, Vec<u8>> = again.state;
        assert_eq!(same, ledger.world.state);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_naive_model(sequential 1..80 => Ledger);
}

/// About half of what is generated is refused, and most kinds of refusal are met. A test of the test.
#[test]
fn half_of_the_transactions_are_invalid() {
    let mut naive = Naive::new(&generate::genesis());
    let mut world = World::from(&generate::genesis());
    world.scans = false;
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    const STEPS: u32 = 3_000;
    for step in 0..STEPS {
        let op = generate::op(&naive, u64::from(step));
        let verdict = naive.step(&op);
        let result = run(&mut world, &op);
        if step % 50 == 0 {
            compare(&world, &naive, &op, &verdict, &result);
            world.check();
        }
        *met.entry(format!("{verdict:?}")).or_default() += 1;
        if verdict == Verdict::Accepted {
            *met.entry(op.tx.body.body.kind().to_owned()).or_default() += 1;
        }
    }
    let accepted = met["Accepted"];
    assert!((STEPS / 3..=STEPS * 2 / 3).contains(&accepted), "{met:#?}");
    for kind in 0..crate::random::Random::BODIES {
        let kind = crate::random::Random(0).body(kind).kind();
        assert!(met.get(kind).is_some_and(|count| *count >= 5), "{kind} hardly ever succeeds: {met:#?}");
    }
    let rejections = met.keys().filter(|key| key.starts_with("Rejected")).count();
    assert!(rejections >= 30, "{rejections} kinds of rejection: {met:#?}");
}
