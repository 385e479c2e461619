//! What can go wrong between a client and a node.

use gristmill_ledger::Rejection;
use gristmill_proof::ProofError;
use gristmill_types::{ChainId, TxHash};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("{url} is not a node's URL: {reason}; expected something like http://127.0.0.1:8080")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node does not answer.
    #[error("the node {url} does not answer: {reason}; check that it runs")]
    Unreachable {
        /// The node.
        url: String,
        /// What the transport said.
        reason: String,
    },
    /// The node refused.
    #[error("{message}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// A stable word.
        code: String,
        /// The node's message.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The node's answer cannot be read.
    #[error("the node's answer cannot be read: {0}; it may run another version")]
    Answer(String),
    /// The node's answer is not proven.
    #[error("the node's answer is not proven: {0}")]
    Proof(#[from] ProofError),
    /// The proof is for something else than what was asked.
    #[error("the node proved something else than what was asked; use another node")]
    OtherProof,
    /// The answer is older than what this client had seen when it asked.
    #[error(
        "the node answered from block {height}, although block {seen} was final before; try again or use another node"
    )]
    Stale {
        /// The answer's height.
        height: u64,
        /// What was seen before.
        seen: u64,
    },
    /// The node serves another ledger.
    #[error("the node serves the ledger {found}, not {expected}; check the node's URL")]
    OtherLedger {
        /// The ledger that it serves.
        found: ChainId,
        /// The expected one.
        expected: ChainId,
    },
    /// The transaction is final and had no effect, except for its fee.
    #[error("the transaction {hash} was rejected: {rejection}; its fee was taken")]
    Rejected {
        /// The transaction.
        hash: TxHash,
        /// Why.
        rejection: Rejection,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Randomness(String),
    /// The transaction did not become final in time. It may yet.
    #[error("the transaction {hash} is not final after {seconds} s; submit the same bytes again")]
    NotFinal {
        /// The transaction.
        hash: TxHash,
        /// How long the client waited.
        seconds: u64,
    },
}

impl ClientError {
    /// The node's stable word, if it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the transaction's number is not the account's next: somebody else sent for the account.
    /// Such a transaction had no effect and cost nothing; sign it anew.
    pub fn is_stale_nonce(&self) -> bool {
        matches!(self.code(), Some("nonce_used" | "nonce_ahead" | "nonce_taken"))
    }

    /// Whether the ledger said no, and would say no again.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Refused { status: 400 | 413, .. })
    }

    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotFinal { .. } | Self::Stale { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 500..=599),
            _ => false,
        }
    }
}
