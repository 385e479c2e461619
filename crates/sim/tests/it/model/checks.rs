//! The checks: every state within the bounds, every rule, and the replay.
//!
//! `GRISTMILL_MODEL=full` takes larger bounds; `docs/payments.md` says how many states that are.

use super::{
    Bounds,
    facts::Rule,
    invariants::*,
    replay::{Replayed, cover, walk},
};
use stateright::{Checker as _, HasDiscoveries, Model as _};
use std::collections::BTreeSet;

/// One request between honest sides on one lane, with deposit for two.
const BASE: Bounds = Bounds {
    name: "",
    honest_payer: true,
    honest_payee: true,
    lanes: 1,
    deposit: 9,
    top_up: 4,
    top_ups: 0,
    requests: 1,
    vouchers: 2,
    payer_crashes: 0,
    payee_crashes: 0,
    payer_restores: false,
    payee_restores: false,
    breaks: false,
    mid_receipts: false,
    retires: false,
    closes: true,
    without: None,
};

const DISHONEST_PAYEE: Bounds = Bounds { honest_payee: false, ..BASE };
const DISHONEST_PAYER: Bounds = Bounds { honest_payer: false, ..BASE };

fn full() -> bool {
    std::env::var("GRISTMILL_MODEL").is_ok_and(|value| value == "full")
}

/// Goes through every state.
fn check(all: &[Bounds]) {
    for bounds in all {
        let checker = bounds.clone().checker().threads(2).spawn_bfs().join();
        for (name, path) in checker.discoveries() {
            let failed = bounds.property(name).expectation.discovery_is_failure();
            assert!(!failed, "{}: not always: {name}: {:#?}", bounds.name, path.into_actions());
        }
        let missing = bounds.properties().into_iter().find(|of| {
            !of.expectation.discovery_is_failure() && !checker.discoveries().contains_key(of.name)
        });
        assert!(missing.is_none_or(|of| panic!("{}: never: {}", bounds.name, of.name)));
        let (states, steps) = (checker.unique_state_count(), checker.state_count());
        println!("{}: {states} states, {steps} steps, {} deep", bounds.name, checker.max_depth());
    }
}

#[test]
fn honest_sides_in_every_state() {
    check(&[
        Bounds { name: "honest, crashes", breaks: true, payer_crashes: 1, payee_crashes: 1, ..BASE },
        Bounds { name: "honest, two requests", requests: 2, vouchers: 3, ..BASE },
        Bounds { name: "honest, two lanes", requests: 2, lanes: 2, vouchers: 1, retires: true, ..BASE },
        Bounds { name: "honest, small deposit", requests: 2, lanes: 2, deposit: 7, ..BASE },
    ]);
    if full() {
        check(&[
            Bounds { name: "honest, two requests, whole", requests: 2, vouchers: 4, breaks: true, ..BASE },
            Bounds {
                name: "honest, two lanes, whole",
                requests: 2,
                lanes: 2,
                deposit: 7,
                top_ups: 1,
                ..BASE
            },
            Bounds { name: "honest, receipts within", vouchers: 3, mid_receipts: true, ..BASE },
        ]);
    }
}

#[test]
fn a_restored_backup_in_every_state() {
    check(&[
        Bounds { name: "payer restored", requests: 2, payer_restores: true, closes: false, ..BASE },
        Bounds { name: "payee restored", vouchers: 1, payee_restores: true, ..BASE },
    ]);
    if full() {
        check(&[
            Bounds { name: "payer restored, whole", requests: 2, breaks: true, payer_restores: true, ..BASE },
            Bounds { name: "payee restored, whole", payee_restores: true, ..BASE },
        ]);
    }
}

#[test]
fn a_dishonest_payee_in_every_state() {
    check(&[
        Bounds { name: "dishonest payee", ..DISHONEST_PAYEE },
        Bounds {
            name: "dishonest payee, crash",
            vouchers: 1,
            breaks: true,
            payer_crashes: 1,
            ..DISHONEST_PAYEE
        },
    ]);
    if full() {
        let lanes = Bounds { requests: 2, lanes: 2, vouchers: 1, ..DISHONEST_PAYEE };
        check(&[
            Bounds {
                name: "dishonest payee, crash, whole",
                breaks: true,
                payer_crashes: 1,
                ..DISHONEST_PAYEE
            },
            Bounds { name: "dishonest payee, receipts within", mid_receipts: true, ..DISHONEST_PAYEE },
            Bounds { name: "dishonest payee, two requests", requests: 2, ..DISHONEST_PAYEE },
            Bounds { name: "dishonest payee, two lanes", ..lanes },
        ]);
    }
}

#[test]
fn a_dishonest_payer_in_every_state() {
    check(&[
        Bounds { name: "dishonest payer", retires: true, ..DISHONEST_PAYER },
        Bounds { name: "dishonest payer, crash", vouchers: 1, payee_crashes: 1, ..DISHONEST_PAYER },
        Bounds { name: "dishonest payer, two lanes", vouchers: 1, lanes: 2, deposit: 5, ..DISHONEST_PAYER },
    ]);
    if full() {
        check(&[
            Bounds { name: "dishonest payer, crash, whole", payee_crashes: 1, ..DISHONEST_PAYER },
            Bounds { name: "dishonest payer, receipts within", mid_receipts: true, ..DISHONEST_PAYER },
        ]);
    }
}

#[test]
fn nobody_honest_in_every_state() {
    check(&[Bounds { name: "nobody honest", honest_payee: false, lanes: 2, deposit: 5, ..DISHONEST_PAYER }]);
}

/// Each invariant is broken by leaving out a rule, and each rule is needed for an invariant.
#[test]
fn without_a_rule_an_invariant_breaks() {
    let (payee, payer) = (DISHONEST_PAYEE, DISHONEST_PAYER);
    let crash = Bounds { payer_crashes: 1, ..payee.clone() };
    for (rule, invariant, bounds) in [
        (Rule::ReceiptCaps, RECEIPTS, payee.clone()),
        (Rule::ReceiptCaps, PAYER, payee.clone()),
        (Rule::VoucherWaits, RECEIPTS, payee.clone()),
        (Rule::LowestCounts, RECEIPTS, payee.clone()),
        (
            Rule::WithinHolding,
            CONSERVED,
            Bounds { honest_payee: false, lanes: 2, deposit: 5, ..payer.clone() },
        ),
        (Rule::PendingKeepsOpen, PAYEE, payer.clone()),
        (Rule::SumInDeposit, PAYEE, Bounds { lanes: 2, deposit: 5, vouchers: 1, ..payer.clone() }),
        (Rule::DurableFirst, CRASH, Bounds { payee_crashes: 1, ..BASE }),
        (Rule::ReceiptEndsVoucher, PAYEE, Bounds { mid_receipts: true, ..payer.clone() }),
        (Rule::NeverBackwards, PAYEE, payer.clone()),
        (Rule::OneDelivery, PREFILL, payer.clone()),
        (Rule::GivenUpLanes, PAYEE, Bounds { retires: true, ..payer.clone() }),
        (Rule::NumbersJump, NUMBERS_ONCE, Bounds { requests: 2, vouchers: 3, ..crash.clone() }),
        (Rule::ReservedFirst, RESERVED, BASE),
        (Rule::OwnSignature, PAYER, crash.clone()),
        (Rule::LowerHeld, PAYER, crash),
        (Rule::CountedHere, PAYER, payee.clone()),
        (Rule::NotOnDemand, PAYER, payee.clone()),
        (Rule::PayerInTime, RECEIPTS, payee),
        (Rule::PayeeInTime, PAYEE, payer),
        (Rule::PayeeInTime, EXACT, BASE),
    ] {
        let bounds = Bounds { without: Some(rule), ..bounds };
        let stop = HasDiscoveries::AnyOf(BTreeSet::from([invariant]));
        let checker = bounds.checker().threads(2).finish_when(stop).spawn_bfs().join();
        assert!(
            checker.discoveries().contains_key(invariant),
            "without {rule:?} it still holds: {invariant}"
        );
    }
}

/// Every step and every refusal of four small models, and walks through larger ones.
#[test]
fn the_real_machines_do_as_the_model() {
    let mut all = Replayed::default();
    let mut covered = vec![
        Bounds { name: "honest, breaks", vouchers: 1, breaks: true, ..BASE },
        Bounds {
            name: "honest, crashes",
            vouchers: 1,
            payer_crashes: 1,
            payee_crashes: 1,
            closes: false,
            ..BASE
        },
        Bounds { name: "dishonest payee", vouchers: 1, closes: false, ..DISHONEST_PAYEE },
        Bounds { name: "dishonest payer", vouchers: 1, ..DISHONEST_PAYER },
    ];
    if full() {
        covered.extend([
            Bounds { name: "honest", ..BASE },
            Bounds {
                name: "honest, crash of the payer",
                vouchers: 1,
                breaks: true,
                payer_crashes: 1,
                ..BASE
            },
            Bounds {
                name: "dishonest payee, crash",
                vouchers: 1,
                payer_crashes: 1,
                closes: false,
                ..DISHONEST_PAYEE
            },
            Bounds { name: "dishonest payer, crash", vouchers: 1, payee_crashes: 1, ..DISHONEST_PAYER },
        ]);
    }
    for bounds in &covered {
        cover(bounds, &mut all);
        println!("{}: {} steps in all, {} refusals", bounds.name, all.steps, all.refusals);
    }
    let two = Bounds { requests: 2, vouchers: 4, ..BASE };
    let walked = [
        Bounds { name: "two lanes", lanes: 2, breaks: true, retires: true, top_ups: 1, ..two.clone() },
        Bounds {
            name: "crashes",
            payer_crashes: 2,
            payee_crashes: 2,
            breaks: true,
            mid_receipts: true,
            ..two.clone()
        },
        Bounds { name: "payer restored", payer_restores: true, breaks: true, ..two.clone() },
        Bounds { name: "payee restored", payee_restores: true, lanes: 2, deposit: 7, ..two.clone() },
        Bounds {
            name: "bad payee",
            honest_payee: false,
            payer_crashes: 1,
            breaks: true,
            mid_receipts: true,
            lanes: 2,
            ..two.clone()
        },
        Bounds {
            name: "bad payer",
            payee_crashes: 1,
            lanes: 2,
            mid_receipts: true,
            retires: true,
            ..DISHONEST_PAYER
        },
        Bounds { name: "nobody honest", honest_payee: false, lanes: 2, deposit: 5, ..DISHONEST_PAYER },
    ];
    let (walks, length) = if full() { (2_000, 80) } else { (40, 60) };
    for bounds in &walked {
        walk(bounds, walks, length, &mut all);
        println!("{}: {} steps in all, {} refusals", bounds.name, all.steps, all.refusals);
    }
    println!(
        "{} different transitions; taken {:?}; refused {:?}",
        all.transitions.len(),
        all.taken,
        all.refused
    );
    for kind in [
        "Start",
        "Sign",
        "BreakOff",
        "Doubt",
        "Take",
        "Approve",
        "Reconcile",
        "PayerDisk",
        "PayerCrash",
        "PayerBackup",
        "PayerRestore",
        "Arrive",
        "Accept",
        "Spend",
        "Receipt",
        "TakeApproval",
        "PayeeDisk",
        "PayeeCrash",
        "PayeeBackup",
        "PayeeRestore",
        "Retire",
        "Claim",
        "Show",
        "Withdraw",
        "RaiseFloor",
        "RequestClose",
        "Close",
        "TopUp",
        "Tick",
    ] {
        assert!(all.taken.contains_key(kind), "no trace takes {kind}");
    }
    for kind in
        ["Sign", "Demand", "Take", "Accept", "Spend", "TakeApproval", "Claim", "Show", "Withdraw", "Close"]
    {
        assert!(all.refused.contains_key(kind), "no trace is refused {kind}");
    }
}
