//! Crashes and restored backups, then the comparison with the processor's copy.

use crate::world::*;
use gristmill_channel::{ChannelCopy, LedgerView, PayeeError, PayerError, Plan, Reconciled};
use gristmill_types::Signed;

impl World {
    /// Applies what reconciling came to; returns the outcome per lane.
    fn reconcile(&mut self, copy: &ChannelCopy) -> Vec<(u32, Reconciled)> {
        let result = self.payer.reconcile(copy);
        assert_eq!(result.refused, []);
        for pending in result.pending {
            self.payer_does(pending);
        }
        result.lanes
    }

    fn answer_open_vouchers(&mut self) {
        for lane in self.payee.unanswered() {
            let (_, pending) = self.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
            self.payee_does(pending);
        }
    }
}

#[test]
fn the_payer_crashes_within_a_stream() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let known = world.payer.latest(lane).unwrap().body.0;
    let whole = world.payer.lane_use(lane).unwrap().reserved;
    world.restart_payer();
    assert_eq!(world.payer.in_doubt(), [lane]);
    assert_eq!(world.payer.voucher(lane), Err(PayerError::InDoubt { lane }));
    assert_eq!(world.payer.lane_use(lane).unwrap().reserved, whole, "all of it counts");
    // The processor still waits for the next voucher: nothing is believed yet.
    let copy = world.payee.copy();
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Open)]);
    assert_eq!(world.payer.lane_use(lane).unwrap().reserved, whole);
    let (receipt, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    let copy = world.payee.copy();
    let spent = cost(&usage(10, 20, 1));
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Adopted { signed: known.amount, spent })]);
    let after = world.payer.lane_use(lane).unwrap();
    assert_eq!((after.reserved, after.spent), (spent, receipt.body.spent));
    // The last receipt decides: there is nothing to contest it with.
    let approval = world.payer.approve(lane).unwrap();
    assert_eq!(approval.body.0.amount, spent);
    world.approve(&approval);
    // Numbers go on above the whole old reservation.
    assert_eq!(world.start(10, 100), lane);
    world.place(lane, b"{}", ask(10, 100));
    assert!(world.payer.latest(lane).unwrap().body.0.seq > known.seq + 1_000);
    world.stream(lane, 30);
    assert_eq!(world.finish(lane).body.usage, usage(20, 50, 2));
    let copy = world.payee.copy();
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Agreed)]);
}

#[test]
fn the_payer_crashes_before_its_first_voucher_is_seen() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.payer.voucher(lane).unwrap();
    world.restart_payer();
    assert_eq!(world.reconcile(&ChannelCopy::default()), [(lane, Reconciled::Unseen)]);
    assert!(world.payer.lane_use(lane).unwrap().reserved.is_zero());
    assert_eq!(world.start(10, 100), lane);
    world.request(10, 100, 40);
}

#[test]
fn the_payee_crashes_within_a_stream() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 21);
    // Use is durable as of the last voucher, which came with the sixteenth token.
    world.restart_payee();
    world.answer_open_vouchers();
    let receipt = world.payee.copy().lanes[0].receipt.clone().unwrap();
    assert_eq!(receipt.body.usage, usage(10, 16, 1));
    let lost = 21 - receipt.body.usage.output_tokens;
    assert!(lost <= WINDOW, "{lost}");
    world.take(&receipt);
    let approval = world.payer.approve(lane).unwrap();
    world.approve(&approval);
    assert_eq!(world.payer.owed(lane).unwrap(), world.payee.spent(lane).unwrap().1);
    assert_eq!(world.request(10, 100, 40), lane, "the lane goes on");
}

#[test]
fn our_own_approval_in_the_copy_verifies_what_we_forgot() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let durable = world.payer_log.len();
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    world.finish(lane);
    world.payer_log.truncate(durable); // a backup from before the receipt
    world.restart_payer();
    let copy = world.payee.copy();
    assert!(matches!(world.reconcile(&copy)[..], [(_, Reconciled::Adopted { .. })]));
    assert!(world.payer.approve(lane).is_ok());
}

#[test]
fn a_stale_backup_of_the_payer_is_noticed() {
    let mut world = World::new();
    let durable = world.payer_log.len();
    let lane = world.request(10, 100, 50);
    world.payer_log.truncate(durable);
    world.restart_payer();
    assert_eq!(world.payer.lane_uses(), []);
    let copy = world.payee.copy();
    let signed = copy.lanes[0].voucher.body.0.amount;
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Ahead { signed })]);
    let of = world.payer.lane_use(lane).unwrap();
    assert_eq!((of.budget, of.spent), (None, cost(&usage(10, 50, 1))));
    assert_eq!(world.start(10, 100), lane + 1, "the lane's prices are unknown: a new one");
    // And again from the log.
    let digest = world.payer.state_digest();
    world.restart_payer();
    assert_eq!(world.payer.state_digest(), digest);
}

#[test]
fn a_stale_backup_within_a_lane_is_noticed() {
    let mut world = World::new();
    let lane = world.request(10, 50, 50);
    for pending in world.payer.trim() {
        world.payer_does(pending);
    }
    let durable = world.payer_log.len();
    world.request(10, 50, 50);
    world.payer_log.truncate(durable);
    world.restart_payer();
    assert_eq!(world.payer.in_doubt(), [] as [u32; 0], "it looks clean");
    let copy = world.payee.copy();
    let signed = copy.lanes[0].voucher.body.0.amount;
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Ahead { signed })]);
    assert_eq!(world.request(10, 50, 50), lane);
    assert_eq!(world.payee.spent(lane).unwrap().0, usage(30, 150, 3));
}

#[test]
fn a_stale_backup_of_the_payee_is_noticed() {
    let mut world = World::new();
    let lane = world.request(10, 100, 20);
    let durable = world.payee_log.len();
    world.request(10, 100, 20);
    world.payee_log.truncate(durable);
    world.restart_payee();
    let copy = world.payee.copy();
    assert_eq!(world.reconcile(&copy), [(lane, Reconciled::Behind)]);
    // The last voucher again brings it back in step with what was promised.
    let latest = world.payer.latest(lane).unwrap().clone();
    world.accept(&latest);
    assert_eq!(world.payee.copy().lanes[0].voucher, latest);
}

#[test]
fn a_copy_is_believed_as_far_as_its_signatures_go() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    let (_, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    world.restart_payer();
    let good = world.payee.copy();
    let whole = world.payer.lane_use(lane).unwrap();
    let with = |change: &dyn Fn(&mut gristmill_channel::LaneCopy)| {
        let mut copy = good.clone();
        change(&mut copy.lanes[0]);
        copy
    };
    let more = usage(10, 30, 1);
    let other = quote_of(8, prices());
    for (copy, error) in [
        (with(&|l| l.voucher.body.0.amount = grains(0)), PayerError::BadSignature),
        (with(&|l| l.voucher.body.0.seq += 1), PayerError::BadSignature),
        (with(&|l| l.lane = 3), PayerError::UnknownLane { lane: 3 }),
        (with(&|l| l.voucher.body.0.model = other.model), PayerError::WrongQuote),
        (
            with(&|l| l.voucher.body.0.channel = gristmill_types::ChannelId::new([0; 32])),
            PayerError::UnknownLane { lane },
        ),
        (
            with(&|l| {
                let receipt = receipt_for(&l.voucher, usage(10, 20, 1), true);
                l.receipt = Some(Signed::sign(receipt, &processor_key()));
            }),
            PayerError::BadSignature,
        ),
        (
            with(&|l| l.receipt = Some(signed(receipt_for(&l.voucher, usage(10, 1_000, 1), true)))),
            PayerError::ReceiptOverVoucher,
        ),
        (
            with(&|l| {
                let mut receipt = receipt_for(&l.voucher, usage(10, 20, 1), true);
                receipt.spent = cost(&more).min(l.voucher.body.0.amount);
                l.receipt = Some(signed(receipt));
            }),
            PayerError::WrongCost {
                spent: cost(&more).min(good.lanes[0].voucher.body.0.amount),
                cost: cost(&usage(10, 20, 1)),
            },
        ),
    ] {
        let result = world.payer.reconcile(&copy);
        assert_eq!(result.refused.iter().map(|(_, error)| error.clone()).collect::<Vec<_>>(), [error]);
        assert_eq!(world.payer.lane_use(lane).unwrap(), whole, "nothing is released");
    }
    assert!(matches!(world.reconcile(&good)[..], [(_, Reconciled::Adopted { .. })]));
}

#[test]
fn a_hidden_voucher_is_capped_by_the_next_receipt() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 10);
    let (_, pending) = world.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
    world.payee_does(pending);
    let shown = world.payee.copy();
    // A voucher that the processor got and does not show.
    world.payer.delivered(lane, 8, 0).unwrap();
    let hidden = world.payer.voucher(lane).unwrap();
    world.restart_payer();
    assert!(matches!(world.reconcile(&shown)[..], [(_, Reconciled::Adopted { .. })]));
    assert!(world.payer.challenge(&hidden.body.0).is_none(), "no receipt answers it yet");
    world.request(10, 20, 4);
    let answer = world.payer.challenge(&hidden.body.0).map(|receipt| receipt.body.spent);
    let spent = world.payer.lane_use(lane).unwrap().spent;
    assert_eq!(answer, (hidden.body.0.amount > spent).then_some(spent));
    assert!(world.payer.latest(lane).unwrap().body.0.seq > hidden.body.0.seq);
}

#[test]
fn a_second_comparison_before_the_first_is_durable_changes_nothing() {
    // A lane that the processor never saw, and one that it answered.
    for placed in [false, true] {
        let mut world = World::new();
        let lane = world.start(10, 100);
        match placed {
            true => world.place(lane, b"{}", ask(10, 100)),
            false => drop(world.payer.voucher(lane).unwrap()),
        }
        world.restart_payer();
        world.restart_payee();
        world.answer_open_vouchers();
        let copy = world.payee.copy();
        let first = world.payer.reconcile(&copy).pending;
        assert_eq!((first.len(), world.payer.in_doubt()), (1, vec![lane]), "not before it is durable");
        assert!(world.payer.reconcile(&copy).pending.is_empty());
        for pending in first {
            world.payer_does(pending);
        }
        assert_eq!(world.request(10, 100, 20), lane);
    }
}

#[test]
fn a_copy_that_says_more_than_a_receipt_we_hold_is_not_believed() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    let voucher = world.payer.latest(lane).unwrap().clone();
    // The payee says that nothing was spent; then a crash, and its copy says that all was.
    world.take(&signed(receipt_for(&voucher, usage(0, 0, 0), true)));
    world.restart_payer();
    assert_eq!(world.payer.in_doubt(), [lane]);
    let mut copy = world.payee.copy();
    copy.lanes[0].receipt = Some(signed(receipt_for(&voucher, usage(10, 16, 1), true)));
    let result = world.payer.reconcile(&copy);
    assert_eq!(result.refused, [(lane, PayerError::WrongReceipt)]);
    assert!(result.pending.is_empty());
    // What it said first is still what counts.
    assert_eq!(world.payer.approve(lane).unwrap().body.0.amount, grains(0));
    assert_eq!(world.payer.challenge(&voucher.body.0).unwrap().body.spent, grains(0));
    // A copy that agrees with that is believed.
    copy.lanes[0].receipt = Some(signed(receipt_for(&voucher, usage(0, 0, 0), true)));
    assert!(matches!(world.reconcile(&copy)[..], [(_, Reconciled::Adopted { .. })]));
}

#[test]
fn a_payee_with_a_stale_backup_counts_what_was_paid_on_lanes_that_it_forgot() {
    let mut world = World::with_deposit(200);
    let durable = world.payee_log.len();
    let lane = world.request(10, 50, 50);
    let paid = cost(&usage(10, 50, 1));
    world.payee_log.truncate(durable);
    world.restart_payee();
    let view = LedgerView { settled: paid, lanes: [(lane, paid)].into(), ..LedgerView::opened(grains(200)) };
    let pending = world.payee.observe(view).unwrap().unwrap();
    world.payee_does(pending);
    // What is left of the deposit is less than this.
    let more = voucher(claim(lane + 1, 1, usage(10, 16, 1)));
    let sum = paid.checked_add(more.body.0.amount).unwrap();
    let refused = world.payee.accept(&more, |_| Some(quote()), 0);
    assert_eq!(refused, Err(PayeeError::ExceedsDeposit { sum, deposit: grains(200) }));
}

/// The last voucher of a request that was given up may be on its way: an older copy is believed when that cannot be any
/// more. Also where nothing was reserved beyond it.
#[test]
fn what_was_signed_last_is_waited_for() {
    for ahead in [0, 5_000] {
        let mut world = World::new();
        let quote = signed_quote();
        let plan = Plan { ahead: grains(ahead), ..plan(&quote, ANN, ask(10, 5)) };
        let begin = |world: &mut World| {
            let started = world.payer.start(&plan).unwrap();
            if let Some(pending) = started.pending {
                world.payer_does(pending);
            }
            started.lane
        };
        let lane = begin(&mut world);
        world.place(lane, b"{}", ask(10, 5));
        world.stream(lane, 5);
        world.finish(lane);
        let copy = world.payee.copy();
        assert_eq!(begin(&mut world), lane);
        let lost = world.payer.voucher(lane).unwrap().body.0;
        world.payer.give_up(lane).unwrap();
        for pending in world.payer.trim() {
            world.payer_does(pending);
        }
        world.restart_payer();
        assert_eq!(world.payer.lane_use(lane).unwrap().reserved, lost.amount);
        let early = world.payer.reconcile_early(&copy);
        assert_eq!((&early.lanes[..], early.pending.len()), (&[(lane, Reconciled::Open)][..], 0), "{ahead}");
        assert!(matches!(world.reconcile(&copy)[..], [(_, Reconciled::Adopted { .. })]), "{ahead}");
        assert_eq!(begin(&mut world), lane);
        assert!(world.payer.voucher(lane).unwrap().body.0.seq > lost.seq);
    }
}
