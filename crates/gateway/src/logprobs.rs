//! Log probabilities on their way from a processor to a client: ids become texts by our own tokenizer,
//! and come out together with the text that they made.
//!
//! The numbers are the processor's word: nothing that is signed or paid depends on them.

use gristmill_net::openai::{Logprob, Shape};
use gristmill_tokenizer::{TextError, Tokenizer};
use serde_json::{Map, Value, json};
use std::{collections::VecDeque, sync::Arc};

/// A token as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    bytes: Vec<u8>,
    logprob: f32,
    top: Vec<(Vec<u8>, f32)>,
    /// Where in the answer's text it begins, in bytes.
    offset: usize,
}

/// The tokens of one answer.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokenizer: Arc<Tokenizer>,
    /// Whose text is not out yet: a part of a character, or of what may be a stop text.
    pending: VecDeque<Token>,
    /// Bytes of all tokens so far.
    taken: usize,
    /// Bytes of text that are out.
    said: usize,
}

impl Tokens {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: VecDeque::new(), taken: 0, said: 0 }
    }

    /// Takes the next token. The one that ends an answer is no part of its text.
    pub(crate) fn push(&mut self, id: u32, of: &Logprob) -> Result<(), TextError> {
        if self.tokenizer.is_eos(id) {
            return Ok(());
        }
        let bytes = self.tokenizer.token_bytes(id)?;
        let top = of.top.iter().map(|top| Ok((self.tokenizer.token_bytes(top.id)?, top.logprob)));
        let top = top.collect::<Result<_, TextError>>()?;
        let offset = self.taken;
        self.taken += bytes.len();
        self.pending.push_back(Token { bytes, logprob: of.logprob, top, offset });
        Ok(())
    }

    /// The tokens that begin in the text that is out with this. What a stop text cut off never is.
    pub(crate) fn out(&mut self, text: &str) -> Vec<Token> {
        let first = self.pending.front().filter(|first| self.said == 0 && first.offset == 0);
        if first
            .is_some_and(|first| first.bytes.starts_with(b" ") && !text.is_empty() && !text.starts_with(' '))
        {
            // Some decoders strip the space that the first token begins with.
            self.taken = self.taken.saturating_sub(1);
            for token in self.pending.iter_mut().skip(1) {
                token.offset -= 1;
            }
        }
        self.said += text.len();
        let count = self.pending.iter().take_while(|token| token.offset < self.said).count();
        self.pending.drain(..count).collect()
    }
}

/// The log probabilities of these tokens in a shape's form; none of none.
pub(crate) fn written(shape: Shape, tokens: &[Token]) -> Option<Value> {
    if tokens.is_empty() {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entry =
        |bytes: &[u8], logprob: f32| json!({"token": text(bytes), "logprob": logprob, "bytes": bytes});
    Some(match shape {
        Shape::Chat => {
            let content = tokens.iter().map(|token| {
                let mut value = entry(&token.bytes, token.logprob);
                value["top_logprobs"] =
                    token.top.iter().map(|(bytes, logprob)| entry(bytes, *logprob)).collect();
                value
            });
            json!({"content": content.collect::<Vec<_>>(), "refusal": null})
        }
        Shape::Text | Shape::Embeddings => json!({
            "tokens": tokens.iter().map(|token| text(&token.bytes)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(|token| {
                token.top.iter().map(|(bytes, logprob)| (text(bytes), json!(logprob))).collect::<Map<_, _>>()
            }).collect::<Vec<_>>(),
            "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_net::openai::TopLogprob;
    use gristmill_tokenizer::TextBundle;

    /// A tokenizer whose tokens are bytes: characters take several.
    fn tokens() -> Tokens {
        Tokens::new(Tokenizer::new(TextBundle::bytes()).unwrap())
    }

    fn of(logprob: f32) -> Logprob {
        Logprob {
            logprob,
            top: vec![TopLogprob { id: 97, logprob: -0.5 }, TopLogprob { id: 0xd0, logprob: -1.0 }],
        }
    }

    #[test]
    fn tokens_come_out_with_the_text_that_they_made() {
        let mut tokens = tokens();
        let mut take = |bytes: &[u8], text: &str| {
            for byte in bytes {
                tokens.push(u32::from(*byte), &of(-2.0)).unwrap();
            }
            tokens.out(text).iter().flat_map(|token| token.bytes.clone()).collect::<Vec<u8>>()
        };
        assert_eq!(take(b"a", "a"), b"a");
        // Half of a character says nothing yet.
        assert_eq!(take(&[0xd0], ""), b"");
        assert_eq!(take(&[0xb6], "ж"), "ж".as_bytes());
        // What might begin a stop text is held; what completes one never comes out.
        assert_eq!(take(b"xy", "x"), b"x");
        assert_eq!(take(b"z", ""), b"");
    }

    #[test]
    fn in_both_forms() {
        let mut tokens = tokens();
        for id in [0xd0, 0xb6, 97] {
            tokens.push(id, &of(-2.0)).unwrap();
        }
        let out = tokens.out("жa");
        let chat = written(Shape::Chat, &out).unwrap();
        assert_eq!(chat["content"].as_array().unwrap().len(), 3);
        let last = &chat["content"][2];
        assert_eq!(
            (&last["token"], &last["bytes"], &last["logprob"]),
            (&json!("a"), &json!([97]), &json!(-2.0))
        );
        assert_eq!(last["top_logprobs"][0], json!({"token": "a", "logprob": -0.5, "bytes": [97]}));
        // A part of a character is no text, but its byte is there.
        assert_eq!(
            (&chat["content"][0]["token"], &chat["content"][0]["bytes"]),
            (&json!("\u{fffd}"), &json!([0xd0]))
        );
        let text = written(Shape::Text, &out).unwrap();
        assert_eq!(text["tokens"][2], "a");
        assert_eq!(
            (&text["text_offset"], &text["token_logprobs"]),
            (&json!([0, 1, 2]), &json!([-2.0, -2.0, -2.0]))
        );
        assert_eq!(text["top_logprobs"][2]["a"], -0.5);
        assert_eq!(written(Shape::Chat, &[]), None);
    }
}
