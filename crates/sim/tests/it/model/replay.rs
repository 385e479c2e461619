//! Traces of the model, replayed against the real machines. After every step the real state says the same
//! as the model's; and what the model refuses in a state is refused by the real machines too.

use super::{Bounds, State, compare, real::Real, steps::Step};
use stateright::Model as _;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// A small generator whose walks are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

fn print_of(state: &State, step: &Step) -> u64 {
    let mut hasher = DefaultHasher::new();
    (state, step).hash(&mut hasher);
    hasher.finish()
}

/// What was replayed.
#[derive(Default, Debug)]
pub(super) struct Replayed {
    pub(super) steps: usize,
    pub(super) refusals: usize,
    /// Different steps from different states.
    pub(super) transitions: HashSet<u64>,
    /// How often each kind of step was taken, and refused.
    pub(super) taken: BTreeMap<String, usize>,
    pub(super) refused: BTreeMap<String, usize>,
}

fn kind(step: &Step) -> String {
    let name = format!("{step:?}");
    name.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// The model and the real machines at one point of a trace.
struct Pair<'a> {
    bounds: &'a Bounds,
    real: Real,
    state: State,
    trace: Vec<Step>,
}

impl<'a> Pair<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        let state = bounds.init_states().remove(0);
        let pair = Self { bounds, real: Real::new(bounds), state, trace: Vec::new() };
        pair.compare();
        pair
    }

    fn compare(&self) {
        let context = || format!("{} after {:#?}", self.bounds.name, self.trace);
        compare::all(&self.real, self.bounds, &self.state, &context);
    }

    /// A step that the model takes.
    fn step(&mut self, step: &Step, next: State, into: &mut Replayed) {
        into.transitions.insert(print_of(&self.state, step));
        self.trace.push(step.clone());
        let taken = self.real.step(step, &self.state, Some(&next));
        assert!(taken, "{}: the model takes the last of {:#?}", self.bounds.name, self.trace);
        self.state = next;
        self.compare();
        into.steps += 1;
        *into.taken.entry(kind(step)).or_default() += 1;
    }

    /// Tries what the model refuses here.
    fn refusals(&mut self, into: &mut Replayed) {
        for step in self.bounds.offers(&self.state) {
            let refused = self.bounds.step(&self.state, &step).is_none();
            if !refused || !is_refusal(self.bounds, &self.state, &step) {
                continue;
            }
            self.trace.push(step.clone());
            let taken = self.real.step(&step, &self.state, None);
            assert!(!taken, "{}: the model refuses the last of {:#?}", self.bounds.name, self.trace);
            self.compare();
            self.trace.pop();
            into.refusals += 1;
            *into.refused.entry(kind(&step)).or_default() += 1;
        }
    }
}

/// Walks through the model, each walk from the start, along steps that no earlier one took where there are
/// any. The end of the channel ends a walk, so it mostly comes late.
pub(super) fn walk(bounds: &Bounds, walks: u64, length: usize, into: &mut Replayed) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let ends = |step: &Step| matches!(step, Step::Close(_) | Step::RequestClose);
    for walk in 0..walks {
        let mut pair = Pair::new(bounds);
        for _ in 0..length {
            // What is refused is tried on some of the walks only: it takes most of the time.
            if walk % 4 == 0 {
                pair.refusals(into);
            }
            let mut open = bounds.next_steps(&pair.state);
            if open.iter().any(|(step, _)| !ends(step)) {
                open.retain(|(step, _)| !ends(step) || dice.below(8) == 0);
            }
            if open.iter().any(|(step, _)| !into.transitions.contains(&print_of(&pair.state, step))) {
                open.retain(|(step, _)| !into.transitions.contains(&print_of(&pair.state, step)));
            }
            if open.is_empty() {
                break;
            }
            let (step, next) = open.swap_remove(dice.below(open.len()));
            pair.step(&step, next, into);
        }
    }
}

/// All states of a model and the steps between them.
struct Graph {
    states: Vec<State>,
    steps: Vec<Vec<(Step, usize)>>,
    /// Steps that were not taken yet.
    open: HashSet<(usize, usize)>,
}

impl Graph {
    fn of(bounds: &Bounds) -> Self {
        let start = bounds.init_states().remove(0);
        let mut index = HashMap::from([(start.clone(), 0)]);
        let mut graph = Self { states: vec![start], steps: Vec::new(), open: HashSet::new() };
        while graph.steps.len() < graph.states.len() {
            let at = graph.steps.len();
            let mut steps = Vec::new();
            for (step, next) in bounds.next_steps(&graph.states[at]) {
                let to = *index.entry(next).or_insert_with_key(|next| {
                    graph.states.push(next.clone());
                    graph.states.len() - 1
                });
                graph.open.insert((at, steps.len()));
                steps.push((step, to));
            }
            graph.steps.push(steps);
        }
        graph
    }

    /// The shortest way from a state that ends with an open step; none where there is no such way.
    fn way(&self, from: usize) -> Option<Vec<(usize, usize)>> {
        let mut came: HashMap<usize, (usize, usize)> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if let Some(step) = (0..self.steps[at].len()).find(|step| self.open.contains(&(at, *step))) {
                let mut way = vec![(at, step)];
                while way[way.len() - 1].0 != from {
                    way.push(came[&way[way.len() - 1].0]);
                }
                way.reverse();
                return Some(way);
            }
            for (step, (_, to)) in self.steps[at].iter().enumerate() {
                if *to != from && !came.contains_key(to) {
                    came.insert(*to, (at, step));
                    queue.push_back(*to);
                }
            }
        }
        None
    }
}

/// Takes every step that there is from every state of the model, and tries every refusal there is.
pub(super) fn cover(bounds: &Bounds, into: &mut Replayed) {
    let mut graph = Graph::of(bounds);
    let mut tried = HashSet::new();
    while graph.way(0).is_some() {
        let mut pair = Pair::new(bounds);
        let mut at = 0;
        while let Some(way) = graph.way(at) {
            for (from, step) in way {
                if tried.insert(from) {
                    pair.refusals(into);
                }
                graph.open.remove(&(from, step));
                let (step, to) = &graph.steps[from][step];
                pair.step(step, graph.states[*to].clone(), into);
                at = *to;
            }
        }
    }
}

/// Whether the model's `None` is a word of the machines, and not of the model's own bounds.
fn is_refusal(bounds: &Bounds, state: &State, step: &Step) -> bool {
    let payer_waits = state.payer.as_ref().is_some_and(|payer| !payer.writes.is_empty());
    let payee_waits = state.payee.as_ref().is_some_and(|payee| !payee.writes.is_empty());
    match step {
        Step::Start => {
            let payer = state.payer.as_ref().unwrap();
            !payer_waits && payer.mem[..bounds.lanes].iter().any(Option::is_none)
        }
        Step::Sign(_) | Step::Demand(_) | Step::Spend(_) => true,
        Step::Take(..) | Step::Reconcile(_) => !payer_waits,
        Step::Accept(..) | Step::TakeApproval(..) | Step::Retire => !payee_waits,
        Step::Claim(..)
        | Step::Show(..)
        | Step::Withdraw(_)
        | Step::RaiseFloor(_)
        | Step::RequestClose
        | Step::Close(_)
        | Step::TopUp => true,
        _ => false,
    }
}
