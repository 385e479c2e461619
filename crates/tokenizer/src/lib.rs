//! Text to token ids and back, the same on every side: the engine that answers, the gateway that
//! counts what it pays for, and whoever checks a receipt later.
//!
//! Everything that decides this mapping is in one [`TextBundle`] (tokenizer, chat template, special
//! tokens), named by the digest of its bytes. A quote names that digest, so a gateway can fetch the
//! bundle from the processor it does not trust and know that it counts with the same tokenizer.
//! A bundle is therefore untrusted input: sizes are bounded, templates run on a budget, and no
//! clock or randomness is within their reach.
//!
//! The text of an answer is *defined* here as what a [`Transcript`] of its ids says. The engine
//! streams by it and anybody can run it again over the ids of a receipt.
//!
//! Of a server that tokenizes by itself nobody here knows the tokenizer. [`TextBundle::bytes`] stands in:
//! each byte of UTF-8 is a token, so that both sides count alike without it.
//!
//! This crate knows no model, no network and no money.

mod bundle;
mod bytes;
mod error;
mod folder;
mod growth;
mod pieces;
mod stop;
mod stream;
mod template;
mod tokenizer;
mod transcript;

pub use bundle::{MAX_BUNDLE_BYTES, SpecialTokens, TextBundle};
pub use bytes::unit;
pub use error::TextError;
pub use stop::{MAX_STOP_BYTES, MAX_STOPS, StopMatcher, Stopped};
pub use stream::StreamDecoder;
pub use template::ChatMessage;
pub use tokenizer::{MAX_TEXT_BYTES, Tokenizer};
pub use transcript::Transcript;
