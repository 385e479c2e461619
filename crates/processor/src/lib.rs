//! The processor: answers prompts for pay.
//!
//! It serves the models on its shelf over the OpenAI chat API behind the payment wire of
//! `docs/payments.md`, keeps the channels' books, and brings what it earned to the ledger.
//!
//! It knows no consensus, no candle and no consumer: an [`Engine`](gristmill_engine::Engine) gives
//! it tokens, an [`Embedder`](gristmill_engine::Embedder) vectors, a [`Client`](gristmill_client::Client) the proven state of the ledger.
//!
//! The order that no path may break: verify, write down, wait until it is durable, then deliver.

mod app;
mod books;
mod config;
mod deliver;
mod error;
mod event;
mod metrics;
mod offers;
mod openapi;
mod progress;
mod quotes;
mod routes;
mod serve;
mod settle;
mod shelf;
mod start;
mod traces;
mod vectors;

pub use config::{Compute, Config, ServedModel};
pub use error::StartError;
pub use event::Event;
pub use start::{Handle, check, start};

/// What `processor.db` holds beside its logs, for who opens it while no processor does.
pub const SCHEMA: &[gristmill_store::Migration] = &[traces::SCHEMA];
