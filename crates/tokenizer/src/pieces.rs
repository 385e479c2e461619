//! The bytes of single tokens, for whoever lists tokens rather than text (log probabilities).
//!
//! A token's bytes are those that it adds in the middle of an answer. They may be a part of a
//! character, so they are bytes and not text; those of an answer's tokens in order are its text, but
//! for a leading space that some decoders strip from the whole.

use crate::{TextError, Tokenizer};
use tokenizers::DecoderWrapper;

impl Tokenizer {
    /// The token's bytes: of a special token those of its name, of an unknown id none.
    pub fn token_bytes(&self, id: u32) -> Result<Vec<u8>, TextError> {
        let Some(name) = self.token_name(id) else { return Ok(Vec::new()) };
        if self.is_special(id) {
            return Ok(name.into_bytes());
        }
        let bytes = match self.spelling() {
            Spelling::Characters => name.chars().map(byte_of).collect::<Option<Vec<u8>>>(),
            Spelling::Fallback => fallback_byte(&name).map(|byte| vec![byte]),
            Spelling::Text => None,
        };
        if let Some(bytes) = bytes {
            return Ok(bytes);
        }
        // What it adds behind itself: decoders treat the first token of a text as special.
        let (once, twice) = (self.decode_window(&[id])?, self.decode_window(&[id, id])?);
        Ok(twice.strip_prefix(&once).unwrap_or(&once).as_bytes().to_vec())
    }

    fn spelling(&self) -> Spelling {
        let decoders = match self.decoder() {
            Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
            Some(decoder) => std::slice::from_ref(decoder),
            None => &[],
        };
        let find = |decoder: &DecoderWrapper| match decoder {
            DecoderWrapper::ByteLevel(_) => Some(Spelling::Characters),
            DecoderWrapper::ByteFallback(_) => Some(Spelling::Fallback),
            _ => None,
        };
        decoders.iter().find_map(find).unwrap_or(Spelling::Text)
    }
}

/// How a vocabulary spells bytes.
enum Spelling {
    /// Each byte as a character of GPT-2's alphabet.
    Characters,
    /// As text, and a byte that is no text as `<0xE2>`.
    Fallback,
    /// As text only.
    Text,
}

/// The byte that a character of GPT-2's alphabet stands for: printable characters of Latin-1 for
/// themselves, and from U+0100 on the other bytes in their order.
fn byte_of(character: char) -> Option<u8> {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => itself(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !itself(*byte)).nth(usize::try_from(code - 0x100).ok()?),
    }
}

fn fallback_byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
