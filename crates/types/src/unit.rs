//! What is counted: tokens of a model's tokenizer, or bytes of text.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the "tokens" of prices, limits and usage are under one quote. It follows from the quote's
/// tokenizer, and is said wherever such a number is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Tokens of the model's own tokenizer.
    #[default]
    Token,
    /// Bytes of UTF-8: of a server whose tokenizer nobody here knows.
    Byte,
}

impl Unit {
    /// Whether it is what people expect, and need not be told.
    pub const fn is_token(&self) -> bool {
        matches!(self, Self::Token)
    }

    /// Several of it.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::Byte => "bytes",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Token => "token",
            Self::Byte => "byte",
        })
    }
}
