//! What travels between a node and its clients, as JSON.
//!
//! Amounts are decimal strings of grains; ids, hashes and bytes are lower-case hexadecimal, accounts
//! are `gm1…`. Fields are only ever added.

use gristmill_ledger::{
    Event, Genesis, Outcome, Supply,
    record::{Channel, Issuer, Lane, Line, Model, Offer, Processor},
};
use gristmill_types::{AccountId, Amount, BlockHash, ChainId, ChannelId, Digest, ModelId, StateKey, TxHash};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Most items in a listing's page, and most keys in one question.
pub const MAX_PAGE: usize = 1_000;

/// Most state keys in one question.
pub const MAX_KEYS: usize = 65;

/// Every failure has this body.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What failed.
    pub error: ErrorDetail,
}

/// What failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// A stable word for programs.
    #[schema(example = "nonce_used")]
    pub code: String,
    /// What happened and what was expected, for people.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A transaction to submit.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The signed transaction's canonical bytes in hexadecimal.
    #[schema(pattern = "^([0-9a-f]{2})*$")]
    pub tx: String,
}

/// How long a submission waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Until the transaction is in the mempool.
    #[default]
    Accepted,
    /// Until it is final and durable, at most 30 seconds.
    Final,
}

/// Options of a submission.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SubmitOptions {
    /// How long to wait.
    #[serde(default)]
    pub wait: Wait,
}

/// Options of a transaction lookup.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LookupOptions {
    /// Whether to add the proof that the transaction is in a final block.
    #[serde(default)]
    pub proof: bool,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// In the mempool, or in a block that is not final.
    Waiting,
    /// In a final and durable block.
    Final,
}

/// What is known of a transaction.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransactionStatus {
    /// Its hash.
    #[schema(value_type = String)]
    pub hash: TxHash,
    /// Where it is.
    pub state: TransactionState,
    /// Where and how it became final, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusion: Option<Inclusion>,
}

/// Where and how a transaction became final.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Inclusion {
    /// The block's height.
    pub height: u64,
    /// The block.
    #[schema(value_type = String)]
    pub block: BlockHash,
    /// Its position in the block, from 0.
    pub position: u32,
    /// What it did: fee, rejection if it had no effect, events.
    #[schema(value_type = Object)]
    pub outcome: Outcome,
    /// The signed transaction's bytes in hexadecimal; in lookups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<String>,
    /// The proof, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<InclusionProof>,
}

/// That a transaction is in a final block. (What it did is the node's word; its effects on accounts
/// and channels can be read with state proofs.)
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InclusionProof {
    /// The header, and why it is final, in hexadecimal.
    pub finality: String,
    /// The path from the transaction to the header's body root, in hexadecimal.
    pub body: String,
}

/// A final block.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockInfo {
    /// Its hash.
    #[schema(value_type = String)]
    pub hash: BlockHash,
    /// Its height.
    pub height: u64,
    /// The block before it.
    #[schema(value_type = String)]
    pub parent: BlockHash,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time after it, milliseconds.
    pub clock_ms: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The hash of the committee of the next epoch.
    #[schema(value_type = String)]
    pub next_committee: Digest,
    /// Commits to its transactions.
    #[schema(value_type = String)]
    pub body_root: Digest,
    /// Commits to the state after it.
    #[schema(value_type = String)]
    pub state_root: Digest,
    /// Its transactions, in order.
    #[schema(value_type = Vec<String>)]
    pub transactions: Vec<TxHash>,
    /// The header, and why it is final, in hexadecimal.
    pub finality: String,
}

/// Which state keys to read.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StateQuestion {
    /// Keys in hexadecimal, separated by commas; at most 65.
    #[param(pattern = "^[0-9a-f]{64}(,[0-9a-f]{64}){0,64}$")]
    pub key: String,
}

/// State values with their proofs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateAnswer {
    /// The height of the block whose state this is.
    pub height: u64,
    /// The header, and why it is final, in hexadecimal.
    pub finality: String,
    /// One per key, in the order of the question.
    pub values: Vec<StateValue>,
}

/// A state value with its proof.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateValue {
    /// The key.
    #[schema(value_type = String)]
    pub key: StateKey,
    /// The key's value or absence, and the proof of that against the header's state root, in
    /// hexadecimal.
    pub proof: String,
}

/// An account. The node's word; read with proofs through `/v1/state`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountInfo {
    /// The account.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// The nonce of its next transaction.
    pub nonce: u64,
    /// What it holds, by issuer; issuers of which it holds nothing are left out.
    pub balances: Vec<BalanceInfo>,
    /// The channels that it pays from or is paid by, without the closed ones; at most 1000.
    #[schema(value_type = Vec<String>)]
    pub channels: Vec<ChannelId>,
    /// The keys that may spend from it on channels; at most 1000.
    #[schema(value_type = Vec<String>)]
    pub spending_keys: Vec<AccountId>,
    /// The redemptions that it waits for or, as an issuer, has to pay; at most 1000.
    pub redemptions: Vec<RedemptionName>,
}

/// Which redemption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedemptionName {
    /// Whose credits are locked.
    #[schema(value_type = String)]
    pub holder: AccountId,
    /// The nonce of the holder's request.
    pub number: u64,
}

/// A page of the accounts that hold shares of a line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Holders {
    /// The accounts.
    #[schema(value_type = Vec<String>)]
    pub holders: Vec<AccountId>,
    /// How many there are in all.
    pub total: usize,
}

/// What an account holds of one issuer's credits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct BalanceInfo {
    /// Whose credits.
    #[schema(value_type = String)]
    pub issuer: AccountId,
    /// How much, in grains.
    #[schema(value_type = String)]
    pub amount: Amount,
}

/// A channel. The node's word; read with proofs through `/v1/state`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelInfo {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ChannelId,
    /// The record.
    #[schema(value_type = Object)]
    pub channel: Channel,
    /// Its lanes that were claimed on.
    #[schema(value_type = Vec<Object>)]
    pub lanes: Vec<Lane>,
}

/// Which claims to list.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ClaimsQuestion {
    /// The lane within the channel.
    pub lane: u32,
    /// How many transactions to skip.
    #[serde(default)]
    pub skip: usize,
    /// How many transactions to return, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of the final transactions that took, capped or paid claims on a lane, oldest first. The
/// node's word; a transaction can be read with its proof through `/v1/transactions`. They are listed
/// also when the lane was given up or the channel is closed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Claims {
    /// The transactions.
    pub transactions: Vec<ClaimInfo>,
    /// How many there are in all.
    pub total: usize,
}

/// What one transaction did on a lane.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClaimInfo {
    /// The transaction.
    #[schema(value_type = String)]
    pub hash: TxHash,
    /// The height of its block.
    pub height: u64,
    /// What it did on the lane, in order.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Event>,
}

/// A page of a listing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// How many items to skip.
    #[serde(default)]
    pub skip: usize,
    /// How many items to return, at most 1000.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Which offers to list.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct OffersQuestion {
    /// Only offers of this model version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub model: Option<ModelId>,
    /// How many items to skip.
    #[serde(default)]
    pub skip: usize,
    /// How many items to return, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of the model versions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Models {
    /// The versions.
    pub models: Vec<ModelInfo>,
    /// How many there are in all.
    pub total: usize,
}

/// A model version and its line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// The version.
    #[schema(value_type = Object)]
    pub model: Model,
    /// Its line.
    #[schema(value_type = Object)]
    pub line: Option<Line>,
    /// How many processors offer it.
    pub offers: usize,
}

/// A page of the offers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Offers {
    /// The offers.
    #[schema(value_type = Vec<Object>)]
    pub offers: Vec<Offer>,
    /// How many there are in all.
    pub total: usize,
}

/// A page of the processors.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Processors {
    /// The processors.
    #[schema(value_type = Vec<Object>)]
    pub processors: Vec<Processor>,
    /// How many there are in all.
    pub total: usize,
}

/// All credits, added up over the whole state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SupplyAnswer {
    /// The height of the block whose state was added up.
    pub height: u64,
    /// Whether every issuer's parts come to its total, and the state has no fault.
    pub adds_up: bool,
    /// By issuer.
    #[schema(value_type = Vec<Object>)]
    pub supplies: Vec<Supply>,
    /// What does not hold.
    pub faults: Vec<String>,
}

/// Which events to follow.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventsQuestion {
    /// The first height; without it, blocks that become final from now on. The header
    /// `Last-Event-ID` takes precedence and resumes after that height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// A server-sent event.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described here, written and read as lines of text")]
pub struct BlockEvent {
    /// Always `block`.
    event: String,
    /// The block's height.
    id: String,
    /// A `BlockEvents` in JSON.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// What a final block did. One server-sent event `block`, whose id is the height.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockEvents {
    /// The block's height.
    pub height: u64,
    /// The block.
    #[schema(value_type = String)]
    pub block: BlockHash,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time after it, milliseconds.
    pub clock_ms: u64,
    /// What its transactions did, in order.
    #[schema(value_type = Vec<Object>)]
    pub outcomes: Vec<Outcome>,
}

/// How the node is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The ledger's name.
    pub name: String,
    /// The ledger.
    #[schema(value_type = String)]
    pub chain: ChainId,
    /// The last final block's height.
    pub height: u64,
    /// The last final block.
    #[schema(value_type = String)]
    pub block: BlockHash,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time, milliseconds.
    pub clock_ms: u64,
    /// Transactions that wait or are not final yet.
    pub waiting: usize,
    /// Since when transactions wait and no block comes, in milliseconds; 0 if none waits.
    #[serde(default)]
    pub stalled_ms: u64,
    /// The version of the node's program.
    pub version: String,
}

/// What the ledger started from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GenesisAnswer {
    /// The ledger's id, the hash of its genesis.
    #[schema(value_type = String)]
    pub chain: ChainId,
    /// The genesis.
    #[schema(value_type = Object)]
    pub genesis: Genesis,
    /// Its issuers as they are now.
    #[schema(value_type = Vec<Object>)]
    pub issuers: Vec<Issuer>,
}
