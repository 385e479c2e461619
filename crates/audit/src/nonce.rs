//! The processor's sampling nonces: a Merkle tree whose root stands in the quote.
//!
//! The processor fixes all nonces before it sees an order, so it cannot pick one that suits it;
//! each request reveals one leaf, so the consumer learns nothing about the others. The order in
//! which leaves are used, and that none is used twice, is the processor's business and can be seen
//! from the receipts, which carry the index.
//!
//! - nonce i = `SHA-256("gristmill/nonce/derive/v1" ‖ secret ‖ i)`, i as four little-endian bytes
//! - leaf hash = `SHA-256("gristmill/nonce/leaf/v1" ‖ i ‖ nonce)`
//! - node hash = `SHA-256("gristmill/nonce/node/v1" ‖ left ‖ right)`
//! - places beyond the last leaf, up to a power of two, hold `SHA-256("gristmill/nonce/none/v1")`
//!
//! A leaf's hash carries its index and the path's turns are the index's bits, so one leaf verifies
//! at one place only. The three domains keep a node from being shown as a leaf.

use gristmill_types::{Digest, ProcessorNonce, sha256};
use std::fmt;

const DERIVE: &[u8] = b"gristmill/nonce/derive/v1";
const LEAF: &[u8] = b"gristmill/nonce/leaf/v1";
const NODE: &[u8] = b"gristmill/nonce/node/v1";
const NONE: &[u8] = b"gristmill/nonce/none/v1";

/// Leaves of one tree at most: 64 MiB of hashes, and a path of 20 digests.
pub const MAX_LEAVES: u32 = 1 << 20;
const MAX_DEPTH: usize = 20;

/// A tree that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce tree has 1 to {MAX_LEAVES} leaves, not {0}")]
pub struct BadTree(pub u32);

/// The nonces under one quote.
#[derive(Clone)]
pub struct NonceTree {
    secret: [u8; 32],
    leaves: u32,
    /// Hashes, the leaves' level first, the root's level left out.
    levels: Vec<Vec<Digest>>,
    root: Digest,
}

impl NonceTree {
    /// Derives the nonces from the secret and hashes the tree: about three hashes a leaf.
    pub fn new(secret: &[u8; 32], leaves: u32) -> Result<Self, BadTree> {
        if leaves == 0 || leaves > MAX_LEAVES {
            return Err(BadTree(leaves));
        }
        let none = sha256(&[NONE]);
        let mut level: Vec<Digest> = (0..leaves.next_power_of_two())
            .map(|index| if index < leaves { leaf_hash(index, &derive(secret, index)) } else { none })
            .collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = level.chunks_exact(2).filter_map(node_of_pair).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        let root = level.first().copied().unwrap_or(none);
        Ok(Self { secret: *secret, leaves, levels, root })
    }

    /// What the quote carries.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// How many nonces there are.
    pub fn leaves(&self) -> u32 {
        self.leaves
    }

    /// One leaf with its path; `None` beyond the last.
    pub fn reveal(&self, index: u32) -> Option<ProcessorNonce> {
        if index >= self.leaves {
            return None;
        }
        let mut at = usize::try_from(index).ok()?;
        let mut path = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            path.push(*level.get(at ^ 1)?);
            at >>= 1;
        }
        Some(ProcessorNonce { nonce: derive(&self.secret, index), index, path })
    }
}

/// The secret is left out.
impl fmt::Debug for NonceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceTree").field("leaves", &self.leaves).field("root", &self.root).finish()
    }
}

/// Whether the leaf belongs to the tree with this root.
pub fn verify_nonce(root: &Digest, leaf: &ProcessorNonce) -> bool {
    if leaf.path.len() > MAX_DEPTH {
        return false;
    }
    let mut hash = leaf_hash(leaf.index, &leaf.nonce);
    let mut at = leaf.index;
    for sibling in &leaf.path {
        hash = if at & 1 == 0 { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) };
        at >>= 1;
    }
    at == 0 && hash == *root
}

fn derive(secret: &[u8; 32], index: u32) -> Digest {
    sha256(&[DERIVE, secret, &index.to_le_bytes()])
}

fn leaf_hash(index: u32, nonce: &Digest) -> Digest {
    sha256(&[LEAF, &index.to_le_bytes(), nonce.as_bytes()])
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[NODE, left.as_bytes(), right.as_bytes()])
}

fn node_of_pair(pair: &[Digest]) -> Option<Digest> {
    match pair {
        [left, right] => Some(node_hash(left, right)),
        _ => None,
    }
}
