//! Why a transaction that is in a block had no effect. The sender paid the fee; nothing else
//! happened.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

macro_rules! rejections {
    ($($name:ident = $code:literal: $text:literal,)*) => {
        /// Why a transaction had no effect. Numbers are append-only and never reused.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[borsh(use_discriminant = true)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Rejection {
            $(#[doc = $text] #[error($text)] $name = $code,)*
        }

        impl Rejection {
            /// Every rejection, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its number, stable for clients.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

rejections! {
    // Accounts.
    InsufficientBalance = 1: "the sender does not hold enough of this issuer's credits; buy some or send less",

    // Spending keys.
    NoSuchKey = 2: "the account has no such spending key; its owner authorises it first",
    KeyIssuer = 3: "the spending key is for another issuer's credits; name those, or authorise another key",
    OverKeyLimit = 4: "the spending key would have spent more than its limit; its owner raises the limit",

    // Issuance.
    NotIssuer = 10: "the sender is not an issuer; only accounts named by the federation mint and burn",
    DepositUsed = 11: "credits were already minted for this deposit; use the id of another deposit",
    OverCap = 12: "this would exceed the most that the issuer may have outstanding; burn first or mint less",
    OverDailyLimit = 13: "this would exceed the issuer's mint limit of the day; mint less or wait for the next day",
    NoSuchRedemption = 14: "there is no such redemption; it was paid or taken back, or the number is another",
    RedemptionNotDue = 15: "the issuer still has time to pay the redemption; take the credits back after its deadline",
    OtherIssuer = 16: "the redemption is of another issuer's credits; name that issuer, which alone pays it",
    ReserveInFuture = 17: "the statement is of a day that has not come; state the reserve of today or before",
    ReserveOlder = 18: "a later day's reserve was stated already; state the reserve of that day or a later one",

    // Processors.
    NotProcessor = 20: "the sender is not a registered processor; register first",
    UnknownIssuer = 21: "an account that is named as an issuer is none; name those of the genesis",
    TooManyOffers = 22: "the processor has as many offers as it may have; withdraw one first",
    NoSuchOffer = 23: "the processor offers no such model; there is nothing to withdraw",
    NoBond = 24: "the processor has no bond in these credits; post one first",
    Unbonding = 25: "the bond is on its way back; withdraw it after its deadline, then post another",
    NotUnbonding = 26: "the bond was not asked back; unbond first",
    UnbondingNotOver = 27: "the bond still answers for the processor; withdraw it after its deadline",
    BondTooLarge = 28: "a bond cannot hold as much; post less",
    OwesFees = 29: "the processor still owes its first fees; it posts a second offer when it has earned them",

    // Models.
    UnknownModel = 30: "no such model version is on the ledger; publish or register it first",
    ModelExists = 31: "this model version is already on the ledger; its content hash can be published once",
    NameTaken = 32: "a model line of this name exists; choose another name",
    NotLineOwner = 33: "only the owner of a model line publishes versions of it; choose another name",
    NoShares = 34: "the sender holds no shares of this model line",
    NothingToClaim = 35: "no whole grain has accrued to the sender since the last claim; claim later",
    PoolFull = 36: "the royalty pool of this line cannot count higher; use another issuer's credits",

    TooFewShares = 37: "the sender holds fewer shares of this model line; transfer at most what it holds",
    PoolsDiffer = 38: "the issuers named are not those in whose credits the line was ever paid; read its pools and name exactly those",
    NotCommitted = 39: "the sender did not commit to just this publication in an earlier block; commit first, and keep the salt",
    UnknownParent = 40: "a parent is not on the ledger; publish or register it first",
    RoyaltyBelowParents = 41: "the royalty is lower than what the parents' lines get; raise it to their sum at least, or name fewer parents where that is more than everything",
    TooManyRoyalties = 42: "more lines would share the royalty than may; name fewer parents",

    // Channels.
    UnknownChannel = 50: "there is no channel with these terms; check that the terms are those that it was opened with",
    ChannelClosed = 51: "the channel is closed; open another",
    ChannelClosing = 52: "the channel is closing, which cannot be undone; open another",
    ClosingOver = 53: "the time for claims on this closing channel is over",
    NotYetClosable = 54: "before the deadline only the payee closes a channel; request the close and wait for the deadline",
    ClaimsPending = 55: "a claim on this channel is pending; wait for its deadline and withdraw it first",
    LanesDiffer = 56: "the lanes named are not those that have a record; read the channel again and name exactly those",
    DepositTooLarge = 57: "the channel would have held more than a channel may; open another",

    ChannelExists = 58: "a channel with these terms was opened before; use another nonce or another voucher key",

    // Claims.
    LaneRetired = 60: "the lane is below the channel's floor and can no longer be paid; use a higher lane",
    LaneTooHigh = 61: "the lane is 64 or more above the channel's floor; the payee raises the floor first",
    LanePinned = 62: "the lane is pinned to another model or quote; use another lane",
    WrongLine = 63: "the claim names other lines than the model's royalties go to; look the model up",
    StaleClaim = 64: "a claim with this or a higher number was settled on the lane; claim with the latest voucher",
    NotHigher = 65: "the claim is worth no more than what was paid or is pending on the lane; claim with the latest voucher",
    UsageFell = 66: "the claim covers less use than was already paid for on the lane",
    OverDeposit = 67: "the claim exceeds what the channel still holds; the payer tops up first",
    HeldByPayee = 68: "the payee's own claim is pending on the lane; only the payee replaces it",
    NothingPending = 69: "no claim is pending on the lane",
    ReceiptTooOld = 70: "the receipt is older than the pending claim; show the receipt of that voucher or a later one",
    ReceiptChangesNothing = 71: "the receipt does not lower the pending claim; there is nothing to contest",
    ContestOver = 72: "the time to contest this claim is over",
    NotDue = 73: "the claim's deadline has not come; withdraw it later",
    FloorNotHigher = 74: "the channel's floor is already there or higher; it only rises",
}
