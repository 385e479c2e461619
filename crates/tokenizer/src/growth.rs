//! How much longer a tokenizer may make a text, by the steps that its `tokenizer.json` names.
//!
//! Each step is harmless, and a few that each double the text are not: a tokenizer comes from whoever
//! published the model, and the library bounds nothing. So the factor is worked out before it is used,
//! rather too large than too small.

use crate::TextError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

/// The longest text between the steps of a tokenizer. The library keeps about 20 bytes beside each.
const MAX_GROWN_BYTES: usize = 64 << 20;
/// What the text of one token may grow to.
const MAX_DECODER_FACTOR: usize = 4096;
/// A step that is not known here.
const UNKNOWN: usize = 16;

/// The members of a `tokenizer.json` that change text; the vocabulary, most of it, is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Steps {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

/// Factors by which text becomes longer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    encoding: usize,
}

impl Growth {
    /// Reads a `tokenizer.json`. Refuses one whose decoder makes texts of tokens very long.
    pub(crate) fn of(json: &str) -> Result<Self, TextError> {
        let steps: Steps =
            serde_json::from_str(json).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        let decoding = factor(&steps.decoder);
        if decoding > MAX_DECODER_FACTOR {
            let reason = format!("its decoder makes a text up to {decoding} times as long");
            return Err(TextError::Tokenizer(reason));
        }
        let encoding = factor(&steps.normalizer).saturating_mul(factor(&steps.pre_tokenizer));
        Ok(Self { encoding })
    }

    /// Refuses a text that could become too long.
    pub(crate) fn check(self, bytes: usize) -> Result<(), TextError> {
        let limit = MAX_GROWN_BYTES.checked_div(self.encoding).unwrap_or(MAX_GROWN_BYTES);
        if bytes > limit { Err(TextError::TooLong { bytes, limit }) } else { Ok(()) }
    }
}

/// How many bytes a step makes of one at most.
fn factor(step: &Value) -> usize {
    let length = |member: &str| step[member].as_str().map_or(0, str::len);
    let Some(kind) = step["type"].as_str() else {
        return if step.is_null() { 1 } else { UNKNOWN };
    };
    match kind {
        "Sequence" => {
            let lists = ["normalizers", "pretokenizers", "decoders"].map(|member| &step[member]);
            let steps = lists.into_iter().filter_map(Value::as_array).flatten();
            steps.map(factor).fold(1, usize::saturating_mul)
        }
        // An expression may match between any two characters.
        "Replace" => match step["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => length("content").div_ceil(pattern.len()).max(1),
            _ => length("content").saturating_add(1),
        },
        "Prepend" => length("prepend").saturating_add(1),
        "Metaspace" => length("replacement").max(1).saturating_mul(2),
        "Precompiled" => step["precompiled_charsmap"].as_str().map_or(1, longest_replacement),
        "NFKC" | "NFKD" => 11,
        "NFC" | "NFD" | "Lowercase" => 3,
        "BertNormalizer" => 9,
        "ByteLevel" => 2,
        "WordPiece" | "BPEDecoder" | "CTC" => {
            length("prefix").max(length("suffix")).max(length("pad_token")) + 2
        }
        "Strip" | "StripAccents" | "Nmt" | "Split" | "Punctuation" | "Whitespace" | "WhitespaceSplit"
        | "BertPreTokenizer" | "CharDelimiterSplit" | "Digits" | "UnicodeScripts" | "FixedLength"
        | "ByteFallback" | "Fuse" => 1,
        _ => UNKNOWN,
    }
}

/// The longest text that a map of sentencepiece puts in place of a character. The map is the length of
/// a trie, the trie, and the texts, each ended by a zero.
fn longest_replacement(map: &str) -> usize {
    let Ok(map) = STANDARD.decode(map) else { return 1 };
    let texts = map
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..));
    texts.unwrap_or(&map).split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn factors() {
        let map = [&4_u32.to_le_bytes()[..], b"trie", b"abc\0defgh\0"].concat();
        let doubling = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        for (step, expected) in [
            (json!(null), 1),
            (json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}), 3),
            (json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}), 1),
            (json!({"type": "Replace", "pattern": {"String": ""}, "content": "xy"}), 3),
            (json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}), 4),
            (json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(map)}), 5),
            (json!({"type": "Precompiled", "precompiled_charsmap": "?"}), 1),
            (
                json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Prepend", "prepend": "▁"}]}),
                44,
            ),
            (json!({"type": "Sequence", "pretokenizers": vec![doubling; 80]}), usize::MAX),
            (json!({"type": "Later"}), UNKNOWN),
        ] {
            assert_eq!(factor(&step), expected, "{step}");
        }
    }

    #[test]
    fn bounds() {
        let doubling = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let chain =
            |list: &str, count: usize| json!({"type": "Sequence", list: vec![doubling.clone(); count]});
        let growth = Growth::of(&json!({"normalizer": chain("normalizers", 20)}).to_string()).unwrap();
        assert!(growth.check(64).is_ok() && growth.check(65).is_err());
        assert!(Growth::of("{}").unwrap().check(MAX_GROWN_BYTES).is_ok());
        for (count, fits) in [(12, true), (13, false)] {
            let json = json!({"decoder": chain("decoders", count)}).to_string();
            assert_eq!(Growth::of(&json).is_ok(), fits, "{count}");
        }
    }
}
