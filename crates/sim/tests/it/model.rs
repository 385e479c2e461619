//! A model of the channel protocol, checked in every state that it can come to, and its traces replayed
//! against the real machines.
//!
//! The model knows nothing of the code: it has the rules of `docs/payments.md` in small, with two lanes,
//! prompts of two grains, answers of two tokens and a window of one. What was signed stays on the wire for
//! ever, so messages are lost, late, repeated and in any order. A record is made, then durable; a crash
//! may come between. Both sides see the ledger's last block.
//!
//! A side that is not honest has no machine here: it may say whatever its keys can sign.

mod book;
mod checks;
mod compare;
mod facts;
mod invariants;
mod ledger;
mod offers;
mod payee;
mod payer;
mod real;
mod replay;
mod steps;

use facts::*;
use ledger::Ledger;
use payee::Payee;
use payer::Payer;
use stateright::{Model, Property};
use steps::Step;

/// What a model explores: who is honest, what may happen, how often.
#[derive(Clone, Debug)]
struct Bounds {
    name: &'static str,
    honest_payer: bool,
    honest_payee: bool,
    lanes: usize,
    deposit: u8,
    top_up: u8,
    top_ups: u8,
    /// Requests that an honest payer starts, on all lanes.
    requests: u8,
    /// Vouchers on a lane.
    vouchers: u8,
    payer_crashes: u8,
    payee_crashes: u8,
    payer_restores: bool,
    payee_restores: bool,
    /// Whether connections break, receipts come within a stream, the payee gives lanes up, and the
    /// channel is closed.
    breaks: bool,
    mid_receipts: bool,
    retires: bool,
    closes: bool,
    /// The rule that is left out.
    without: Option<Rule>,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    ledger: Ledger,
    payer: Option<Payer>,
    payee: Option<Payee>,
    wire: [Wire; LANES],
    truth: [Truth; LANES],
    /// Requests that were started, and top-ups.
    started: u8,
    topped: u8,
    restored: bool,
    /// A claim above what the payer's receipts allow was decided.
    overpaid: bool,
    /// A payment beyond what arrived, and a prompt and a window for each request without a good end.
    overcharged: bool,
    /// A voucher was signed beyond the durable reservation.
    oversigned: bool,
}

/// What was signed on a lane: any of it may arrive at any time, and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Wire {
    vouchers: Vec<Voucher>,
    orders: Vec<Order>,
    receipts: Vec<Receipt>,
    approvals: Vec<Approval>,
    /// The stream of tokens: the number of its request, and how many were sent.
    stream: Option<(u8, u8)>,
}

/// What really happened on a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Truth {
    /// What arrived at the payer.
    arrived: Use,
    /// Requests that were signed for and have no end that was counted here.
    unsure: u8,
    /// What the payee delivered, and what of it a crash made it forget.
    delivered: Use,
    lost: u8,
    /// Vouchers that the payee took, and prompts that it computed.
    accepted: u8,
    prefills: u8,
}

impl Model for Bounds {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            ledger: Ledger::new(self.deposit),
            payer: self.honest_payer.then(Payer::default),
            payee: self.honest_payee.then(Payee::default),
            wire: Default::default(),
            truth: Default::default(),
            started: 0,
            topped: 0,
            restored: false,
            overpaid: false,
            overcharged: false,
            oversigned: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        actions.extend(self.offers(state));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.step(state, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::of(self)
    }
}
