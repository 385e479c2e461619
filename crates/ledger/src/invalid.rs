//! Why a transaction cannot be in a block at all.

use crate::rejection::Rejection;
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, StateKey};
use serde::Serialize;

/// A transaction that fails by itself, whatever the state. Found by
/// [`CheckedTx::new`](crate::CheckedTx::new).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Malformed {
    /// Too many bytes.
    #[error("the transaction has {bytes} bytes, at most {max} are allowed; split it")]
    TooLong {
        /// How many.
        bytes: usize,
        /// How many are allowed.
        max: usize,
    },
    /// Not the canonical form of a transaction.
    #[error("the transaction cannot be read: {reason}")]
    Undecodable {
        /// The decoder's word.
        reason: String,
    },
    /// Signed for another ledger.
    #[error("this was signed for another ledger; use the chain id of this ledger's genesis")]
    WrongChain,
    /// An amount of nothing.
    #[error("the amount is zero; there is nothing to do")]
    ZeroAmount,
    /// Both sides are the same account.
    #[error("sender and recipient are the same account")]
    ToSelf,
    /// A value outside its bounds.
    #[error("{what} is out of bounds; see the ledger's parameters")]
    OutOfBounds {
        /// Which value.
        what: &'static str,
    },
    /// A list with too few or too many items.
    #[error("{what}: between {min} and {max} items are allowed")]
    Count {
        /// Which list.
        what: &'static str,
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// A list that is not strictly ascending.
    #[error("{what} are not in strictly ascending order; sort them and remove doubles")]
    Unsorted {
        /// Which list.
        what: &'static str,
    },
    /// Text with characters or a length that are not allowed.
    #[error("{what} is not allowed text; {rule}")]
    Text {
        /// Which text.
        what: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
    /// Bytes that are no usable key.
    #[error("{what} is not a usable ed25519 public key")]
    Key {
        /// Which key.
        what: &'static str,
    },
    /// A signature inside the payload that does not verify.
    #[error("the signature of {what} does not verify under the key in the channel's terms")]
    Signature {
        /// On what.
        what: &'static str,
    },
    /// An artefact that belongs to another channel, lane or ledger, or contradicts its companion.
    #[error(
        "{what} does not belong to this claim: ledger, channel, lane, model, quote and numbers must agree"
    )]
    Mismatch {
        /// Which artefact.
        what: &'static str,
    },
    /// Only one side of the channel may send this.
    #[error("only the channel's {who} may send this")]
    Sender {
        /// Which side.
        who: &'static str,
    },
    /// A claim by somebody other than the payee without the payee's word.
    #[error("a claim that the payee does not submit itself must carry the payee's receipt")]
    ReceiptMissing,
    /// A channel that is not one of the spending key.
    #[error(
        "a channel to close is not one of this key: its terms name the sender as payer and the key as voucher key"
    )]
    OtherKey,
    /// The channel's terms name another nonce than the transaction's.
    #[error("the terms' open_nonce must be the nonce of the transaction that opens the channel")]
    OpenNonce,
}

/// A defect of this program or of the stored state, not of the transaction. In tests and debug
/// builds it panics where it is found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, BorshSerialize, BorshDeserialize, Serialize)]
#[borsh(use_discriminant = true)]
#[serde(tag = "kind", content = "at", rename_all = "snake_case")]
#[repr(u8)]
pub enum Fault {
    /// A transaction touched a key that it had not declared.
    #[error("the transaction touched the undeclared key {0}; this is a defect, please report it")]
    Undeclared(StateKey) = 0,
    /// The caller did not load a declared key.
    #[error("the declared key {0} was not loaded; this is a defect, please report it")]
    NotLoaded(StateKey) = 1,
    /// Stored bytes are not a record of the expected kind.
    #[error("the record under {0} is damaged; restore the state from another node")]
    Damaged(StateKey) = 2,
    /// A record that must exist does not.
    #[error("the record under {0} is missing; restore the state from another node")]
    Missing(StateKey) = 3,
    /// Arithmetic left the range that the bounds guarantee.
    #[error("an amount left its range; this is a defect, please report it")]
    Range = 4,
    /// An encoded record is longer than storage allows.
    #[error("the record under {0} is too long; this is a defect, please report it")]
    TooLong(StateKey) = 5,
    /// Value appeared or vanished.
    #[error("the transaction does not conserve the credits of {0}; this is a defect, please report it")]
    NotConserved(AccountId) = 6,
}

/// A transaction that must not be in a block. It changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Invalid {
    /// It fails by itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not the sender's next nonce.
    #[error("the sender's next nonce is {expected}, not {got}")]
    Nonce {
        /// The next.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// The sender cannot pay the fee.
    #[error(
        "the fee is {fee} credits of {issuer} and the sender holds less; buy credits or name another fee issuer"
    )]
    CannotPayFee {
        /// The fee.
        fee: Amount,
        /// In whose credits.
        issuer: AccountId,
    },
    /// The sender is no spending key of the payer's, or may not spend the fee.
    #[error("the sender is not the payer, and as its spending key it cannot pay the fee: {why}")]
    SpendingKey {
        /// Why not.
        why: Rejection,
    },
    /// A defect.
    #[error(transparent)]
    Fault(#[from] Fault),
}
