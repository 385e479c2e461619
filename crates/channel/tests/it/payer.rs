//! The payer's rules, one by one.

use crate::world::*;
use gristmill_channel::{
    ChannelCopy, Code, LedgerView, MeterError, Payer, PayerError, Phase, Plan, Received, Reconciled,
    ReplayError,
};
use gristmill_types::{Amount, Claim, Receipt, Signable as _, Signed, Usage};

fn start(world: &mut World, plan: &Plan<'_>) -> Result<u32, PayerError> {
    let started = world.payer.start(plan)?;
    if let Some(pending) = started.pending {
        world.payer_does(pending);
    }
    Ok(started.lane)
}

#[test]
fn signing_stays_within_the_durable_reservation() {
    let mut world = World::new();
    let quote = signed_quote();
    let started = world.payer.start(&plan(&quote, ANN, ask(10, 100))).unwrap();
    let lane = started.lane;
    assert_eq!(started.max_amount, cost(&usage(10, 100, 1)));
    assert_eq!(world.payer.voucher(lane), Err(PayerError::BeyondReservation { lane }));
    world.payer_does(started.pending.unwrap());
    let first = world.payer.voucher(lane).unwrap();
    assert_eq!(first.body.0, claim(lane, 1, usage(10, WINDOW, 1)));
    assert_eq!(world.payer.voucher(lane), Err(PayerError::NotDue { lane }));
}

#[test]
fn a_window_ahead_and_never_more() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let mut promised = world.payer.voucher(lane).unwrap().body.0;
    for delivered in 1..=100 {
        let due = world.payer.delivered(lane, 1, 0).unwrap();
        assert_eq!(
            due,
            promised.usage.output_tokens - delivered <= WINDOW / 2 && promised.usage.output_tokens < 100
        );
        if due {
            promised = world.payer.voucher(lane).unwrap().body.0;
        }
        assert!(promised.usage.output_tokens <= (delivered + WINDOW).min(100));
        assert_eq!(promised.amount, cost(&promised.usage));
    }
    let more = world.payer.delivered(lane, 1, 0);
    assert_eq!(more, Err(PayerError::Meter(MeterError::BeyondCap)), "more than was asked for is not counted");
    assert_eq!(world.payer.owed(lane).unwrap(), cost(&usage(10, 100, 1)));
}

#[test]
fn what_the_server_says_is_not_what_is_signed() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let first = world.payer.voucher(lane).unwrap();
    for _ in 0..4 {
        world.payer.delivered(lane, 1, 0).unwrap();
    }
    let computed = cost(&usage(10, 4 + WINDOW, 1));
    let inflated = computed.checked_add(grains(1)).unwrap();
    let error = PayerError::InflatedRequired { required: inflated, computed };
    assert_eq!(world.payer.voucher_for(lane, inflated), Err(error));
    assert_eq!(world.payer.latest(lane), Some(&first), "nothing was signed");
    let next = world.payer.voucher_for(lane, computed).unwrap();
    assert_eq!(next.body.0.amount, computed);
    assert_eq!(world.payer.voucher_for(lane, computed), Err(PayerError::NotDue { lane }));
}

#[test]
fn what_a_request_must_be() {
    let mut world = World::with_deposit(1_000);
    let quote = signed_quote();
    let base = plan(&quote, ANN, ask(10, 100));
    let full = cost(&usage(10, 100, 1));
    let less = full.saturating_sub(grains(1));
    let other_chain = Signed::sign(
        gristmill_types::Quote { chain: gristmill_types::ChainId::new([0; 32]), ..quote.body.clone() },
        &processor_key(),
    );
    let forged = Signed::sign(quote.body.clone(), &secret(66));
    let too_long = Plan { ask: ask(4_000, 97), ..base };
    for (plan, error) in [
        (Plan { max_amount: less, ..base }, PayerError::OverCap { needed: full, cap: less }),
        (Plan { room: less, ..base }, PayerError::BudgetTooSmall { needed: full, room: less }),
        (Plan { now_ms: VALID_UNTIL + 1, ..base }, PayerError::QuoteExpired { valid_until_ms: VALID_UNTIL }),
        (Plan { quote: &other_chain, ..base }, PayerError::WrongQuote),
        (Plan { quote: &forged, ..base }, PayerError::BadSignature),
        (too_long, PayerError::Meter(MeterError::Limit { asked: 4_097, allowed: 4_096 })),
        (Plan { ask: ask(10, 0), ..base }, PayerError::Meter(MeterError::Empty)),
    ] {
        assert_eq!(world.payer.start(&plan).unwrap_err(), error);
    }
    assert_eq!(world.payer_log.len(), 1, "nothing was reserved");
    for _ in 0..(1_000 / full.grains()) {
        start(&mut world, &base).unwrap();
    }
    let room = grains(1_000 % full.grains());
    assert_eq!(world.payer.room(), room);
    let error = world.payer.start(&base).unwrap_err();
    assert_eq!(
        (error.code(), error),
        (Code::AmountExceedsDeposit, PayerError::DepositTooSmall { needed: full, room })
    );
}

#[test]
fn requests_of_one_quote_share_lanes_and_what_is_left_on_them() {
    let mut world = World::new();
    let a = world.request(10, 100, 3);
    let before = world.payer.latest(a).unwrap().body.0;
    assert!(before.amount > world.payer.lane_use(a).unwrap().spent, "there is lane credit");
    let b = world.request(10, 100, 3);
    assert_eq!(a, b);
    let after = world.payer.latest(b).unwrap().body.0;
    assert!(after.usage.covers(&before.usage) && after.amount >= before.amount);
    assert_eq!(world.payer.lane_use(b).unwrap().spent, cost(&usage(20, 6, 2)));
    // In flight at the same time: lanes of their own, ids rise.
    let lanes: Vec<u32> = (0..3).map(|_| world.start(10, 100)).collect();
    assert_eq!(lanes, [0, 1, 2]);
}

#[test]
fn credit_never_lifts_the_cap() {
    let mut world = World::new();
    // A request with a long prompt fails before its first token: all of the promise is credit.
    let a = world.start(3_000, 100);
    world.place(a, b"{}", ask(3_000, 100));
    world.finish(a);
    let small = world.start(1, 8);
    assert_ne!(a, small, "a cap of a few grains does not fit on a lane with thousands of credit");
    assert!(world.payer.voucher(small).unwrap().body.0.amount <= cost(&usage(1, 8, 1)));
    assert_eq!(world.start(2_999, 200), a, "a request with a cap above the credit does");
}

#[test]
fn at_most_64_lanes() {
    let mut world = World::new();
    let lanes: Vec<u32> = (0..64).map(|_| world.start(1, 8)).collect();
    assert_eq!(lanes, (0..64).collect::<Vec<_>>());
    let quote = signed_quote();
    let full = plan(&quote, ANN, ask(1, 8));
    assert_eq!(world.payer.start(&full).unwrap_err(), PayerError::NoLane);
    world.payer.cancel(7).unwrap();
    assert_eq!(world.start(1, 8), 7);
    let view = LedgerView { floor: 2, ..LedgerView::opened(grains(DEPOSIT)) };
    let (observed, pending) = world.payer.observe(view).unwrap();
    world.payer_does(pending.unwrap());
    assert_eq!(observed.retired.iter().map(|of| of.lane).collect::<Vec<_>>(), [0, 1]);
    assert_eq!([world.start(1, 8), world.start(1, 8)], [64, 65]);
    assert_eq!(world.payer.start(&full).unwrap_err(), PayerError::NoLane);
}

#[test]
fn lanes_change_budgets_only_when_they_must_and_may() {
    let mut world = World::new();
    let a = world.request(1, 8, 2);
    assert_eq!(world.start_for(BOB, 1, 8), a + 1, "a new lane is preferred");
    for _ in 0..30 {
        world.start_for(BOB, 1, 8);
    }
    assert_eq!(world.start_for(BOB, 1, 8), a, "taken over when many lanes are open");
    assert_eq!(world.payer.lane_use(a).unwrap().budget, Some(BOB));
}

#[test]
fn a_large_reservation_serves_many_requests() {
    let mut world = World::new();
    let quote = signed_quote();
    let ahead = Plan { ahead: grains(50_000), ..plan(&quote, ANN, ask(10, 50)) };
    let lane = start(&mut world, &ahead).unwrap();
    let records = world.payer_log.len();
    for round in 0..20 {
        if round > 0 {
            assert!(world.payer.start(&ahead).unwrap().pending.is_none());
        }
        world.place(lane, b"{}", ask(10, 50));
        world.stream(lane, 50);
        world.finish(lane);
    }
    assert_eq!(world.payer_log.len(), records + 20, "one record per receipt, none to sign");
    let held = world.payer.lane_use(lane).unwrap();
    assert_eq!(held.reserved, cost(&usage(10, 50, 1)).checked_add(grains(50_000)).unwrap());
    for pending in world.payer.trim() {
        world.payer_does(pending);
    }
    let trimmed = world.payer.lane_use(lane).unwrap();
    assert_eq!((trimmed.reserved, trimmed.spent), (held.spent, held.spent), "the receipt caps it");
    world.restart_payer();
    assert_eq!(world.payer.in_doubt(), [] as [u32; 0], "a clean stop leaves no doubt");
    assert_eq!(world.start(10, 50), lane);
    world.place(lane, b"{}", ask(10, 50));
}

/// What is on its way to the disk is not shrunk: its confirmation would grant what is reserved no more.
#[test]
fn what_is_not_confirmed_is_not_trimmed() {
    let mut world = World::new();
    let quote = signed_quote();
    let ahead = Plan { ahead: grains(5_000), ..plan(&quote, ANN, ask(10, 20)) };
    let started = world.payer.start(&ahead).unwrap();
    assert!(world.payer.trim().is_empty());
    world.payer.cancel(started.lane).unwrap();
    assert!(world.payer.trim().is_empty());
    world.payer_does(started.pending.unwrap());
    for pending in world.payer.trim() {
        world.payer_does(pending);
    }
    assert_eq!(world.payer.lane_use(started.lane).unwrap().reserved, Amount::ZERO);
    assert!(world.payer.start(&ahead).unwrap().pending.is_some());
}

/// What nobody waits for holds no more than what was signed, also after a restart; its receipt still ends it.
#[test]
fn a_request_that_is_given_up_frees_what_was_not_signed() {
    for restarts in [false, true] {
        let mut world = World::new();
        let quote = signed_quote();
        let ahead = Plan { ahead: grains(5_000), ..plan(&quote, ANN, ask(10, 200)) };
        let lane = start(&mut world, &ahead).unwrap();
        assert_eq!(world.payer.give_up(lane), Err(PayerError::NoRequest { lane }), "nothing was signed");
        world.place(lane, b"{}", ask(10, 200));
        world.stream(lane, 5);
        let claim = world.payer.latest(lane).unwrap().body.0;
        let (seq, signed) = (claim.seq, claim.amount);
        // Under way it holds what it can cost, and nothing ahead.
        let records = world.payer.trim();
        assert_eq!(records.len(), 1);
        for pending in records {
            world.payer_does(pending);
        }
        assert_eq!(world.payer.lane_use(lane).unwrap().reserved, cost(&usage(10, 200, 1)));
        assert!(world.payer.trim().is_empty(), "once");
        world.payer.give_up(lane).unwrap();
        let records = world.payer.trim();
        assert_eq!(records.len(), 1);
        for pending in records {
            world.payer_does(pending);
        }
        let held = world.payer.lane_use(lane).unwrap();
        assert_eq!((held.reserved, held.spent), (signed, Amount::ZERO));
        assert!(world.payer.trim().is_empty(), "once");
        assert_eq!(world.payer.voucher_for(lane, signed).err(), Some(PayerError::NoRequest { lane }));
        if restarts {
            world.restart_payer();
            assert_eq!((world.payer.lane_use(lane).unwrap(), world.payer.in_doubt()), (held, vec![lane]));
            // A processor that never saw any of it holds nothing up, and what it may hide is below all that follows.
            let early = world.payer.reconcile_early(&ChannelCopy::default());
            assert_eq!(
                (early.lanes, early.pending.len()),
                (vec![(lane, Reconciled::Open)], 0),
                "it may be on its way"
            );
            for pending in world.payer.reconcile(&ChannelCopy::default()).pending {
                world.payer_does(pending);
            }
            assert_eq!(world.payer.in_doubt(), [] as [u32; 0]);
            assert_eq!(world.payer.lane_use(lane).unwrap().reserved, Amount::ZERO);
            assert_eq!(start(&mut world, &ahead), Ok(lane));
            assert!(world.payer.voucher(lane).unwrap().body.0.seq > seq);
        } else {
            world.finish(lane);
            assert_eq!(world.payer.lane_use(lane).unwrap().spent, cost(&usage(10, 5, 1)));
            assert_eq!(start(&mut world, &ahead), Ok(lane), "it serves the next");
            world.place(lane, b"{}", ask(10, 200));
        }
    }
}

#[test]
fn the_reservation_is_clipped_to_deposit_and_budget() {
    let quote = signed_quote();
    let full = cost(&usage(10, 50, 1));
    for (deposit, room, reserved) in [
        (1_000, u128::MAX, 1_000),
        (DEPOSIT, 300, 300),
        (DEPOSIT, u128::MAX, full.grains() + 5_000),
        (full.grains(), full.grains(), full.grains()),
    ] {
        let mut world = World::with_deposit(deposit);
        let ahead = Plan { ahead: grains(5_000), room: grains(room), ..plan(&quote, ANN, ask(10, 50)) };
        let lane = start(&mut world, &ahead).unwrap();
        assert_eq!(world.payer.lane_use(lane).unwrap().reserved, grains(reserved));
    }
}

#[test]
fn what_a_receipt_must_be() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let latest = world.payer.latest(lane).unwrap().clone();
    let right = receipt_for(&latest, usage(10, 20, 1), true);
    let with = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = right.clone();
        change(&mut receipt);
        signed(receipt)
    };
    let priced = |usage: Usage| {
        let mut receipt = right.clone();
        (receipt.usage, receipt.spent) = (usage, cost(&usage));
        signed(receipt)
    };
    let over = usage(10, 21, 1);
    let beyond = usage(10, latest.body.0.usage.output_tokens + 1, 1);
    let one_more = right.spent.checked_add(grains(1)).unwrap();
    for (receipt, error) in [
        (with(&|r| r.chain = gristmill_types::ChainId::new([0; 32])), PayerError::WrongReceipt),
        (with(&|r| r.channel = gristmill_types::ChannelId::new([0; 32])), PayerError::WrongReceipt),
        (with(&|r| r.lane = 9), PayerError::UnknownLane { lane: 9 }),
        (with(&|r| r.seq += 1), PayerError::WrongReceipt),
        (with(&|r| r.seq -= 1), PayerError::WrongReceipt),
        (with(&|r| r.voucher = gristmill_types::VoucherHash::new([0; 32])), PayerError::WrongReceipt),
        (with(&|r| r.model = gristmill_types::ModelId::new([0; 32])), PayerError::WrongReceipt),
        (with(&|r| r.quote = gristmill_types::QuoteHash::new([0; 32])), PayerError::WrongReceipt),
        (with(&|r| r.spent = one_more), PayerError::WrongCost { spent: one_more, cost: right.spent }),
        (with(&|r| r.spent = Amount::ZERO), PayerError::WrongCost { spent: grains(0), cost: right.spent }),
        (priced(over), PayerError::Overcounted { claimed: over, counted: right.usage }),
        (priced(usage(11, 20, 1)), PayerError::ReceiptOverVoucher),
        (priced(usage(10, 20, 2)), PayerError::ReceiptOverVoucher),
        (priced(beyond), PayerError::ReceiptOverVoucher),
        (Signed::sign(right.clone(), &processor_key()), PayerError::BadSignature),
    ] {
        assert_eq!(world.payer.receipt(&receipt).unwrap_err(), error, "{receipt:?}");
    }
    assert_eq!(world.payer.approve(lane), Err(PayerError::NothingToApprove { lane }));
    let Received::New(pending) = world.payer.receipt(&signed(right.clone())).unwrap() else { panic!() };
    assert_eq!(world.payer.approve(lane), Err(PayerError::NothingToApprove { lane }), "not durable");
    world.payer_does(pending);
    let approval = world.payer.approve(lane).unwrap().body.0;
    assert_eq!(approval, Claim { seq: right.seq, ..claim(lane, 0, right.usage) });
    assert_eq!(world.payer.receipt(&signed(right)), Ok(Received::Duplicate));
}

#[test]
fn a_lower_count_is_in_the_payers_favour() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let latest = world.payer.latest(lane).unwrap().clone();
    world.take(&signed(receipt_for(&latest, usage(10, 15, 1), true)));
    assert_eq!(world.payer.owed(lane).unwrap(), cost(&usage(10, 15, 1)));
    assert_eq!(world.payer.approve(lane).unwrap().body.0.amount, cost(&usage(10, 15, 1)));
}

#[test]
fn conceding_is_bounded_by_the_promise() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 4);
    let latest = world.payer.latest(lane).unwrap().clone();
    let more = signed(receipt_for(&latest, usage(10, WINDOW, 1), true));
    assert!(matches!(world.payer.receipt(&more), Err(PayerError::Overcounted { .. })));
    let beyond = signed(receipt_for(&latest, usage(10, WINDOW + 1, 1), true));
    assert_eq!(world.payer.concede(&beyond), Err(PayerError::ReceiptOverVoucher));
    let Received::New(pending) = world.payer.concede(&more).unwrap() else { panic!() };
    world.payer_does(pending);
    assert_eq!(world.payer.approve(lane).unwrap().body.0.amount, more.body.spent);
    assert_eq!(world.payer.lane_use(lane).unwrap().spent, more.body.spent);
    assert_eq!(world.start(1, 8), lane, "the lane goes on");
}

#[test]
fn a_disputed_receipt_frees_the_lane_and_is_never_approved() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 5);
    let (receipt, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    let Received::New(pending) = world.payer.dispute(&receipt).unwrap() else { panic!("new") };
    world.payer_does(pending);
    assert_eq!(world.payer.in_flight(), [] as [u32; 0]);
    for _ in 0..2 {
        assert_eq!(world.payer.approve(lane), Err(PayerError::NothingToApprove { lane }));
        assert_eq!(world.payer.lane_use(lane).unwrap().spent, receipt.body.spent);
        world.restart_payer();
    }
}

#[test]
fn a_request_that_never_arrived_is_given_up_by_comparing() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let lost = world.payer.voucher(lane).unwrap();
    world.payer.doubt(lane).unwrap();
    assert_eq!(world.payer.in_doubt(), [lane]);
    let result = world.payer.reconcile(&Default::default());
    assert_eq!(result.lanes, [(lane, gristmill_channel::Reconciled::Unseen)]);
    for pending in result.pending {
        world.payer_does(pending);
    }
    assert!(world.payer.lane_use(lane).unwrap().reserved.is_zero(), "what was reserved is free");
    assert_eq!(world.start(10, 100), lane);
    let next = world.payer.voucher(lane).unwrap();
    assert!(next.body.0.seq > lost.body.0.seq, "the next receipt caps the lost one too");
}

#[test]
fn of_contradicting_receipts_the_lowest_is_shown() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let latest = world.payer.latest(lane).unwrap().clone();
    let receipt = |output| signed(receipt_for(&latest, usage(10, output, 1), true));
    world.take(&receipt(15));
    assert_eq!(
        world.payer.receipt(&receipt(16)),
        Err(PayerError::WrongReceipt),
        "more, under the same number"
    );
    let Received::Evidence(pending) = world.payer.receipt(&receipt(9)).unwrap() else { panic!() };
    world.payer_does(pending);
    assert_eq!(world.payer.receipt(&receipt(12)), Ok(Received::Duplicate), "not the lowest");
    assert_eq!(world.payer.owed(lane).unwrap(), cost(&usage(10, 15, 1)), "the books stay");
    for (seq, amount, shown) in [
        (latest.body.0.seq, latest.body.0.amount, Some(receipt(9))),
        (1, cost(&usage(10, 10, 1)), Some(receipt(9))),
        (1, cost(&usage(10, 9, 1)), None),
        (latest.body.0.seq + 1, latest.body.0.amount, None),
    ] {
        let claim = Claim { seq, amount, ..latest.body.0 };
        assert_eq!(world.payer.challenge(&claim), shown.as_ref());
    }
    world.restart_payer();
    assert_eq!(world.payer.challenge(&latest.body.0), Some(&receipt(9)));
    assert_eq!(world.payer.verify(), Ok(()));
}

#[test]
fn a_request_is_cancelled_only_before_it_is_signed_for() {
    let mut world = World::new();
    let lane = world.start(1, 8);
    world.payer.cancel(lane).unwrap();
    assert_eq!(world.payer.cancel(lane), Err(PayerError::NoRequest { lane }));
    assert_eq!(world.start(1, 8), lane);
    world.payer.voucher(lane).unwrap();
    assert_eq!(world.payer.cancel(lane), Err(PayerError::AlreadySigned { lane }));
}

#[test]
fn a_closing_channel_starts_nothing() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let mut view =
        LedgerView { phase: Phase::Closing { deadline_ms: 9 }, ..LedgerView::opened(grains(DEPOSIT)) };
    let (_, pending) = world.payer.observe(view.clone()).unwrap();
    world.payer_does(pending.unwrap());
    let quote = signed_quote();
    assert_eq!(world.payer.start(&plan(&quote, ANN, ask(1, 8))).unwrap_err(), PayerError::Closed);
    world.payer.voucher(lane).unwrap();
    view.phase = Phase::Closed;
    let (_, pending) = world.payer.observe(view).unwrap();
    world.payer_does(pending.unwrap());
    assert_eq!(world.payer.voucher(lane), Err(PayerError::UnknownLane { lane }));
    assert_eq!(world.payer.observe(LedgerView::opened(grains(DEPOSIT))).unwrap_err(), PayerError::StaleView);
}

#[test]
fn an_overclaim_on_the_ledger_is_reported() {
    let mut world = World::new();
    let lane = world.request(10, 100, 5);
    let spent = world.payer.lane_use(lane).unwrap().spent;
    let more = spent.checked_add(grains(3)).unwrap();
    let lanes = std::collections::BTreeMap::from([(lane, more), (9, grains(1))]);
    let settled = more.checked_add(grains(1)).unwrap();
    let view = LedgerView { settled, lanes, ..LedgerView::opened(grains(DEPOSIT)) };
    let (observed, _pending) = world.payer.observe(view).unwrap();
    assert_eq!(observed.overclaimed, [(lane, more), (9, grains(1))]);
    let of = world.payer.lane_use(lane).unwrap();
    assert_eq!(of.spent, more, "what was paid out is spent");
    assert_eq!(world.payer.owed(lane), Ok(spent), "the receipts say what they said");
}

#[test]
fn lanes_are_over_with_the_channel_and_pay_for_what_is_not_known() {
    let mut world = World::new();
    let known = world.request(10, 100, 5);
    let unknown = world.start_for(BOB, 10, 100);
    world.payer.voucher(unknown).unwrap();
    let spent = world.payer.lane_use(known).unwrap().spent;
    let settled = spent.checked_add(grains(40)).unwrap();
    let view = LedgerView { settled, phase: Phase::Closed, ..LedgerView::opened(grains(DEPOSIT)) };
    let (observed, pending) = world.payer.observe(view).unwrap();
    world.payer_does(pending.unwrap());
    let retired: Vec<_> = observed.retired.iter().map(|of| (of.lane, of.spent)).collect();
    assert_eq!(retired, [(unknown, grains(40)), (known, spent)]);
    assert_eq!(world.payer.lane_uses(), []);
    world.restart_payer();
    assert_eq!((world.payer.lane_uses(), world.payer.in_doubt()), (vec![], vec![]));
}

#[test]
fn time_is_paid_where_it_is_priced() {
    let mut timed = quote();
    timed.prices.per_msec = Amount::from_credits(1);
    let timed = Signed::sign(timed, &processor_key());
    let mut world = World::with_deposit(u128::from(u64::MAX));
    let asked = gristmill_channel::Ask { input_tokens: 0, max_output_tokens: 8, max_millis: 5_000 };
    let lane = start(&mut world, &plan(&timed, ANN, asked)).unwrap();
    let first = world.payer.voucher(lane).unwrap().body.0;
    assert_eq!((first.usage.millis, first.usage.output_tokens), (1_000, 8));
    assert_eq!(world.payer.delivered(lane, 1, 499), Ok(false));
    assert_eq!(world.payer.delivered(lane, 0, 1), Ok(true));
    assert_eq!(world.payer.voucher(lane).unwrap().body.0.usage.millis, 1_500);
    assert_eq!(world.payer.delivered(lane, 0, 4_501), Err(PayerError::Meter(MeterError::BeyondCap)));
}

#[test]
fn a_log_needs_its_own_key() {
    let world = World::new();
    let other = Payer::replay_bytes(&world.payer_log, secret(66));
    assert_eq!(other.err(), Some(ReplayError::WrongKey));
    let hash = quote().hash();
    assert_eq!(hash, signed_quote().body.hash());
    assert_ne!(hash.as_ref(), quote().message());
}
