//! What a processor tells its owner.

use gristmill_types::{AccountId, Amount, ChannelId, ModelId, TxHash, Unit, Usage};
use serde::Serialize;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A request was answered and its receipt signed.
    Served {
        /// The request's id.
        request: String,
        /// Who pays.
        payer: AccountId,
        /// The model version.
        model: ModelId,
        /// What was used.
        usage: Usage,
        /// What its tokens are.
        unit: Unit,
        /// What it cost.
        cost: Amount,
    },
    /// Claims were paid on the ledger.
    Settled {
        /// The channel.
        channel: ChannelId,
        /// The transaction.
        transaction: TxHash,
        /// What the processor earned.
        earned: Amount,
        /// Of it, what went to fees that it owed as a newcomer.
        owed: Amount,
        /// Of it, what went into its bond.
        bonded: Amount,
        /// What the models' lines got.
        royalty: Amount,
        /// The fee of the settlement. A newcomer may owe it instead of paying it.
        fee: Amount,
    },
    /// Something needs the owner's eye; the processor goes on.
    Warning {
        /// What happened and what to do.
        message: String,
    },
}
