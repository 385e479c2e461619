//! Transactions: what is signed, and one file per kind of payload.
//!
//! A payload knows three things about itself. `reads` names every state key that it may touch, from
//! the payload alone, so that the caller can load them before anything runs. `check` refuses what no
//! state can make right. `apply` does the work against an overlay that knows the declared keys only.

mod authorise_key;
mod burn;
mod cancel_redemption;
mod claim_royalty;
mod close_channel;
mod commit_model;
mod mint;
mod open_channel;
mod pay_redemption;
mod post_bond;
mod post_offer;
mod publish_model;
mod register_foreign;
mod register_processor;
mod request_close;
mod request_redemption;
mod revoke_key;
mod settle;
mod show_receipt;
mod state_reserve;
mod top_up;
mod transfer;
mod transfer_shares;
mod unbond;
mod withdraw;
mod withdraw_bond;
mod withdraw_offer;

pub use authorise_key::AuthoriseKey;
pub use burn::Burn;
pub use cancel_redemption::CancelRedemption;
pub use claim_royalty::ClaimRoyalty;
pub use close_channel::CloseChannel;
pub use commit_model::CommitModel;
pub use mint::Mint;
pub use open_channel::OpenChannel;
pub use pay_redemption::PayRedemption;
pub use post_bond::PostBond;
pub use post_offer::PostOffer;
pub use publish_model::PublishModel;
pub use register_foreign::RegisterForeign;
pub use register_processor::RegisterProcessor;
pub use request_close::RequestClose;
pub use request_redemption::RequestRedemption;
pub use revoke_key::RevokeKey;
pub use settle::{ClaimProof, RaiseFloor, Settle, SettleClaim};
pub use show_receipt::ShowReceipt;
pub use state_reserve::StateReserve;
pub use top_up::TopUp;
pub use transfer::Transfer;
pub use transfer_shares::TransferShares;
pub use unbond::Unbond;
pub use withdraw::{MaturedLane, Withdraw};
pub use withdraw_bond::WithdrawBond;
pub use withdraw_offer::WithdrawOffer;

use crate::{
    debt::Owing,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::MAX_TX_BYTES,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{
    AccountId, ChainId, ChannelTerms, PublicKey, Signable, Signed, StateKey, TxHash, decode, encode, sha256,
};
use serde::{Deserialize, Serialize};

/// An order to the ledger. Signed by the sender's account key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transaction {
    /// The ledger that it is for.
    pub chain: ChainId,
    /// Who sends it and pays the fee; or a spending key, whose owner pays.
    pub sender: AccountId,
    /// The sender's transactions count from 0 without gaps.
    pub nonce: u64,
    /// In whose credits the fee is paid.
    pub fee_issuer: AccountId,
    /// What to do.
    pub body: Body,
}

impl Signable for Transaction {
    const DOMAIN: &'static str = "gristmill/tx/v1";
}

impl Transaction {
    /// Whose balance pays the fee: the sender's own, or that of the payer whose spending key the
    /// sender is by the terms of the channel.
    pub fn fee_payer(&self) -> AccountId {
        match self.body.action().spends_on() {
            Some(terms) if terms.voucher_key == self.sender => terms.payer,
            _ => self.sender,
        }
    }
}

/// A transaction with its sender's signature.
pub type SignedTx = Signed<Transaction>;

/// The hash by which a transaction is known: over its signed bytes.
pub fn tx_hash(tx: &SignedTx) -> TxHash {
    hash_bytes(&encode(tx))
}

fn hash_bytes(bytes: &[u8]) -> TxHash {
    sha256(&[b"gristmill/txid/v1", bytes]).into()
}

/// Reads a transaction from bytes that anybody may have sent.
pub fn decode_tx(bytes: &[u8]) -> Result<SignedTx, Malformed> {
    if bytes.len() > MAX_TX_BYTES {
        return Err(Malformed::TooLong { bytes: bytes.len(), max: MAX_TX_BYTES });
    }
    decode(bytes).map_err(|error| Malformed::Undecodable { reason: error.0 })
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $kind:ident = $tag:literal, $name:literal;)*) => {
        /// What a transaction does. Codec tags are append-only and never reused.
        #[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        #[borsh(use_discriminant = true)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Body {
            $($(#[$doc])* $kind($kind) = $tag,)*
        }

        impl Body {
            /// The names of all kinds.
            pub const KINDS: &'static [&'static str] = &[$($name,)*];

            /// The kind's name, as in JSON.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name,)* }
            }

            pub(crate) fn action(&self) -> &dyn Action {
                match self { $(Self::$kind(payload) => payload,)* }
            }
        }

        $(impl From<$kind> for Body {
            fn from(payload: $kind) -> Self {
                Self::$kind(payload)
            }
        })*
    };
}

bodies! {
    /// Credits to another account.
    Transfer = 0, "transfer";
    /// Credits for a deposit of money.
    Mint = 1, "mint";
    /// Credits taken out of being.
    Burn = 2, "burn";
    /// A processor and where it answers.
    RegisterProcessor = 3, "register_processor";
    /// A model at a price.
    PostOffer = 4, "post_offer";
    /// An offer ends.
    WithdrawOffer = 5, "withdraw_offer";
    /// A version of the sender's model.
    PublishModel = 6, "publish_model";
    /// Known public weights.
    RegisterForeign = 7, "register_foreign";
    /// A holder's royalties.
    ClaimRoyalty = 8, "claim_royalty";
    /// A payment channel.
    OpenChannel = 9, "open_channel";
    /// More deposit.
    TopUp = 10, "top_up";
    /// Claims on a channel's lanes.
    Settle = 11, "settle";
    /// The payee's word against a pending claim.
    ShowReceipt = 12, "show_receipt";
    /// The payer wants its deposit back.
    RequestClose = 13, "request_close";
    /// The end of a channel.
    CloseChannel = 14, "close_channel";
    /// Pending claims whose time has come.
    Withdraw = 15, "withdraw";
    /// Shares of a model line to another account.
    TransferShares = 16, "transfer_shares";
    /// A key that may spend on channels.
    AuthoriseKey = 17, "authorise_key";
    /// The end of such a key.
    RevokeKey = 18, "revoke_key";
    /// Credits that their issuer shall pay money for.
    RequestRedemption = 19, "request_redemption";
    /// The issuer has paid the money.
    PayRedemption = 20, "pay_redemption";
    /// The holder takes its credits back.
    CancelRedemption = 21, "cancel_redemption";
    /// An issuer's word on the money behind its credits.
    StateReserve = 22, "state_reserve";
    /// The word that a version will be published.
    CommitModel = 23, "commit_model";
    /// A processor's bond.
    PostBond = 24, "post_bond";
    /// The processor wants it back.
    Unbond = 25, "unbond";
    /// The processor gets it back.
    WithdrawBond = 26, "withdraw_bond";
}

/// Why an action stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The transaction has no effect.
    Rejected(Rejection),
    /// A defect.
    Fault(Fault),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What an action did.
pub(crate) type Events = Vec<Event>;

/// A payload's three parts.
pub(crate) trait Action {
    /// Adds every state key that [`apply`](Self::apply) may touch.
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>);

    /// Refuses what no state can make right.
    fn check(&self, tx: &Transaction, rules: &Rules) -> Result<(), Malformed>;

    /// The terms of the channel, if this is of a kind for which a spending key's owner pays.
    fn spends_on(&self) -> Option<&ChannelTerms> {
        None
    }

    /// The terms of the channel whose payee this may pay. What the payee owes and its bond are read
    /// with them.
    fn pays(&self) -> Option<&ChannelTerms> {
        None
    }

    /// How the sender may owe the fee if it cannot pay it. See `debt`.
    fn owing(&self, _tx: &Transaction) -> Owing {
        Owing::Never
    }

    /// Does the work. On `Err` the caller drops the overlay.
    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop>;
}

/// A transaction that passed every check that needs no state, with its hash and the keys that it
/// will touch. Its own signature is **not** checked here: callers verify signatures in batches,
/// under [`Transaction::sender`], before they apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTx {
    tx: SignedTx,
    hash: TxHash,
    reads: Vec<StateKey>,
}

impl CheckedTx {
    /// Checks what needs no state, including the signatures of vouchers, approvals and receipts
    /// inside the payload.
    pub fn new(tx: SignedTx, rules: &Rules) -> Result<Self, Malformed> {
        let bytes = encode(&tx);
        if bytes.len() > MAX_TX_BYTES {
            return Err(Malformed::TooLong { bytes: bytes.len(), max: MAX_TX_BYTES });
        }
        if tx.body.chain != rules.chain {
            return Err(Malformed::WrongChain);
        }
        let action = tx.body.body.action();
        action.check(&tx.body, rules)?;
        let mut reads = vec![
            keys::account(&tx.body.sender),
            keys::balance(&tx.body.fee_payer(), &tx.body.fee_issuer),
            keys::balance(&rules.fee_account, &tx.body.fee_issuer),
        ];
        if tx.body.fee_payer() != tx.body.sender {
            reads.push(keys::spending_key(&tx.body.fee_payer(), &tx.body.sender));
            reads.push(keys::balance(&tx.body.sender, &tx.body.fee_issuer));
        }
        match action.owing(&tx.body) {
            Owing::Never => {}
            Owing::More => reads.push(keys::debt(&tx.body.sender)),
            Owing::Begin => {
                reads.push(keys::debt(&tx.body.sender));
                reads.push(keys::newcomers());
                reads.push(keys::issuer(&tx.body.fee_issuer));
            }
        }
        if let Some(terms) = action.pays() {
            reads.push(keys::debt(&terms.payee));
            reads.push(keys::bond(&terms.payee, &terms.issuer));
            reads.push(keys::balance(&rules.fee_account, &terms.issuer));
        }
        action.reads(&tx.body, &mut reads);
        reads.sort_unstable();
        reads.dedup();
        Ok(Self { hash: hash_bytes(&bytes), tx, reads })
    }

    /// The transaction.
    pub const fn tx(&self) -> &SignedTx {
        &self.tx
    }

    /// Its hash.
    pub const fn hash(&self) -> TxHash {
        self.hash
    }

    /// Every state key that it may touch, in order, each once.
    pub fn reads(&self) -> &[StateKey] {
        &self.reads
    }
}

/// Refuses bytes that are no public key.
pub(crate) fn check_key(key: &AccountId, what: &'static str) -> Result<PublicKey, Malformed> {
    PublicKey::try_from(key).map_err(|_| Malformed::Key { what })
}

/// Refuses a list that is too short, too long, or not strictly ascending.
pub(crate) fn check_list<T: Ord>(
    items: impl ExactSizeIterator<Item = T>,
    what: &'static str,
    min: usize,
    max: usize,
) -> Result<(), Malformed> {
    if items.len() < min || items.len() > max {
        return Err(Malformed::Count { what, min, max });
    }
    items.is_sorted_by(|a, b| a < b).then_some(()).ok_or(Malformed::Unsorted { what })
}
