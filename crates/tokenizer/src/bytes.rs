//! The byte bundle: text is counted in bytes where nobody knows the tokenizer.
//!
//! It is a bundle like any other, of which every byte of UTF-8 is one token and its id. Whoever
//! counts by bundles needs to know nothing of it: it is fetched, checked by its digest, and counts.

use crate::{SpecialTokens, TextBundle};
use gristmill_types::{Digest, Unit};
use std::sync::LazyLock;

/// Written plainly: what the server makes of roles is not known, so they are counted as their names.
const TEMPLATE: &str =
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ '\\n' }}{% endfor %}";

static BYTES: LazyLock<(TextBundle, Digest)> = LazyLock::new(|| {
    let bundle = bundle();
    let digest = bundle.digest();
    (bundle, digest)
});

impl TextBundle {
    /// The bundle whose tokens are bytes: the same everywhere, to the bit.
    pub fn bytes() -> Self {
        BYTES.0.clone()
    }
}

/// What the tokens of the bundle with this digest are.
pub fn unit(tokenizer: &Digest) -> Unit {
    if *tokenizer == BYTES.1 { Unit::Byte } else { Unit::Token }
}

fn bundle() -> TextBundle {
    // Written by hand and not by a map of JSON: how that orders its members depends on features that
    // other crates choose, and the digest must not.
    let vocab: Vec<String> = (0..=u8::MAX)
        .map(|byte| match character_of(byte) {
            escaped @ ('"' | '\\') => format!("\"\\{escaped}\":{byte}"),
            character => format!("\"{character}\":{byte}"),
        })
        .collect();
    let level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#;
    // No merges: every byte stays a token of its own.
    let tokenizer_json = format!(
        concat!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"#,
            r#""pre_tokenizer":{level},"post_processor":null,"decoder":{level},"#,
            r#""model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"#,
            r#""end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"#,
            r#""vocab":{{{vocab}}},"merges":[]}}}}"#
        ),
        level = level,
        vocab = vocab.join(","),
    );
    TextBundle {
        tokenizer_json,
        chat_template: Some(TEMPLATE.to_owned()),
        special: SpecialTokens::default(),
        add_bos: false,
        eos_ids: Vec::new(),
    }
}

/// The character of GPT-2's alphabet that stands for a byte: printable characters of Latin-1 stand for
/// themselves, the other bytes in their order for those from U+0100 on.
fn character_of(byte: u8) -> char {
    let itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if itself(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !itself(byte)).count();
    u32::try_from(before).ok().and_then(|before| char::from_u32(0x100 + before)).unwrap_or_default()
}
