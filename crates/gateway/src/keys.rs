//! API keys: made here, kept as digests only.

use gristmill_channel::KeyId;
use gristmill_net::openai::ApiError;
use gristmill_types::{Digest, sha256};
use http::{HeaderMap, header};

/// What every key starts with, so that people and secret scanners know it for one.
const PREFIX: &str = "sk-gristmill-";
/// No key is longer.
const MAX_KEY_BYTES: usize = 256;

/// A new key of 192 random bits, as text.
pub(crate) fn generate() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

/// The key's id. Keys have full entropy, so a plain hash suffices.
pub(crate) fn id(key: &str) -> KeyId {
    KeyId(sha256(&[b"gristmill/api-key/v1", key.as_bytes()]))
}

/// The key that a request carries, as its id.
pub(crate) fn of_request(headers: &HeaderMap) -> Result<KeyId, ApiError> {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer") && key.len() <= MAX_KEY_BYTES)
        .map(|(_, key)| key.trim())
        .ok_or_else(ApiError::wrong_key)?;
    Ok(id(key))
}

/// A random digest: nonces and salts.
pub(crate) fn random_digest() -> Result<Digest, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Digest::new(bytes))
}
