//! The upstream's API key: sent, and shown nowhere.

use crate::UpstreamError;
use http::HeaderValue;
use std::fmt;
use zeroize::Zeroizing;

const MAX_KEY_BYTES: usize = 4096;

/// What opens an upstream. Its `Debug` form says nothing, and it has no other.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Reads a key; white space around it is left out.
    pub fn new(text: &str) -> Result<Self, UpstreamError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UpstreamError::Key("it is empty"));
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(UpstreamError::Key("it has more than 4096 bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UpstreamError::Key(
                "it is not one line of printable ASCII characters without spaces",
            ));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The header that carries it; marked so that no log of HTTP shows it either.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The text without the key: a server may repeat what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(self.0.as_str(), "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([key])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (text, usable) in [
            ("sk-1", true),
            (" sk-1\n", true),
            ("", false),
            (" \n", false),
            ("sk 1", false),
            ("sk\n1", false),
            ("schlüssel", false),
            (&"k".repeat(MAX_KEY_BYTES), true),
            (&"k".repeat(MAX_KEY_BYTES + 1), false),
        ] {
            assert_eq!(ApiKey::new(text).is_ok(), usable, "{text:?}");
        }
    }

    #[test]
    fn a_key_never_shows() {
        let key = ApiKey::new("sk-secret").unwrap();
        let header = key.authorization().unwrap();
        let shown = format!("{key:?} {header:?} {}", key.redact("Incorrect key: sk-secret."));
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(header.to_str().unwrap(), "Bearer sk-secret");
    }
}
