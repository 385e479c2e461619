//! What somebody could try with the ledger's clock and with transactions sent twice.

use crate::world::*;
use gristmill_ledger::{
    Body, Invalid, Rejection, SignedTx,
    clock::next_clock,
    keys,
    record::SpendingKey,
    tx::{
        AuthoriseKey, CloseChannel, OpenChannel, RequestClose, RevokeKey, Settle, SettleClaim, ShowReceipt,
        TopUp,
    },
};
use gristmill_types::{ChannelTerms, Signed};

const DAY_MS: u64 = 86_400_000;

/// The next block comes so much later.
fn pause(world: &mut World, ms: u64) {
    let time_ms = world.context.time_ms + ms;
    world.context.clock_ms = next_clock(world.context.time_ms, world.context.clock_ms, time_ms).unwrap();
    world.context.time_ms = time_ms;
}

fn settle(terms: ChannelTerms, item: SettleClaim) -> Settle {
    Settle { terms, claims: vec![item], floor: None }
}

#[test]
fn a_ledger_that_stood_still_through_the_grace_expires_nothing() {
    let (mut world, terms) = World::with_channel(1_000);
    let show = |seq, spent| ShowReceipt { terms, receipt: receipt(&terms, 0, seq, spent) };
    let close = |lanes| CloseChannel { terms, lanes };
    world.must(PAYEE, settle(terms, voucher(claim(&terms, 0, 5, 900))));
    world.must(PAYER, RequestClose { terms });
    pause(&mut world, DAY_MS);
    const { assert!(DAY_MS > 2 * GRACE_MS) };
    // The payer may still contest, the payee still claim, and nobody close.
    world.must(PAYER, show(5, 600));
    assert_eq!(world.rejected(PAYER, close(vec![0])), Rejection::NotYetClosable);
    world.must(PAYEE, settle(terms, approval(claim(&terms, 1, 1, 100))));
    // Only a ledger that runs counts: ten seconds a block at most.
    for _ in 0..GRACE_MS / 10_000 {
        pause(&mut world, DAY_MS);
    }
    assert_eq!(world.rejected(PAYER, show(5, 1)), Rejection::ContestOver);
    let late = settle(terms, approval(claim(&terms, 1, 2, 200)));
    assert_eq!(world.rejected(PAYEE, late), Rejection::ClosingOver);
}

#[test]
fn a_top_up_counts_once() {
    let (mut world, terms) = World::with_channel(500);
    let more = |amount| TopUp { terms, amount: grains(amount) };
    // The same bytes again, as after a lost answer.
    let sent = world.sign(PAYER, more(100));
    assert_eq!(world.run(sent.clone()).unwrap().result(), Ok(()));
    let (nonce, balance) = (world.nonce(&id(PAYER)), world.balance(PAYER));
    assert_eq!(world.run(sent), Err(Invalid::Nonce { expected: nonce, got: nonce - 1 }));
    assert_eq!((world.channel(&terms).deposit, world.balance(PAYER)), (grains(600), balance));
    // Two that were signed at the same time: the second has no effect, and is signed anew.
    let [first, second] = [world.sign(PAYER, more(10)), world.sign(PAYER, more(20))];
    assert_eq!(world.run(second).unwrap().result(), Ok(()));
    assert!(matches!(world.run(first), Err(Invalid::Nonce { .. })));
    assert_eq!(world.channel(&terms).deposit, grains(620));
    world.must(PAYER, more(10));
    assert_eq!(world.channel(&terms).deposit, grains(630));
}

/// Signed before any of them ran, by two keys of one owner; the owner changes the limits meanwhile.
#[test]
fn spendings_that_race_stay_within_a_keys_limit() {
    let mut world = World::with_models();
    let authorise = |key, limit| AuthoriseKey { key: id(key), issuer: id(ISSUER), limit: grains(limit) };
    let sign = |world: &World, sender, nonce, body: Body| -> SignedTx {
        let mut tx = world.sign(sender, body).body;
        tx.nonce = nonce;
        Signed::sign(tx, &key(sender))
    };
    let terms = |world: &World, voucher_key, open_nonce| ChannelTerms {
        voucher_key: id(voucher_key),
        open_nonce,
        ..world.terms(PAYER, PAYEE)
    };
    let open = |world: &World, key, nonce| {
        let deposit = grains(500);
        sign(world, key, nonce, OpenChannel { terms: terms(world, key, nonce), deposit }.into())
    };
    let spent = |world: &World, key| {
        let name = keys::spending_key(&id(PAYER), &id(key));
        world.get::<SpendingKey>(&name).unwrap().spent.grains()
    };
    // Enough for three channels, and for two.
    world.must(PAYER, authorise(VOUCHER_KEY, 2_000));
    world.must(PAYER, authorise(POOR, 1_200));
    let held = world.balance(PAYER);
    let sent: Vec<_> = (0..6).flat_map(|nonce| [VOUCHER_KEY, POOR].map(|key| (key, nonce))).collect();
    let sent: Vec<_> = sent.into_iter().map(|(key, nonce)| (key, open(&world, key, nonce))).collect();
    let mut opened = Vec::new();
    for (key, tx) in sent {
        match world.run(tx).unwrap().result() {
            Ok(()) => opened.push(key),
            Err(rejection) => assert_eq!(rejection, Rejection::OverKeyLimit),
        }
        assert!(spent(&world, VOUCHER_KEY) <= 2_000 && spent(&world, POOR) <= 1_200);
    }
    opened.sort_unstable();
    let mut expected = vec![VOUCHER_KEY, VOUCHER_KEY, VOUCHER_KEY, POOR, POOR];
    expected.sort_unstable();
    assert_eq!(opened, expected);
    assert_eq!(spent(&world, VOUCHER_KEY), 3 * 500 + 6 * FEE);
    assert_eq!(held - world.balance(PAYER), 5 * 500 + 12 * FEE);
    // A top-up that is on its way when the limit falls, and one when the key is revoked.
    let top_up = |world: &World, key| {
        let body = TopUp { terms: terms(world, key, 0), amount: grains(10) };
        sign(world, key, 6, body.into())
    };
    let [first, second] = [VOUCHER_KEY, POOR].map(|key| top_up(&world, key));
    world.must(PAYER, authorise(VOUCHER_KEY, 1));
    world.must(PAYER, RevokeKey { key: id(POOR), channels: vec![] });
    let held = world.balance(PAYER);
    assert_eq!(world.run(first), Err(Invalid::SpendingKey { why: Rejection::OverKeyLimit }));
    assert_eq!(world.run(second), Err(Invalid::SpendingKey { why: Rejection::NoSuchKey }));
    assert_eq!(world.balance(PAYER), held);
}

/// What a channel costs its payee at most stays below what it may bring.
#[test]
fn the_smallest_channel_is_worth_settling() {
    let params = gristmill_ledger::Params::default();
    let cost =
        params.fees.settle.grains() + params.fees.withdraw.grains() + params.fees.close_channel.grains();
    assert!(params.min_deposit.grains() >= 10 * cost, "a channel of {} pays for {cost}", params.min_deposit);
}
