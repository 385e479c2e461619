//! The bundle: all that decides how text becomes ids, under one digest.

use crate::TextError;
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Digest, sha256};

/// The largest bundle that is read. The largest public tokenizers have about 35 MB.
pub const MAX_BUNDLE_BYTES: usize = 64 << 20;

const DOMAIN: &[u8] = b"gristmill/text/v1";

/// Texts of the tokens with a role, as chat templates name them.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text.
    pub eos: Option<String>,
    /// Stands for what the vocabulary lacks.
    pub unk: Option<String>,
    /// Fills up batches.
    pub pad: Option<String>,
}

/// Tokenizer, chat template and special tokens of one model, as data. [`crate::Tokenizer`] is what
/// works with it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TextBundle {
    /// `tokenizer.json` as Hugging Face's tokenizers library reads it.
    pub tokenizer_json: String,
    /// The Jinja template that turns messages into one text.
    pub chat_template: Option<String>,
    /// Texts of special tokens.
    pub special: SpecialTokens,
    /// Whether plain text (not chat) begins with the bos token although the tokenizer's own
    /// post-processor does not add it.
    pub add_bos: bool,
    /// Ids that end an answer, ascending.
    pub eos_ids: Vec<u32>,
}

impl TextBundle {
    /// The canonical bytes, which travel between processor and gateway.
    pub fn to_bytes(&self) -> Vec<u8> {
        gristmill_types::encode(self)
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(TextError::TooLong { bytes: bytes.len(), limit: MAX_BUNDLE_BYTES });
        }
        gristmill_types::decode(bytes).map_err(|error| TextError::Bundle(error.to_string()))
    }

    /// Reads bytes from a source that is not trusted and checks that they are what was asked for.
    pub fn from_bytes_checked(bytes: &[u8], expected: &Digest) -> Result<Self, TextError> {
        let found = digest_of(bytes);
        if found != *expected {
            return Err(TextError::WrongDigest { expected: *expected, found });
        }
        Self::from_bytes(bytes)
    }

    /// The digest that a quote names: SHA-256 over a domain and the canonical bytes.
    pub fn digest(&self) -> Digest {
        digest_of(&self.to_bytes())
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    sha256(&[DOMAIN, bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> TextBundle {
        TextBundle {
            tokenizer_json: "{}".into(),
            chat_template: Some("t".into()),
            special: SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() },
            add_bos: true,
            eos_ids: vec![2, 7],
        }
    }

    #[test]
    fn bytes_are_pinned() {
        let expected = concat!(
            "020000007b7d",
            "010100000074",
            "01030000003c733e",
            "000000",
            "01",
            "020000000200000007000000"
        );
        let hex: String = bundle().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_bundle_is_what_its_digest_says() {
        let (bundle, bytes) = (bundle(), bundle().to_bytes());
        assert_eq!(TextBundle::from_bytes_checked(&bytes, &bundle.digest()).unwrap(), bundle);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let result = TextBundle::from_bytes_checked(&changed, &bundle.digest());
            assert!(matches!(result, Err(TextError::WrongDigest { .. })), "byte {at}");
        }
    }

    #[test]
    fn broken_bytes_are_refused() {
        let bytes = bundle().to_bytes();
        for end in 0..bytes.len() {
            assert!(TextBundle::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(TextBundle::from_bytes(&[0xff; 64]).is_err());
    }
}
