//! Streamed text against whole text.

use crate::fixtures::{self, CHARACTERS};
use gristmill_tokenizer::{ChatMessage, StreamDecoder, TextError, Tokenizer, Transcript};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static ALL: LazyLock<[(&str, Arc<Tokenizer>); 3]> = LazyLock::new(fixtures::all);

fn library(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(&tokenizer.bundle().tokenizer_json).unwrap()
}

/// The pieces of a stream over the ids.
fn stream(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> Vec<String> {
    let mut decoder = StreamDecoder::new(Arc::clone(tokenizer));
    let mut pieces: Vec<String> = ids.iter().map(|id| decoder.push(*id).unwrap()).collect();
    pieces.push(decoder.finish().unwrap());
    pieces
}

#[test]
fn text_comes_back() {
    for (name, tokenizer) in &*ALL {
        for text in ["", "a", "the cab", " the  cab ", "a\n\n", "十百 қә ñé"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}: {ids:?}");
        }
    }
    for (name, tokenizer) in &ALL[..2] {
        let text = "naïve 😀👩‍👩‍👧 \u{fffd} ҚАЗАҚ the";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}");
    }
}

#[test]
fn characters_are_never_cut() {
    let (_, tokenizer) = &ALL[0];
    let pieces = stream(tokenizer, &tokenizer.encode("é😀z").unwrap());
    assert_eq!(pieces, ["", "é", "", "", "😀", "z", ""]);
    let (_, tokenizer) = &ALL[1];
    let pieces = stream(tokenizer, &tokenizer.encode("😀 a").unwrap());
    // <s>, then the leading space that is stripped, then four bytes.
    assert_eq!(pieces, ["", "", "", "", "", "😀", " a", ""]);
}

/// Bytes of each token; in order they are the text.
#[test]
fn bytes_of_tokens_make_the_text() {
    for (name, tokenizer) in &*ALL {
        let text =
            if *name == "character" { "the 10 cab қñ十" } else { "the  cab é😀\n ҚАЗ th\u{0}" };
        let ids = tokenizer.encode(text).unwrap();
        let ids: Vec<u32> = ids.into_iter().filter(|id| *id > 2).collect();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).collect();
        let bytes = String::from_utf8(bytes).unwrap();
        // The text's own leading space is what sentencepiece adds and its decoder strips.
        let expected = if *name == "sentencepiece" { format!(" {text}") } else { text.into() };
        assert_eq!(bytes, expected, "{name}");
        assert_eq!(tokenizer.token_bytes(2).unwrap(), b"</s>", "{name}");
        assert_eq!(tokenizer.token_bytes(1_000_000).unwrap(), b"", "{name}");
    }
    let (_, tokenizer) = &ALL[0];
    let ids = tokenizer.encode("é").unwrap();
    assert_eq!(tokenizer.token_bytes(ids[0]).unwrap(), [0xc3], "a part of a character");
}

/// All 256 bytes, and what merely looks like one.
#[test]
fn every_byte_has_a_token() {
    for (name, tokenizer) in &ALL[..2] {
        let found: Vec<Vec<u8>> = (3..259).map(|id| tokenizer.token_bytes(id).unwrap()).collect();
        let expected: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn an_unfinished_character_comes_out_at_the_end() {
    let (_, tokenizer) = &ALL[0];
    let ids = tokenizer.encode("é").unwrap();
    assert_eq!(stream(tokenizer, &ids[..1]), ["", "\u{fffd}"]);
}

#[test]
fn garbage_is_not_held_for_ever() {
    for (name, tokenizer) in &ALL[..2] {
        // Byte 0x80 can begin no character.
        let id = library(tokenizer).token_to_id(if *name == "byte-level" { "Ģ" } else { "<0x80>" });
        let mut decoder = StreamDecoder::new(Arc::clone(tokenizer));
        let out: usize = (0..100).map(|_| decoder.push(id.unwrap()).unwrap().chars().count()).sum();
        assert!(out >= 84, "{name}: {out}");
    }
}

#[test]
fn special_tokens_and_unknown_ids_are_no_text() {
    for (name, tokenizer) in &*ALL {
        let mut ids = tokenizer.encode("ab").unwrap();
        ids.insert(1, 2);
        ids.extend([1, 1_000_000, u32::MAX]);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "ab", "{name}");
    }
}

#[test]
fn chat_is_rendered_and_encoded_once() {
    let message = ChatMessage { role: "user".into(), content: "abc".into() };
    let (_, tokenizer) = &ALL[1];
    assert_eq!(tokenizer.render_chat(std::slice::from_ref(&message)).unwrap(), "<s>user: abc\n");
    let ids = tokenizer.encode_chat(&[message]).unwrap();
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1, "one bos only: {ids:?}");
    assert_eq!(tokenizer.encode("abc").unwrap()[0], 1, "plain text gets the post-processor's bos");
}

#[test]
fn bos_is_added_where_the_bundle_says_so() {
    let mut bundle = ALL[0].1.bundle().clone();
    bundle.add_bos = true;
    let tokenizer = Tokenizer::new(bundle).unwrap();
    assert_eq!(tokenizer.encode("a").unwrap()[0], 1);
    assert_eq!(tokenizer.encode("<s>a").unwrap(), tokenizer.encode("a").unwrap());
}

#[test]
fn bad_bundles_are_errors() {
    let good = ALL[0].1.bundle();
    for broken in ["", "{}", "null", "[1", "{\"model\": 3}", &good.tokenizer_json[..500]] {
        let mut bundle = good.clone();
        bundle.tokenizer_json = broken.to_string();
        assert!(matches!(Tokenizer::new(bundle), Err(TextError::Tokenizer(_))), "{broken}");
    }
    let mut bundle = good.clone();
    bundle.chat_template = Some("{% if %}".into());
    assert!(matches!(Tokenizer::new(bundle), Err(TextError::Template(_))));
    let mut bundle = good.clone();
    bundle.chat_template = None;
    assert!(matches!(Tokenizer::new(bundle).unwrap().encode_chat(&[]), Err(TextError::NoTemplate)));
}

#[test]
fn long_texts_are_refused() {
    let text = "a".repeat(gristmill_tokenizer::MAX_TEXT_BYTES + 1);
    assert!(matches!(ALL[2].1.encode(&text), Err(TextError::TooLong { .. })));
    let message = ChatMessage { role: "user".into(), content: text };
    assert!(matches!(ALL[2].1.encode_chat(&[message]), Err(TextError::TooLong { .. })));
}

#[test]
fn replacement_characters_that_were_said_are_not_waited_for() {
    for (name, tokenizer) in &ALL[..2] {
        for count in [1, 5, 21, 22, 64] {
            let text = "\u{fffd}".repeat(count) + "Î";
            let ids = tokenizer.encode(&text).unwrap();
            assert_eq!(stream(tokenizer, &ids).concat(), text, "{name}, {count}");
        }
    }
}

#[test]
fn a_published_dropout_does_not_apply() {
    let mut json = fixtures::byte_level_json();
    let text = "the three ".repeat(20);
    let ids =
        |json: &serde_json::Value| Tokenizer::new(fixtures::bundle(json)).unwrap().encode(&text).unwrap();
    let expected = ids(&json);
    json["model"]["dropout"] = serde_json::json!(0.5);
    assert_eq!(ids(&json), expected);
}

#[test]
fn published_truncation_and_padding_do_not_apply() {
    let mut json = fixtures::character_json();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
    let tokenizer = Tokenizer::new(fixtures::bundle(&json)).unwrap();
    assert_eq!(tokenizer.encode("abcdefghij").unwrap().len(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The pieces of an encoded text give that text, and what the library decodes at once.
    #[test]
    fn pieces_are_the_text(text in "\\PC{0,40}|[a-z \\n]{0,60}|.{0,12}") {
        for (name, tokenizer) in &ALL[..2] {
            let ids = tokenizer.encode(&text).unwrap();
            let streamed = stream(tokenizer, &ids).concat();
            prop_assert_eq!(&streamed, &library(tokenizer).decode(&ids, true).unwrap(), "{}", name);
            prop_assert_eq!(&streamed, &text, "{}", name);
        }
    }

    #[test]
    fn characters_come_back(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let characters: Vec<char> = CHARACTERS.chars().collect();
        let text: String = picks.iter().map(|pick| characters[pick.index(characters.len())]).collect();
        let (_, tokenizer) = &ALL[2];
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(ids.len(), picks.len());
        prop_assert_eq!(stream(tokenizer, &ids).concat(), text);
    }

    /// Arbitrary ids, as a model may draw them: byte-level decoding agrees with the library even
    /// for bytes that are no UTF-8, and no id makes any kind fail.
    #[test]
    fn any_ids_have_a_text(ids in prop::collection::vec(0u32..300, 0..60)) {
        for (name, tokenizer) in &*ALL {
            let streamed = stream(tokenizer, &ids).concat();
            prop_assert_eq!(&streamed, &tokenizer.decode(&ids).unwrap());
            if *name == "byte-level" {
                prop_assert_eq!(&streamed, &library(tokenizer).decode(&ids, true).unwrap());
            }
        }
    }

    /// A transcript is the stream cut at a stop text or at an id that ends the answer.
    #[test]
    fn a_transcript_is_the_cut_stream(ids in prop::collection::vec(0u32..290, 0..40), stop in "[a-z]{1,2}") {
        let (_, tokenizer) = &ALL[0];
        let end = ids.iter().position(|id| *id == 2).unwrap_or(ids.len());
        let whole = tokenizer.decode(&ids[..end]).unwrap();
        let cut = whole.find(&stop).map_or(whole.as_str(), |at| &whole[..at]);
        let text = Transcript::of(tokenizer, &ids, std::slice::from_ref(&stop), true).unwrap();
        prop_assert_eq!(text, cut);
    }
}
