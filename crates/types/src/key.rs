//! Ed25519 keys.

use crate::{
    id::AccountId,
    signed::{BadSignature, Signature},
};
use ed25519_dalek::{Signer as _, VerifyingKey};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes that are not a usable public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable ed25519 public key: it is not a canonical point of large order")]
pub struct BadKey;

/// A public key that was checked: a canonical encoding of a point that is not of small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Checks the bytes of a public key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| BadKey)?;
        // Decompression accepts some encodings that are not the canonical one.
        let canonical = key.to_edwards().compress().to_bytes() == *bytes;
        if key.is_weak() || !canonical {
            return Err(BadKey);
        }
        Ok(Self(key))
    }

    /// The account that this key owns.
    pub fn account(&self) -> AccountId {
        AccountId::new(self.0.to_bytes())
    }

    /// Verifies strictly: canonical scalars and points, no small-order components accepted
    /// (RFC 8032 with the checks of Chalkias et al., "Taming the many EdDSAs", 2020).
    pub fn verify_strict(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        self.0.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

impl TryFrom<&AccountId> for PublicKey {
    type Error = BadKey;

    fn try_from(account: &AccountId) -> Result<Self, BadKey> {
        Self::from_bytes(account.as_bytes())
    }
}

/// A secret key. It is wiped from memory when dropped and never printed.
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// The key with this 32-byte seed (RFC 8032). The caller brings the randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for writing the key to a file.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The account that this key owns.
    pub fn account(&self) -> AccountId {
        self.public().account()
    }

    /// Signs the message as it is. Artefacts go through [`Signed::sign`](crate::Signed::sign),
    /// which adds the domain separator.
    pub fn sign_bytes(&self, message: &[u8]) -> Signature {
        Signature::new(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.account().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_and_non_canonical_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let order_four = [0; 32];
        // y = p, a second spelling of y = 0.
        let mut non_canonical = [0xff; 32];
        non_canonical[0] = 0xed;
        non_canonical[31] = 0x7f;
        for key in [identity, order_four, non_canonical] {
            assert_eq!(PublicKey::from_bytes(&key), Err(BadKey), "{key:?}");
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        // y and p + y name the same point; only y < 19 leaves room for the second spelling.
        let mut points = 0;
        for y in 2..19 {
            let mut reduced = [0; 32];
            reduced[0] = y;
            let mut unreduced = [0xff; 32];
            unreduced[0] = 0xed + y;
            unreduced[31] = 0x7f;
            points += usize::from(PublicKey::from_bytes(&reduced).is_ok());
            assert_eq!(PublicKey::from_bytes(&unreduced), Err(BadKey), "y = {y}");
        }
        assert!(points > 0);
    }

    #[test]
    fn a_signature_with_a_point_of_small_order_is_refused() {
        // R is the neutral point and s = k·a. The plain equation holds; the strict one knows such points.
        let key = SecretKey::from_seed(&[7; 32]).public();
        let bytes: [u8; 64] = hex::decode(
            "0100000000000000000000000000000000000000000000000000000000000000\
             c76d1f3212ecf8da373e21a5de7bcc9145598fd06a18f0723f121fb05d5b9106",
        )
        .unwrap()
        .try_into()
        .unwrap();
        let plain = ed25519_dalek::Signature::from_bytes(&bytes);
        assert!(ed25519_dalek::Verifier::verify(&key.0, b"a message", &plain).is_ok());
        assert_eq!(key.verify_strict(b"a message", &Signature::new(bytes)), Err(BadSignature));
    }

    #[test]
    fn rfc_8032_test_1() {
        let seed: [u8; 32] = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap()
            .try_into()
            .unwrap();
        let key = SecretKey::from_seed(&seed);
        assert_eq!(
            hex::encode(key.account().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = key.sign_bytes(b"");
        assert!(hex::encode(signature.as_bytes()).starts_with("e5564300c360ac729086e2cc806e828a"));
        assert_eq!(key.public().verify_strict(b"", &signature), Ok(()));
        assert_eq!(key.public().verify_strict(b"x", &signature), Err(BadSignature));
        assert!(!format!("{key:?}").contains("9d61b19d"));
    }
}
