//! The logs of both roles of a channel and of the budgets, with records that are changed, missing or
//! made up: a log that replays gives a machine that holds together.

use crate::{canonical, parts};
use gristmill_channel::{BudgetRecord, Budgets, ChannelCopy, Payee, PayeeRecord, Payer, PayerRecord};
use gristmill_types::{SecretKey, encode};

/// The key that signs vouchers in the corpus.
const VOUCHER_KEY: [u8; 32] = [2; 32];

/// The first byte says whose log follows.
pub fn run(data: &[u8]) {
    let Some((role, log)) = data.split_first() else { return };
    let log: Vec<&[u8]> = parts(log).collect();
    match role {
        0 => payer(&log),
        1 => payee(&log),
        2 => budgets(&log),
        3 => reconcile(&log),
        _ => {}
    }
}

fn payer(log: &[&[u8]]) {
    let all = log.iter().filter(|bytes| canonical::<PayerRecord>(bytes).is_some()).count() == log.len();
    let secret = || SecretKey::from_seed(&VOUCHER_KEY);
    let Ok(mut payer) = Payer::replay_bytes(log, secret()) else { return };
    assert!(all, "a log with records that do not decode was replayed");
    let again = Payer::replay_bytes([encode(&payer.checkpoint())], secret()).unwrap();
    assert!(again.same_state(&payer) && again.state_digest() == payer.state_digest());
    let _ = (payer.verify(), payer.room(), payer.in_doubt(), payer.in_flight(), payer.id());
    for of in payer.lane_uses() {
        assert!(of.spent <= of.reserved, "{of:?}");
        let _ = (payer.latest(of.lane), payer.quote(of.lane), payer.receipted(of.lane));
        let _ = (payer.approve(of.lane), payer.due(of.lane), payer.owed(of.lane));
    }
    let mut log: Vec<Vec<u8>> = log.iter().map(|bytes| bytes.to_vec()).collect();
    log.extend(payer.trim().iter().map(|pending| pending.bytes()));
    follows(&log, &payer);
}

/// What the machine wrote down can be read back.
fn follows(log: &[Vec<u8>], payer: &Payer) {
    let again = Payer::replay_bytes(log, SecretKey::from_seed(&VOUCHER_KEY)).unwrap();
    assert!(again.same_state(payer), "the log leads to another state");
}

fn payee(log: &[&[u8]]) {
    let all = log.iter().filter(|bytes| canonical::<PayeeRecord>(bytes).is_some()).count() == log.len();
    let Ok(mut payee) = Payee::replay_bytes(log) else { return };
    assert!(all, "a log with records that do not decode was replayed");
    let again = Payee::replay_bytes([encode(&payee.checkpoint())]).unwrap();
    assert!(again.same_state(&payee) && again.state_digest() == payee.state_digest());
    let _ = (payee.verify(), payee.is_idle(), payee.unanswered(), payee.lanes_left(), payee.copy());
    for settlement in payee.claims_to_settle() {
        let _ = format!("{settlement:?}");
    }
    for lane in payee.copy().lanes {
        let _ = (payee.spent(lane.lane), payee.promised(lane.lane));
    }
    let mut log: Vec<Vec<u8>> = log.iter().map(|bytes| bytes.to_vec()).collect();
    log.extend(payee.retire(u64::MAX).ok().flatten().iter().map(|pending| pending.bytes()));
    assert!(Payee::replay_bytes(log).unwrap().same_state(&payee), "the log leads to another state");
}

fn budgets(log: &[&[u8]]) {
    let all = log.iter().filter(|bytes| canonical::<BudgetRecord>(bytes).is_some()).count() == log.len();
    let Ok(budgets) = Budgets::replay_bytes(log) else { return };
    assert!(all, "a log with records that do not decode was replayed");
    let again = Budgets::replay_bytes([encode(&budgets.checkpoint())]).unwrap();
    assert!(again.same_state(&budgets));
    for (key, of) in budgets.keys() {
        assert!(of.room() <= of.limit);
        assert_eq!(budgets.of(key), Some(*of));
    }
}

/// A payer's log, and last the copy that a processor claims to hold.
fn reconcile(log: &[&[u8]]) {
    let Some((copy, log)) = log.split_last() else { return };
    let secret = SecretKey::from_seed(&VOUCHER_KEY);
    let Ok(mut payer) = Payer::replay_bytes(log, secret) else { return };
    let Some(copy) = canonical::<ChannelCopy>(copy) else { return };
    let mut log: Vec<Vec<u8>> = log.iter().map(|bytes| bytes.to_vec()).collect();
    let found = payer.reconcile(&copy);
    log.extend(found.pending.iter().map(|pending| pending.bytes()));
    follows(&log, &payer);
}
