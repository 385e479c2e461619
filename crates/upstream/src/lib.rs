//! An engine that is another server: whatever speaks the OpenAI API (Ollama, llama.cpp, vLLM, SGLang,
//! LM Studio, …) answers, and is paid for like an engine of our own.
//!
//! - [`Address`]: where it is. [`ApiKey`]: what opens it, and never shows.
//! - [`probe`](fn@probe): what it can do, asked before anything is offered.
//! - [`Upstream`]: the engine. What it makes of an answer: [`read_event`], [`read_whole`], [`Pieces`].
//!
//! # What is counted
//! A server gives text and not token ids, and nobody here knows its tokenizer. So its model has the
//! byte bundle of `gristmill-tokenizer`: a token is a byte of UTF-8, for quote, voucher, receipt and
//! the gateway's own count alike. The server's own counts are never believed, nor needed.
//!
//! # What is believed
//! Nothing. Its answers are hostile input: events are bounded, waits are bounded (to connect, to the
//! first event, between events; comments do not count as life), a stream that ends without its end is
//! a failure, and what it says after it was cut off falls on a closed connection. Text of a reasoning
//! apart from the answer is not delivered, and so not paid for.
//!
//! # What can be computed again
//! Nothing: which model answered is the processor's claim. [`Engine::recompute`] says so.
//!
//! This crate knows no money and no ledger.
//!
//! [`Engine::recompute`]: gristmill_engine::Engine::recompute

mod address;
mod answer;
mod chunk;
mod connection;
mod engine;
mod error;
mod health;
mod key;
mod pieces;
mod probe;

pub use address::Address;
pub use chunk::{Said, read_event, read_whole};
pub use engine::{CLASS, Options, Patience, Upstream};
pub use error::UpstreamError;
pub use key::ApiKey;
pub use pieces::Pieces;
pub use probe::{Limit, Report, list_models, probe};
