//! What transactions did, for indexes and for people. Events are derived: they are not part of the
//! state and move nothing.

use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, ChannelId, ChannelTerms, Digest, LineId, ModelId, Prices, Usage};
use serde::{Deserialize, Serialize};

/// Something that a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[repr(u8)]
#[allow(missing_docs)] // fields are named after those of the records and payloads, documented there
pub enum Event {
    /// Credits changed hands.
    Transferred { from: AccountId, to: AccountId, issuer: AccountId, amount: Amount } = 0,
    /// An issuer brought credits into being.
    Minted { issuer: AccountId, deposit: Digest, to: AccountId, amount: Amount } = 1,
    /// An issuer took credits out of being.
    Burned { issuer: AccountId, amount: Amount } = 2,
    /// A processor registered or changed its registration.
    ProcessorRegistered { processor: AccountId, receipt_key: AccountId, endpoints: Vec<String> } = 3,
    /// An offer was posted or replaced.
    OfferPosted { processor: AccountId, model: ModelId, prices: Prices, issuers: Vec<AccountId> } = 4,
    /// An offer was withdrawn.
    OfferWithdrawn { processor: AccountId, model: ModelId } = 5,
    /// A model version appeared.
    ModelPublished {
        model: ModelId,
        line: LineId,
        name: String,
        version: u32,
        publisher: AccountId,
        royalty_bps: u16,
    } = 6,
    /// A foreign model appeared.
    ForeignRegistered { model: ModelId, line: LineId, name: String, publisher: AccountId } = 7,
    /// A holder of shares drew its royalties.
    RoyaltyClaimed { line: LineId, issuer: AccountId, holder: AccountId, amount: Amount } = 8,
    /// A channel was opened.
    ChannelOpened { channel: ChannelId, terms: Box<ChannelTerms>, deposit: Amount } = 9,
    /// The payer added to a channel; `deposit` is the new total.
    ChannelToppedUp {
        channel: ChannelId,
        payer: AccountId,
        payee: AccountId,
        issuer: AccountId,
        amount: Amount,
        deposit: Amount,
    } = 10,
    /// A claim was paid: `royalties` to lines, `earned` to the payee, of which `owed` went to the fees
    /// that it owed and `bonded` into its bond; `paid` is the lane's new total.
    ClaimPaid {
        channel: ChannelId,
        payer: AccountId,
        payee: AccountId,
        issuer: AccountId,
        lane: u32,
        seq: u64,
        model: ModelId,
        usage: Usage,
        paid: Amount,
        earned: Amount,
        owed: Amount,
        bonded: Amount,
        royalties: Vec<Royalty>,
    } = 11,
    /// A claim waits until ledger time reaches `deadline_ms`.
    ClaimPending {
        channel: ChannelId,
        payer: AccountId,
        payee: AccountId,
        issuer: AccountId,
        lane: u32,
        seq: u64,
        model: ModelId,
        amount: Amount,
        deadline_ms: u64,
        by_payee: bool,
    } = 12,
    /// A receipt lowered a pending claim to `spent`, or removed it where that much was paid.
    ClaimCapped {
        channel: ChannelId,
        payer: AccountId,
        payee: AccountId,
        lane: u32,
        seq: u64,
        spent: Amount,
        removed: bool,
    } = 13,
    /// The payee gave up the lanes below `floor`.
    FloorRaised { channel: ChannelId, payer: AccountId, payee: AccountId, floor: u32 } = 14,
    /// The payer asked to close.
    CloseRequested { channel: ChannelId, payer: AccountId, payee: AccountId, deadline_ms: u64 } = 15,
    /// A channel closed; `refund` went back to the payer.
    ChannelClosed {
        channel: ChannelId,
        payer: AccountId,
        payee: AccountId,
        issuer: AccountId,
        settled: Amount,
        refund: Amount,
    } = 16,
    /// Shares of a line changed hands. What both sides had earned was paid out to them before.
    SharesTransferred { line: LineId, from: AccountId, to: AccountId, shares: u64 } = 17,
    /// A spending key was authorised, or its limit changed.
    KeyAuthorised { owner: AccountId, key: AccountId, issuer: AccountId, limit: Amount } = 18,
    /// A spending key was revoked; `spent` is what it spent in all.
    KeyRevoked { owner: AccountId, key: AccountId, issuer: AccountId, spent: Amount } = 19,
    /// Credits were locked until their issuer pays for them.
    RedemptionRequested {
        holder: AccountId,
        number: u64,
        issuer: AccountId,
        amount: Amount,
        reference: String,
        deadline_ms: u64,
    } = 20,
    /// An issuer paid for locked credits, which are no more.
    RedemptionPaid { holder: AccountId, number: u64, issuer: AccountId, amount: Amount } = 21,
    /// A holder took locked credits back.
    RedemptionCancelled { holder: AccountId, number: u64, issuer: AccountId, amount: Amount } = 22,
    /// An issuer stated its reserve at the end of a day.
    ReserveStated { issuer: AccountId, amount: Amount, day: u64, document: Digest } = 23,
    /// Somebody will publish a version or register a foreign one.
    ModelCommitted { publisher: AccountId, commitment: Digest } = 24,
    /// A processor posted or changed its bond; `amount` came from its balance, `held` is all of it.
    BondPosted {
        processor: AccountId,
        issuer: AccountId,
        amount: Amount,
        held: Amount,
        target: Amount,
        withhold_bps: u16,
    } = 25,
    /// A processor wants its bond back, once block time reaches `deadline_ms`.
    UnbondingBegan { processor: AccountId, issuer: AccountId, held: Amount, deadline_ms: u64 } = 26,
    /// A processor got its bond back.
    BondReturned { processor: AccountId, issuer: AccountId, amount: Amount } = 27,
}

/// What a line got of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Royalty {
    /// The line.
    pub line: LineId,
    /// How much.
    pub amount: Amount,
}

impl Event {
    /// The lane on which a claim was taken, capped or paid.
    pub const fn claim_lane(&self) -> Option<(ChannelId, u32)> {
        match self {
            Self::ClaimPaid { channel, lane, .. }
            | Self::ClaimPending { channel, lane, .. }
            | Self::ClaimCapped { channel, lane, .. } => Some((*channel, *lane)),
            Self::Transferred { .. }
            | Self::Minted { .. }
            | Self::Burned { .. }
            | Self::ProcessorRegistered { .. }
            | Self::OfferPosted { .. }
            | Self::OfferWithdrawn { .. }
            | Self::ModelPublished { .. }
            | Self::ForeignRegistered { .. }
            | Self::RoyaltyClaimed { .. }
            | Self::ChannelOpened { .. }
            | Self::ChannelToppedUp { .. }
            | Self::FloorRaised { .. }
            | Self::CloseRequested { .. }
            | Self::ChannelClosed { .. }
            | Self::SharesTransferred { .. }
            | Self::KeyAuthorised { .. }
            | Self::KeyRevoked { .. }
            | Self::RedemptionRequested { .. }
            | Self::RedemptionPaid { .. }
            | Self::RedemptionCancelled { .. }
            | Self::ReserveStated { .. }
            | Self::ModelCommitted { .. }
            | Self::BondPosted { .. }
            | Self::UnbondingBegan { .. }
            | Self::BondReturned { .. } => None,
        }
    }
}
