//! Bundles from Hugging Face folders, in the shapes that are found there.

use crate::fixtures;
use gristmill_tokenizer::{SpecialTokens, TextBundle, TextError};
use serde_json::json;
use std::{fs, path::Path};

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), fixtures::character_json().to_string()).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load(files: &[(&str, String)]) -> TextBundle {
    TextBundle::from_hf_dir(folder(files).path()).unwrap()
}

#[test]
fn the_tokenizer_alone_is_enough() {
    let bundle = load(&[]);
    assert_eq!(bundle.chat_template, None);
    assert_eq!(bundle.special, SpecialTokens::default());
    assert_eq!(bundle.eos_ids, [] as [u32; 0]);
}

#[test]
fn special_tokens_stand_as_text_or_object() {
    let bundle = load(&[
        (
            "tokenizer_config.json",
            json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true}).to_string(),
        ),
        ("special_tokens_map.json", json!({"unk_token": "<unk>", "eos_token": "ignored"}).to_string()),
    ]);
    let special = SpecialTokens {
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        unk: Some("<unk>".into()),
        pad: None,
    };
    assert_eq!(bundle.special, special);
    assert!(bundle.add_bos);
    assert_eq!(bundle.eos_ids, [2], "the eos token's id comes from the tokenizer");
}

#[test]
fn ids_that_end_an_answer_are_gathered() {
    let bundle = load(&[
        ("config.json", json!({"eos_token_id": 9}).to_string()),
        ("generation_config.json", json!({"eos_token_id": [7, 9, -1, 5000000000u64]}).to_string()),
        ("tokenizer_config.json", json!({"eos_token": "</s>"}).to_string()),
    ]);
    assert_eq!(bundle.eos_ids, [2, 7, 9]);
}

#[test]
fn chat_templates_stand_in_three_places() {
    let config = |template: serde_json::Value| {
        ("tokenizer_config.json", json!({"chat_template": template}).to_string())
    };
    assert_eq!(load(&[config(json!("one"))]).chat_template.as_deref(), Some("one"));
    let list = json!([{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]);
    assert_eq!(load(&[config(list)]).chat_template.as_deref(), Some("three"));
    let both = load(&[config(json!("one")), ("chat_template.jinja", "four".into())]);
    assert_eq!(both.chat_template.as_deref(), Some("four"));
}

#[test]
fn bytes_carry_the_bundle() {
    let bundle =
        load(&[("tokenizer_config.json", json!({"chat_template": "x", "bos_token": "<s>"}).to_string())]);
    let bytes = bundle.to_bytes();
    assert_eq!(TextBundle::from_bytes_checked(&bytes, &bundle.digest()).unwrap(), bundle);
}

#[test]
fn broken_folders_say_what_is_wrong() {
    let empty = tempfile::tempdir().unwrap();
    for (dir, word) in [
        (empty.path(), "tokenizer.json"),
        (Path::new("/nonexistent/model"), "tokenizer.json"),
        (folder(&[("config.json", "{".into())]).path(), "config.json"),
    ] {
        let error = TextBundle::from_hf_dir(dir).unwrap_err();
        assert!(matches!(error, TextError::File { .. }) && error.to_string().contains(word), "{error}");
    }
    let dir = folder(&[]);
    fs::write(dir.path().join("tokenizer.json"), [0xff, 0xfe]).unwrap();
    let error = TextBundle::from_hf_dir(dir.path()).unwrap_err();
    assert!(error.to_string().contains("UTF-8"), "{error}");
}
