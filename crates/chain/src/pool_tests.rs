//! The pool's rules, one by one.

use crate::{
    block::Tx,
    pool::{Limits, MAX_WAITERS, PARKED_FOR, Pool, Refusal, Verdict},
};
use commonware_cryptography::{Hasher as _, Sha256, sha256::Digest};
use gristmill_ledger::{Transaction, tx::Transfer};
use gristmill_types::{Amount, ChainId, SecretKey, Signed, encode};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const NOW: Duration = Duration::from_secs(1_000);

pub(crate) fn tx(sender: u8, nonce: u64) -> Tx {
    other_tx(sender, nonce, 1)
}

/// One of several transactions with the same nonce.
pub(crate) fn other_tx(sender: u8, nonce: u64, grains: u128) -> Tx {
    let key = SecretKey::from_seed(&[sender; 32]);
    let issuer = SecretKey::from_seed(&[9; 32]).account();
    let body = Transfer { to: issuer, issuer, amount: Amount::from_grains(grains) }.into();
    let tx =
        Transaction { chain: ChainId::new([0; 32]), sender: key.account(), nonce, fee_issuer: issuer, body };
    Tx::decode(encode(&Signed::sign(tx, &key)).into()).unwrap()
}

fn pool() -> Pool {
    Pool::new(Limits { count: 6, bytes: 10_000, per_sender: 4 })
}

pub(crate) fn digest(number: u8) -> Digest {
    Sha256::hash(&[&[number]])
}

fn nonces(txs: &[Tx]) -> Vec<u64> {
    txs.iter().map(|tx| tx.signed().body.nonce).collect()
}

#[test]
fn first_come_first_served_by_rising_nonce() {
    let pool = pool();
    for (sender, nonce) in [(1, 2), (2, 0), (1, 0), (1, 1)] {
        pool.insert(tx(sender, nonce), None, NOW).unwrap();
    }
    let taken = pool.take(10, usize::MAX, NOW);
    let order: Vec<_> =
        taken.txs().iter().map(|tx| (tx.signed().body.sender, tx.signed().body.nonce)).collect();
    let (one, two) = (tx(1, 0).signed().body.sender, tx(2, 0).signed().body.sender);
    assert_eq!(order, [(one, 0), (two, 0), (one, 1), (one, 2)]);
}

#[test]
fn bounds_hold() {
    let pool = pool();
    for nonce in 0..4 {
        pool.insert(tx(1, nonce), None, NOW).unwrap();
    }
    assert_eq!(pool.insert(tx(1, 4), None, NOW), Err(Refusal::SenderFull));
    assert_eq!(pool.insert(tx(1, 3), None, NOW), Ok(()), "the same transaction again");
    for nonce in 0..2 {
        pool.insert(tx(2, nonce), None, NOW).unwrap();
    }
    assert_eq!(pool.insert(tx(3, 0), None, NOW), Err(Refusal::Full));
    assert_eq!(pool.len(), 6);
    let one = tx(1, 0).block_bytes();
    assert_eq!(pool.take(10, 2 * one + one / 2, NOW).txs().len(), 2, "bounded by bytes");
    assert_eq!(pool.take(3, usize::MAX, NOW).txs().len(), 3, "what was not proposed went back");
}

#[test]
fn a_round_that_is_given_up_loses_nothing() {
    let pool = pool();
    for nonce in 0..3 {
        pool.insert(tx(1, nonce), None, NOW).unwrap();
    }
    drop(pool.take(2, usize::MAX, NOW));
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert_eq!(nonces(taken.txs()), [0, 1, 2]);
    taken.refuse([], NOW);
    taken.propose(5, 7, digest(1));
    assert!(pool.take(10, usize::MAX, NOW).txs().is_empty());
    // The next view builds on view 6: the block of view 7 was skipped.
    pool.skipped_after(6);
    assert_eq!(nonces(pool.take(10, usize::MAX, NOW).txs()), [0, 1, 2]);
}

#[test]
fn a_block_that_loses_gives_its_transactions_back() {
    let pool = pool();
    for nonce in 0..3 {
        pool.insert(tx(1, nonce), None, NOW).unwrap();
    }
    let mut taken = pool.take(10, usize::MAX, NOW);
    taken.refuse([], NOW);
    taken.propose(5, 7, digest(1));
    // Another block of the same height becomes final, with one of the transactions.
    pool.finalized(5, &digest(2), &[tx(1, 0)]);
    assert_eq!(nonces(pool.take(10, usize::MAX, NOW).txs()), [1, 2]);
    assert!(pool.knows(&tx(1, 0).hash()), "known until its submitter is told");
    assert!(pool.settle(5, [tx(1, 0).hash()].iter()).is_empty());
    assert!(!pool.knows(&tx(1, 0).hash()));
}

#[test]
fn ahead_transactions_are_parked_then_given_up() {
    let pool = pool();
    let (waiter, mut answer) = oneshot::channel();
    pool.insert(tx(1, 5), Some(waiter), NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert!(taken.refuse([(0, Verdict::Ahead { expected: 4 })], NOW).is_empty());
    drop(taken);
    // What is ahead as well is parked at once, and the one that is missing is not.
    pool.insert(tx(1, 6), None, NOW).unwrap();
    assert!(pool.take(10, usize::MAX, NOW).txs().is_empty(), "parked");
    pool.insert(tx(1, 4), None, NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert_eq!(nonces(taken.txs()), [4]);
    // It cannot be in a block either: the others stay where they are.
    taken.refuse([(0, Verdict::Never(Refusal::bad_signature()))], NOW);
    drop(taken);
    assert!(pool.take(10, usize::MAX, NOW).txs().is_empty(), "parked");
    pool.insert(other_tx(1, 4, 2), None, NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert_eq!(nonces(&taken.refuse([], NOW)), [4]);
    taken.propose(2, 2, digest(1));
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert_eq!(nonces(taken.txs()), [5, 6], "woken by the one before them");
    let ahead = |position| (position, Verdict::Ahead { expected: 4 });
    taken.refuse([ahead(0), ahead(1)], NOW);
    drop(taken);
    // Another node's block holds the one before.
    pool.finalized(2, &digest(2), &[tx(1, 4)]);
    assert_eq!(nonces(pool.take(2, usize::MAX, NOW).txs()), [4, 5]);
    let mut taken = pool.take(10, usize::MAX, NOW);
    let ahead = |position| (position, Verdict::Ahead { expected: 4 });
    taken.refuse([(0, Verdict::Never(Refusal::bad_signature())), ahead(1), ahead(2)], NOW);
    drop(taken);
    pool.expire(NOW + PARKED_FOR);
    assert!(matches!(answer.try_recv(), Ok(Err(Refusal::Invalid { code: "nonce_ahead", .. }))));
    assert_eq!(pool.len(), 0);
    assert!(pool.has_room(6));
}

#[test]
fn two_that_are_ahead_with_one_nonce_do_not_lose_a_place() {
    let pool = pool();
    let (waiter, mut answer) = oneshot::channel();
    pool.insert(tx(1, 5), Some(waiter), NOW).unwrap();
    let ahead = || [(0, Verdict::Ahead { expected: 0 })];
    // The other comes while the first is being executed.
    let mut taken = pool.take(10, usize::MAX, NOW);
    pool.insert(other_tx(1, 5, 2), None, NOW).unwrap();
    taken.refuse(ahead(), NOW);
    drop(taken);
    let mut taken = pool.take(10, usize::MAX, NOW);
    taken.refuse(ahead(), NOW);
    drop(taken);
    assert!(matches!(answer.try_recv(), Ok(Err(Refusal::NonceTaken { nonce: 5 }))));
    assert_eq!(pool.len(), 1);
    pool.expire(NOW + PARKED_FOR);
    assert_eq!((pool.len(), pool.bytes()), (0, 0));
}

#[test]
fn so_many_may_wait_for_one_transaction() {
    let pool = pool();
    let mut answers = Vec::new();
    for _ in 0..MAX_WAITERS {
        let (waiter, answer) = oneshot::channel();
        pool.insert(tx(1, 0), Some(waiter), NOW).unwrap();
        answers.push(answer);
    }
    let (waiter, mut answer) = oneshot::channel();
    assert_eq!(pool.insert(tx(1, 0), Some(waiter), NOW), Err(Refusal::Full));
    assert_eq!(answer.try_recv().unwrap().unwrap_err(), Refusal::Full);
    assert_eq!(pool.insert(tx(1, 0), None, NOW), Ok(()));
    // Those who left take no place.
    answers.truncate(1);
    let (waiter, mut answer) = oneshot::channel();
    pool.insert(tx(1, 0), Some(waiter), NOW).unwrap();
    pool.stop();
    assert_eq!(answer.try_recv().unwrap().unwrap_err(), Refusal::Stopping);
    assert_eq!(answers[0].try_recv().unwrap().unwrap_err(), Refusal::Stopping);
}

/// Whoever waits for work hears of what was parked behind a transaction that goes into a block.
#[tokio::test]
async fn what_was_parked_wakes_the_proposer() {
    let pool = pool();
    pool.insert(tx(1, 1), None, NOW).unwrap();
    let mut early = pool.take(10, usize::MAX, NOW);
    assert!(early.refuse([(0, Verdict::Ahead { expected: 0 })], NOW).is_empty());
    pool.insert(tx(1, 0), None, NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    let mut filled = std::pin::pin!(pool.filled());
    assert!(futures::poll!(filled.as_mut()).is_pending());
    assert_eq!(nonces(&taken.refuse([], NOW)), [0]);
    assert!(futures::poll!(filled).is_ready());
    taken.propose(2, 2, digest(1));
    assert_eq!(nonces(pool.take(10, usize::MAX, NOW).txs()), [1]);
}

#[test]
fn refused_transactions_leave_and_are_reported() {
    let pool = pool();
    let (waiter, mut answer) = oneshot::channel();
    pool.insert(tx(1, 0), Some(waiter), NOW).unwrap();
    pool.insert(tx(2, 0), None, NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    let kept = taken.refuse([(0, Verdict::Never(Refusal::bad_signature()))], NOW);
    assert_eq!(kept.len(), 1);
    taken.propose(2, 2, digest(1));
    assert_eq!(answer.try_recv().unwrap().unwrap_err(), Refusal::bad_signature());
    assert_eq!(pool.len(), 1);
    pool.stop();
    assert_eq!(pool.insert(tx(3, 0), None, NOW), Err(Refusal::Stopping));
}

#[test]
fn a_transaction_of_a_final_block_hears_of_it_or_is_refused() {
    for published_first in [false, true] {
        let pool = pool();
        // Block 5 holds the transaction and is final; then it is submitted again.
        pool.finalized(5, &digest(1), &[tx(1, 0)]);
        if published_first {
            assert!(pool.settle(5, [tx(1, 0).hash()].iter()).is_empty());
        }
        let (waiter, mut answer) = oneshot::channel();
        pool.insert(tx(1, 0), Some(waiter), NOW).unwrap();
        let mut taken = pool.take(10, usize::MAX, NOW);
        let refusal = Refusal::bad_signature();
        assert!(taken.refuse([(0, Verdict::Final { height: 5, refusal: refusal.clone() })], NOW).is_empty());
        if published_first {
            // Too late to be told; who refuses looks into the view.
            assert_eq!(answer.try_recv().unwrap().unwrap_err(), refusal);
        } else {
            assert!(answer.try_recv().is_err(), "still waiting");
            let settled = pool.settle(5, [tx(1, 0).hash()].iter());
            assert!(matches!(settled.as_slice(), [(0, waiters)] if waiters.len() == 1));
        }
        assert_eq!(pool.len(), 0);
    }
}

#[test]
fn a_stall_begins_with_work_and_ends_with_a_block() {
    let pool = pool();
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    assert_eq!(pool.stalled(later(60)), Duration::ZERO);
    let waiting = tx(1, 0);
    pool.insert(waiting.clone(), None, NOW).unwrap();
    assert!(pool.stalled(later(60)) >= Duration::from_secs(60));
    assert!(pool.ages([waiting.hash()].iter(), later(9))[0] >= Duration::from_secs(9));
    // In a block that is not final it still waits.
    let taken = pool.take(10, usize::MAX, NOW);
    taken.propose(2, 2, digest(1));
    assert!(pool.stalled(later(60)) >= Duration::from_secs(60));
    pool.finalized(2, &digest(1), std::slice::from_ref(&waiting));
    pool.settle(2, [waiting.hash()].iter());
    assert_eq!(pool.stalled(later(60)), Duration::ZERO);
    assert!(pool.ages([waiting.hash()].iter(), later(9)).is_empty());
    // A nonce that is ahead does not stall anybody.
    pool.insert(tx(1, 5), None, NOW).unwrap();
    let mut taken = pool.take(10, usize::MAX, NOW);
    assert!(taken.refuse([(0, Verdict::Ahead { expected: 0 })], NOW).is_empty());
    drop(taken);
    assert_eq!(pool.stalled(later(60)), Duration::ZERO);
}
