//! Chat templates, which come with a model from whoever published it: the same text each time, within
//! the fuel, and nothing of it ends the program.

use crate::parts;
use gristmill_tokenizer::{ChatMessage, SpecialTokens, TextBundle, Tokenizer};
use std::sync::LazyLock;

/// About what a million units of fuel pay for.
const MAX_RENDERED: usize = 80 << 20;

static BUNDLE: LazyLock<TextBundle> = LazyLock::new(|| TextBundle {
    tokenizer_json:
        r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"<unk>":0},"unk_token":"<unk>"}}"#.to_owned(),
    chat_template: None,
    special: SpecialTokens { bos: Some("<s>".to_owned()), ..SpecialTokens::default() },
    add_bos: false,
    eos_ids: Vec::new(),
});

/// A template, then the messages' contents, from the user and from the assistant in turn.
pub fn run(data: &[u8]) {
    let mut parts = parts(data).map(|part| String::from_utf8_lossy(part).into_owned());
    let Some(source) = parts.next() else { return };
    let bundle = TextBundle { chat_template: Some(source), ..BUNDLE.clone() };
    let Ok(tokenizer) = Tokenizer::new(bundle) else { return };
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages: Vec<ChatMessage> = roles
        .zip(parts.take(8))
        .map(|(role, content)| ChatMessage { role: role.to_owned(), content })
        .collect();
    let Ok(text) = tokenizer.render_chat(&messages) else { return };
    assert!(text.len() <= MAX_RENDERED, "{} bytes were rendered", text.len());
    assert_eq!(tokenizer.render_chat(&messages).ok(), Some(text), "the same messages give two texts");
}
