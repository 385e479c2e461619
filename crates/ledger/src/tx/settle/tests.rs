//! Table tests of `settle`: every rejection, both kinds of claims, the floor.

use super::*;
use crate::{
    event::Royalty,
    record::{Deadlines, Pool},
    tx::{CloseChannel, MaturedLane, RequestClose, Withdraw},
    world::*,
};
use gristmill_types::{ChainId, ModelId, QuoteHash};

fn settle(terms: ChannelTerms, claims: Vec<SettleClaim>) -> Settle {
    Settle { terms, claims, floor: None }
}

fn raise(terms: ChannelTerms, to: u32, remove: &[u32]) -> Settle {
    Settle { terms, claims: vec![], floor: Some(RaiseFloor { to, remove: remove.into() }) }
}

#[test]
fn an_approval_pays_at_once_and_splits_the_royalty() {
    let (mut world, terms) = World::with_channel(1_000);
    let held = world.balance(PAYEE);
    let events = world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 1, 109))]));
    let paid = |seq, paid, earned, royalty| Event::ClaimPaid {
        channel: terms.id(),
        payer: terms.payer,
        payee: terms.payee,
        issuer: terms.issuer,
        lane: 0,
        seq,
        model: MODEL,
        usage: tokens(seq),
        paid: grains(paid),
        earned: grains(earned),
        owed: grains(0),
        bonded: grains(0),
        royalties: vec![Royalty { line: line(), amount: grains(royalty) }],
    };
    assert_eq!(events, [paid(1, 109, 99, 10)]);
    // 10 % of the total, not of each part: 110 in all gives 11.
    let events = world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 2, 110))]));
    assert_eq!(events, [paid(2, 110, 0, 1)]);
    assert_eq!(world.balance(PAYEE), held + 99 - 2 * FEE);
    let pool: Pool = world.get(&keys::pool(&line(), &id(ISSUER))).unwrap();
    assert_eq!(pool.balance, grains(11));
    assert_eq!(world.channel(&terms).settled, grains(110));
}

#[test]
fn a_foreign_model_pays_no_royalty() {
    let (mut world, terms) = World::with_channel(1_000);
    let mut item = approval(Claim { model: FOREIGN, ..claim(&terms, 0, 1, 1_000) });
    item.lines = vec![];
    let held = world.balance(PAYEE);
    world.must(PAYEE, settle(terms, vec![item]));
    assert_eq!(world.balance(PAYEE), held + 1_000 - FEE);
    assert_eq!(world.get::<Pool>(&keys::pool(&foreign_line(), &id(ISSUER))), None);
}

#[test]
fn a_voucher_waits() {
    let (mut world, terms) = World::with_channel(1_000);
    let deadline_ms = world.context.clock_ms + GRACE_MS;
    let events = world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 3, 1, 100))]));
    let event = Event::ClaimPending {
        channel: terms.id(),
        payer: terms.payer,
        payee: terms.payee,
        issuer: terms.issuer,
        lane: 3,
        seq: 1,
        model: MODEL,
        amount: grains(100),
        deadline_ms,
        by_payee: true,
    };
    assert_eq!(events, [event]);
    let channel = world.channel(&terms);
    assert_eq!((channel.settled, channel.lanes, channel.pending), (grains(0), 8, 8));
    assert_eq!(channel.pending_lanes().collect::<Vec<_>>(), [3]);
    assert_eq!(world.get(&keys::deadlines()), Some(Deadlines { latest_ms: deadline_ms }));
}

#[test]
fn what_is_taken_on_a_lane() {
    let (mut world, terms) = World::with_channel(1_000);
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 5, 300))]));
    let foreign = ModelId::new([8; 32]);
    let base = claim(&terms, 0, 6, 400);
    let wrong_line = SettleClaim { lines: vec![foreign_line()], ..voucher(base) };
    let new_wrong_line = SettleClaim { lines: vec![foreign_line()], ..voucher(claim(&terms, 1, 1, 1)) };
    for (item, rejection) in [
        (voucher(Claim { model: FOREIGN, ..base }), Rejection::LanePinned),
        (voucher(Claim { quote: QuoteHash::new([0; 32]), ..base }), Rejection::LanePinned),
        (wrong_line, Rejection::WrongLine),
        (new_wrong_line, Rejection::WrongLine),
        (voucher(Claim { lane: 1, model: foreign, ..base }), Rejection::UnknownModel),
        (voucher(Claim { lane: 64, ..base }), Rejection::LaneTooHigh),
        (voucher(Claim { lane: u32::MAX, ..base }), Rejection::LaneTooHigh),
        (voucher(Claim { seq: 5, usage: tokens(5), ..base }), Rejection::StaleClaim),
        (voucher(Claim { seq: 0, ..base }), Rejection::StaleClaim),
        (approval(Claim { seq: 4, ..base }), Rejection::StaleClaim),
        (voucher(Claim { amount: grains(300), ..base }), Rejection::NotHigher),
        (approval(Claim { amount: grains(300), ..base }), Rejection::NotHigher),
        (voucher(Claim { amount: grains(1), ..base }), Rejection::NotHigher),
        (voucher(Claim { usage: tokens(4), ..base }), Rejection::UsageFell),
        (voucher(Claim { amount: grains(1_001), ..base }), Rejection::OverDeposit),
        (approval(Claim { amount: grains(1_001), ..base }), Rejection::OverDeposit),
        (voucher(Claim { lane: 1, amount: grains(701), ..base }), Rejection::OverDeposit),
    ] {
        assert_eq!(world.rejected(PAYEE, settle(terms, vec![item.clone()])), rejection, "{item:?}");
    }
    // An approval of the same number pays on; a claim may take the channel's last grain.
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 5, 301))]));
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 6, 1_000))]));
    assert_eq!(world.channel(&terms).available(), grains(0));
}

#[test]
fn a_pending_claim_is_replaced_by_a_higher_one_and_waits_anew() {
    let (mut world, terms) = World::with_channel(1_000);
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 5, 100))]));
    world.wait(GRACE_MS - 100);
    for (seq, amount, rejection) in [
        (5, 200, Rejection::StaleClaim),
        (4, 200, Rejection::StaleClaim),
        (6, 100, Rejection::NotHigher),
        (6, 99, Rejection::NotHigher),
    ] {
        let item = voucher(claim(&terms, 0, seq, amount));
        assert_eq!(world.rejected(PAYEE, settle(terms, vec![item])), rejection);
    }
    let deadline_ms = world.context.clock_ms + GRACE_MS;
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 6, 101))]));
    let pending = world.lane(&terms, 0).unwrap().pending.unwrap();
    assert_eq!((pending.seq, pending.amount, pending.deadline_ms), (6, grains(101), deadline_ms));
}

#[test]
fn only_the_payee_replaces_its_own_claim() {
    let (mut world, terms) = World::with_channel(1_000);
    let by_others = |seq, spent| {
        let item = voucher(claim(&terms, 0, seq, 900));
        settle(terms, vec![with_receipt(item, receipt(&terms, 0, seq, spent))])
    };
    world.must(STRANGER, by_others(5, 50));
    let pending = world.lane(&terms, 0).unwrap().pending.unwrap();
    assert_eq!((pending.effective(), pending.by_payee), (grains(50), false));
    world.must(PAYER, by_others(6, 60));
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 7, 70))]));
    assert_eq!(world.rejected(PAYER, by_others(8, 80)), Rejection::HeldByPayee);
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 9, 90))]));
}

#[test]
fn nobody_but_the_payee_claims_without_its_word() {
    let (mut world, terms) = World::with_channel(1_000);
    let (promise, agreed) = (claim(&terms, 0, 5, 100), claim(&terms, 0, 5, 60));
    for item in [voucher(promise), approval(agreed)] {
        assert_eq!(world.malformed(PAYER, settle(terms, vec![item])), Malformed::ReceiptMissing);
    }
    let mismatch = Malformed::Mismatch { what: "the receipt" };
    let other_lane = receipt(&terms, 1, 5, 60);
    let other_channel = receipt(&ChannelTerms { open_nonce: 99, ..terms }, 0, 5, 60);
    let mut other_model = receipt(&terms, 0, 5, 60);
    other_model.body.model = FOREIGN;
    let mut forged = receipt(&terms, 0, 5, 60);
    forged.body.response = gristmill_types::Digest::new([0; 32]);
    for (item, word, error) in [
        (voucher(promise), receipt(&terms, 0, 4, 60), mismatch.clone()),
        (voucher(promise), other_lane, mismatch.clone()),
        (voucher(promise), other_channel, mismatch.clone()),
        (voucher(promise), other_model, mismatch.clone()),
        (voucher(promise), forged, Malformed::Signature { what: "the receipt" }),
        // An approval is exactly what the receipt says.
        (approval(agreed), receipt(&terms, 0, 6, 60), mismatch.clone()),
        (approval(agreed), receipt(&terms, 0, 5, 61), mismatch.clone()),
    ] {
        assert_eq!(world.malformed(STRANGER, settle(terms, vec![with_receipt(item, word)])), error);
    }
    let item = with_receipt(approval(agreed), receipt(&terms, 0, 5, 60));
    world.must(STRANGER, settle(terms, vec![item]));
    assert_eq!(world.lane(&terms, 0).unwrap().paid, grains(60));
    // The payee may add its word too, and claims what was spent and no more.
    let item = with_receipt(voucher(claim(&terms, 0, 6, 900)), receipt(&terms, 0, 6, 80));
    world.must(PAYEE, settle(terms, vec![item]));
    assert_eq!(world.lane(&terms, 0).unwrap().pending.unwrap().effective(), grains(80));
}

/// A payer cannot take its deposit back through the royalties of a model of its own, nor hold a lane
/// with a claim that it will shoot down itself.
#[test]
fn a_payer_cannot_empty_the_channel_past_the_payee() {
    let (mut world, terms) = World::with_channel(1_000);
    let own = ModelId::new([8; 32]);
    let payload = crate::tx::PublishModel { royalty_bps: 10_000, ..publish("payer/own", own) };
    world.commit(PAYER, payload.clone());
    world.must(PAYER, payload);
    let mut item = approval(Claim { model: own, ..claim(&terms, 63, 1, 1_000) });
    item.lines = vec![keys::line_id("payer/own")];
    assert_eq!(world.malformed(PAYER, settle(terms, vec![item.clone()])), Malformed::ReceiptMissing);
    let other_work = with_receipt(item, receipt(&terms, 63, 1, 1_000));
    let error = world.malformed(PAYER, settle(terms, vec![other_work]));
    assert_eq!(error, Malformed::Mismatch { what: "the receipt" });
    let blocker = with_receipt(voucher(claim(&terms, 0, 5, 1_000)), receipt(&terms, 0, 5, 60));
    world.must(PAYER, settle(terms, vec![blocker]));
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 6, 70))]));
}

#[test]
fn an_approval_leaves_a_higher_pending_claim_and_ends_a_lower_one() {
    let (mut world, terms) = World::with_channel(1_000);
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 10, 200))]));
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 12, 150))]));
    let lane = world.lane(&terms, 0).unwrap();
    assert_eq!((lane.paid, lane.pending.unwrap().amount), (grains(150), grains(200)));
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 0, 13, 200))]));
    let lane = world.lane(&terms, 0).unwrap();
    assert_eq!((lane.paid, lane.pending, lane.seq), (grains(200), None, 13));
    assert_eq!(world.channel(&terms).pending, 0);
    // The voucher that promised more under an approved number is worth nothing more.
    let old = settle(terms, vec![voucher(claim(&terms, 0, 13, 900))]);
    assert_eq!(world.rejected(PAYEE, old), Rejection::StaleClaim);
}

#[test]
fn a_matured_claim_is_paid_before_the_next_is_taken() {
    let (mut world, terms) = World::with_channel(1_000);
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 1, 200))]));
    world.wait(GRACE_MS);
    let events = world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 2, 300))]));
    let [Event::ClaimPaid { paid, .. }, Event::ClaimPending { amount, .. }] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((paid, amount), (grains(200), grains(300)));
    assert_eq!(world.lane(&terms, 0).unwrap().seq, 1);
}

#[test]
fn closing_takes_claims_until_the_deadline() {
    let (mut world, terms) = World::with_channel(1_000);
    let deadline_ms = world.context.clock_ms + GRACE_MS;
    world.must(PAYER, RequestClose { terms });
    world.wait(deadline_ms - 1 - world.context.clock_ms);
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 0, 1, 200))]));
    assert_eq!(world.context.clock_ms, deadline_ms);
    let late = settle(terms, vec![approval(claim(&terms, 0, 2, 300))]);
    assert_eq!(world.rejected(PAYEE, late), Rejection::ClosingOver);
    // What is pending by then is still paid.
    world.wait(GRACE_MS);
    world.must(PAYER, Withdraw { terms, lanes: vec![MaturedLane { lane: 0, lines: vec![line()] }] });
    world.must(PAYER, CloseChannel { terms, lanes: vec![0] });
    assert_eq!(world.channel(&terms).refunded, grains(800));
}

#[test]
fn the_floor_rises_over_finished_lanes() {
    let (mut world, terms) = World::with_channel(1_000);
    for lane in [0, 1, 5, 63] {
        world.must(PAYEE, settle(terms, vec![approval(claim(&terms, lane, 1, 10))]));
    }
    world.must(PAYEE, settle(terms, vec![voucher(claim(&terms, 4, 1, 10))]));
    for (to, remove, rejection) in [
        (0, vec![], Rejection::FloorNotHigher),
        (2, vec![], Rejection::LanesDiffer),
        (2, vec![0], Rejection::LanesDiffer),
        (2, vec![0, 1, 5], Rejection::LanesDiffer),
        (5, vec![0, 1, 4], Rejection::ClaimsPending),
        (u32::MAX, vec![0, 1, 4, 5, 63], Rejection::ClaimsPending),
    ] {
        assert_eq!(world.rejected(PAYEE, raise(terms, to, &remove)), rejection, "{to} {remove:?}");
    }
    let events = world.must(PAYEE, raise(terms, 2, &[0, 1]));
    let (channel, payer, payee) = (terms.id(), terms.payer, terms.payee);
    assert_eq!(events, [Event::FloorRaised { channel, payer, payee, floor: 2 }]);
    let record = world.channel(&terms);
    assert_eq!(record.open_lanes().collect::<Vec<_>>(), [4, 5, 63]);
    assert_eq!(record.pending_lanes().collect::<Vec<_>>(), [4]);
    assert_eq!(world.lane(&terms, 0), None);
    // Below the floor nothing is payable any more; above it there is room.
    let below = settle(terms, vec![approval(claim(&terms, 1, 2, 20))]);
    assert_eq!(world.rejected(PAYEE, below), Rejection::LaneRetired);
    let above = settle(terms, vec![approval(claim(&terms, 66, 1, 20))]);
    assert_eq!(world.rejected(PAYEE, above), Rejection::LaneTooHigh);
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, 65, 1, 20))]));
    // All the way, once nothing is pending; claims may come in the same transaction, before.
    world.wait(GRACE_MS);
    let all = Settle {
        terms,
        claims: vec![approval(claim(&terms, 4, 2, 15))],
        floor: Some(RaiseFloor { to: u32::MAX, remove: vec![4, 5, 63, 65] }),
    };
    world.must(PAYEE, all);
    world.must(PAYEE, settle(terms, vec![approval(claim(&terms, u32::MAX, 1, 20))]));
    world.must(PAYEE, CloseChannel { terms, lanes: vec![u32::MAX] });
}

#[test]
fn unknown_channel() {
    let (mut world, terms) = World::with_channel(1_000);
    let other = ChannelTerms { grace_ms: terms.grace_ms + 1, ..terms };
    let payload = settle(other, vec![approval(claim(&other, 0, 1, 1))]);
    assert_eq!(world.rejected(PAYEE, payload), Rejection::UnknownChannel);
}

#[test]
fn malformed() {
    let (mut world, terms) = World::with_channel(1_000);
    let good = claim(&terms, 0, 1, 100);
    let mismatch = Malformed::Mismatch { what: "the voucher or approval" };
    for (claim, error) in [
        (Claim { chain: ChainId::new([0; 32]), ..good }, mismatch.clone()),
        (Claim { channel: ChannelTerms { open_nonce: 99, ..terms }.id(), ..good }, mismatch),
        (Claim { amount: grains(0), ..good }, Malformed::ZeroAmount),
        (
            Claim { amount: grains((1 << 63) + 1), ..good },
            Malformed::OutOfBounds { what: "a claim's amount" },
        ),
    ] {
        assert_eq!(world.malformed(PAYEE, settle(terms, vec![voucher(claim)])), error);
    }
    // A signature of another key, or over something else, or of the other artefact.
    let by_receipt_key = Signed::sign(Voucher(good), &key(RECEIPT_KEY));
    let as_approval = Signed { body: Approval(good), signature: by_receipt_key.signature };
    let of_voucher = Signed::sign(Voucher(good), &key(VOUCHER_KEY));
    let passed_off = Signed { body: Approval(good), signature: of_voucher.signature };
    for (proof, what) in [
        (ClaimProof::Voucher(by_receipt_key), "the voucher"),
        (ClaimProof::Approval(as_approval), "the approval"),
        (ClaimProof::Approval(passed_off), "the approval"),
    ] {
        let item = SettleClaim { lines: vec![line()], proof, receipt: None };
        assert_eq!(world.malformed(PAYEE, settle(terms, vec![item])), Malformed::Signature { what });
    }
    let many = (0..17).map(|lane| voucher(claim(&terms, lane, 1, 1))).collect();
    let count = |min| Malformed::Count { what: "claims", min, max: MAX_CLAIMS };
    assert_eq!(world.malformed(PAYEE, settle(terms, many)), count(1));
    assert_eq!(world.malformed(PAYEE, settle(terms, vec![])), count(1));
    let twice = vec![voucher(good), approval(good)];
    assert_eq!(world.malformed(PAYEE, settle(terms, twice)), Malformed::Unsorted { what: "claims" });
    assert_eq!(world.malformed(PAYER, raise(terms, 1, &[])), Malformed::Sender { who: "payee" });
    let doubled = raise(terms, 2, &[1, 1]);
    assert_eq!(world.malformed(PAYEE, doubled), Malformed::Unsorted { what: "lanes to remove" });
    let weak = ChannelTerms { voucher_key: gristmill_types::AccountId::new([0; 32]), ..terms };
    let payload = settle(weak, vec![voucher(claim(&weak, 0, 1, 1))]);
    assert_eq!(world.malformed(PAYEE, payload), Malformed::Key { what: "the voucher key" });
}
