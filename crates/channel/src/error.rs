//! What can go wrong, with codes that are stable across the wire.

use gristmill_types::{Amount, Usage};
use serde::{Deserialize, Serialize};

/// A stable code: the last part of the problem type (RFC 9457) that a peer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// An artefact contradicts itself, the channel or the request.
    InvalidPayload,
    /// A signature does not verify under the expected key.
    InvalidSignature,
    /// The sum over all lanes would exceed the deposit.
    AmountExceedsDeposit,
    /// A voucher or cap does not cover what it must.
    DeltaTooSmall,
    /// No such channel (answered by the shell).
    ChannelNotFound,
    /// The channel is closed or too near to it.
    ChannelClosed,
    /// The lane is retired, out of range or unknown.
    WrongLane,
    /// The quote or model is not the lane's, or not the payee's.
    WrongQuote,
    /// The quote's time is over.
    QuoteExpired,
    /// A sequence number that is not above the last.
    WrongSequence,
    /// The lane has a request in flight.
    LaneBusy,
    /// The voucher was used for a delivery already.
    AlreadyDelivered,
    /// The request is outside of the quote's limits.
    LimitExceeded,
    /// A receipt or approval does not match.
    WrongReceipt,
    /// The API key's budget does not allow it.
    BudgetExceeded,
    /// An amount or counter does not fit.
    Overflow,
    /// The machine is not in the state for this.
    NotReady,
}

impl Code {
    /// The code as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid-payload",
            Self::InvalidSignature => "invalid-signature",
            Self::AmountExceedsDeposit => "amount-exceeds-deposit",
            Self::DeltaTooSmall => "delta-too-small",
            Self::ChannelNotFound => "channel-not-found",
            Self::ChannelClosed => "channel-closed",
            Self::WrongLane => "wrong-lane",
            Self::WrongQuote => "wrong-quote",
            Self::QuoteExpired => "quote-expired",
            Self::WrongSequence => "wrong-sequence",
            Self::LaneBusy => "lane-busy",
            Self::AlreadyDelivered => "already-delivered",
            Self::LimitExceeded => "limit-exceeded",
            Self::WrongReceipt => "wrong-receipt",
            Self::BudgetExceeded => "budget-exceeded",
            Self::Overflow => "overflow",
            Self::NotReady => "not-ready",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A request that cannot be metered under a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// A counter or cost does not fit.
    #[error("the lane's counters or their cost do not fit; use another lane")]
    Overflow,
    /// No output, or no window to pay it in.
    #[error("nothing to meter: the request asks for no output, or the quote has an empty window")]
    Empty,
    /// More than the quote's limits.
    #[error(
        "the request asks for {asked} tokens, the quote allows {allowed}; shorten the prompt or max_tokens"
    )]
    Limit {
        /// What was asked for.
        asked: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// More than was asked for.
    #[error("more was delivered than the request asked for")]
    BeyondCap,
}

impl MeterError {
    /// The code on the wire.
    pub const fn code(self) -> Code {
        match self {
            Self::Overflow => Code::Overflow,
            Self::Empty | Self::Limit { .. } | Self::BeyondCap => Code::LimitExceeded,
        }
    }
}

/// Why the payee refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayeeError {
    /// Another channel.
    #[error("the artefact is for another channel")]
    WrongChannel,
    /// Another ledger.
    #[error("the artefact is for another ledger")]
    WrongChain,
    /// Closed, or about to be.
    #[error("the channel is closed or about to close; open another")]
    Closed,
    /// Not within the open lanes.
    #[error("lane {lane} is not open: lanes from {floor} on, 64 at most, can be used")]
    WrongLane {
        /// The lane.
        lane: u32,
        /// The lowest open lane.
        floor: u32,
    },
    /// Nothing is known of the lane.
    #[error("lane {lane} has no voucher yet; send one first")]
    UnknownLane {
        /// The lane.
        lane: u32,
    },
    /// The quote is not one of ours for this channel and model, or not the lane's.
    #[error(
        "the quote or the model is not the lane's, or not one that is offered here; fetch the quote again"
    )]
    WrongQuote,
    /// The quote's time is over.
    #[error("the quote ended at {valid_until_ms} ms; fetch a new one and use another lane")]
    QuoteExpired {
        /// When it ended.
        valid_until_ms: u64,
    },
    /// Not above the last.
    #[error("sequence number {found} is not above the last, {last}")]
    OldSequence {
        /// In the voucher.
        found: u64,
        /// The last accepted.
        last: u64,
    },
    /// Another voucher has this number.
    #[error("sequence number {seq} was used for another voucher")]
    Conflict {
        /// The number.
        seq: u64,
    },
    /// Amount or counters go back.
    #[error("a voucher never promises less than the one before it or than what was spent")]
    Backwards,
    /// Over the deposit.
    #[error("the lanes' sum would be {sum} credits, the deposit is {deposit}; top up or settle")]
    ExceedsDeposit {
        /// Sum over the lanes.
        sum: Amount,
        /// The deposit.
        deposit: Amount,
    },
    /// A signature does not verify.
    #[error("the signature does not verify under the channel's key")]
    BadSignature,
    /// The order names another voucher.
    #[error("the order names another voucher than the lane's last")]
    WrongVoucher,
    /// The order binds another body.
    #[error("the order is for another request body")]
    WrongBody,
    /// One delivery per voucher.
    #[error("the voucher was used for a delivery already; sign a new one")]
    AlreadyDelivered,
    /// One request per lane at a time.
    #[error("lane {lane} has a request in flight; use another lane")]
    LaneBusy {
        /// The lane.
        lane: u32,
    },
    /// No request in flight.
    #[error("lane {lane} has no request in flight")]
    NoRequest {
        /// The lane.
        lane: u32,
    },
    /// The voucher or the order's cap does not cover prompt and first window.
    #[error("{found} credits do not cover the prompt and the first window; {required} are required")]
    TooSmall {
        /// Promised.
        found: Amount,
        /// Required, cumulative on the lane.
        required: Amount,
    },
    /// The request cannot be metered.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// An approval that matches no receipt.
    #[error("the approval does not match the lane's last receipt")]
    WrongApproval,
    /// The ledger's view went back or contradicts itself.
    #[error("the ledger's figures for the channel are older than known ones or contradict each other")]
    StaleView,
    /// The receipt key is not the channel's.
    #[error("the key is not the channel's receipt key")]
    WrongKey,
    /// An amount or counter does not fit.
    #[error("an amount or counter does not fit")]
    Overflow,
    /// The record is not confirmed.
    #[error("the order's record is not durable yet")]
    NotDurable,
}

impl PayeeError {
    /// The code on the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::WrongChannel
            | Self::WrongChain
            | Self::Backwards
            | Self::WrongVoucher
            | Self::WrongBody
            | Self::StaleView => Code::InvalidPayload,
            Self::Closed => Code::ChannelClosed,
            Self::WrongLane { .. } | Self::UnknownLane { .. } => Code::WrongLane,
            Self::WrongQuote => Code::WrongQuote,
            Self::QuoteExpired { .. } => Code::QuoteExpired,
            Self::OldSequence { .. } | Self::Conflict { .. } => Code::WrongSequence,
            Self::ExceedsDeposit { .. } => Code::AmountExceedsDeposit,
            Self::BadSignature | Self::WrongKey => Code::InvalidSignature,
            Self::AlreadyDelivered => Code::AlreadyDelivered,
            Self::LaneBusy { .. } => Code::LaneBusy,
            Self::NoRequest { .. } | Self::NotDurable => Code::NotReady,
            Self::TooSmall { .. } => Code::DeltaTooSmall,
            Self::Meter(error) => error.code(),
            Self::WrongApproval => Code::WrongReceipt,
            Self::Overflow => Code::Overflow,
        }
    }
}

/// Why the payer does not sign, or does not believe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayerError {
    /// The channel is closing or closed.
    #[error("the channel is closing or closed")]
    Closed,
    /// The quote does not fit the channel or is not signed by the processor.
    #[error("the quote is not the processor's for this channel; fetch it again")]
    WrongQuote,
    /// The quote's time is over.
    #[error("the quote ended at {valid_until_ms} ms; fetch a new one")]
    QuoteExpired {
        /// When it ended.
        valid_until_ms: u64,
    },
    /// All lanes are in use.
    #[error("all {} lanes are in use; wait for one, or for the processor to settle", crate::LANES)]
    NoLane,
    /// No such lane.
    #[error("lane {lane} is unknown")]
    UnknownLane {
        /// The lane.
        lane: u32,
    },
    /// No request in flight.
    #[error("lane {lane} has no request in flight")]
    NoRequest {
        /// The lane.
        lane: u32,
    },
    /// The request may cost more than its cap.
    #[error("the request may cost {needed} credits, its cap is {cap}; ask for fewer tokens")]
    OverCap {
        /// What it may cost at most.
        needed: Amount,
        /// The most that it may cost.
        cap: Amount,
    },
    /// The deposit does not suffice.
    #[error("{needed} credits more are needed, {room} of the deposit are free")]
    DepositTooSmall {
        /// Missing reservation.
        needed: Amount,
        /// Free part of the deposit.
        room: Amount,
    },
    /// The API key's budget does not suffice.
    #[error("{needed} credits more must be held, the key's budget has {room} left")]
    BudgetTooSmall {
        /// Missing reservation.
        needed: Amount,
        /// What the budget has left.
        room: Amount,
    },
    /// The next voucher is beyond what is durably reserved.
    #[error("the next voucher is beyond the durable reservation of lane {lane}")]
    BeyondReservation {
        /// The lane.
        lane: u32,
    },
    /// Nothing new to promise.
    #[error("the last voucher of lane {lane} covers the next window already")]
    NotDue {
        /// The lane.
        lane: u32,
    },
    /// The processor asks for more than it delivered.
    #[error("the processor requires {required} credits; by what was delivered at most {computed} are due")]
    InflatedRequired {
        /// What it says.
        required: Amount,
        /// What was counted here.
        computed: Amount,
    },
    /// The request cannot be metered.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// A signature does not verify.
    #[error("the signature does not verify under the expected key")]
    BadSignature,
    /// The receipt is not for this lane, model, quote or any recent voucher.
    #[error("the receipt does not answer a voucher of this lane")]
    WrongReceipt,
    /// The receipt claims more than the voucher promised.
    #[error("the receipt claims more than its voucher promised")]
    ReceiptOverVoucher,
    /// Cost and use do not match.
    #[error("the receipt says {spent} credits, its use costs {cost}")]
    WrongCost {
        /// In the receipt.
        spent: Amount,
        /// Recomputed.
        cost: Amount,
    },
    /// The receipt counts more than what arrived.
    #[error("the receipt counts {claimed:?}, here arrived {counted:?}")]
    Overcounted {
        /// In the receipt.
        claimed: Usage,
        /// Counted here.
        counted: Usage,
    },
    /// There is nothing verified to approve.
    #[error("lane {lane} has no verified receipt to approve")]
    NothingToApprove {
        /// The lane.
        lane: u32,
    },
    /// Vouchers were signed already.
    #[error("lane {lane} has signed for its request already; wait for the receipt")]
    AlreadySigned {
        /// The lane.
        lane: u32,
    },
    /// The lane's vouchers may be unknown after a crash.
    #[error("lane {lane} must be reconciled with the processor first")]
    InDoubt {
        /// The lane.
        lane: u32,
    },
    /// The ledger's view went back or contradicts itself.
    #[error("the ledger's figures for the channel are older than known ones or contradict each other")]
    StaleView,
    /// The key is not the channel's voucher key.
    #[error("the key is not the channel's voucher key")]
    WrongKey,
    /// An amount or counter does not fit.
    #[error("an amount or counter does not fit")]
    Overflow,
}

impl PayerError {
    /// A stable code, for the gateway's clients and logs.
    pub const fn code(&self) -> Code {
        match self {
            Self::Closed => Code::ChannelClosed,
            Self::WrongQuote => Code::WrongQuote,
            Self::QuoteExpired { .. } => Code::QuoteExpired,
            Self::NoLane => Code::LaneBusy,
            Self::UnknownLane { .. } => Code::WrongLane,
            Self::OverCap { .. } => Code::LimitExceeded,
            Self::DepositTooSmall { .. } => Code::AmountExceedsDeposit,
            Self::BudgetTooSmall { .. } => Code::BudgetExceeded,
            Self::NoRequest { .. }
            | Self::BeyondReservation { .. }
            | Self::NotDue { .. }
            | Self::NothingToApprove { .. }
            | Self::AlreadySigned { .. }
            | Self::InDoubt { .. } => Code::NotReady,
            Self::InflatedRequired { .. } | Self::StaleView => Code::InvalidPayload,
            Self::Meter(error) => error.code(),
            Self::BadSignature | Self::WrongKey => Code::InvalidSignature,
            Self::WrongReceipt
            | Self::ReceiptOverVoucher
            | Self::WrongCost { .. }
            | Self::Overcounted { .. } => Code::WrongReceipt,
            Self::Overflow => Code::Overflow,
        }
    }
}

/// Why a budget refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// No such key.
    #[error("the API key is unknown or was removed")]
    UnknownKey,
    /// Over the limit.
    #[error(
        "{needed} credits must be held, the key has {room} left of its limit of {limit}; raise the limit"
    )]
    Exceeded {
        /// What must be held in addition.
        needed: Amount,
        /// What is left.
        room: Amount,
        /// The key's limit.
        limit: Amount,
    },
    /// A limit below what is spent and held.
    #[error("the limit cannot be below {least} credits, which are spent or held")]
    LimitTooLow {
        /// The lowest possible limit.
        least: Amount,
    },
    /// Spent more than held, or going back.
    #[error("a lane's spending only rises, and never above what is held for it")]
    Inconsistent,
    /// The key still holds something.
    #[error("the key still holds {held} credits; wait for its requests to end")]
    InUse {
        /// What it holds.
        held: Amount,
    },
    /// An amount does not fit.
    #[error("an amount does not fit")]
    Overflow,
}

impl BudgetError {
    /// A stable code.
    pub const fn code(self) -> Code {
        match self {
            Self::UnknownKey | Self::LimitTooLow { .. } | Self::Inconsistent => Code::InvalidPayload,
            Self::Exceeded { .. } => Code::BudgetExceeded,
            Self::InUse { .. } => Code::NotReady,
            Self::Overflow => Code::Overflow,
        }
    }
}

/// A log that does not rebuild a machine. The log is wrong, or of another channel: it must not be
/// used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No records, or the first does not open the channel.
    #[error("the log does not begin with the opening of the channel")]
    NotOpened,
    /// Opened twice.
    #[error("record {index} opens the channel again")]
    OpenedTwice {
        /// Position, from 0.
        index: u64,
    },
    /// A record that does not follow from the ones before it.
    #[error("record {index} does not follow from the records before it: {reason}")]
    Broken {
        /// Position, from 0.
        index: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Bytes that are no record.
    #[error("record {index} does not decode")]
    Undecodable {
        /// Position, from 0.
        index: u64,
    },
    /// The channel's keys are not usable.
    #[error("a key of the channel is not a usable ed25519 public key")]
    BadKey,
    /// The secret key given is not the channel's.
    #[error("the secret key is not the channel's")]
    WrongKey,
    /// A signature in the log does not verify.
    #[error("a signature on lane {lane} does not verify")]
    BadSignature {
        /// The lane.
        lane: u32,
    },
}
