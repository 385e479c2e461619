//! The text of an answer from its ids: decoding, stop texts and the end in one place, so that who
//! streams, who pays and who checks say the same.

use crate::{StopMatcher, Stopped, StreamDecoder, TextError, Tokenizer};
use std::sync::Arc;

/// Turns the ids of one answer into its text.
#[derive(Clone, Debug)]
pub struct Transcript {
    decoder: StreamDecoder,
    stops: StopMatcher,
}

impl Transcript {
    /// Begins an answer that these texts end.
    pub fn new(tokenizer: Arc<Tokenizer>, stops: &[String]) -> Result<Self, TextError> {
        Ok(Self { decoder: StreamDecoder::new(tokenizer), stops: StopMatcher::new(stops)? })
    }

    /// Takes the next id that is text (an id that ends the answer is not; see
    /// [`finish`](Self::finish)).
    pub fn push(&mut self, id: u32) -> Result<Stopped, TextError> {
        let piece = self.decoder.push(id)?;
        Ok(self.stops.push(&piece))
    }

    /// Ends the answer, at an id that ends it or at its length; gives the text that was held. That
    /// text may complete a stop text; it is cut there then.
    pub fn finish(&mut self) -> Result<Stopped, TextError> {
        let piece = self.decoder.finish()?;
        let mut last = self.stops.push(&piece);
        last.text.push_str(&self.stops.finish());
        Ok(last)
    }

    /// The whole text of an answer's ids, as the engine streamed it: up to a stop text, an id that
    /// ends the answer (where `stop_at_eos`), or the last id.
    pub fn of(
        tokenizer: &Arc<Tokenizer>,
        ids: &[u32],
        stops: &[String],
        stop_at_eos: bool,
    ) -> Result<String, TextError> {
        let mut transcript = Self::new(Arc::clone(tokenizer), stops)?;
        let mut text = String::new();
        for id in ids {
            if stop_at_eos && tokenizer.is_eos(*id) {
                break;
            }
            let next = transcript.push(*id)?;
            text.push_str(&next.text);
            if next.stop {
                return Ok(text);
            }
        }
        text.push_str(&transcript.finish()?.text);
        Ok(text)
    }
}
