//! Which claims are new, and how they go together.

use super::*;
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
    let SettleClaim { proof: ClaimProof::Voucher(voucher), receipt: Some(receipt), lines } = claim(3, 0, 0)
    else {
        panic!("a claim with a voucher and a receipt");
    };
    let approval = Signed::sign(Approval(voucher.body.0), &SecretKey::from_seed(&[1; 32]));
    let amount = Amount::from_grains(5);
    let settlement = Settlement {
        lane: 3,
        approval: None,
        voucher,
        receipt: *receipt,
        at_once: Amount::ZERO,
        owed: amount,
    };
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
