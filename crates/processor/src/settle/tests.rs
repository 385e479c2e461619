//! Which claims are new, and how they go together.

use super::*;
use crate::config::Config;
use gristmill_types::{
    Approval, AuditCommitment, ChainId, Claim, Finish, ProcessorNonce, QuoteHash, Receipt, Sampling,
    SecretKey, Signed, Usage, Voucher,
};

fn claim(lane: u32, stops: usize, path: usize) -> SettleClaim {
    let key = SecretKey::from_seed(&[1; 32]);
    let claim = Claim {
        chain: ChainId::new([1; 32]),
        channel: ChannelId::new([2; 32]),
        lane,
        seq: 1,
        model: ModelId::new([3; 32]),
        quote: QuoteHash::new([4; 32]),
        usage: Usage::default(),
        amount: Amount::from_grains(5),
    };
    let digest = Digest::new([6; 32]);
    let audit = AuditCommitment {
        prompt_ids: digest,
        output_ids: digest,
        sampling: Sampling {
            temperature_micros: 0,
            top_k: 1,
            top_p_micros: 1_000_000,
            max_tokens: 1,
            stop: vec!["x".repeat(256); stops],
        },
        consumer_nonce: digest,
        processor_nonce: Some(ProcessorNonce { nonce: digest, index: 0, path: vec![digest; path] }),
        finish: Finish::Stop,
    };
    let receipt = Receipt {
        chain: claim.chain,
        channel: claim.channel,
        lane,
        seq: 1,
        voucher: Voucher(claim).hash(),
        model: claim.model,
        quote: claim.quote,
        usage: claim.usage,
        spent: claim.amount,
        request: digest,
        response: digest,
        last: true,
        audit: Some(audit),
    };
    SettleClaim {
        lines: vec![LineId::new([7; 32])],
        proof: ClaimProof::Voucher(Signed::sign(Voucher(claim), &key)),
        receipt: Some(Box::new(Signed::sign(receipt, &key))),
    }
}

/// What a lane has to claim that nothing was paid on, of the claim's number.
fn settlement(lane: u32, at_once: u128, owed: u128) -> Settlement {
    let SettleClaim { proof: ClaimProof::Voucher(voucher), receipt: Some(receipt), .. } = claim(lane, 0, 0)
    else {
        panic!("a claim with a voucher and a receipt");
    };
    Settlement {
        lane,
        approval: None,
        voucher,
        receipt: *receipt,
        goes_on: false,
        at_once: Amount::from_grains(at_once),
        owed: Amount::from_grains(owed),
    }
}

#[test]
fn batches_fit_a_transaction_by_number_and_by_bytes() {
    let large: Vec<SettleClaim> = (0..64).map(|lane| claim(lane, 4, 20)).collect();
    let lanes: Vec<u32> = large.iter().map(|item| item.proof.claim().lane).collect();
    let parts = batches(large);
    for part in &parts {
        let bytes: usize = part.iter().map(|item| encode(item).len()).sum();
        assert!(part.len() <= MAX_CLAIMS && bytes <= BATCH_BYTES, "{} claims, {bytes} bytes", part.len());
    }
    let kept: Vec<u32> = parts.iter().flatten().map(|item| item.proof.claim().lane).collect();
    assert_eq!(kept, lanes);
    // By bytes fewer go together than by number; without receipts it is the number that counts.
    assert!(parts[0].len() < MAX_CLAIMS);
    let small: Vec<SettleClaim> =
        (0..40).map(|lane| SettleClaim { receipt: None, ..claim(lane, 0, 0) }).collect();
    let sizes: Vec<usize> = batches(small).iter().map(Vec::len).collect();
    assert_eq!(sizes, [MAX_CLAIMS, MAX_CLAIMS, 8]);
}

#[test]
fn what_is_pending_or_refused_is_not_claimed_again() {
    let SettleClaim { proof: ClaimProof::Voucher(voucher), lines, .. } = claim(3, 0, 0) else {
        panic!("a claim with a voucher");
    };
    let approval = Signed::sign(Approval(voucher.body.0), &SecretKey::from_seed(&[1; 32]));
    let amount = Amount::from_grains(5);
    let settlement = settlement(3, 0, 5);
    let approved = Settlement { approval: Some(approval), at_once: amount, ..settlement.clone() };
    let news = |memory: &Memory, of: &Settlement, closing| memory.news(vec![of.clone()], closing);
    let mut memory = Memory::default();
    assert_eq!(news(&memory, &settlement, false), std::slice::from_ref(&settlement));
    // One claim with a number and an amount below, the same, and one by which it was capped.
    for (through, amount, replaced) in [(0, 4, true), (1, 5, false), (0, 5, false), (1, 4, false)] {
        let amount = Amount::from_grains(amount);
        memory.pending =
            vec![PendingClaim { lane: 3, lines: lines.clone(), through, amount, deadline_ms: 900_000 }];
        assert_eq!(news(&memory, &settlement, false), []);
        assert_eq!(news(&memory, &settlement, true).len(), usize::from(replaced), "{through} {amount}");
        // An approval pays at once beside a pending claim.
        assert_eq!(news(&memory, &approved, false), std::slice::from_ref(&approved));
    }
    memory.refused.insert((3, 1));
    assert_eq!(news(&memory, &approved, true), []);
    // A refused approval leaves the voucher of a later number.
    memory = Memory::default();
    memory.refused.insert((3, 1));
    let mut later = approved;
    later.voucher.body.0.seq = 2;
    let left = Settlement { approval: None, at_once: Amount::ZERO, ..later.clone() };
    assert_eq!(news(&memory, &later, false), [left]);
}

/// The ledger's view where so much was paid on lane 3.
fn paid(grains: u128) -> LedgerView {
    let amount = Amount::from_grains(grains);
    let lanes = [(3, amount)].into_iter().collect();
    LedgerView { settled: amount, lanes, ..LedgerView::opened(Amount::from_grains(1_000)) }
}

fn config() -> Config {
    let (listen, folder) = (([127, 0, 0, 1], 0).into(), std::path::PathBuf::new());
    let key = SecretKey::from_seed(&[1; 32]);
    let account = key.account();
    Config {
        settle_after: Duration::from_secs(1),
        settle_at_latest: Duration::from_secs(30),
        ..Config::new(listen, folder, key.clone(), key, account)
    }
}

#[test]
fn a_lane_that_is_always_in_use_is_due_at_latest() {
    let (start, config) = (Instant::now(), config());
    let mut memory = Memory::default();
    let at = |second: u64| start + Duration::from_secs(second);
    // The sum rises all the time, and every third round finds the next receipt on its way to the disk.
    for second in 0..30_u64 {
        let goes_on = second % 2 == 0;
        let of = Settlement { goes_on, ..settlement(3, u128::from(5 + second), u128::from(5 + second)) };
        let claims = if second % 3 == 1 { Vec::new() } else { vec![of] };
        memory.note(&claims, &paid(0), at(second));
        assert!(!memory.is_due(&config, at(second)), "after {second} s");
    }
    let claims = [Settlement { goes_on: true, ..settlement(3, 40, 40) }];
    memory.note(&claims, &paid(0), at(30));
    assert!(memory.is_due(&config, at(30)));
    // It waits anew when it was brought, and when it was paid.
    let mut brought = Memory::default();
    brought.note(&claims, &paid(0), at(0));
    brought.brought(&claims, &BTreeSet::new());
    assert!(!brought.is_due(&config, at(30)));
    memory.note(&[Settlement { goes_on: true, ..settlement(3, 2, 2) }], &paid(40), at(31));
    assert!(!memory.is_due(&config, at(31)) && memory.is_due(&config, at(61)));
    // On a lane that is quiet the moment counts.
    memory.note(&[settlement(3, 2, 2)], &paid(40), at(32));
    assert!(!memory.is_due(&config, at(32)) && memory.is_due(&config, at(33)));
}

#[test]
fn who_never_approves_and_goes_on_ordering_is_late() {
    let (start, patience) = (Instant::now(), Duration::from_secs(60));
    let at = |second: u64| start + Duration::from_secs(second);
    let mut memory = Memory::default();
    let mut late = |approved: u128, owed: u128, second: u64, there: bool| {
        let claims = if there { vec![settlement(3, approved, owed)] } else { Vec::new() };
        memory.note(&claims, &paid(0), at(second));
        memory.late(&claims, patience, false, at(second))
    };
    for second in 0..60 {
        assert_eq!(late(0, u128::from(second) + 1, second, second % 3 != 1), BTreeSet::new(), "{second}");
    }
    assert_eq!(late(0, 61, 60, true), BTreeSet::from([3]));
    // What comes late, but comes, is waited for: each receipt has its own time.
    assert_eq!(late(61, 62, 61, true), BTreeSet::new());
    assert_eq!(late(61, 70, 120, true), BTreeSet::new());
    assert_eq!(late(65, 70, 121, true), BTreeSet::new());
    assert_eq!(late(65, 70, 181, true), BTreeSet::from([3]));
}
