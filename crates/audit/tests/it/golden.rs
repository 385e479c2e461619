//! Golden vectors, computed by an independent implementation in Python (hashlib, struct, math).

use gristmill_audit::{NonceTree, Sampler, Seed, unit, user_seed_nonce};
use gristmill_types::{Digest, ModelId, QuoteHash, Sampling};

fn digest(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

fn hex(bytes: &[u8; 32]) -> String {
    Digest::new(*bytes).to_string()
}

#[test]
fn seeds() {
    let model = ModelId::new([5; 32]);
    let joint = Seed::joint(&digest(1), &digest(2), &QuoteHash::new([3; 32]), &digest(4), &model);
    assert_eq!(hex(joint.as_bytes()), "9ceeebf02175b877ee4bb6cf397d99a8575fabb7ce8194f7ae489200abf14d98");
    let user = user_seed_nonce(-42);
    assert_eq!(user.to_string(), "1ce06c8885af22852432001121825f5ab8b790d103573c22bb0a8986239ce742");
    let fixed = Seed::fixed(&user, &digest(4), &model);
    assert_eq!(hex(fixed.as_bytes()), "5a9ca2982788008e3a63570a628161eb5045d8d250ee018e2e3e509bebd92657");
}

#[test]
fn units() {
    let seed = Seed::new([7; 32]);
    for (position, token, bits) in [
        (0, 0, 0x3fea_6c84_3052_849f),
        (1, 0, 0x3fd6_1450_b621_8cba),
        (0, 1, 0x3fe5_fa68_47b5_d665),
        (u32::MAX, u32::MAX, 0x3fe6_1685_89d0_4f19u64),
    ] {
        assert_eq!(unit(&seed, position, token).to_bits(), bits, "position {position}, token {token}");
    }
}

#[test]
fn draws() {
    // 100 logits on a grid of 0.1; 101 and 37 are coprime, so no two are equal.
    let logits: Vec<f32> = (0..100).map(|i| (f64::from(i * 37 % 101) / 10.0 - 5.0) as f32).collect();
    for (micros, top_k, top_p_micros, expected) in [
        (1_000_000, 64, 1_000_000, [60, 65, 35, 90, 90, 27, 95, 87, 30, 38, 19, 2, 46, 30, 73, 19]),
        (250_000, 8, 1_000_000, [60, 60, 30, 30, 90, 60, 60, 90, 30, 38, 30, 30, 49, 30, 49, 19]),
        (1_000_000, 64, 500_000, [60, 60, 8, 90, 90, 60, 60, 90, 30, 8, 19, 49, 49, 30, 49, 19]),
        (2_000_000, 64, 900_000, [60, 65, 35, 90, 90, 2, 95, 87, 98, 2, 19, 2, 46, 30, 73, 70]),
        (250_000, 8, 800_000, [60, 60, 30, 30, 90, 60, 60, 90, 30, 19, 30, 30, 19, 30, 60, 19]),
    ] {
        let sampling =
            Sampling { temperature_micros: micros, top_k, top_p_micros, max_tokens: 16, stop: Vec::new() };
        let sampler = Sampler::new(Seed::new([7; 32]), &sampling).unwrap();
        let drawn: Vec<u32> =
            (0..16).map(|position| sampler.draw(position, &logits).unwrap().token).collect();
        assert_eq!(drawn, expected, "T {micros}, top {top_k}, top p {top_p_micros}");
    }
}

#[test]
fn nonces() {
    let tree = NonceTree::new(&[9; 32], 5).unwrap();
    let root = "4be4cbb3ed00990e591319a72166b2765238b30d81d3feb5a527a175eb131737";
    assert_eq!(tree.root().to_string(), root);
    let leaf = tree.reveal(3).unwrap();
    let nonce = "d396528515371a95d2a1750260efcd4b79206c2a530da31c9c1785ed7c056d55";
    assert_eq!(leaf.nonce.to_string(), nonce);
    assert_eq!((leaf.index, leaf.path.len()), (3, 3));
}
