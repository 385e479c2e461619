//! Whether the real machines say the same as the model.

use super::{
    Bounds, State,
    book::{Book, PAYEE, PAYER},
    facts::*,
    ledger::{Ledger, Phase},
    real::{Real, grains, usage},
};
use gristmill_ledger::record::ChannelState;
use gristmill_types::{Amount, Claim, QuoteHash};

type Context<'a> = &'a dyn Fn() -> String;

pub(super) fn all(real: &Real, bounds: &Bounds, state: &State, context: Context<'_>) {
    compare_ledger(real, &state.ledger, context);
    if state.ledger.phase != Phase::Closed {
        compare_payer(real, bounds, state, context);
        compare_payee(real, bounds, state, context);
    }
}

fn compare_ledger(real: &Real, of: &Ledger, context: Context<'_>) {
    let channel = real.book.channel(&real.terms);
    let phase = match channel.state {
        ChannelState::Open => Phase::Open,
        ChannelState::Closing { deadline_ms } => Phase::Closing(real.book.left(deadline_ms)),
        ChannelState::Closed => Phase::Closed,
    };
    let amounts = (channel.deposit, channel.settled, channel.refunded);
    let expected = (grains(of.deposit), grains(of.settled), grains(of.refunded));
    assert_eq!((phase, amounts), (of.phase, expected), "{}", context());
    assert_eq!(channel.lane_floor, u32::from(of.floor), "{}", context());
    let [deposit, refunded, earned] = [of.deposit, of.refunded, of.earned].map(i128::from);
    assert_eq!(real.book.gained(PAYER), refunded - deposit, "{}", context());
    assert_eq!(real.book.gained(PAYEE), earned, "{}", context());
    assert_eq!(real.book.pool(), u128::from(of.pool), "{}", context());
    assert!(real.book.adds_up(), "{}", context());
    let gone = |lane: usize| lane < usize::from(of.floor) || of.phase == Phase::Closed;
    for (lane, of) in of.lanes.iter().enumerate() {
        let Some(found) = real.book.lane(&real.terms, lane as u32) else {
            assert!(!of.exists || gone(lane), "lane {lane} is lost: {}", context());
            continue;
        };
        let number = |seq: u8| real.number(lane, seq);
        assert!(of.exists, "{}", context());
        let expected = (grains(of.paid), number(of.seq), usage(of.usage));
        assert_eq!((found.paid, found.seq, found.usage), expected, "{}", context());
        let pending = found.pending.as_ref().map(|pending| {
            (
                pending.seq,
                pending.effective(),
                pending.through(),
                real.book.left(pending.deadline_ms),
                pending.by_payee,
            )
        });
        let expected = of.pending.as_ref().map(|pending| {
            let (seq, worth) = (number(pending.voucher.seq), grains(pending.worth()));
            (seq, worth, number(pending.through()), pending.left, pending.by_payee)
        });
        assert_eq!(pending, expected, "{}", context());
    }
}

fn compare_payer(real: &Real, bounds: &Bounds, state: &State, context: Context<'_>) {
    let (Some(side), Some(of)) = (&real.payer, &state.payer) else { return };
    let machine = &side.machine;
    assert_eq!(machine.room(), grains(of.room(&state.ledger)), "{}", context());
    for lane in 0..bounds.lanes {
        let id = lane as u32;
        let held = machine.lane_use(id).ok().map(|found| (found.reserved, found.spent));
        let paid = state.ledger.lanes[lane].paid;
        let expected =
            of.mem[lane].as_ref().map(|of| of.held(paid)).map(|(all, spent)| (grains(all), grains(spent)));
        assert_eq!(held, expected, "{}", context());
        let live = of.live[lane].as_ref();
        assert_eq!(machine.in_doubt().contains(&id), of.in_doubt(lane), "{}", context());
        let request = live.is_some_and(|live| live.request.is_some());
        assert_eq!(machine.in_flight().contains(&id), request, "{}", context());
        let latest = machine.latest(id).map(|found| {
            let claim = found.body.0;
            (claim.seq, claim.usage, claim.amount)
        });
        let expected = live.and_then(|live| live.recent.last());
        let expected = expected.map(|of| (real.number(lane, of.seq), usage(of.usage), grains(of.amount)));
        assert_eq!(latest, expected, "{}", context());
        let receipted = of.mem[lane].as_ref().map(|of| of.usage()).unwrap_or_default();
        assert_eq!(machine.receipted(id), usage(receipted), "{}", context());
        let approval = machine.approve(id).ok().map(|found| (found.body.0.seq, found.body.0.amount));
        let expected = of.approval(lane).map(|of| (real.number(lane, of.seq), grains(of.amount)));
        assert_eq!(approval, expected, "{}", context());
        if let Some(pending) = state.ledger.lanes[lane].pending {
            let found = real.book.lane(&real.terms, id).unwrap().pending.unwrap();
            let claim = Claim { seq: found.seq, amount: found.effective(), lane: id, ..claim_of(real) };
            let shown = machine.challenge(&claim).map(|receipt| (receipt.body.seq, receipt.body.spent));
            let claim = Voucher { amount: pending.worth(), ..pending.voucher };
            let expected = of.challenge(lane, &claim);
            let expected = expected.map(|of| (real.number(lane, of.seq()), grains(of.spent())));
            assert_eq!(shown, expected, "{}", context());
        }
    }
}

/// A claim on the channel that says nothing.
fn claim_of(real: &Real) -> Claim {
    Claim {
        chain: real.terms.chain,
        channel: real.terms.id(),
        lane: 0,
        seq: 0,
        model: Book::model(),
        quote: QuoteHash::new([0; 32]),
        usage: usage(Use::default()),
        amount: Amount::ZERO,
    }
}

fn compare_payee(real: &Real, bounds: &Bounds, state: &State, context: Context<'_>) {
    let (Some(side), Some(of)) = (&real.payee, &state.payee) else { return };
    let machine = &side.machine;
    assert_eq!(machine.is_idle(), of.is_idle(), "{}", context());
    assert_eq!(machine.retiring(), u32::from(of.mem.retiring), "{}", context());
    let shown = machine.copy();
    let claims = machine.claims_to_settle();
    for (lane, expected) in of.copy().into_iter().enumerate().take(bounds.lanes) {
        let id = lane as u32;
        let number = |seq: u8| real.number(lane, seq);
        let found = shown.lanes.iter().find(|of| of.lane == id).map(|of| {
            let claim = of.voucher.body.0;
            let receipt =
                of.receipt.as_ref().map(|of| (of.body.seq, of.body.usage, of.body.spent, of.body.last));
            let approval = of.approval.as_ref().map(|of| (of.body.0.seq, of.body.0.amount));
            ((claim.seq, claim.usage, claim.amount), receipt, approval)
        });
        let expected = expected.map(|of| {
            let voucher = (number(of.voucher.seq), usage(of.voucher.usage), grains(of.voucher.amount));
            let receipt =
                of.receipt.map(|of| (number(of.seq()), usage(of.usage), grains(of.spent()), of.last));
            (voucher, receipt, of.approval.map(|of| (number(of.seq), grains(of.amount))))
        });
        assert_eq!(found, expected, "{}", context());
        let used = of.live[lane].as_ref().map(|live| live.used);
        let expected = used.map(|used| (usage(used), grains(used.cost())));
        assert_eq!(machine.spent(id).ok(), expected, "{}", context());
        assert_eq!(machine.unanswered().contains(&id), of.is_unanswered(lane), "{}", context());
        let found = claims.iter().find(|of| of.lane == id).map(|of| (of.at_once, of.owed));
        let expected = of.owed(&state.ledger, lane).map(|of| (grains(of.at_once), grains(of.owed)));
        assert_eq!(found, expected, "{}", context());
    }
}
