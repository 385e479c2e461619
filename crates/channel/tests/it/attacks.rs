//! What somebody could try, and what it comes to.

use crate::world::*;
use gristmill_channel::{Accepted, LedgerView, Payee, PayeeError, Payer, PayerError, ReplayError};
use gristmill_types::{
    AccountId, Amount, ChainId, ChannelTerms, Claim, Prices, Quote, Signable as _, Signature, Signed, Usage,
    Voucher, sha256,
};
use std::{
    sync::{Barrier, Mutex},
    thread,
};

fn payee_of(terms: ChannelTerms) -> Payee {
    Payee::open(terms, LedgerView::opened(grains(DEPOSIT))).unwrap().0
}

#[test]
fn a_voucher_is_good_on_one_channel_lane_and_ledger_only() {
    let mut world = World::new();
    let good = voucher(claim(0, 1, usage(10, 16, 1)));
    // The same parties, another channel; the same channel on another ledger has another id.
    let mut other = payee_of(ChannelTerms { open_nonce: 1, ..terms() });
    assert_eq!(other.accept(&good, |_| Some(quote()), 0), Err(PayeeError::WrongChannel));
    let mut elsewhere = payee_of(ChannelTerms { chain: ChainId::new([8; 32]), ..terms() });
    assert_eq!(elsewhere.accept(&good, |_| Some(quote()), 0), Err(PayeeError::WrongChain));
    // Relabelled, the signature does not cover it.
    for change in [
        (|c: &mut Claim| c.lane = 1) as fn(&mut Claim),
        |c| c.seq = 2,
        |c| c.amount = grains(DEPOSIT),
        |c| c.usage.output_tokens += 1,
        |c| c.usage.input_tokens += 1,
        |c| c.usage.requests += 1,
        |c| c.usage.millis += 1,
    ] {
        let mut forged = good.clone();
        change(&mut forged.body.0);
        assert_eq!(world.payee.accept(&forged, |_| Some(quote()), 0), Err(PayeeError::BadSignature));
    }
    // An approval or an order is no voucher: the domains differ.
    let approval = Signed::sign(gristmill_types::Approval(good.body.0), &voucher_key());
    let passed_off = Signed { body: good.body, signature: approval.signature };
    assert_eq!(world.payee.accept(&passed_off, |_| Some(quote()), 0), Err(PayeeError::BadSignature));
    assert_eq!(world.payee_log.len(), 1);
    world.accept(&good);
}

#[test]
fn a_cheaper_quote_does_not_buy_an_expensive_model() {
    let mut world = World::new();
    let cheap = quote_of(8, Prices { output_per_mtok: grains(1), ..Prices::default() });
    let expensive = quote();
    let find = |hash: &gristmill_types::QuoteHash| {
        [&cheap, &expensive].into_iter().find(|quote| quote.hash() == *hash).cloned()
    };
    let base = claim(0, 1, usage(10, 16, 1));
    // The expensive model under the cheap quote, the cheap model under the expensive quote, a quote
    // of nobody's, and somebody else's quote.
    let strange = Quote { processor: AccountId::new([6; 32]), ..quote() };
    for (claim, offered) in [
        (Claim { quote: cheap.hash(), ..base }, None),
        (Claim { model: cheap.model, ..base }, None),
        (Claim { quote: gristmill_types::QuoteHash::new([0; 32]), ..base }, None),
        (Claim { quote: strange.hash(), ..base }, Some(strange.clone())),
    ] {
        let result = world.payee.accept(&voucher(claim), |hash| offered.or_else(|| find(hash)), 0);
        assert_eq!(result, Err(PayeeError::WrongQuote), "{claim:?}");
    }
    // A lane is pinned with its first voucher.
    world.accept(&voucher(base));
    for claim in [
        Claim { seq: 2, quote: cheap.hash(), ..base },
        Claim { seq: 2, model: cheap.model, ..base },
        Claim { seq: 2, quote: cheap.hash(), model: cheap.model, ..base },
    ] {
        assert_eq!(world.payee.accept(&voucher(claim), find, 0), Err(PayeeError::WrongQuote));
    }
}

#[test]
fn a_quote_that_says_something_else_than_its_hash_is_refused() {
    let mut world = World::new();
    let cheap = Quote { prices: Prices::default(), ..quote() };
    let result = world.payee.accept(&voucher(claim(0, 1, usage(10, 16, 1))), |_| Some(cheap), 0);
    assert_eq!(result, Err(PayeeError::WrongQuote));
}

#[test]
fn weak_keys_open_no_channel() {
    let mut identity = [0; 32];
    identity[0] = 1;
    for weak in [[0; 32], identity, [0xff; 32]] {
        let weak = AccountId::new(weak);
        for terms in [
            ChannelTerms { voucher_key: weak, ..terms() },
            ChannelTerms { receipt_key: weak, ..terms() },
            ChannelTerms { payee: weak, ..terms() },
        ] {
            let opened = Payee::open(terms, LedgerView::opened(grains(1)));
            assert_eq!(opened.err(), Some(ReplayError::BadKey));
        }
        let terms = ChannelTerms { receipt_key: weak, ..terms() };
        let opened = Payer::open(terms, LedgerView::opened(grains(1)), voucher_key());
        assert_eq!(opened.err(), Some(ReplayError::BadKey));
    }
}

#[test]
fn a_changed_signature_is_refused() {
    let mut world = World::new();
    let good = voucher(claim(0, 1, usage(10, 16, 1)));
    for bit in 0..512 {
        let mut bytes = *good.signature.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let forged = Signed { body: good.body, signature: Signature::new(bytes) };
        assert_eq!(world.payee.accept(&forged, |_| Some(quote()), 0), Err(PayeeError::BadSignature));
    }
    // s + L, the second spelling of the same scalar.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = *good.signature.as_bytes();
    let mut carry = 0u16;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let malleable = Signed { body: good.body, signature: Signature::new(bytes) };
    assert_eq!(world.payee.accept(&malleable, |_| Some(quote()), 0), Err(PayeeError::BadSignature));
    world.accept(&good);
}

#[test]
fn huge_counters_overflow_nothing() {
    let mut world = World::new();
    let most =
        Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, millis: u64::MAX, requests: u64::MAX };
    let huge = Claim { usage: most, amount: grains(DEPOSIT), ..claim(0, u64::MAX, usage(1, 1, 1)) };
    let given = voucher(huge);
    world.accept(&given);
    let order = order_for(&given, b"{}", grains(u128::MAX));
    // The cap is spent + max_amount: from nothing spent it just fits.
    let pending = world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 100), NOW).unwrap();
    world.payee_does(pending);
    world.payee.spend(0, 5, 0).unwrap();
    assert!(world.payee.spend(0, u64::MAX, u64::MAX).is_err(), "a counter that does not fit is an error");
    // No number is left above u64::MAX.
    let after = world.payee.accept(&voucher(Claim { seq: 1, ..huge }), |_| None, 0);
    assert_eq!(after, Err(PayeeError::OldSequence { found: 1, last: u64::MAX }));
    let max_prices = Prices {
        input_per_mtok: grains(u128::MAX),
        output_per_mtok: grains(u128::MAX),
        per_msec: Amount::ZERO,
        per_mreq: grains(u128::MAX),
    };
    let dear = quote_of(9, max_prices);
    let dear_claim =
        Claim { quote: dear.hash(), model: dear.model, amount: grains(0), ..claim(1, 1, usage(1, 16, 1)) };
    let given = voucher(dear_claim);
    let Accepted::New(pending) = world.payee.accept(&given, |_| Some(dear), 0).unwrap() else { panic!() };
    world.payee_does(pending);
    let order = order_for(&given, b"{}", Amount::ZERO);
    let result = world.payee.order(&order, &sha256(&[b"{}"]), ask(1, 16), NOW);
    assert!(matches!(result, Err(PayeeError::Meter(gristmill_channel::MeterError::Overflow))), "{result:?}");
}

/// A hundred threads with the same voucher and order: one delivery. The machine itself is under a lock here; the
/// processor's books are tested in parallel.
#[test]
fn one_voucher_a_hundred_times_at_once_is_one_delivery() {
    let world = Mutex::new(World::new());
    let given = voucher(claim(0, 1, usage(10, 16, 1)));
    let order = order_for(&given, b"{}", grains(10_000));
    let barrier = Barrier::new(100);
    let begun: usize = thread::scope(|scope| {
        let places: Vec<_> = (0..100)
            .map(|_| {
                let (world, barrier, given, order) = (&world, &barrier, &given, &order);
                scope.spawn(move || {
                    barrier.wait();
                    // As the processor does: verified first, taken later; others come between.
                    let body = sha256(&[b"{}"]);
                    let authentic = world.lock().unwrap().payee.authenticate(given, order, &body);
                    let Ok(authentic) = authentic else { return 0 };
                    let mut world = world.lock().unwrap();
                    let taken = world.payee.accept_authentic(&authentic, |_| Some(quote()), 0).unwrap();
                    if let Accepted::New(pending) = taken {
                        world.payee_does(pending);
                    }
                    let Ok(pending) = world.payee.order_authentic(&authentic, ask(10, 100), NOW) else {
                        return 0;
                    };
                    world.payee_does(pending);
                    1
                })
            })
            .collect();
        places.into_iter().map(|place| place.join().unwrap()).sum()
    });
    assert_eq!(begun, 1);
}

#[test]
fn one_voucher_a_hundred_times_is_one_delivery() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    let given = world.payer.latest(lane).unwrap().clone();
    let order = order_for(&given, b"{}", grains(10_000));
    for _ in 0..100 {
        assert_eq!(world.payee.accept(&given, |_| None, 0), Ok(Accepted::Duplicate));
        let again = world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 100), NOW);
        assert_eq!(again, Err(PayeeError::AlreadyDelivered));
    }
    world.stream(lane, 3);
    assert_eq!(world.payee.spent(lane).unwrap().0, usage(10, 3, 1));
}

#[test]
fn a_voucher_that_was_overtaken_is_refused() {
    let mut world = World::new();
    let [first, third, ninth] = [1, 3, 9].map(|seq| voucher(claim(0, seq, usage(10, 16 + seq, 1))));
    world.accept(&first);
    // A number may be skipped.
    world.accept(&ninth);
    let late = world.payee.accept(&third, |_| None, 0);
    assert_eq!(late, Err(PayeeError::OldSequence { found: 3, last: 9 }));
    let again = world.payee.accept(&first, |_| None, 0);
    assert_eq!(again, Err(PayeeError::OldSequence { found: 1, last: 9 }));
    assert_eq!(world.payee.copy().lanes[0].voucher, ninth);
    assert_eq!(world.payee_log.len(), 3, "refusals leave no record");
}

#[test]
fn a_quote_that_ends_in_mid_stream_ends_no_stream_and_starts_none() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    world.stream(lane, 20);
    // What comes now comes after the quote's end; whoever started in time gets its answer.
    let late = VALID_UNTIL + 1;
    world.stream(lane, 30);
    assert_eq!(world.finish(lane).body.usage, usage(10, 50, 1));
    let expired = PayeeError::QuoteExpired { valid_until_ms: VALID_UNTIL };
    let next = voucher(claim(lane, u64::MAX, usage(20, 100, 2)));
    world.accept(&next);
    let order = order_for(&next, b"{}", grains(10_000));
    assert_eq!(world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 16), late), Err(expired));
    let quote = signed_quote();
    let plan = gristmill_channel::Plan { now_ms: late, ..plan(&quote, ANN, ask(10, 16)) };
    let refused = world.payer.start(&plan).map(|started| started.lane);
    assert_eq!(refused, Err(PayerError::QuoteExpired { valid_until_ms: VALID_UNTIL }));
}

/// All at once, in whatever order the threads come: the deposit is enough for 20 of 64 lanes, thus exactly
/// 20 are taken.
#[test]
fn sixty_four_lanes_at_once_stay_within_the_deposit() {
    let each = cost(&usage(10, 16, 1));
    let world = Mutex::new(World::with_deposit(20 * each.grains() + each.grains() / 2));
    let barrier = Barrier::new(64);
    let taken: usize = thread::scope(|scope| {
        let payers: Vec<_> = (0..64)
            .map(|lane| {
                let (world, barrier) = (&world, &barrier);
                scope.spawn(move || {
                    let given = voucher(claim(lane, 1, usage(10, 16, 1)));
                    barrier.wait();
                    let mut world = world.lock().unwrap();
                    match world.payee.accept(&given, |_| Some(quote()), 0) {
                        Ok(Accepted::New(pending)) => world.payee_does(pending),
                        Ok(Accepted::Duplicate) => panic!("a duplicate"),
                        Err(PayeeError::ExceedsDeposit { .. }) => return 0,
                        Err(error) => panic!("{error}"),
                    }
                    1
                })
            })
            .collect();
        payers.into_iter().map(|payer| payer.join().unwrap()).sum()
    });
    let world = world.into_inner().unwrap();
    let promised: u128 = world.payee.copy().lanes.iter().map(|of| of.voucher.body.0.amount.grains()).sum();
    assert_eq!((taken, promised), (20, 20 * each.grains()));
}

/// An order that was held up on the way finds its voucher answered: the payer may have ended its request
/// with that receipt, and would pay for nothing that comes now.
#[test]
fn a_voucher_that_a_receipt_answers_starts_nothing() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    let first = world.payer.voucher(lane).unwrap();
    let nothing = gristmill_types::Digest::new([0; 32]);
    let order = world.payer.order(lane, sha256(&[b"{}"]), nothing, nothing).unwrap();
    world.accept(&first);
    assert_eq!(world.payee.unanswered(), [lane]);
    world.finish_unapproved(lane);
    let late = world.payee.order(&order, &sha256(&[b"{}"]), ask(10, 100), NOW);
    assert_eq!(late, Err(PayeeError::AlreadyDelivered));
    let late = world.payee.authenticate(&first, &order, &sha256(&[b"{}"]));
    assert_eq!(late.err(), Some(PayeeError::AlreadyDelivered));
    assert_eq!(world.request(10, 100, 20), lane, "the next voucher does");
}

#[test]
fn an_order_for_another_voucher_lane_or_channel_is_refused() {
    let mut world = World::new();
    let first = voucher(claim(0, 1, usage(10, 16, 1)));
    let second = voucher(claim(1, 1, usage(10, 16, 1)));
    world.accept(&first);
    world.accept(&second);
    let base = order_for(&first, b"{}", grains(10_000)).body;
    let sign = |order| Signed::sign(order, &voucher_key());
    let body = sha256(&[b"{}"]);
    for (order, error) in [
        (gristmill_types::Order { chain: ChainId::new([0; 32]), ..base }, PayeeError::WrongChain),
        (
            gristmill_types::Order { channel: gristmill_types::ChannelId::new([0; 32]), ..base },
            PayeeError::WrongChannel,
        ),
        (gristmill_types::Order { lane: 1, ..base }, PayeeError::WrongVoucher),
        (gristmill_types::Order { voucher: second.body.hash(), ..base }, PayeeError::WrongVoucher),
    ] {
        assert_eq!(world.payee.order(&sign(order), &body, ask(10, 100), NOW), Err(error));
    }
    let by_other = Signed::sign(base, &receipt_key());
    let result = world.payee.order(&by_other, &body, ask(10, 100), NOW);
    assert_eq!(result, Err(PayeeError::BadSignature));
    assert_ne!(Voucher::DOMAIN, gristmill_types::Order::DOMAIN);
}

#[test]
fn only_the_channels_receipt_key_signs_receipts() {
    let mut world = World::new();
    let lane = world.start(10, 100);
    world.place(lane, b"{}", ask(10, 100));
    let result = world.payee.receipt(lane, parts(true), &processor_key());
    assert_eq!(result.unwrap_err(), PayeeError::WrongKey);
}
