//! Wire formats and codes do not change by accident: records are on disks, codes in other programs.

use crate::world::*;
use gristmill_channel::{Budgets, Code, Meter, MeterError};
use gristmill_types::{Amount, Digest, sha256};

fn hash_of(log: &[Vec<u8>]) -> Digest {
    sha256(&log.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Every kind of record of both roles, in a run that is the same every time.
fn run() -> World {
    let mut world = World::new();
    let lane = world.request(10, 100, 40);
    for pending in world.payer.trim() {
        world.payer_does(pending);
    }
    world.request(10, 100, 40);
    let mut view = world.payer.view().clone();
    view.settled = grains(10);
    view.lanes.insert(lane, grains(10));
    let (_, pending) = world.payer.observe(view.clone()).unwrap();
    world.payer_does(pending.unwrap());
    let pending = world.payee.observe(view).unwrap().unwrap();
    world.payee_does(pending);
    world.restart_payer();
    let copy = world.payee.copy();
    for pending in world.payer.reconcile(&copy).pending {
        world.payer_does(pending);
    }
    let payer = gristmill_types::encode(&world.payer.checkpoint());
    let payee = gristmill_types::encode(&world.payee.checkpoint());
    world.payer_log.push(payer);
    world.payee_log.push(payee);
    world
}

#[test]
fn records_keep_their_format() {
    let world = run();
    let mut budgets = Budgets::default();
    let at = gristmill_channel::LaneRef { channel: terms().id(), lane: 3 };
    let budget_log: Vec<Vec<u8>> = vec![
        budgets.set_limit(ANN, grains(100)).unwrap().bytes(),
        budgets.track(at, ANN, grains(9), grains(4)).unwrap().unwrap().bytes(),
        budgets.close(at).unwrap().unwrap().bytes(),
        gristmill_types::encode(&budgets.checkpoint()),
        budgets.remove(ANN).unwrap().bytes(),
    ];
    let hashes = [hash_of(&world.payer_log), hash_of(&world.payee_log), hash_of(&budget_log)];
    assert_eq!(hashes.map(|hash| hash.to_string()[..16].to_owned()), PINNED);
}

/// Changing these breaks logs that exist: append a variant instead.
const PINNED: [&str; 3] = ["cd25f5fe6097cbd0", "2dc800c4d05d6d53", "6b9cdbba60195de5"];

#[test]
fn every_code_is_spelled_once() {
    let codes = [
        (Code::InvalidPayload, "invalid-payload"),
        (Code::InvalidSignature, "invalid-signature"),
        (Code::AmountExceedsDeposit, "amount-exceeds-deposit"),
        (Code::DeltaTooSmall, "delta-too-small"),
        (Code::ChannelNotFound, "channel-not-found"),
        (Code::ChannelClosed, "channel-closed"),
        (Code::WrongLane, "wrong-lane"),
        (Code::WrongQuote, "wrong-quote"),
        (Code::QuoteExpired, "quote-expired"),
        (Code::WrongSequence, "wrong-sequence"),
        (Code::LaneBusy, "lane-busy"),
        (Code::AlreadyDelivered, "already-delivered"),
        (Code::LimitExceeded, "limit-exceeded"),
        (Code::WrongReceipt, "wrong-receipt"),
        (Code::BudgetExceeded, "budget-exceeded"),
        (Code::Overflow, "overflow"),
        (Code::NotReady, "not-ready"),
    ];
    for (code, text) in codes {
        assert_eq!(code.to_string(), text);
        assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{text}\""));
    }
}

#[test]
fn affordable_is_the_largest_request_that_fits() {
    let base = usage(7, 9, 2);
    for amount in 0..400 {
        let fits = ask(10, 100).affordable(&prices(), &base, grains(amount)).map(|ask| ask.max_output_tokens);
        let limit = cost(&base).checked_add(grains(amount)).unwrap();
        let by_hand =
            (1..=100).rev().find(|output| cost(&base.checked_add(&usage(10, *output, 1)).unwrap()) <= limit);
        assert_eq!(fits, by_hand, "{amount}");
    }
    assert_eq!(ask(10, 100).affordable(&prices(), &base, grains(u128::MAX)), Some(ask(10, 100)));
}

#[test]
fn meters_refuse_what_cannot_be_metered() {
    let limits = quote().limits;
    let none = gristmill_types::Limits { window_tokens: 0, ..limits };
    let timed = gristmill_types::Prices { per_msec: grains(1), ..prices() };
    let full = usage(u64::MAX, 0, 0);
    for (prices, limits, ask, base, error) in [
        (prices(), none, ask(1, 1), usage(0, 0, 0), MeterError::Empty),
        (prices(), limits, ask(1, 0), usage(0, 0, 0), MeterError::Empty),
        (timed, limits, ask(1, 1), usage(0, 0, 0), MeterError::Empty),
        (prices(), limits, ask(1, 1_025), usage(0, 0, 0), MeterError::Limit { asked: 1_025, allowed: 1_024 }),
        (prices(), limits, ask(4_096, 1), usage(0, 0, 0), MeterError::Limit { asked: 4_097, allowed: 4_096 }),
        (
            prices(),
            limits,
            ask(u64::MAX, 1),
            usage(0, 0, 0),
            MeterError::Limit { asked: u64::MAX, allowed: 4_096 },
        ),
        (prices(), limits, ask(1, 1), full, MeterError::Overflow),
    ] {
        assert_eq!(Meter::new(&prices, &limits, ask, base).unwrap_err(), error);
    }
    let free = Meter::new(&Default::default(), &limits, ask(1, 1), usage(0, 0, 0)).unwrap();
    assert_eq!(free.cap_cost(), Ok(Amount::ZERO));
}
