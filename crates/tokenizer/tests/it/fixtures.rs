//! Small tokenizers of the three kinds: byte-level BPE (GPT-2, Llama 3, Qwen), sentencepiece-like
//! BPE with byte fallback (Llama 2, Mistral), and one token a character (the starter model).

use gristmill_tokenizer::{SpecialTokens, TextBundle, Tokenizer};
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

fn vocab(tokens: impl IntoIterator<Item = String>) -> Map<String, Value> {
    tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect()
}

pub(crate) fn bundle(tokenizer: &Value) -> TextBundle {
    TextBundle {
        tokenizer_json: tokenizer.to_string(),
        chat_template: Some(
            "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}".into(),
        ),
        special: SpecialTokens {
            bos: Some("<s>".into()),
            eos: Some("</s>".into()),
            ..SpecialTokens::default()
        },
        add_bos: false,
        eos_ids: vec![2],
    }
}

/// GPT-2's characters that stand for bytes, by byte.
fn byte_characters() -> Vec<char> {
    let plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    (0..256)
        .map(|byte| {
            let code = if plain(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap()
        })
        .collect()
}

pub(crate) fn byte_level_json() -> Value {
    let bytes = byte_characters();
    let merged: Vec<(String, String)> = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ð", "º"), ("ð", "Ł")]
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .to_vec();
    let tokens = ["<unk>", "<s>", "</s>"]
        .map(String::from)
        .into_iter()
        .chain(bytes.iter().map(char::to_string))
        .chain(merged.iter().map(|(a, b)| format!("{a}{b}")));
    let merges: Vec<Value> = merged.iter().map(|(a, b)| json!([a, b])).collect();
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab(tokens), "merges": merges},
    })
}

pub(crate) fn sentencepiece_json() -> Value {
    let tokens = ["<unk>", "<s>", "</s>"]
        .map(String::from)
        .into_iter()
        .chain((0..256).map(|byte| format!("<0x{byte:02X}>")))
        .chain(["▁".to_string()])
        .chain(('a'..='z').map(String::from))
        .chain(["▁a", "th", "the", "▁the"].map(String::from));
    let merges = json!([["▁", "a"], ["t", "h"], ["th", "e"], ["▁", "the"]]);
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocab(tokens), "merges": merges},
    })
}

pub(crate) const CHARACTERS: &str = "abcdefghijt 0123456789\nқәғұүіһөñéß十百千万";

pub(crate) fn character_json() -> Value {
    let tokens =
        ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(CHARACTERS.chars().map(String::from));
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab(tokens), "unk_token": "<unk>"},
    })
}

pub(crate) fn all() -> [(&'static str, Arc<Tokenizer>); 3] {
    [
        ("byte-level", byte_level_json()),
        ("sentencepiece", sentencepiece_json()),
        ("character", character_json()),
    ]
    .map(|(name, json)| (name, Tokenizer::new(bundle(&json)).unwrap()))
}
