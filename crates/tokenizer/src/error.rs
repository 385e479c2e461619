//! What can go wrong between text and ids.

use gristmill_types::Digest;
use std::path::PathBuf;

/// Why a bundle, a text or a template was refused. [`code`](TextError::code) is stable.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of a model folder cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The bytes are no bundle.
    #[error("this is not a text bundle: {0}")]
    Bundle(String),
    /// The bundle is not the one that was asked for.
    #[error("the text bundle's digest is {found}, expected {expected}; fetch it again, from another source")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The tokenizer does not load or does not work.
    #[error("the tokenizer does not work: {0}")]
    Tokenizer(String),
    /// The model has no chat template.
    #[error(
        "this model has no chat template, so it takes no chat messages; send plain text, or add chat_template.jinja to its folder"
    )]
    NoTemplate,
    /// The template refused the messages or does not work.
    #[error("the chat template refuses these messages: {0}")]
    Template(String),
    /// A text is longer than is processed.
    #[error("the text has {bytes} bytes, more than {limit}; shorten it")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A stop text is not usable.
    #[error("stop texts: {0}")]
    Stop(String),
}

impl TextError {
    /// A stable word for the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Bundle(_) => "bundle",
            Self::WrongDigest { .. } => "wrong_digest",
            Self::Tokenizer(_) => "tokenizer",
            Self::NoTemplate => "no_template",
            Self::Template(_) => "template",
            Self::TooLong { .. } => "too_long",
            Self::Stop(_) => "stop",
        }
    }
}
