//! The gateway: the consumer's own endpoint.
//!
//! It speaks the OpenAI API to clients on this side, and the payment wire of `docs/payments.md` to
//! processors on the other. It counts every token itself, signs for what arrived and never for what
//! it is told, keeps the receipts, and holds every API key to its budget.
//!
//! It knows no consensus, no engine and no processor of its own: what is on offer it reads from the
//! ledger, with proofs where money depends on it.
//!
//! The order that no path may break: reserve, write down, wait until it is durable, then sign.

mod accounts;
mod answer;
mod app;
mod approvals;
mod buy;
mod config;
mod embeddings;
mod error;
mod event;
mod fund;
mod keys;
mod logprobs;
mod market;
mod metrics;
mod openapi;
mod operator;
mod peer;
mod prepare;
mod progress;
mod purchase;
mod receipts;
mod reconcile;
mod routes;
mod start;
mod steps;
mod traces;
mod traffic;
mod turns;
mod watch;

pub use config::Config;
pub use error::StartError;
pub use event::Event;
pub use keys::{OWN_NAME as OWN_KEY_NAME, generate as generate_key, id as key_id};
pub use receipts::{Checked, Entry as ReceiptEntry, Kept, VerifyError, verify};
pub use start::{Handle, check, start};
