//! An upstream's text as an engine's pieces: ids that are bytes, text that is final, a limit.

use gristmill_engine::Event;
use gristmill_tokenizer::{TextError, Transcript};
use gristmill_types::Finish;

/// What one answer has come to.
pub struct Pieces {
    transcript: Transcript,
    /// Bytes at most.
    limit: usize,
    /// Bytes so far.
    taken: usize,
    /// Bytes of one piece at most. A piece waits until a voucher covers all of it, so several fit into
    /// a window, however much the upstream says at once.
    width: usize,
}

impl Pieces {
    /// For an answer of at most `limit` bytes, in pieces of at most `width`.
    pub fn new(transcript: Transcript, limit: usize, width: usize) -> Self {
        Self { transcript, limit, taken: 0, width: width.max(1) }
    }

    /// Bytes so far.
    pub fn taken(&self) -> u32 {
        u32::try_from(self.taken).unwrap_or(u32::MAX)
    }

    /// Takes more text; gives its pieces, and why the answer ends with them, if it does. It is cut at
    /// the limit, between two characters.
    pub fn push(&mut self, text: &str) -> Result<(Vec<Event>, Option<Finish>), TextError> {
        let room = self.limit.saturating_sub(self.taken);
        let fits = &text[..text.floor_char_boundary(room)];
        let mut pieces = Vec::new();
        for bytes in fits.as_bytes().chunks(self.width) {
            let (mut ids, mut said) = (Vec::with_capacity(bytes.len()), String::new());
            for byte in bytes {
                let id = u32::from(*byte);
                let next = self.transcript.push(id)?;
                ids.push(id);
                said.push_str(&next.text);
                self.taken = self.taken.saturating_add(1);
                if next.stop {
                    pieces.push(Event::Piece { ids, text: said, logprobs: Vec::new() });
                    return Ok((pieces, Some(Finish::Stop)));
                }
            }
            pieces.push(Event::Piece { ids, text: said, logprobs: Vec::new() });
        }
        if fits.len() < text.len() || self.taken >= self.limit {
            let (last, finish) = self.finish(Finish::Length)?;
            pieces.extend(last);
            return Ok((pieces, Some(finish)));
        }
        Ok((pieces, None))
    }

    /// Ends the answer; gives the text that was held, and why it ended if that shows only now.
    pub fn finish(&mut self, finish: Finish) -> Result<(Option<Event>, Finish), TextError> {
        let rest = self.transcript.finish()?;
        let piece = (!rest.text.is_empty()).then(|| Event::Piece {
            ids: Vec::new(),
            text: rest.text,
            logprobs: Vec::new(),
        });
        Ok((piece, if rest.stop { Finish::Stop } else { finish }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_tokenizer::{TextBundle, Tokenizer};

    /// Says the parts in order; gives text, number of ids, and the end.
    fn say(parts: &[&str], limit: usize, stop: &[&str]) -> (String, usize, Finish) {
        let tokenizer = Tokenizer::new(TextBundle::bytes()).unwrap();
        let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
        let mut pieces = Pieces::new(Transcript::new(tokenizer, &stop).unwrap(), limit, 4);
        let (mut text, mut count, mut end) = (String::new(), 0, None);
        let mut take = |events: Vec<Event>| {
            for event in events {
                let Event::Piece { ids, text: more, .. } = event else { panic!("{event:?}") };
                assert!(ids.len() <= 4);
                count += ids.len();
                text.push_str(&more);
            }
        };
        for part in parts {
            let (events, finish) = pieces.push(part).unwrap();
            take(events);
            end = finish;
            if end.is_some() {
                break;
            }
        }
        let end = end.unwrap_or_else(|| {
            let (event, finish) = pieces.finish(Finish::Stop).unwrap();
            take(event.into_iter().collect());
            finish
        });
        assert_eq!(pieces.taken() as usize, count);
        (text, count, end)
    }

    #[test]
    fn text_is_counted_cut_and_stopped() {
        for (parts, limit, stop, text, count, end) in [
            (&["hello ", "world"][..], 99, &[][..], "hello world", 11, Finish::Stop),
            (&[], 99, &[], "", 0, Finish::Stop),
            (&["hello"], 5, &[], "hello", 5, Finish::Length),
            (&["hello"], 3, &[], "hel", 3, Finish::Length),
            // Two bytes each: the limit falls into the second character.
            (&["жук"], 3, &[], "ж", 2, Finish::Length),
            (&["жук"], 1, &[], "", 0, Finish::Length),
            (&["ab", "😀"], 5, &[], "ab", 2, Finish::Length),
            // The server did not heed the stop text; what makes it up is counted, as with tokens.
            (&["one two"], 99, &["two"], "one ", 7, Finish::Stop),
            (&["one t", "wo three"], 99, &["two"], "one ", 7, Finish::Stop),
            // What might have begun a stop text comes out at the end.
            (&["one t"], 99, &["two"], "one t", 5, Finish::Stop),
            (&["one t"], 5, &["two"], "one t", 5, Finish::Length),
            (&["one two"], 7, &["two"], "one ", 7, Finish::Stop),
            // A replacement character is a character.
            (&["a\u{fffd}", "b\u{fffd}"], 99, &[], "a\u{fffd}b\u{fffd}", 8, Finish::Stop),
        ] {
            assert_eq!(say(parts, limit, stop), (text.to_owned(), count, end), "{parts:?} {limit} {stop:?}");
        }
    }
}
