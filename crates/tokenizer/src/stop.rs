//! Texts that end an answer.
//!
//! The answer ends where a stop text is first *complete*; of several that are complete at the same
//! place, the longest counts. This depends on the text alone, never on how it was cut into pieces,
//! and no later text can change it, so streaming and checking agree. The answer is what stands
//! before that stop text. Text that may begin one is held back until that is decided.

use crate::TextError;

/// Stop texts of one request at most.
pub const MAX_STOPS: usize = 16;
/// Bytes of one stop text at most.
pub const MAX_STOP_BYTES: usize = 256;

/// What [`StopMatcher::push`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Text that is certain to belong to the answer.
    pub text: String,
    /// Whether the answer has ended.
    pub stop: bool,
}

/// Watches one answer.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far that may begin a stop text.
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// Watches for these texts.
    pub fn new(stops: &[String]) -> Result<Self, TextError> {
        if stops.len() > MAX_STOPS {
            return Err(TextError::Stop(format!(
                "{} are given, at most {MAX_STOPS} are allowed",
                stops.len()
            )));
        }
        if stops.iter().any(String::is_empty) {
            return Err(TextError::Stop(
                "one is empty and would end every answer at once; leave it out".into(),
            ));
        }
        if let Some(long) = stops.iter().map(String::len).find(|length| *length > MAX_STOP_BYTES) {
            return Err(TextError::Stop(format!(
                "one has {long} bytes, at most {MAX_STOP_BYTES} are allowed"
            )));
        }
        Ok(Self { stops: stops.to_vec(), held: String::new(), stopped: false })
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, piece: &str) -> Stopped {
        if self.stopped {
            return Stopped { text: String::new(), stop: true };
        }
        let before = self.held.len();
        self.held.push_str(piece);
        if let Some(start) = self.first_match(before) {
            self.stopped = true;
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Stopped { text, stop: true };
        }
        let keep = self.may_begin();
        let rest = self.held.split_off(self.held.len() - keep);
        Stopped { text: std::mem::replace(&mut self.held, rest), stop: false }
    }

    /// Ends the answer without a stop; gives the text that was held.
    pub fn finish(&mut self) -> String {
        self.stopped = true;
        std::mem::take(&mut self.held)
    }

    /// Where the stop text begins that is complete first, beyond the bytes that were searched.
    fn first_match(&self, searched: usize) -> Option<usize> {
        let text = self.held.as_bytes();
        let ends_at = |end: usize| {
            let longest = self
                .stops
                .iter()
                .filter(|stop| text[..end].ends_with(stop.as_bytes()))
                .map(String::len)
                .max();
            longest.map(|length| end - length)
        };
        (searched + 1..=text.len()).find_map(ends_at)
    }

    /// The length of the longest end of the text that is the beginning of a stop text.
    fn may_begin(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        let begins = |at: &usize| {
            self.held.get(*at..).is_some_and(|tail| self.stops.iter().any(|stop| stop.starts_with(tail)))
        };
        self.held.len() - (from..self.held.len()).find(begins).unwrap_or(self.held.len())
    }
}
