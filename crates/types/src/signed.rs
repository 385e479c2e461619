//! Signed artefacts: a body, its domain, a signature.

use crate::{
    DecodeError, Digest, decode, encode,
    hash::sha256,
    key::{PublicKey, SecretKey},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An ed25519 signature (64 bytes; hexadecimal in JSON).
#[derive(Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the bytes.
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(text.as_bytes(), &mut bytes)
            .map_err(|_| serde::de::Error::custom("a signature is 128 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// A signature that does not verify under the expected key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify under the expected key")]
pub struct BadSignature;

/// A body that can be signed. The domain is unique to the type and its version.
pub trait Signable: BorshSerialize + BorshDeserialize {
    /// The domain separator, at most 127 ASCII characters.
    const DOMAIN: &'static str;

    /// What is signed: the domain's length as one byte, the domain, the canonical body.
    fn message(&self) -> Vec<u8> {
        let domain = Self::DOMAIN.as_bytes();
        let body = encode(self);
        let mut message = Vec::with_capacity(body.len().saturating_add(domain.len()).saturating_add(1));
        message.push(u8::try_from(domain.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(domain);
        message.extend_from_slice(&body);
        message
    }

    /// SHA-256 of [`message`](Self::message): the artefact's hash, without its signature.
    fn digest(&self) -> Digest {
        sha256(&[&self.message()])
    }
}

/// A body and a signature over it. Nothing about the signature is known until it is verified.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Signed<T> {
    /// What was signed.
    pub body: T,
    /// The signature over [`Signable::message`].
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs the body.
    pub fn sign(body: T, key: &SecretKey) -> Self {
        let signature = key.sign_bytes(&body.message());
        Self { body, signature }
    }

    /// Verifies strictly under the key.
    pub fn verify_strict(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify_strict(&self.body.message(), &self.signature)
    }

    /// Body and signature in canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}
