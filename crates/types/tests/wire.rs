//! Wire formats, pinned: a change of any of these digests is a change of protocol.

use gristmill_types::*;

fn claim() -> Claim {
    Claim {
        chain: ChainId::new([1; 32]),
        channel: ChannelId::new([2; 32]),
        lane: 3,
        seq: 4,
        model: ModelId::new([5; 32]),
        quote: QuoteHash::new([6; 32]),
        usage: Usage { input_tokens: 7, output_tokens: 8, millis: 9, requests: 10 },
        amount: Amount::from_grains(11),
    }
}

fn account(byte: u8) -> AccountId {
    SecretKey::from_seed(&[byte; 32]).account()
}

#[test]
fn signed_bodies() {
    let quote = Quote {
        chain: ChainId::new([1; 32]),
        processor: account(2),
        receipt_key: account(3),
        model: ModelId::new([4; 32]),
        issuer: account(5),
        prices: Prices { input_per_mtok: Amount::from_credits(1), ..Prices::default() },
        tokenizer: Digest::new([6; 32]),
        limits: Limits { context_tokens: 1, output_tokens: 2, window_tokens: 3, window_ms: 4 },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: 7,
        nonce_root: Digest::new([8; 32]),
        engine: "candle-q8_0".into(),
    };
    let receipt = Receipt {
        chain: ChainId::new([1; 32]),
        channel: ChannelId::new([2; 32]),
        lane: 3,
        seq: 4,
        voucher: Voucher(claim()).hash(),
        model: ModelId::new([5; 32]),
        quote: quote.hash(),
        usage: claim().usage,
        spent: Amount::from_grains(6),
        request: Digest::new([7; 32]),
        response: Digest::new([8; 32]),
        last: true,
        audit: Some(AuditCommitment {
            prompt_ids: Digest::new([9; 32]),
            output_ids: Digest::new([10; 32]),
            sampling: Sampling {
                temperature_micros: 700_000,
                top_k: 40,
                top_p_micros: 950_000,
                max_tokens: 16,
                stop: vec!["\n".into()],
            },
            consumer_nonce: Digest::new([11; 32]),
            processor_nonce: Some(ProcessorNonce {
                nonce: Digest::new([12; 32]),
                index: 13,
                path: vec![Digest::new([14; 32])],
            }),
            finish: Finish::Stop,
        }),
    };
    let order = Order {
        chain: ChainId::new([1; 32]),
        channel: ChannelId::new([2; 32]),
        lane: 3,
        voucher: Voucher(claim()).hash(),
        body: Digest::new([4; 32]),
        consumer_nonce: Digest::new([5; 32]),
        salt: Digest::new([6; 32]),
        max_amount: Amount::from_credits(1),
    };
    let manifest = Manifest::new(
        vec![ManifestFile { path: "config.json".into(), bytes: 2, sha256: sha256(&[b"{}"]) }],
        Digest::new([1; 32]),
    );
    let found = [
        ("voucher", Voucher(claim()).digest()),
        ("approval", Approval(claim()).digest()),
        ("order", order.digest()),
        ("quote", quote.digest()),
        ("receipt", receipt.digest()),
        ("manifest", manifest.digest()),
    ]
    .map(|(name, digest)| format!("{name} {digest}"));
    let pinned = include_str!("wire.txt");
    assert_eq!(found.join("\n"), pinned.trim_end());
    assert_eq!(encode(&claim()).len(), 188);
    // The same fields under another domain are another artefact.
    assert_ne!(Voucher(claim()).digest(), Approval(claim()).digest());
}

#[test]
fn a_signature_holds_for_one_domain_and_one_body() {
    let key = SecretKey::from_seed(&[1; 32]);
    let signed = Signed::sign(Voucher(claim()), &key);
    assert_eq!(signed.verify_strict(&key.public()), Ok(()));
    assert_eq!(Signed::from_bytes(&signed.to_bytes()), Ok(signed.clone()));
    let approval = Signed { body: Approval(claim()), signature: signed.signature };
    assert_eq!(approval.verify_strict(&key.public()), Err(BadSignature));
    let mut altered = signed.clone();
    altered.body.0.amount = Amount::from_grains(12);
    assert_eq!(altered.verify_strict(&key.public()), Err(BadSignature));
    let other = SecretKey::from_seed(&[2; 32]);
    assert_eq!(signed.verify_strict(&other.public()), Err(BadSignature));
    let mut bytes = signed.to_bytes();
    bytes.push(0);
    assert!(Signed::<Voucher>::from_bytes(&bytes).is_err());
}
