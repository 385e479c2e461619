//! The byte bundle: ids are bytes, and bytes are text again.

use gristmill_tokenizer::{ChatMessage, TextBundle, Tokenizer, Transcript, unit};
use gristmill_types::{Digest, Unit};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static BYTES: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Tokenizer::new(TextBundle::bytes()).unwrap());

fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// Whoever sells and whoever pays count with the same bundle, in whatever version.
#[test]
fn the_bundle_is_pinned() {
    let digest = TextBundle::bytes().digest();
    assert_eq!(digest.to_string(), "efd8910a12ca808d28b69287f3238f1fa745c0f4bac821a557ee47823d576f4f");
    assert_eq!(BYTES.digest(), digest);
    assert_eq!(BYTES.vocab_size(), 256);
    assert_eq!((unit(&digest), unit(&Digest::new([7; 32]))), (Unit::Byte, Unit::Token));
}

#[test]
fn every_byte_is_its_id() {
    for code in (0..=0x10_ffff).step_by(97).chain(0..=0x2ff).chain([0xd7ff, 0xe000, 0xfffd, 0x10_ffff]) {
        let Some(character) = char::from_u32(code) else { continue };
        let text = format!("a{character} ");
        assert_eq!(BYTES.encode(&text).unwrap(), ids(&text), "{code:x}");
        assert_eq!(BYTES.decode(&ids(&text)).unwrap(), text, "{code:x}");
    }
    assert!((0..256).all(|id| !BYTES.is_eos(id)));
}

#[test]
fn a_chat_is_counted_as_it_reads() {
    let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
    let chat = [message("system", "Be brief."), message("user", "<s> құс\n")];
    assert_eq!(BYTES.encode_chat(&chat).unwrap(), ids("system: Be brief.\nuser: <s> құс\n\n"));
}

/// A megabyte, the largest request, takes no noticeable time and is not cut.
#[test]
fn long_texts() {
    let text = "құс flies, ".repeat(80_000);
    assert_eq!(BYTES.encode(&text).unwrap(), ids(&text));
}

proptest! {
    #[test]
    fn text_comes_back(text in "\\PC*", stop in "\\PC{1,3}") {
        let ids = BYTES.encode(&text).unwrap();
        prop_assert_eq!(&ids, &text.bytes().map(u32::from).collect::<Vec<_>>());
        prop_assert_eq!(&BYTES.decode(&ids).unwrap(), &text);
        let expected = text.split(&stop).next().unwrap();
        prop_assert_eq!(&Transcript::of(&BYTES, &ids, std::slice::from_ref(&stop), true).unwrap(), expected);
    }

    /// What is no text becomes replacement characters, and streams as it is read at once.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let ids: Vec<u32> = bytes.iter().copied().map(u32::from).collect();
        let mut transcript = Transcript::new(Arc::clone(&BYTES), &[]).unwrap();
        let mut text: String = ids.iter().map(|id| transcript.push(*id).unwrap().text).collect();
        text.push_str(&transcript.finish().unwrap().text);
        prop_assert_eq!(text, BYTES.decode(&ids).unwrap());
    }
}
