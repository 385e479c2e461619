//! What a light client needs to believe a ledger that it does not run, and nothing more.
//!
//! A gateway or a processor asks some node for an account or a channel. It does not trust that
//! node; it holds a [`Trust`]: the ledger's id and the validators that its genesis names. The node
//! answers with
//!
//! 1. a [`Finality`]: a [`Header`], the certificate by which the validators made it final, and, if
//!    the certificate is for a later block, the headers in between, each naming its parent; and
//! 2. a [`StateProof`] per key: the value, or its absence, proven against the header's state root.
//!
//! Both have a bounded byte form whose decoding never panics. Verification reads no clock and no
//! randomness: the same bytes get the same verdict everywhere.
//!
//! This crate and `gristmill-chain` are the only ones that know Commonware. It knows nothing of
//! networks, storage, or what a state value means.

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

mod body;
mod finality;
mod header;
mod state;
#[cfg(test)]
mod tests;
mod trust;

pub use body::{BodyProof, body_root};
pub use finality::{Certificate, Finality, MAX_DESCENDANTS};
pub use header::{ConsensusContext, Header};
pub use state::{CHUNK_BYTES, Key, MAX_VALUE_BYTES, ProofParts, StateProof, Value};
pub use trust::{Committee, MAX_VALIDATORS, Scheme, Trust};

use gristmill_types::Digest;

/// Why something about the ledger is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are not what they should be.
    #[error("these bytes are not a {what}: {reason}; the node may run another version")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The list of validators cannot be a committee.
    #[error("{0}")]
    Committee(&'static str),
    /// The certificate is for an epoch whose validators are not known here.
    #[error("the certificate is of epoch {epoch}, and only the validators of epoch {known} are known here")]
    UnknownEpoch {
        /// The certificate's epoch.
        epoch: u64,
        /// The epoch that the trust covers.
        known: u64,
    },
    /// The header names another next committee than the one that is trusted.
    #[error("the header announces validators that are not the trusted ones")]
    UnexpectedCommittee,
    /// The chain of parent hashes from the certified header to the proven one is broken.
    #[error("header {height} is not the parent of the one after it")]
    BrokenChain {
        /// The height of the header that does not fit.
        height: u64,
    },
    /// The certificate is for another block.
    #[error("the certificate is for block {certified}, not for {header}")]
    OtherBlock {
        /// The block that the certificate names.
        certified: Digest,
        /// The block that it should be for.
        header: Digest,
    },
    /// The certificate's signatures are not a quorum of the trusted validators.
    #[error("the certificate is not signed by a quorum of the validators that the genesis names")]
    BadCertificate,
    /// The value is not proven by the header's state root.
    #[error("the state proof does not lead to the state root of block {height}")]
    BadStateProof {
        /// The height of the block whose root was used.
        height: u64,
    },
    /// The transaction is not proven by the header's body root.
    #[error("the proof does not lead to the body root of block {height}")]
    BadBodyProof {
        /// The height of the block whose root was used.
        height: u64,
    },
}
