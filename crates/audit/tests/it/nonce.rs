//! Merkle proofs of nonces.

use gristmill_audit::{BadTree, MAX_LEAVES, NonceTree, verify_nonce};
use gristmill_types::Digest;
use proptest::prelude::*;

#[test]
fn sizes_are_bounded() {
    for leaves in [0, MAX_LEAVES + 1, u32::MAX] {
        assert_eq!(NonceTree::new(&[1; 32], leaves).unwrap_err(), BadTree(leaves));
    }
}

#[test]
fn one_leaf_is_a_tree() {
    let tree = NonceTree::new(&[1; 32], 1).unwrap();
    let leaf = tree.reveal(0).unwrap();
    assert!(leaf.path.is_empty());
    assert!(verify_nonce(&tree.root(), &leaf));
    assert_eq!(tree.reveal(1), None);
}

#[test]
fn the_secret_is_not_printed() {
    let text = format!("{:?}", NonceTree::new(&[0x5a; 32], 2).unwrap());
    assert!(!text.contains("5a5a") && !text.contains("90, 90"), "{text}");
}

proptest! {
    #[test]
    fn every_leaf_verifies_at_its_place_only(
        secret: [u8; 32],
        leaves in 1u32..200,
        pick: prop::sample::Index,
        other: prop::sample::Index,
    ) {
        let tree = NonceTree::new(&secret, leaves).unwrap();
        let index = pick.index(leaves as usize) as u32;
        let leaf = tree.reveal(index).unwrap();
        prop_assert!(verify_nonce(&tree.root(), &leaf));
        let mut moved = leaf.clone();
        moved.index = other.index(leaves as usize * 2) as u32;
        prop_assert_eq!(verify_nonce(&tree.root(), &moved), moved.index == index);
    }

    #[test]
    fn no_change_goes_unnoticed(
        secret: [u8; 32],
        leaves in 2u32..200,
        pick: prop::sample::Index,
        place: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let tree = NonceTree::new(&secret, leaves).unwrap();
        let leaf = tree.reveal(pick.index(leaves as usize) as u32).unwrap();
        let flip = |digest: Digest| {
            let mut bytes = *digest.as_bytes();
            bytes[place.index(32)] ^= 1 << bit;
            Digest::new(bytes)
        };
        let mut nonce = leaf.clone();
        nonce.nonce = flip(nonce.nonce);
        prop_assert!(!verify_nonce(&tree.root(), &nonce));
        let mut path = leaf.clone();
        let at = place.index(path.path.len());
        path.path[at] = flip(path.path[at]);
        prop_assert!(!verify_nonce(&tree.root(), &path));
        prop_assert!(!verify_nonce(&flip(tree.root()), &leaf));
        let mut short = leaf.clone();
        short.path.pop();
        prop_assert!(!verify_nonce(&tree.root(), &short));
        let mut long = leaf;
        long.path.resize(40, Digest::new([0; 32]));
        prop_assert!(!verify_nonce(&tree.root(), &long));
    }
}
