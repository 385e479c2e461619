//! What a gateway tells its owner.

use gristmill_types::{AccountId, Amount, ChannelId, Digest, TxHash, Unit};
use serde::Serialize;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request was paid for, to its end or as far as it got: its receipt is on disk, and approved.
    Paid {
        /// The receipt.
        receipt: Digest,
        /// The model, by name.
        model: String,
        /// Who answered.
        processor: AccountId,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens of the answer.
        completion_tokens: u64,
        /// What these tokens are.
        unit: Unit,
        /// What it cost.
        cost: Amount,
    },
    /// A channel was opened.
    ChannelOpened {
        /// The channel.
        channel: ChannelId,
        /// Who is paid from it.
        processor: AccountId,
        /// What was put in.
        deposit: Amount,
        /// The transaction.
        transaction: TxHash,
    },
    /// A channel was topped up.
    ChannelToppedUp {
        /// The channel.
        channel: ChannelId,
        /// What was added.
        amount: Amount,
        /// The transaction.
        transaction: TxHash,
    },
    /// Something needs the owner's eye; the gateway goes on.
    Warning {
        /// What happened and what to do.
        message: String,
    },
}
