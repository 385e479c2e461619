//! One answer, or one answer to recompute, while the engine works on it.

use crate::{Done, Event, Recomputed, llama::Kv, logprobs::logprobs};
use gristmill_audit::Sampler;
use gristmill_tokenizer::{Tokenizer, Transcript};
use gristmill_types::Finish;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// A prompt and what is to be done behind it.
pub(crate) struct Task {
    pub(crate) prompt: Vec<u32>,
    /// Tokens for which keys and values are kept at most. The same for an answer and for its
    /// recomputation, so that both are laid out alike.
    pub(crate) capacity: usize,
    /// Made when the task begins to run.
    pub(crate) kv: Option<Kv>,
    pub(crate) goal: Goal,
    /// Held for the task's whole life: queue and running together are bounded by it.
    pub(crate) place: OwnedSemaphorePermit,
}

pub(crate) enum Goal {
    Answer(Box<Answer>),
    Check(Box<Check>),
}

impl Task {
    /// How many tokens of the prompt are computed.
    pub(crate) fn prefilled(&self) -> usize {
        self.kv.as_ref().map_or(0, |kv| kv.len().min(self.prompt.len()))
    }

    pub(crate) fn has_prompt(&self) -> bool {
        self.prefilled() == self.prompt.len()
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &self.goal {
            Goal::Answer(answer) => answer.events.is_closed(),
            Goal::Check(check) => check.result.is_closed(),
        }
    }

    /// Ends it. Its place and memory are free before its reader hears of it, so that who reads the
    /// end and starts the next job is not told that the engine is full.
    pub(crate) fn end(self, ending: Ending) {
        let Self { goal, kv, place, .. } = self;
        drop((kv, place));
        match goal {
            Goal::Answer(answer) => {
                let (finish, error) = match ending {
                    Ending::Finished(finish) => (finish, None),
                    Ending::Failed(reason) => (Finish::Error, Some(reason)),
                };
                let (prompt_tokens, output_tokens) = (answer.prompt_tokens, answer.drawn);
                let done = Done { finish, prompt_tokens, output_tokens, error, refused: false };
                // There is always room for it; if the reader is gone, nobody misses it.
                let _ = answer.events.try_send(Event::Done(done));
            }
            Goal::Check(check) => {
                let result = match ending {
                    Ending::Finished(_) => Ok(Recomputed { gaps: check.gaps }),
                    Ending::Failed(reason) => Err(reason),
                };
                let _ = check.result.send(result);
            }
        }
    }

    /// Uses the logits that were computed for it; says whether it ends with them.
    pub(crate) fn advance(&mut self, rows: &[Vec<f32>]) -> Result<Option<Ending>, String> {
        match &mut self.goal {
            Goal::Answer(answer) => match rows {
                [logits] => answer.advance(logits),
                _ => Err(format!("{} rows of logits for one token; this is a defect", rows.len())),
            },
            Goal::Check(check) => Ok(check.advance(rows)),
        }
    }
}

/// How a task ends.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// As it should; a recomputation always stops.
    Finished(Finish),
    /// With an error of the engine.
    Failed(String),
}

/// An answer under way.
pub(crate) struct Answer {
    pub(crate) sampler: Sampler,
    pub(crate) transcript: Transcript,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// One slot wider than the window, so that there is always room for `Done`.
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop_at_eos: bool,
    pub(crate) top_logprobs: Option<u8>,
    pub(crate) prompt_tokens: u32,
    /// Tokens of the answer at most.
    pub(crate) limit: u32,
    /// Tokens drawn.
    pub(crate) drawn: u32,
    /// The last token drawn, which the next step computes.
    pub(crate) last: u32,
}

impl Answer {
    /// Whether its reader has room for one more piece.
    pub(crate) fn has_room(&self) -> bool {
        self.events.capacity() > 1
    }

    /// Draws the next token from its logits and reports it; says whether the answer ends with it.
    fn advance(&mut self, logits: &[f32]) -> Result<Option<Ending>, String> {
        let Some(draw) = self.sampler.draw(self.drawn, logits) else {
            return Err("the model gave no finite logits; its weights are damaged".into());
        };
        self.last = draw.token;
        self.drawn += 1;
        let (text, finish) = self.text_of(draw.token).map_err(|error| error.to_string())?;
        // The reader has room, since a step is taken only then; if it is gone, nobody misses this.
        let logprobs = self.top_logprobs.map(|top| logprobs(logits, draw.token, usize::from(top)));
        let piece = Event::Piece { ids: vec![draw.token], text, logprobs: logprobs.into_iter().collect() };
        let _ = self.events.try_send(piece);
        Ok(finish.map(Ending::Finished))
    }

    /// The text that is final with the token, and whether the answer ends with it.
    fn text_of(&mut self, token: u32) -> Result<(String, Option<Finish>), gristmill_tokenizer::TextError> {
        if self.stop_at_eos && self.tokenizer.is_eos(token) {
            return Ok((self.transcript.finish()?.text, Some(Finish::Stop)));
        }
        let next = self.transcript.push(token)?;
        if next.stop {
            return Ok((next.text, Some(Finish::Stop)));
        }
        if self.drawn < self.limit {
            return Ok((next.text, None));
        }
        let rest = self.transcript.finish()?;
        Ok((next.text + &rest.text, Some(if rest.stop { Finish::Stop } else { Finish::Length })))
    }
}

/// A recomputation under way.
pub(crate) struct Check {
    pub(crate) sampler: Sampler,
    /// The answer; not empty.
    pub(crate) output: Vec<u32>,
    pub(crate) gaps: Vec<Option<f64>>,
    /// How far the logits may be off those of the draw.
    pub(crate) slack: f64,
    pub(crate) result: oneshot::Sender<Result<Recomputed, String>>,
}

impl Check {
    /// The answer's tokens to compute next: each position's logits follow from the tokens before
    /// it, so the last token is never computed.
    pub(crate) fn next_tokens(&self, most: usize) -> &[u32] {
        let from = self.gaps.len().saturating_sub(1);
        let to = (from + most).min(self.output.len().saturating_sub(1));
        self.output.get(from..to).unwrap_or_default()
    }

    /// Compares the tokens at the next positions with their logits; says whether all are compared.
    fn advance(&mut self, rows: &[Vec<f32>]) -> Option<Ending> {
        for (logits, position) in rows.iter().zip(self.gaps.len()..) {
            let token = self.output.get(position).copied();
            self.gaps
                .push(token.and_then(|token| self.sampler.gap(position as u32, logits, token, self.slack)));
        }
        (self.gaps.len() >= self.output.len()).then_some(Ending::Finished(Finish::Stop))
    }
}
