//! The payee's rules, one by one.

use crate::world::*;
use gristmill_channel::{
    Accepted, CLOSING_MARGIN_MS, LedgerView, Payee, PayeeError, Phase, Settlement, Spend,
};
use gristmill_types::{Amount, Claim, Signed, sha256};
use std::collections::BTreeMap;

fn refused(world: &mut World, claim: Claim) -> PayeeError {
    world.payee.accept(&voucher(claim), |_| Some(quote()), 0).unwrap_err()
}

#[test]
fn what_a_voucher_must_be() {
    let mut world = World::new();
    let base = claim(0, 5, usage(10, 16, 1));
    world.accept(&voucher(base));
    let next = claim(0, 6, usage(10, 20, 1));
    let other_quote = quote_of(7, Default::default()).hash();
    for (claim, error) in [
        (Claim { chain: gristmill_types::ChainId::new([0; 32]), ..next }, PayeeError::WrongChain),
        (Claim { channel: gristmill_types::ChannelId::new([0; 32]), ..next }, PayeeError::WrongChannel),
        (Claim { lane: 64, ..next }, PayeeError::WrongLane { lane: 64, floor: 0 }),
        (Claim { lane: u32::MAX, ..next }, PayeeError::WrongLane { lane: u32::MAX, floor: 0 }),
        (Claim { model: gristmill_types::ModelId::new([8; 32]), ..next }, PayeeError::WrongQuote),
        (Claim { quote: other_quote, ..next }, PayeeError::WrongQuote),
        (Claim { seq: 4, ..next }, PayeeError::OldSequence { found: 4, last: 5 }),
        (Claim { seq: 0, ..next }, PayeeError::OldSequence { found: 0, last: 5 }),
        (Claim { seq: 5, ..next }, PayeeError::Conflict { seq: 5 }),
        (Claim { amount: base.amount.saturating_sub(grains(1)), ..next }, PayeeError::Backwards),
        (Claim { usage: usage(9, 20, 1), ..next }, PayeeError::Backwards),
        (Claim { usage: usage(10, 15, 1), ..next }, PayeeError::Backwards),
        (Claim { usage: usage(10, 20, 0), ..next }, PayeeError::Backwards),
        (
            Claim { amount: grains(DEPOSIT + 1), ..next },
            PayeeError::ExceedsDeposit { sum: grains(DEPOSIT + 1), deposit: grains(DEPOSIT) },
        ),
        (Claim { lane: 1, amount: grains(u128::MAX), ..next }, PayeeError::Overflow),
        (Claim { lane: 1, seq: 0, ..next }, PayeeError::OldSequence { found: 0, last: 0 }),
    ] {
        assert_eq!(refused(&mut world, claim), error, "{claim:?}");
    }
    // Refusals left no trace; an equal amount under a higher number is a voucher.
    world.accept(&voucher(Claim { seq: 6, ..base }));
    world.accept(&voucher(Claim { seq: u64::MAX, amount: grains(DEPOSIT), ..next }));
}

#[test]
fn the_lanes_together_stay_within_the_deposit() {
    let mut world = World::with_deposit(1_000);
    let on = |lane, seq, amount| Claim { amount: grains(amount), ..claim(lane, seq, usage(1, 1, 1)) };
    world.accept(&voucher(on(0, 1, 600)));
    let error = PayeeError::ExceedsDeposit { sum: grains(1_001), deposit: grains(1_000) };
    assert_eq!(refused(&mut world, on(1, 1, 401)), error);
    world.accept(&voucher(on(1, 1, 400)));
    assert!(matches!(refused(&mut world, on(0, 2, 601)), PayeeError::ExceedsDeposit { .. }));
    world.accept(&voucher(on(0, 2, 600)));
    // What retired lanes were paid counts; a top-up gives room.
    let paid = BTreeMap::from([(1, grains(400))]);
    let view =
        LedgerView { settled: grains(1_000), floor: 1, lanes: paid, ..LedgerView::opened(grains(1_100)) };
    let pending = world.payee.observe(view.clone()).unwrap().unwrap();
    world.payee_does(pending);
    assert!(matches!(refused(&mut world, on(1, 2, 501)), PayeeError::ExceedsDeposit { .. }));
    world.accept(&voucher(on(1, 2, 500)));
    assert_eq!(refused(&mut world, on(0, 3, 1_000)), PayeeError::WrongLane { lane: 0, floor: 1 });
    let older = LedgerView { deposit: grains(1_000), ..view };
    assert_eq!(world.payee.observe(older), Err(PayeeError::StaleView));
}

#[test]
fn the_same_bytes_again_change_nothing() {
    let mut world = World::new();
    let first = voucher(claim(0, 1, usage(10, 16, 1)));
    let Accepted::New(pending) = world.payee.accept(&first, |_| Some(quote()), 0).unwrap() else {
        panic!("new")
    };
    // Not durable yet: the same record comes out again, so that nobody hears of it too early.
    let again = world.payee.accept(&first, |_| None, 0).unwrap();
    assert!(matches!(&again, Accepted::New(same) if same.record() == pending.record()));
    world.payee_does(pending);
    let Accepted::New(twice) = again else { panic!("new") };
    world.payee_does(twice);
    assert_eq!(world.payee.accept(&first, |_| None, 0), Ok(Accepted::Duplicate));
    // Other bytes of the same claim: ed25519 is deterministic here, so forge the signature's bytes.
    let mut other = first.clone();
    other.signature = gristmill_types::Signature::new([7; 64]);
    assert_eq!(world.payee.accept(&other, |_| None, 0), Err(PayeeError::Conflict { seq: 1 }));
    let before = world.payee.state_digest();
    world.restart_payee();
    assert_eq!(world.payee.state_digest(), before);
}

#[test]
fn a_closing_channel_takes_vouchers_until_the_margin_and_no_orders() {
    let mut world = World::new();
    let first = voucher(claim(0, 1, usage(10, 16, 1)));
    world.accept(&first);
    let deadline_ms = 10_000_000;
    let view = LedgerView { phase: Phase::Closing { deadline_ms }, ..LedgerView::opened(grains(DEPOSIT)) };
    let pending = world.payee.observe(view).unwrap().unwrap();
    world.payee_does(pending);
    let order = order_for(&first, b"{}", grains(1_000));
    assert_eq!(world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 16), NOW), Err(PayeeError::Closed));
    let next = voucher(claim(0, 2, usage(10, 20, 1)));
    let margin = deadline_ms - CLOSING_MARGIN_MS;
    assert_eq!(world.payee.accept(&next, |_| None, margin), Err(PayeeError::Closed));
    assert!(world.payee.accept(&next, |_| None, margin - 1).is_ok());
}

#[test]
fn what_an_order_must_be() {
    let mut world = World::new();
    let (body, ask) = (sha256(&[b"{}"]), ask(10, 100));
    let required = cost(&usage(10, WINDOW, 1));
    let first = voucher(claim(0, 1, usage(10, WINDOW, 1)));
    let order = order_for(&first, b"{}", grains(10_000));
    assert_eq!(world.payee.order(&order, &body, ask, NOW), Err(PayeeError::UnknownLane { lane: 0 }));
    // One grain, or one token, too little for the prompt and the first window.
    let short =
        voucher(Claim { amount: required.saturating_sub(grains(1)), ..claim(0, 1, usage(10, WINDOW, 1)) });
    world.accept(&short);
    let found = required.saturating_sub(grains(1));
    let too_small = |found| Err(PayeeError::TooSmall { found, required });
    assert_eq!(
        world.payee.order(&order_for(&short, b"{}", grains(10_000)), &body, ask, NOW),
        too_small(found)
    );
    let enough = voucher(claim(0, 2, usage(10, WINDOW, 1)));
    world.accept(&enough);
    let order = order_for(&enough, b"{}", grains(10_000));
    assert_eq!(
        world.payee.order(&order_for(&short, b"{}", grains(10_000)), &body, ask, NOW),
        Err(PayeeError::WrongVoucher)
    );
    assert_eq!(world.payee.order(&order, &sha256(&[b"{ }"]), ask, NOW), Err(PayeeError::WrongBody));
    let capped = order_for(&enough, b"{}", found);
    assert_eq!(world.payee.order(&capped, &body, ask, NOW), too_small(found));
    let late = PayeeError::QuoteExpired { valid_until_ms: VALID_UNTIL };
    assert_eq!(world.payee.order(&order, &body, ask, VALID_UNTIL + 1), Err(late));
    let mut forged = order.clone();
    forged.body.max_amount = grains(10_001);
    assert_eq!(world.payee.order(&forged, &body, ask, NOW), Err(PayeeError::BadSignature));
    let long = crate::world::ask(4_000, 100);
    assert!(matches!(world.payee.order(&order, &body, long, NOW), Err(PayeeError::Meter(_))));
    let pending = world.payee.order(&order, &body, ask, NOW).unwrap();
    // Not before the record is durable, and only once.
    assert_eq!(world.payee.spend(0, 1, 0), Err(PayeeError::NotDurable));
    world.payee_does(pending);
    assert_eq!(world.payee.spend(0, 1, 0), Ok(Spend::Paid));
    assert_eq!(world.payee.order(&order, &body, ask, NOW), Err(PayeeError::AlreadyDelivered));
    // The next one has to wait for the receipt.
    let next = voucher(claim(0, 3, usage(20, WINDOW + 1, 2)));
    world.accept(&next);
    let error = world.payee.order(&order_for(&next, b"{}", grains(10_000)), &body, ask, NOW);
    assert_eq!(error, Err(PayeeError::LaneBusy { lane: 0 }));
}

#[test]
fn one_delivery_per_voucher_survives_a_crash() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    let (body, given) = (sha256(&[b"{}"]), world.payer.latest(lane).unwrap().clone());
    world.restart_payee();
    let order = order_for(&given, b"{}", grains(10_000));
    assert_eq!(world.payee.order(&order, &body, ask(10, 100), NOW), Err(PayeeError::AlreadyDelivered));
    assert_eq!(world.payee.spend(lane, 1, 0), Err(PayeeError::NoRequest { lane }));
    assert_eq!(world.payee.unanswered(), [lane]);
}

#[test]
fn nothing_is_delivered_ahead_of_a_durable_voucher() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    for _ in 0..WINDOW {
        assert_eq!(world.payee.spend(lane, 1, 0), Ok(Spend::Paid));
    }
    let promise = usage(10, 2 * WINDOW, 1);
    let need = Spend::NeedVoucher { required: cost(&promise), usage: promise };
    assert_eq!(world.payee.spend(lane, 1, 0), Ok(need));
    let next = voucher(claim(lane, 9, promise));
    let Accepted::New(pending) = world.payee.accept(&next, |_| None, 0).unwrap() else { panic!("new") };
    assert_eq!(world.payee.spend(lane, 1, 0), Ok(need), "accepted, not durable");
    world.payee_does(pending);
    assert_eq!(world.payee.spend(lane, 1, 0), Ok(Spend::Paid));
    assert_eq!(world.payee.spent(lane).unwrap(), (usage(10, WINDOW + 1, 1), cost(&usage(10, WINDOW + 1, 1))));
}

#[test]
fn the_order_caps_the_request() {
    let mut world = World::new();
    let cap = cost(&usage(10, WINDOW + 3, 1));
    let first = voucher(claim(0, 1, usage(10, 100, 1)));
    world.accept(&first);
    let order = order_for(&first, b"{}", cap);
    let pending = world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 50), NOW).unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.spend(0, WINDOW + 3, 0), Ok(Spend::Paid));
    assert_eq!(world.payee.spend(0, 1, 0), Ok(Spend::CapReached));
    // What was asked for is a cap as well.
    let mut world = World::new();
    world.accept(&first);
    let order = order_for(&first, b"{}", grains(100_000));
    let pending = world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 20), NOW).unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.spend(0, 20, 0), Ok(Spend::Paid));
    assert_eq!(world.payee.spend(0, 1, 0), Ok(Spend::CapReached));
}

#[test]
fn a_request_that_fails_before_its_first_token_costs_nothing() {
    let mut world = World::new();
    let lane = world.start(500, 100);
    world.place(lane, b"{}", ask(500, 100));
    let receipt = world.finish(lane);
    assert_eq!((receipt.body.spent, receipt.body.usage), (Amount::ZERO, usage(0, 0, 0)));
    assert_eq!(world.payee.claims_to_settle(), []);
}

#[test]
fn an_approval_must_be_that_of_the_last_receipt() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let receipt = world.finish_unapproved(lane);
    let right = world.payer.approve(lane).unwrap();
    let wrong = |change: &dyn Fn(&mut Claim)| {
        let mut claim = right.body.0;
        change(&mut claim);
        Signed::sign(gristmill_types::Approval(claim), &voucher_key())
    };
    for (approval, error) in [
        (wrong(&|c| c.seq += 1), PayeeError::WrongApproval),
        (wrong(&|c| c.amount = c.amount.saturating_sub(grains(1))), PayeeError::WrongApproval),
        (wrong(&|c| c.amount = c.amount.checked_add(grains(1)).unwrap()), PayeeError::WrongApproval),
        (wrong(&|c| c.usage.output_tokens += 1), PayeeError::WrongApproval),
        (wrong(&|c| c.lane += 1), PayeeError::UnknownLane { lane: lane + 1 }),
        (wrong(&|c| c.channel = gristmill_types::ChannelId::new([0; 32])), PayeeError::WrongChannel),
        (wrong(&|c| c.chain = gristmill_types::ChainId::new([0; 32])), PayeeError::WrongChain),
        (Signed::sign(gristmill_types::Approval(right.body.0), &receipt_key()), PayeeError::BadSignature),
    ] {
        assert_eq!(world.payee.approve(&approval), Err(error), "{approval:?}");
    }
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims[0].at_once, claims[0].owed), (Amount::ZERO, receipt.body.spent));
    world.approve(&right);
    assert_eq!(world.payee.approve(&right), Ok(Accepted::Duplicate));
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims[0].at_once, claims[0].owed), (receipt.body.spent, receipt.body.spent));
}

#[test]
fn a_voucher_that_comes_after_the_answer_leaves_the_approval_good() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let first = world.finish_unapproved(lane);
    let approval = world.payer.approve(lane).unwrap();
    // Signed for the next window, and on its way when the answer ended.
    let late = voucher(claim(lane, first.body.seq + 1, usage(10, 20 + WINDOW, 1)));
    world.accept(&late);
    let (answer, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    assert_eq!((answer.body.seq, answer.body.spent), (first.body.seq + 1, first.body.spent));
    world.approve(&approval);
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims[0].at_once, claims[0].owed), (first.body.spent, first.body.spent));
    world.restart_payee();
    assert_eq!(world.payee.claims_to_settle(), claims);
}

#[test]
fn what_was_answered_is_claimed_while_the_next_request_runs() {
    let mut world = World::new();
    // One request is approved, one is not, and a third runs with a second voucher.
    let lane = world.request(10, 100, 20);
    let approved = cost(&usage(10, 20, 1));
    let next = || ask(10, 100);
    assert_eq!(world.start(10, 100), lane);
    world.place(lane, b"{}", next());
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims[0].at_once, claims[0].owed, claims[0].goes_on), (approved, approved, true));
    let answers = |claims: &[Settlement]| {
        claims[0].voucher.body.0.seq == claims[0].receipt.body.seq
            && claims[0].voucher.body.hash() == claims[0].receipt.body.voucher
    };
    assert!(answers(&claims));
    world.stream(lane, 30);
    let second = world.finish_unapproved(lane);
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims[0].at_once, claims[0].owed, claims[0].goes_on), (approved, second.body.spent, false));
    assert_eq!(world.start(10, 100), lane);
    world.place(lane, b"{}", next());
    world.stream(lane, 50);
    let claims = world.payee.claims_to_settle();
    assert!(answers(&claims) && claims[0].goes_on && claims[0].receipt == second);
    assert_eq!((claims[0].at_once, claims[0].owed), (approved, second.body.spent));
    // The voucher is not kept over a restart: its successor is answered first.
    world.restart_payee();
    assert_eq!(world.payee.claims_to_settle(), []);
    assert_eq!(world.payee.unanswered(), [lane]);
    let (_, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.claims_to_settle()[0].at_once, approved);
}

#[test]
fn lanes_settle_and_retire() {
    let mut world = World::new();
    let a = world.request(10, 100, 40);
    let spent = cost(&usage(10, 40, 1));
    assert_eq!(world.payee.retire(VALID_UNTIL + 1), Ok(None), "not paid out");
    let lanes = BTreeMap::from([(a, spent)]);
    let view = LedgerView { settled: spent, lanes, ..LedgerView::opened(grains(DEPOSIT)) };
    let pending = world.payee.observe(view.clone()).unwrap().unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.claims_to_settle(), []);
    assert_eq!(world.payee.retire(VALID_UNTIL), Ok(None), "the quote still holds");
    let pending = world.payee.retire(VALID_UNTIL + 1).unwrap().unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.retiring(), 1);
    // From now on it is refused, though the ledger does not know yet; and a restart remembers.
    world.restart_payee();
    let refused = Err(PayeeError::WrongLane { lane: a, floor: 1 });
    let late = voucher(claim(a, 99, usage(100, 100, 5)));
    assert_eq!(world.payee.accept(&late, |_| Some(quote()), 0), refused);
    let view = LedgerView { floor: 1, lanes: BTreeMap::new(), ..view };
    let pending = world.payee.observe(view).unwrap().unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.copy().lanes, []);
    assert_eq!(world.payee.accept(&late, |_| Some(quote()), 0), refused);
    world.restart_payee();
    assert_eq!(world.payee.view().floor, 1);
}

/// The payee's ledger view with all that is owed paid out.
fn all_paid(world: &mut World) {
    let mut view = world.payee.view().clone();
    for claim in world.payee.claims_to_settle() {
        view.settled = view.settled.checked_add(claim.owed).unwrap();
        view.lanes.insert(claim.lane, claim.receipt.body.spent);
    }
    if let Some(pending) = world.payee.observe(view).unwrap() {
        world.payee_does(pending);
    }
}

#[test]
fn idle_lanes_retire_early_where_lanes_are_scarce() {
    let mut world = World::new();
    let lanes: Vec<u32> = (0..48).map(|_| world.start(1, 8)).collect();
    for lane in &lanes {
        world.place(*lane, b"{}", ask(1, 8));
        world.stream(*lane, 1);
    }
    // Lane 2 goes on, lane 47 is not settled.
    for lane in lanes.iter().filter(|lane| ![2, 47].contains(*lane)) {
        world.finish(*lane);
    }
    all_paid(&mut world);
    world.finish(47);
    assert_eq!(world.payee.retire(NOW + 9_999), Ok(None), "not idle for long enough");
    let pending = world.payee.retire(NOW + 10_000).unwrap().unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.retiring(), 2, "not above a request in flight");
    world.stream(2, 1);
    world.finish(2);
    assert_eq!(world.payee.retire(NOW + 10_000), Ok(None), "not above what is not paid out");
    all_paid(&mut world);
    let pending = world.payee.retire(NOW + 10_000).unwrap().unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.retiring(), 48);
}

#[test]
fn a_channel_is_not_idle_before_its_last_receipt_is_durable() {
    let mut world = World::new();
    assert!(world.payee.is_idle());
    let lane = world.start(1, 8);
    world.place(lane, b"{}", ask(1, 8));
    assert!(!world.payee.is_idle());
    world.stream(lane, 1);
    let (_, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    assert_eq!(world.payee.claims_to_settle(), [], "nothing can be claimed yet");
    assert!(!world.payee.is_idle(), "whoever closes the channel now loses what was delivered");
    world.payee_does(pending);
    assert!(world.payee.is_idle() && world.payee.claims_to_settle().len() == 1);
}

#[test]
fn a_number_that_did_not_come_yet_is_not_given_up_alone() {
    let mut world = World::new();
    let (first, second) = (world.start(1, 8), world.start(1, 8));
    world.place(second, b"{}", ask(1, 8));
    world.stream(second, 1);
    assert_eq!(world.payee.retire(VALID_UNTIL + 1), Ok(None));
    world.place(first, b"{}", ask(1, 8));
}

#[test]
fn what_does_not_come_from_the_payer_is_found_out_before_anything_is_computed() {
    let mut world = World::new();
    let lane = world.start(1, 8);
    let good = world.payer.voucher(lane).unwrap();
    let order = order_for(&good, b"{}", grains(10_000));
    let body = sha256(&[b"{}"]);
    let by_other = Signed::sign(good.body, &secret(66));
    let bad = Err(PayeeError::BadSignature);
    assert_eq!(world.payee.authenticate(&by_other, &order, &body).map(drop), bad);
    let order_by_other = Signed::sign(order.body, &secret(66));
    assert_eq!(world.payee.authenticate(&good, &order_by_other, &body).map(drop), bad);
    let other = sha256(&[b"{ }"]);
    assert_eq!(world.payee.authenticate(&good, &order, &other).map(drop), Err(PayeeError::WrongBody));
    let foreign = order_for(&voucher(claim(lane, 9, usage(1, 8, 1))), b"{}", grains(10_000));
    assert_eq!(world.payee.authenticate(&good, &foreign, &body).map(drop), Err(PayeeError::WrongVoucher));

    let authentic = world.payee.authenticate(&good, &order, &body).unwrap();
    assert_eq!(world.payee.copy().lanes, [], "nothing has changed");
    let Accepted::New(pending) = world.payee.accept_authentic(&authentic, |_| Some(quote()), 0).unwrap()
    else {
        panic!("new")
    };
    world.payee_does(pending);
    let pending = world.payee.order_authentic(&authentic, ask(1, 8), NOW).unwrap();
    world.payee_does(pending);
    assert_eq!(world.payee.spend(lane, 1, 0), Ok(Spend::Paid));
    let again = world.payee.authenticate(&good, &order, &body).map(drop);
    assert_eq!(again, Err(PayeeError::AlreadyDelivered));
    assert_eq!(world.payee.order_authentic(&authentic, ask(1, 8), NOW), Err(PayeeError::AlreadyDelivered));
}

#[test]
fn a_late_voucher_gets_its_own_answer() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 5);
    for _ in 0..4 {
        assert_eq!(world.payee.spend(lane, 1, 0), Ok(Spend::Paid));
        world.payer.delivered(lane, 1, 0).unwrap();
    }
    let late = world.payer.voucher(lane).unwrap();
    let receipt = world.finish_unapproved(lane);
    assert!(receipt.body.seq < late.body.0.seq);
    world.accept(&late);
    let claims = world.payee.claims_to_settle();
    assert_eq!((claims.len(), &claims[0].receipt), (1, &receipt), "no claim beyond a receipt");
    assert_eq!(world.payee.unanswered(), [lane]);
    // The next request is under way when the answer comes: it goes on.
    let again = world.start(10, 100);
    assert_eq!(again, lane);
    let (answer, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    world.take(&answer);
    assert_eq!(world.payer.in_flight(), [lane]);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 3);
    assert_eq!(world.finish(lane).body.usage, usage(20, 12, 2));
}

#[test]
fn broken_logs_are_refused() {
    use gristmill_channel::ReplayError;
    let mut world = World::new();
    world.request(10, 50, 30);
    let log = world.payee_log.clone();
    let replay = |log: &[Vec<u8>]| Payee::replay_bytes(log).map(drop);
    assert_eq!(replay(&log), Ok(()));
    assert_eq!(replay(&[]), Err(ReplayError::NotOpened));
    assert_eq!(replay(&log[1..]), Err(ReplayError::NotOpened));
    assert_eq!(replay(&[&log[..1], &log[..1]].concat()), Err(ReplayError::OpenedTwice { index: 1 }));
    assert_eq!(
        replay(&[&log[..1], &log[2..]].concat()),
        Err(ReplayError::Broken { index: 1, reason: "a record is for a lane without a voucher" })
    );
    let mut cut = log.clone();
    cut[1].pop();
    assert_eq!(replay(&cut), Err(ReplayError::Undecodable { index: 1 }));
    // A changed signature decodes; verifying on demand finds it.
    let mut changed = log;
    let bytes = &mut changed[1];
    let record: gristmill_channel::PayeeRecord = gristmill_types::decode(bytes).unwrap();
    let gristmill_channel::PayeeRecord::Voucher { mut voucher, quote, used } = record else { panic!() };
    voucher.signature = gristmill_types::Signature::new([1; 64]);
    *bytes = gristmill_types::encode(&gristmill_channel::PayeeRecord::Voucher { voucher, quote, used });
    let first_only = Payee::replay_bytes(&changed[..2]).unwrap();
    assert_eq!(first_only.verify(), Err(ReplayError::BadSignature { lane: 0 }));
    assert_eq!(world.payee.verify(), Ok(()));
}

#[test]
fn a_checkpoint_stands_for_the_whole_log() {
    let mut world = World::new();
    world.request(10, 50, 30);
    let lane = world.start(5, 50);
    world.place(lane, b"{}", ask(5, 50));
    let compact = Payee::replay([world.payee.checkpoint()]).unwrap();
    assert!(compact.same_state(&world.payee));
    assert_eq!(compact.unanswered(), [lane]);
}

#[test]
fn a_receipt_within_a_stream_uses_its_voucher_up() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 3);
    let (within, pending) = world.payee.receipt(lane, parts(false), &receipt_key()).unwrap();
    world.payee_does(pending);
    // Under this number nothing more may be spent: the receipt would cap the claim for it.
    let promise = usage(10, 3 + WINDOW, 1);
    let need = Spend::NeedVoucher { required: cost(&promise), usage: promise };
    assert_eq!(world.payee.spend(lane, 1, 0), Ok(need));
    assert_eq!(world.payer.due(lane), Ok(false));
    world.take(&within);
    assert_eq!(world.payer.due(lane), Ok(true));
    let next = world.payer.voucher_for(lane, cost(&promise)).unwrap();
    world.accept(&next);
    world.stream(lane, 40);
    let last = world.finish(lane);
    assert_eq!(last.body.usage, usage(10, 43, 1));
    assert!(
        world.payer.challenge(&gristmill_types::Claim { amount: last.body.spent, ..next.body.0 }).is_none()
    );
    let older = world.payer.receipt(&within).unwrap();
    assert_eq!(older, gristmill_channel::Received::Duplicate, "late, and nothing new");
}

#[test]
fn a_copy_shows_vouchers_early_and_our_own_word_only_when_durable() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 3);
    let (receipt, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    assert_eq!(world.payee.copy().lanes[0].receipt, None);
    assert_eq!(world.payee.claims_to_settle(), []);
    world.payee_does(pending);
    assert_eq!(world.payee.copy().lanes[0].receipt, Some(receipt.clone()));
    world.take(&receipt);
    let approval = world.payer.approve(lane).unwrap();
    let Accepted::New(pending) = world.payee.approve(&approval).unwrap() else { panic!("new") };
    assert_eq!(world.payee.copy().lanes[0].approval, None);
    assert!(world.payee.claims_to_settle()[0].approval.is_none());
    world.payee_does(pending);
    assert_eq!(world.payee.copy().lanes[0].approval, Some(approval));
    // A voucher that is about to count: hiding it would let the payer release what it promised.
    let late = voucher(claim(lane, 1 << 40, usage(20, 40, 2)));
    let Accepted::New(_pending) = world.payee.accept(&late, |_| None, 0).unwrap() else { panic!("new") };
    assert_eq!(world.payee.copy().lanes[0].voucher, late);
}
