//! Text bundles, which a gateway fetches of a processor that it does not trust: whatever the tokenizer,
//! the same text gives the same ids, in bounded time and memory.

use crate::parts;
use gristmill_tokenizer::{ChatMessage, TextBundle, Tokenizer, Transcript};

/// Text of many kinds, for when the input brings none.
const TEXT: &str = "<s>The three  ducks\n\tsaid 42.5€ — ‘ñandú’ 十一 \u{1f986}\u{200d}a\u{301}</s>";
const MAX_TEXT: usize = 512;
/// Ids for each byte of the text, and beside them.
const MAX_GROWTH: usize = 64;

/// A bundle and a text.
pub fn run(data: &[u8]) {
    let mut parts = parts(data);
    let Some(bytes) = parts.next() else { return };
    let Ok(bundle) = TextBundle::from_bytes(bytes) else { return };
    assert!(bundle.to_bytes() == bytes, "these bytes are a second encoding of a bundle");
    assert!(TextBundle::from_bytes_checked(bytes, &bundle.digest()).is_ok());
    let Ok(tokenizer) = Tokenizer::new(bundle.clone()) else { return };
    let text = parts.next().and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(TEXT);
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    if let Ok(ids) = tokenizer.encode(text) {
        assert!(ids.len() <= MAX_GROWTH * (text.len() + 1), "{} ids of {} bytes", ids.len(), text.len());
        for _ in 0..2 {
            assert_eq!(tokenizer.encode(text).ok().as_ref(), Some(&ids), "a text has two lists of ids");
        }
        let again = Tokenizer::new(bundle).expect("a bundle that compiled does so again");
        assert_eq!(again.encode(text).ok(), Some(ids.clone()));
        let decoded = tokenizer.decode(&ids);
        assert_eq!(decoded.as_ref().ok(), tokenizer.decode(&ids).as_ref().ok());
        if let Ok(whole) = Transcript::of(&tokenizer, &ids, &["duck".to_owned()], true) {
            assert!(!whole.contains("duck"));
        }
    }
    let message = ChatMessage { role: "user".to_owned(), content: text.to_owned() };
    let rendered = tokenizer.render_chat(std::slice::from_ref(&message));
    assert_eq!(rendered.ok(), tokenizer.render_chat(&[message]).ok());
}
