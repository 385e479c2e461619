//! What the executor promises to its caller.

use crate::world::*;
use gristmill_ledger::{
    CheckedTx, Executor, Invalid, Malformed, Outcome, Rejection, SignedTx, keys,
    tx::{Transfer, WithdrawOffer},
};
use gristmill_types::{ChainId, Signed, StateKey};
use std::collections::BTreeMap;

fn transfer(to: u8, amount: u128) -> Transfer {
    Transfer { to: id(to), issuer: id(ISSUER), amount: grains(amount) }
}

fn resigned(mut tx: SignedTx, edit: impl FnOnce(&mut gristmill_ledger::Transaction), sender: u8) -> SignedTx {
    edit(&mut tx.body);
    Signed::sign(tx.body, &key(sender))
}

#[test]
fn invalid_transactions_change_nothing() {
    let mut world = World::new();
    world.must(PAYER, transfer(POOR, FEE - 1));
    let before = world.state.clone();
    let good = world.sign(PAYER, transfer(POOR, 1));
    let nonce = |got| Invalid::Nonce { expected: 1, got };
    for (tx, error) in [
        (resigned(good.clone(), |tx| tx.nonce = 0, PAYER), nonce(0)),
        (resigned(good.clone(), |tx| tx.nonce = 2, PAYER), nonce(2)),
        (resigned(good.clone(), |tx| tx.nonce = u64::MAX, PAYER), nonce(u64::MAX)),
        (resigned(good.clone(), |tx| tx.chain = ChainId::new([0; 32]), PAYER), Malformed::WrongChain.into()),
        (
            resigned(good, |tx| tx.fee_issuer = id(STRANGER), PAYER),
            Invalid::CannotPayFee { fee: grains(FEE), issuer: id(STRANGER) },
        ),
        (
            world.sign(POOR, transfer(PAYER, 1)),
            Invalid::CannotPayFee { fee: grains(FEE), issuer: id(ISSUER) },
        ),
    ] {
        assert_eq!(world.run(tx), Err(error));
    }
    assert_eq!(world.state, before);
}

#[test]
fn a_rejection_costs_the_fee() {
    let mut world = World::new();
    let rejection = world.rejected(PAYER, WithdrawOffer { model: MODEL });
    assert_eq!(rejection, Rejection::NoSuchOffer);
    assert_eq!((world.balance(PAYER), world.nonce(&id(PAYER))), (START - FEE, 1));
}

#[test]
fn a_free_ledger_takes_no_fee() {
    let mut genesis = genesis();
    genesis.params.fees = gristmill_ledger::Fees::flat(grains(0));
    let mut world = World::from(&genesis);
    let outcome = world.run(world.sign(POOR, WithdrawOffer { model: MODEL })).unwrap();
    assert_eq!((outcome.fee, outcome.result()), (grains(0), Err(Rejection::NoSuchOffer)));
    assert_eq!(world.nonce(&id(POOR)), 1);
}

fn block(world: &World, txs: &[SignedTx]) -> (Vec<Outcome>, BTreeMap<StateKey, Option<Vec<u8>>>) {
    let mut executor = Executor::new(world.rules.clone(), world.context);
    let mut outcomes = Vec::new();
    for tx in txs {
        let checked = CheckedTx::new(tx.clone(), &world.rules).unwrap();
        // Loading again does not undo what earlier transactions of the block did.
        executor.load(checked.reads().iter().map(|key| (*key, world.state.get(key).cloned())));
        assert!(checked.reads().iter().all(|key| executor.is_loaded(key)));
        outcomes.push(executor.apply(&checked).unwrap());
    }
    (outcomes, executor.finish())
}

#[test]
fn transactions_of_a_block_see_each_other() {
    let world = World::new();
    let to_poor = world.sign(PAYER, transfer(POOR, 500));
    let back = world.sign(POOR, transfer(PAYER, 500 - FEE));
    let (outcomes, changes) = block(&world, &[to_poor, back]);
    assert!(outcomes.iter().all(|outcome| outcome.result().is_ok()));
    // The poor account is empty again: no change of its balance is left, only its nonce.
    assert!(!changes.contains_key(&keys::balance(&id(POOR), &id(ISSUER))));
    let mut expected = vec![
        keys::account(&id(PAYER)),
        keys::account(&id(POOR)),
        keys::balance(&id(PAYER), &id(ISSUER)),
        keys::balance(&id(TREASURY), &id(ISSUER)),
    ];
    expected.sort();
    assert_eq!(changes.into_keys().collect::<Vec<_>>(), expected);
}

/// Clients match on these.
#[test]
fn refusals_in_json() {
    let key = keys::deadlines();
    for (invalid, json) in [
        (Invalid::Nonce { expected: 1, got: 2 }, r#"{"reason":"nonce","expected":1,"got":2}"#.to_owned()),
        (Malformed::WrongChain.into(), r#"{"reason":"malformed","kind":"wrong_chain"}"#.into()),
        (
            gristmill_ledger::Fault::Missing(key).into(),
            format!(r#"{{"reason":"fault","kind":"missing","at":"{key}"}}"#),
        ),
    ] {
        assert_eq!(serde_json::to_string(&invalid).unwrap(), json);
    }
    assert_eq!(serde_json::to_string(&Rejection::NotDue).unwrap(), r#""not_due""#);
}

#[test]
fn reads_are_sorted_and_unique() {
    let world = World::new();
    let checked = CheckedTx::new(world.sign(PAYER, transfer(TREASURY, 1)), &world.rules).unwrap();
    assert_eq!(checked.reads().len(), 3, "fee and payment share their balances");
    assert!(checked.reads().is_sorted_by(|a, b| a < b));
}

#[test]
#[should_panic(expected = "was not loaded")]
fn a_key_that_was_not_loaded_panics() {
    let world = World::new();
    let checked = CheckedTx::new(world.sign(PAYER, transfer(POOR, 1)), &world.rules).unwrap();
    let mut executor = Executor::new(world.rules.clone(), world.context);
    executor.load(checked.reads().iter().skip(1).map(|key| (*key, world.state.get(key).cloned())));
    let _ = executor.apply(&checked);
}

/// Every rejection is met by a test beside the transaction that gives it.
#[test]
fn every_rejection_is_tested() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tests = String::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let is_tests = path.ends_with("tests.rs");
            let part = if is_tests { Some(&text[..]) } else { text.split_once("#[cfg(test)]").map(|t| t.1) };
            tests.push_str(part.unwrap_or_default());
        }
    }
    for rejection in Rejection::ALL {
        let name = format!("Rejection::{rejection:?}");
        let found = tests
            .match_indices(&name)
            .any(|(at, _)| !tests[at + name.len()..].starts_with(|next: char| next.is_ascii_alphanumeric()));
        assert!(found, "no test meets {name}");
    }
}
