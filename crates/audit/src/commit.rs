//! Digests that a receipt commits to.

use gristmill_types::Digest;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

/// SHA-256 over token ids, each as four little-endian bytes. The length needs no mark: all ids
/// have the same width, so two lists with one digest would be a collision of SHA-256.
pub fn ids_digest(ids: &[u32]) -> Digest {
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(id.to_le_bytes());
    }
    Digest::new(hasher.finalize().into())
}

/// [`ids_digest`]'s bytes under the request's salt: what a receipt carries, since receipts can become
/// public and a short prompt could be guessed from a plain digest.
pub fn salted_ids_digest(salt: &Digest, ids: &[u32]) -> Digest {
    let mut hasher = SaltedHasher::new(salt);
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
    hasher.finish()
}

/// HMAC-SHA-256 of the bytes under the request's salt. Without the salt, which payer and payee
/// alone know, nobody can test a guess of a short prompt against a receipt.
pub fn salted_digest(salt: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = SaltedHasher::new(salt);
    hasher.update(bytes);
    hasher.finish()
}

/// [`salted_digest`] of bytes that arrive piece by piece.
#[derive(Clone)]
pub struct SaltedHasher(Hmac<Sha256>);

impl SaltedHasher {
    /// Starts under the salt.
    pub fn new(salt: &Digest) -> Self {
        // HMAC pads a key that is shorter than the hash's block with zeros. Padding here gives the
        // same digest through a constructor that cannot fail.
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(salt.as_bytes()) {
            *place = *byte;
        }
        Self(Hmac::new(&block.into()))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        Digest::new(self.0.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_standard_one() {
        // From Python: hmac.new(bytes([7]*32), b"what do ya want for nothing?", "sha256").
        let digest = salted_digest(&Digest::new([7; 32]), b"what do ya want for nothing?");
        assert_eq!(digest.to_string(), "37853aff7df2ff1f94e194ad66dd7633e01f2642bdbc02f0b6a1ea7540d2ac0e");
    }

    #[test]
    fn pieces_do_not_matter() {
        let salt = Digest::new([3; 32]);
        let mut hasher = SaltedHasher::new(&salt);
        for piece in [&b"ab"[..], b"", b"c"] {
            hasher.update(piece);
        }
        assert_eq!(hasher.finish(), salted_digest(&salt, b"abc"));
        assert_ne!(salted_digest(&salt, b"abc"), salted_digest(&Digest::new([4; 32]), b"abc"));
    }

    #[test]
    fn ids_are_hashed_little_endian() {
        // From Python: hashlib.sha256(struct.pack("<3I", 1, 2, 0x01020304)).
        assert_eq!(
            ids_digest(&[1, 2, 0x0102_0304]).to_string(),
            "0710ee743c5271e8809c381283351113eeb8a0a1b4393f2bbaed3c4b69b7d245"
        );
        assert_eq!(ids_digest(&[]), gristmill_types::sha256(&[]));
    }
}
