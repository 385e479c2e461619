//! Off-chain payment: both roles of a payment channel as state machines.
//!
//! This crate is a pure core: it knows no clock, no randomness, no I/O and no network. The shell
//! brings the time, the ledger's view of the channel and the durable log.
//!
//! # Durable before anything
//!
//! Every change of state comes out as a record. The order is always the same:
//!
//! 1. Call the method under the channel's lock. It checks, changes the state in memory, and returns
//!    a [`Pending`] with the record.
//! 2. Queue the record for the log *under the same lock*, so that the log's order is the order of
//!    the changes. Wait, outside the lock, until it is durable.
//! 3. Call `confirm` with the [`Pending`]. Only now does the change count: a payee spends only
//!    confirmed vouchers, a payer signs only within confirmed reservations and approves only
//!    confirmed receipts.
//!
//! If the log fails, the machine in memory is ahead of the disk: drop it and rebuild it with
//! `replay`. Replaying the records gives exactly the same durable state. What is not in the log
//! (tokens delivered since the last voucher, vouchers signed within a reservation) is lost in a
//! crash by design. A payer that promises one window ahead bounds it by one window; of one that
//! promises a whole request ahead, a payee that crashes loses what it delivered of that request.
//!
//! Records carry the whole signed artefacts. Replaying does not verify their signatures again (the
//! log's own checksums protect them); `verify` does, for the artefacts that still matter, at most
//! three for each of 64 lanes.
//!
//! # The life of a request
//!
//! | payer | payee |
//! |---|---|
//! | [`Payer::start`]: lane, hard cap, reservation | |
//! | [`Payer::voucher`] for prompt and first window, [`Payer::order`] | [`Payee::authenticate`], [`Payee::accept`], [`Payee::order`] |
//! | [`Payer::delivered`] counts what arrived | [`Payee::spend`] before each delivery |
//! | [`Payer::voucher`] when half of the window is used | [`Payee::accept`] |
//! | [`Payer::receipt`] verifies | [`Payee::receipt`] |
//! | [`Payer::approve`] | [`Payee::approve`], [`Payee::claims_to_settle`] |
//!
//! The prompt and the request fee become payable with the first delivery: a request that fails
//! before its first token costs nothing.

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

mod budget;
mod copy;
mod error;
mod meter;
mod payee;
mod payer;
mod pending;
mod view;

pub use budget::{BudgetRecord, Budgets, KeyId, KeyUse, LaneRef};
pub use copy::{ChannelCopy, LaneCopy};
pub use error::{BudgetError, Code, MeterError, PayeeError, PayerError, ReplayError};
pub use meter::{Ask, Meter};
pub use payee::{Accepted, Authentic, Payee, PayeeRecord, ReceiptParts, Settlement, Spend};
pub use payer::{
    LaneUse, Observed, Payer, PayerRecord, Plan, Received, Reconciled, Reconciliation, Reserve, Standing,
    Started,
};
pub use pending::Pending;
pub use view::{CLOSING_MARGIN_MS, LANES, LedgerView, Phase};
