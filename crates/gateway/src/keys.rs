//! API keys: made here, kept as digests only. Each has a name for people, and ends when it is revoked; what it may
//! spend stands in the budgets.

use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_channel::KeyId;
use gristmill_net::openai::ApiError;
use gristmill_types::{Digest, sha256};
use http::{HeaderMap, header};
use std::collections::BTreeMap;

/// What every key starts with, so that people and secret scanners know it for one.
const PREFIX: &str = "sk-gristmill-";
/// No key is longer.
const MAX_KEY_BYTES: usize = 256;
/// The name of the key that `gristmill up` makes for itself, and replaces when its file is gone.
pub const OWN_NAME: &str = "up";
/// Characters of a name.
const MAX_NAME: usize = 64;

/// A new key of 192 random bits, as text.
pub fn generate() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

/// The key's id. Keys have full entropy, so a plain hash suffices.
pub fn id(key: &str) -> KeyId {
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

/// One durable change. The numbers of the variants are append-only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum NameRecord {
    /// A key is called so.
    Named { key: KeyId, name: String, created_ms: u64 },
    /// A key ends.
    Revoked { key: KeyId, at_ms: u64 },
}

/// What people know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    pub(crate) revoked_ms: Option<u64>,
}

/// The names of the keys, and which of them ended.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<KeyId, Named>);

impl Names {
    /// Applies a record; gives it back if it does not follow from what came before.
    pub(crate) fn apply(&mut self, record: NameRecord) -> Result<(), NameRecord> {
        match record {
            NameRecord::Named { key, name, created_ms } if !self.0.contains_key(&key) => {
                self.0.insert(key, Named { name, created_ms, revoked_ms: None });
                Ok(())
            }
            NameRecord::Revoked { key, at_ms } if self.is_active(&key) => {
                self.0.entry(key).and_modify(|of| of.revoked_ms = Some(at_ms));
                Ok(())
            }
            record => Err(record),
        }
    }

    pub(crate) fn of(&self, key: &KeyId) -> Option<&Named> {
        self.0.get(key)
    }

    /// Whether a key has not ended.
    pub(crate) fn is_active(&self, key: &KeyId) -> bool {
        self.0.get(key).is_some_and(Named::is_active)
    }

    /// The one of this name that has not ended.
    pub(crate) fn active(&self, name: &str) -> Option<KeyId> {
        self.0.iter().find(|(_, of)| of.name == name && of.is_active()).map(|(key, _)| *key)
    }
}

impl Named {
    pub(crate) const fn is_active(&self) -> bool {
        self.revoked_ms.is_none()
    }
}

/// A name that people can read and type, for a key that is somebody's.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    if name == OWN_NAME {
        let message =
            format!("'{OWN_NAME}' is the name of the key of `gristmill up` itself; choose another.");
        return Err(ApiError::invalid("name", message));
    }
    if name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = "That could be the id of a key; choose a name with other letters.";
        return Err(ApiError::invalid("name", message));
    }
    let plain = |c: char| c.is_alphanumeric() || " -_./@".contains(c);
    if name.trim() == name && (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(plain) {
        return Ok(());
    }
    let message =
        format!("A key's name has 1 to {MAX_NAME} letters, digits, or any of - _ . / @ and space within.");
    Err(ApiError::invalid("name", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_key_at_a_time() {
        let (one, other) = (id("one"), id("other"));
        let named = |key, name: &str| NameRecord::Named { key, name: name.to_owned(), created_ms: 1 };
        let mut names = Names::default();
        names.apply(named(one, "library")).unwrap();
        assert!(names.apply(named(one, "again")).is_err(), "a key is named once");
        assert_eq!(names.active("library"), Some(one));
        let revoked = |key| NameRecord::Revoked { key, at_ms: 2 };
        names.apply(revoked(one)).unwrap();
        assert!(names.apply(revoked(one)).is_err(), "and ends once");
        assert!(names.apply(revoked(other)).is_err(), "there is no such key");
        assert_eq!(names.active("library"), None);
        names.apply(named(other, "library")).unwrap();
        assert_eq!(names.active("library"), Some(other));
        assert_eq!(names.0.len(), 2);
    }

    #[test]
    fn names_are_for_people() {
        for (name, right) in [
            ("library", true),
            ("Физика / lab-2", true),
            ("a@b.example", true),
            ("", false),
            (OWN_NAME, false),
            ("8a781f85", false),
            ("facade", true),
            (" padded", false),
            ("two\nlines", false),
            ("\u{1b}[2J", false),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
        ] {
            assert_eq!(check_name(name).is_ok(), right, "{name:?}");
        }
    }
}
