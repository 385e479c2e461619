//! The ledger's state machine: a pure function from a state and a block's transactions to the
//! state after it.
//!
//! This crate knows no clock, randomness, file, network, consensus engine or storage. It is handed
//! the time and the bytes of the records that a transaction declared, and hands back the bytes of
//! those that changed. The same input gives the same output on every machine.
//!
//! # How one transaction runs
//!
//! 1. [`decode_tx`] reads the bytes; [`CheckedTx::new`] does what needs no state: bounds, signatures
//!    of vouchers and receipts inside, and the list of state keys that it will touch. The
//!    transaction's own signature is the caller's business, so that it can be checked in batches.
//! 2. The caller loads the records under [`CheckedTx::reads`] into an [`Executor`].
//! 3. [`Executor::apply`] takes the fee and the nonce, then runs the payload against an overlay.
//!    A [`Rejection`] drops what the payload did; fee and nonce stay. An [`Invalid`] transaction
//!    changes nothing and must not be in a block.
//! 4. Before the overlay is merged, [`conservation`] compares the encoded records before and after,
//!    issuer by issuer, without using any code that moved the value.
//! 5. [`Executor::finish`] returns the changed records.
//!
//! # Where things are
//!
//! One file per kind of transaction in [`tx`]; what channels have in common in `channel`, with the
//! whole protocol in its module documentation; `posting` alone moves value; [`keys`] names every
//! place in the state; [`params`] every bound.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

// The tests' ledger in memory is shared with the integration tests, which know the crate by name.
#[cfg(test)]
extern crate self as gristmill_ledger;
#[cfg(test)]
#[path = "../tests/it/world.rs"]
mod world;

mod accrual;
mod bond;
mod channel;
pub mod clock;
pub mod conservation;
mod deadline;
mod debt;
mod event;
mod executor;
mod genesis;
mod invalid;
pub mod keys;
mod overlay;
pub mod params;
mod posting;
pub mod record;
mod rejection;
mod royalty;
mod spending;
mod text;
pub mod tx;
mod u128_text;

pub use conservation::{Audit, Parts, Supply, scan};
pub use event::{Event, Royalty};
pub use executor::{Context, Executor, Outcome};
pub use genesis::{Genesis, GenesisBalance, GenesisError, GenesisIssuer, GenesisValidator, Rules};
pub use invalid::{Fault, Invalid, Malformed};
pub use params::{Fees, Params};
pub use record::Record;
pub use rejection::Rejection;
pub use royalty::due;
pub use text::{licence as check_licence, name as check_name};
pub use tx::{Body, CheckedTx, SignedTx, Transaction, decode_tx, tx_hash};
