//! Why a model does not load and why a job does not start.

use gristmill_audit::BadSampling;
use gristmill_tokenizer::TextError;
use std::path::PathBuf;

/// Why a model does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration is not one that this engine computes.
    #[error("the model's configuration: {0}")]
    Config(String),
    /// The weights are not what the configuration says.
    #[error("the model's weights: {0}")]
    Weights(String),
    /// Tokenizer or chat template do not work.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The engine's thread cannot be started.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

impl From<candle_core::Error> for LoadError {
    fn from(error: candle_core::Error) -> Self {
        Self::Weights(plain(error))
    }
}

/// candle's message without the backtrace that it adds where `RUST_BACKTRACE` is set; users read it.
pub(crate) fn plain(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(*inner),
        other => other.to_string(),
    }
}

/// Why a job does not start. [`code`](StartError::code) is stable.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// All places are taken.
    #[error("the engine is full: {running} answers run and {queued} wait; try again shortly")]
    Busy {
        /// Answers being computed.
        running: usize,
        /// Jobs waiting.
        queued: usize,
    },
    /// There is no prompt.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens; the context of {context} leaves no room for an answer, so send at most {}", context.saturating_sub(1))]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of prompt and answer together at most.
        context: u32,
    },
    /// A token that the model does not have.
    #[error(
        "token {id} is outside of the model's vocabulary of {vocab}; the prompt was encoded with another tokenizer"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// How many there are.
        vocab: u32,
    },
    /// Nothing to embed.
    #[error("there is no input; send at least one text")]
    NoInput,
    /// More inputs than are embedded for one request.
    #[error("{inputs} inputs are given; send at most {limit} in one request")]
    TooManyInputs {
        /// How many there are.
        inputs: usize,
        /// The most there may be.
        limit: usize,
    },
    /// An input without tokens.
    #[error("input {index} has no tokens")]
    EmptyInput {
        /// Which one, counted from 0.
        index: usize,
    },
    /// An input that the model cannot read at once.
    #[error("input {index} has {tokens} tokens; the model reads at most {limit}, so split it")]
    InputTooLong {
        /// Which one, counted from 0.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// The most there may be.
        limit: u32,
    },
    /// No output was asked for.
    #[error("max_tokens is 0; ask for at least one token")]
    NoOutput,
    /// An answer to recompute that is longer than the engine gives.
    #[error("the answer has {tokens} tokens, more than the {limit} that the engine gives to this prompt")]
    AnswerTooLong {
        /// Tokens of the answer.
        tokens: usize,
        /// The most there can be.
        limit: u32,
    },
    /// Sampling parameters that the canonical sampler does not know.
    #[error(transparent)]
    Sampling(#[from] BadSampling),
    /// More log probabilities than are given.
    #[error("top_logprobs is {asked}; it must be 0 to {limit}")]
    TooManyLogprobs {
        /// What was asked for.
        asked: u8,
        /// The most there are.
        limit: u8,
    },
    /// Stop texts that are not usable.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The engine's thread has ended.
    #[error("the engine has stopped; restart the processor")]
    Stopped,
    /// The engine cannot do this.
    #[error("this engine cannot {0}")]
    Unsupported(&'static str),
}

impl StartError {
    /// A stable word for the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::EmptyPrompt => "empty_prompt",
            Self::NoInput => "no_input",
            Self::TooManyInputs { .. } => "too_many_inputs",
            Self::EmptyInput { .. } => "empty_input",
            Self::PromptTooLong { .. } | Self::InputTooLong { .. } => "context_length_exceeded",
            Self::UnknownToken { .. } => "unknown_token",
            Self::NoOutput => "no_output",
            Self::AnswerTooLong { .. } => "answer_too_long",
            Self::Sampling(_) => "bad_sampling",
            Self::TooManyLogprobs { .. } => "bad_logprobs",
            Self::Text(_) => "bad_stop",
            Self::Stopped => "engine_stopped",
            Self::Unsupported(_) => "unsupported",
        }
    }
}
