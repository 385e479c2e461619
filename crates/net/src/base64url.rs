//! Canonical bytes as text in JSON: unpadded base64url of the borsh encoding.
//!
//! One spelling per value: padding, the other alphabet and loose trailing bits are refused, because
//! the decoder of the `base64` crate is strict by default, and so is borsh.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;

/// The largest canonical encoding that is read. A receipt with its audit commitment is the largest
/// artefact on the wire and stays below 4 KiB.
pub const MAX_ARTEFACT_BYTES: usize = 8 * 1024;

/// A value that JSON carries as unpadded base64url of its canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base64<T>(pub T);

impl<T: borsh::BorshSerialize> Base64<T> {
    /// The text form.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(gristmill_types::encode(&self.0))
    }
}

impl<T: borsh::BorshDeserialize> Base64<T> {
    /// Reads the text form. The error is a phrase for a larger sentence.
    pub fn from_text(text: &str) -> Result<Self, String> {
        // Four characters carry three bytes.
        if text.len() > MAX_ARTEFACT_BYTES.div_ceil(3).saturating_mul(4) {
            return Err(format!("it is longer than {MAX_ARTEFACT_BYTES} bytes"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| format!("it is not unpadded base64url ({error})"))?;
        gristmill_types::decode(&bytes).map(Self).map_err(|error| error.to_string())
    }
}

impl<T: borsh::BorshSerialize> Serialize for Base64<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de, T: borsh::BorshDeserialize> Deserialize<'de> for Base64<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_text(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_value() {
        let value = Base64(0x0102_03ff_u32);
        assert_eq!(value.to_text(), "_wMCAQ");
        assert_eq!(Base64::from_text("_wMCAQ"), Ok(value));
        for bad in ["_wMCAQ==", "/wMCAQ", "_wMCAR", "_wMCAQA", "_wMC", "", "_wMC AQ"] {
            assert!(Base64::<u32>::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_text_is_refused_before_it_is_decoded() {
        let long = "A".repeat(MAX_ARTEFACT_BYTES * 2);
        assert!(Base64::<Vec<u8>>::from_text(&long).unwrap_err().contains("longer than"));
    }
}
