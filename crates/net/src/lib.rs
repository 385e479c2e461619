//! What members say to each other over HTTP: the OpenAI schema, event streams, payment headers.
//!
//! This crate formats and parses; it decides nothing. It knows no ledger state, no channel state, no
//! engine and no routing: whether a voucher is enough is the channel's business, who is asked is the
//! gateway's. All that arrives is hostile until it is parsed here: every parser is bounded, none
//! panics, and a refusal says what was expected.
//!
//! - [`openai`]: requests, answers, errors in the shape that stock clients know.
//! - [`sse`]: server-sent events, written and read.
//! - [`pay`]: the payment headers and events. The only module that knows the `mpp` crate.
//! - [`peer`]: the unpaid routes between a gateway and a processor.
//! - [`extract`]: parts of a URL.
//! - [`trace`]: the times at which a request passed its stages.
//! - [`http`]: the bounded HTTP client and the shared parts of our servers.
//! - [`serve`](serve()): the loop that they run in.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod base64url;
pub mod extract;
pub mod http;
pub mod openai;
pub mod pay;
pub mod peer;
mod serve;
pub mod sse;
pub mod trace;

pub use base64url::{Base64, MAX_ARTEFACT_BYTES};
pub use serve::serve;
