//! What an engine is to the parts that use it.

use crate::StartError;
use gristmill_audit::Seed;
use gristmill_tokenizer::{ChatMessage, Tokenizer};
use gristmill_types::{Finish, Sampling};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How far below the winner an honest token's score may lie when an f32 answer is recomputed in
/// other shapes. Logits move by about 1e-5 there; scores differ by twice that at most.
pub const F32_TOLERANCE: f64 = 1e-3;

/// How many of the likeliest tokens a job may ask log probabilities of: as many as OpenAI's API gives.
pub const MAX_TOP_LOGPROBS: u8 = 20;

/// Something that answers prompts.
pub trait Engine: Send + Sync {
    /// What it is and what its bounds are.
    fn info(&self) -> &EngineInfo;

    /// The tokenizer of its model.
    fn tokenizer(&self) -> &Arc<Tokenizer>;

    /// What it is doing now.
    fn load(&self) -> Load;

    /// Whether it takes jobs at all.
    fn condition(&self) -> Condition {
        Condition::Well
    }

    /// Starts an answer, or refuses at once. Never waits.
    fn start(&self, job: Job) -> Result<Generation, StartError>;

    /// Computes an answer's logits again, with its own tokens given, and compares every token with
    /// the one that the seed draws. Takes a place like a job.
    fn recompute(&self, replay: Replay) -> Result<Recomputation, StartError>;
}

/// Whether an engine takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does. One that is full is well, too.
    Well,
    /// It does, though the last one failed by no fault of its own: the next may do better.
    Failing,
    /// It takes none: its thread ended, or the server behind it cannot be reached. Where that can pass, it
    /// finds out by itself.
    Down,
}

impl Condition {
    /// That of an engine whose thread has ended, or not.
    pub(crate) const fn of_thread(ended: bool) -> Self {
        if ended { Self::Down } else { Self::Well }
    }
}

/// What an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine class that quotes and receipts name, for example `candle-q8_0-3fa94c01`: the types of the
    /// weights and a fingerprint of this processor's arithmetic for them. Answers are comparable within a class.
    pub class: String,
    /// Whether an answer is the same to the bit whatever else the engine computes.
    pub exact: bool,
    /// Tokens of prompt and answer together at most.
    pub context_tokens: u32,
    /// Token ids are below this.
    pub vocab: u32,
    /// Weights of the model.
    pub parameters: u64,
    /// Answers computed at a time at most.
    pub max_running: usize,
    /// Jobs waiting at most.
    pub max_queued: usize,
}

/// What an engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Answers being computed, paused ones among them.
    pub running: usize,
    /// Jobs waiting.
    pub queued: usize,
}

/// A prompt to answer.
#[derive(Clone, Debug)]
pub struct Job {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// How tokens are drawn and where the answer ends. `max_tokens` beyond the context is cut to it.
    pub sampling: Sampling,
    /// What the draws come from.
    pub seed: Seed,
    /// Events computed ahead of their reader at most, thus the most tokens that are computed and
    /// not taken; at least 1.
    pub window: usize,
    /// Whether the tokenizer's end-of-answer ids end the answer. Off for measurements of a fixed
    /// length.
    pub stop_at_eos: bool,
    /// Whether pieces carry log probabilities, and of how many of the likeliest tokens beside the
    /// drawn one: 0 to [`MAX_TOP_LOGPROBS`].
    pub top_logprobs: Option<u8>,
    /// What the prompt and the draw were before they became ids and a seed, for engines that do both
    /// by themselves; none where only ids are known.
    pub source: Option<Source>,
}

/// A request as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The prompt.
    pub prompt: Prompt,
    /// The share of probability of which the likeliest tokens take part, where that is given.
    pub top_p: Option<f64>,
    /// How many of the likeliest tokens take part, where that is given.
    pub top_k: Option<u8>,
    /// The number that repeats a draw, where that is given.
    pub seed: Option<i64>,
}

/// A prompt in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Messages, which a chat template makes one text of.
    Chat(Vec<ChatMessage>),
    /// A text to go on from.
    Text(String),
}

/// What happens to an answer, in order: pieces, then one `Done`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The next tokens.
    Piece {
        /// Their ids. The id that ended the answer is among them: it was drawn like all others, and an
        /// audit checks it like all others. None where the end alone releases text that was held.
        ids: Vec<u32>,
        /// Text that is final with them; often none, since a token may hold a part of a character
        /// and text that may begin a stop text is held back.
        text: String,
        /// One for each id, where the job asks for them; empty otherwise.
        logprobs: Vec<Logprobs>,
    },
    /// The end.
    Done(Done),
}

/// How likely the model finds a token at its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability, by softmax over the whole vocabulary at
    /// temperature 1, whatever the temperature and the top k of the draw.
    pub logprob: f32,
}

/// The log probabilities of one drawn token and its rivals.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The token that was drawn.
    pub drawn: TokenLogprob,
    /// As many of the likeliest as the job asks for, likeliest first, ties by lower id.
    pub top: Vec<TokenLogprob>,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Why.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens in all pieces.
    pub output_tokens: u32,
    /// What went wrong, where `finish` is `Error`.
    pub error: Option<String>,
    /// Whether it is the request that is wrong: another engine would refuse it, too.
    pub refused: bool,
}

/// An answer under way. Dropping it cancels the job and frees its place.
pub struct Generation {
    events: mpsc::Receiver<Event>,
    taken: Box<dyn Fn() + Send + Sync>,
    tokens: Tokens,
    ended: bool,
}

/// What has gone by, for the `Done` of an engine that died.
#[derive(Clone, Copy)]
struct Tokens {
    prompt: u32,
    output: u32,
}

impl Generation {
    /// An answer whose events come from a channel; for authors of engines. `taken` is called after
    /// each event that is read and when the answer is dropped, so that an engine that waits for
    /// room or for work wakes.
    pub fn new(
        events: mpsc::Receiver<Event>,
        prompt_tokens: u32,
        taken: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let tokens = Tokens { prompt: prompt_tokens, output: 0 };
        Self { events, taken: Box::new(taken), tokens, ended: false }
    }

    /// The next event; `None` after `Done`. If the engine dies, the last event is a `Done` that
    /// says so. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.pass(event))
    }

    /// [`next`](Self::next) for threads outside of an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.pass(event))
    }

    fn pass(&mut self, event: Option<Event>) -> Event {
        (self.taken)();
        let event = event.unwrap_or_else(|| {
            Event::Done(Done {
                finish: Finish::Error,
                prompt_tokens: self.tokens.prompt,
                output_tokens: self.tokens.output,
                error: Some("the engine stopped before the answer ended".into()),
                refused: false,
            })
        });
        match &event {
            Event::Piece { ids, .. } => {
                let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                self.tokens.output = self.tokens.output.saturating_add(count);
            }
            Event::Done(_) => self.ended = true,
        }
        event
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        (self.taken)();
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// An answer to compute again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// The answer's ids as its events carried them.
    pub output_ids: Vec<u32>,
    /// How tokens were drawn.
    pub sampling: Sampling,
    /// What the draws came from.
    pub seed: Seed,
}

/// A recomputation under way. Dropping it cancels it.
#[derive(Debug)]
pub struct Recomputation(oneshot::Receiver<Result<Recomputed, String>>);

impl Recomputation {
    /// A recomputation whose result comes from a channel; for authors of engines.
    pub fn new(result: oneshot::Receiver<Result<Recomputed, String>>) -> Self {
        Self(result)
    }

    /// Waits for the result; an error is the engine's, not the answer's.
    pub async fn wait(self) -> Result<Recomputed, String> {
        self.0.await.unwrap_or_else(|_| Err("the engine stopped".into()))
    }

    /// [`wait`](Self::wait) for threads outside of an async runtime.
    pub fn blocking_wait(self) -> Result<Recomputed, String> {
        self.0.blocking_recv().unwrap_or_else(|_| Err("the engine stopped".into()))
    }
}

/// What a recomputation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Recomputed {
    /// For each output token, how far its score lies below that of the token which the seed draws:
    /// 0 if it is that token, `None` if it is not even among the top k.
    pub gaps: Vec<Option<f64>>,
}

impl Recomputed {
    /// The first token that the seed does not draw, allowing a gap up to the tolerance: 0 for an
    /// exact engine, [`F32_TOLERANCE`] for f32. A token just outside of the top k counts as a
    /// mismatch, which an honest f32 answer may meet, though rarely.
    pub fn first_mismatch(&self, tolerance: f64) -> Option<usize> {
        self.gaps.iter().position(|gap| !gap.is_some_and(|gap| gap <= tolerance))
    }
}
