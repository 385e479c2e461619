//! What makes a paid answer recomputable: the canonical sampler, the processor's nonces, and the
//! digests that a receipt commits to.
//!
//! This crate is a pure core: it knows no model, no tokenizer, no clock, no randomness and no I/O.
//! It never feeds ledger state. Floating point is confined to [`Sampler`], which says why.
//!
//! The protocol, in the order of one request:
//! 1. The processor makes a [`NonceTree`] from a secret and puts its root into its quote.
//! 2. The consumer sends its own nonce with the order. Neither side knew the other's nonce when it
//!    fixed its own, so neither can choose the draw.
//! 3. The processor reveals one leaf with the first frame; the consumer checks it with
//!    [`verify_nonce`] before it pays on.
//! 4. Both derive the same [`Seed`], and every token is the one that [`Sampler`] names.
//! 5. The receipt carries an [`AuditCommitment`](gristmill_types::AuditCommitment), from which
//!    [`Seed::from_commitment`] leads back to the same seed.

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
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod commit;
mod nonce;
mod sampler;
mod seed;

pub use commit::{SaltedHasher, ids_digest, salted_digest, salted_ids_digest};
pub use nonce::{BadTree, MAX_LEAVES, NonceTree, verify_nonce};
pub use sampler::{BadSampling, Draw, MAX_TOP_K, Sampler, unit};
pub use seed::{Seed, user_seed_nonce};
