//! Ids to text, one id at a time.
//!
//! Tokens are not characters: one may hold a part of a UTF-8 sequence (byte-level BPE, byte
//! fallback), and a token's text may depend on whether something stands before it (a leading space
//! that is stripped at the start only). So a window of ids is decoded twice, without and with the
//! new ids, and the difference is what they add. Text goes out once it cannot change any more: a
//! replacement character at the end may be a character whose bytes are still to come and is held.
//!
//! Concatenated, the pieces are the text of the answer by definition. For ids that encode a text
//! they equal what the library decodes from all ids at once; they may differ only for ids whose
//! bytes are no UTF-8, where the library's byte fallback changes its mind about earlier bytes.

use crate::{TextError, Tokenizer};
use std::sync::Arc;

/// Ids that are held back whole while their text ends in replacement characters: four characters
/// of four bytes each. More is garbage, of which all but a possible last character goes out.
const HELD_WHOLE: usize = 16;

/// Ids held back at most, so that garbage costs bounded time. Then everything goes out as it stands.
const MAX_HELD: usize = 64;

/// An unfinished character shows as up to three replacement characters, one for each of its bytes.
const MAX_UNFINISHED: usize = 3;

/// Turns one answer's ids into text.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    /// Ids whose text is out; they are the context of the held ones.
    context: Vec<u32>,
    context_text: String,
    /// Ids whose text is not all out.
    held: Vec<u32>,
    /// How many bytes of the held ids' text are out.
    sent: usize,
}

impl StreamDecoder {
    /// Begins an answer.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, context: Vec::new(), context_text: String::new(), held: Vec::new(), sent: 0 }
    }

    /// Takes the next id; gives the text that is final with it, often none.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        self.held.push(id);
        let fresh = self.fresh()?;
        let full = self.held.len() >= MAX_HELD;
        let end = match unfinished(&fresh) {
            0 => fresh.len(),
            _ if full || self.is_whole()? => fresh.len(),
            tail if self.held.len() >= HELD_WHOLE => fresh.len() - tail,
            // Byte fallback shows every byte of a run as a replacement character until the run is
            // valid, so nothing in front of an unfinished character is final either.
            _ => self.sent,
        };
        let piece = fresh.get(self.sent..end).unwrap_or_default().to_string();
        let settled = full || (end == fresh.len() && !fresh.is_empty());
        if settled {
            self.context = std::mem::take(&mut self.held);
            self.context_text = self.tokenizer.decode_window(&self.context)?;
            self.sent = 0;
        } else {
            self.sent = self.sent.max(end);
        }
        Ok(piece)
    }

    /// Ends the answer; gives the text that was held.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let fresh = self.fresh()?;
        let piece = fresh.get(self.sent..).unwrap_or_default().to_string();
        *self = Self::new(Arc::clone(&self.tokenizer));
        Ok(piece)
    }

    /// Whether the held ids are whole characters: a replacement character may be what was said.
    fn is_whole(&self) -> Result<bool, TextError> {
        let bytes = self.held.iter().map(|id| self.tokenizer.token_bytes(*id));
        Ok(std::str::from_utf8(&bytes.collect::<Result<Vec<_>, _>>()?.concat()).is_ok())
    }

    /// What the held ids add to the context's text.
    fn fresh(&mut self) -> Result<String, TextError> {
        let mut window = self.context.clone();
        window.extend_from_slice(&self.held);
        let text = self.tokenizer.decode_window(&window)?;
        if let Some(fresh) = text.strip_prefix(&self.context_text) {
            return Ok(fresh.to_string());
        }
        // The held ids change text that is already out. That text stands; they speak for themselves.
        self.context.clear();
        self.context_text.clear();
        self.tokenizer.decode_window(&self.held)
    }
}

/// Bytes of replacement characters at the end that may yet become a character.
fn unfinished(text: &str) -> usize {
    let count = text.chars().rev().take(MAX_UNFINISHED).take_while(|c| *c == char::REPLACEMENT_CHARACTER);
    count.map(char::len_utf8).sum()
}
