//! Hashing.

use crate::id::Digest;
use sha2::{Digest as _, Sha256};

/// SHA-256 over the parts, one after the other. The caller makes the parts unambiguous: all but
/// one of fixed length, or each encoded with its length.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Digest::new(hasher.finalize().into())
}
