//! State values. Every record describes itself: its key follows from its content, so that a scan of
//! the whole state can check everything, and a proof of a record needs no explanation.

use crate::{keys, u128_text};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{
    AccountId, Amount, ChannelTerms, Digest, LineId, ModelId, Prices, QuoteHash, StateKey, Usage,
};
use serde::{Deserialize, Serialize};

/// Codec tags of the records: append-only, never reused.
pub(crate) mod tag {
    pub(crate) const ACCOUNT: u8 = 0;
    pub(crate) const BALANCE: u8 = 1;
    pub(crate) const ISSUER: u8 = 2;
    pub(crate) const DEPOSIT: u8 = 3;
    pub(crate) const PROCESSOR: u8 = 4;
    pub(crate) const OFFER: u8 = 5;
    pub(crate) const LINE: u8 = 6;
    pub(crate) const MODEL: u8 = 7;
    pub(crate) const SHARES: u8 = 8;
    pub(crate) const POOL: u8 = 9;
    pub(crate) const ACCRUAL: u8 = 10;
    pub(crate) const CHANNEL: u8 = 11;
    pub(crate) const LANE: u8 = 12;
    pub(crate) const DEADLINES: u8 = 13;
    pub(crate) const LINE_POOLS: u8 = 14;
    pub(crate) const SPENDING_KEY: u8 = 15;
    pub(crate) const REDEMPTION: u8 = 16;
    pub(crate) const RESERVE: u8 = 17;
    pub(crate) const COMMITMENT: u8 = 18;
    pub(crate) const DEBT: u8 = 19;
    pub(crate) const NEWCOMERS: u8 = 20;
    pub(crate) const BOND: u8 = 21;
}

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
    )*};
}

structs! {
    /// An account that has sent a transaction.
    Account {
        /// The account.
        account: AccountId,
        /// The nonce of its next transaction.
        nonce: u64,
    }

    /// What an account holds of one issuer's credits. Never zero: an empty balance has no record.
    Balance {
        /// The holder.
        account: AccountId,
        /// Whose credits.
        issuer: AccountId,
        /// How much.
        amount: Amount,
    }

    /// An issuer: its limits, and all that it ever brought into being and took back.
    Issuer {
        /// The issuer's account.
        issuer: AccountId,
        /// Its name.
        name: String,
        /// The most that may be outstanding.
        cap: Amount,
        /// The most that may be minted on one day (UTC, by block time).
        daily_limit: Amount,
        /// Outstanding at genesis.
        genesis: Amount,
        /// Minted since, in all.
        minted: Amount,
        /// Burned since, in all.
        burned: Amount,
        /// The day of the last mint, in days since 1970.
        day: u64,
        /// Minted on that day.
        minted_on_day: Amount,
    }

    /// A deposit of money for which credits were minted. It can be minted for only once.
    Deposit {
        /// Who minted.
        issuer: AccountId,
        /// The issuer's id of the deposit.
        deposit: Digest,
        /// Who received the credits.
        to: AccountId,
        /// How much.
        amount: Amount,
        /// Block time of the mint.
        time_ms: u64,
    }

    /// A processor.
    Processor {
        /// Its account: where it is paid.
        processor: AccountId,
        /// The key of its serving side, which signs receipts.
        receipt_key: AccountId,
        /// Where it answers.
        endpoints: Vec<String>,
        /// How many offers it has posted.
        offers: u16,
        /// Block time of the last registration.
        time_ms: u64,
    }

    /// A processor's offer of one model version.
    Offer {
        /// Who offers.
        processor: AccountId,
        /// What.
        model: ModelId,
        /// At what price. Informative: the signed quote alone binds.
        prices: Prices,
        /// Whose credits are accepted.
        issuers: Vec<AccountId>,
        /// Block time of the posting.
        time_ms: u64,
    }

    /// A model line: all versions under one name.
    Line {
        /// Its id, the hash of its name.
        line: LineId,
        /// Its name, unique on the ledger.
        name: String,
        /// Who may publish versions; nobody for a foreign model.
        owner: Option<AccountId>,
        /// How many versions it has.
        versions: u32,
        /// The newest.
        latest: ModelId,
    }

    /// A model version. It never changes: royalty and licence are what they were when it appeared.
    Model {
        /// Its id, the hash of its manifest.
        model: ModelId,
        /// The line that it belongs to.
        line: LineId,
        /// The line's name.
        name: String,
        /// Its number in the line, from 1.
        version: u32,
        /// Who put it on the ledger.
        publisher: AccountId,
        /// Whether these are known public weights that nobody owns here.
        foreign: bool,
        /// The licence, as an SPDX expression.
        licence: String,
        /// What every payment for it gives away, in basis points: the parts of all lines together.
        royalty_bps: u16,
        /// The versions that it was made from.
        parents: Vec<ModelId>,
        /// Whom that goes to: first the lines of its parents, then its own. None with a part of 0.
        royalties: Vec<RoyaltyPart>,
        /// The tokenizer, by content.
        tokenizer: Digest,
        /// What an engine must be able to run, for example `llama-f32`.
        engine: String,
        /// Bytes of all its files.
        size_bytes: u64,
        /// Block time of the publication.
        time_ms: u64,
    }

    /// An account's shares in a line, of [`params::SHARES`](crate::params::SHARES).
    Shares {
        /// The line.
        line: LineId,
        /// Who holds them.
        holder: AccountId,
        /// How many.
        shares: u64,
    }

    /// A line's royalties in one issuer's credits.
    Pool {
        /// The line.
        line: LineId,
        /// Whose credits.
        issuer: AccountId,
        /// What is in it.
        balance: Amount,
        /// Grains that one share has earned since the beginning, times 2⁶⁴.
        #[serde(with = "u128_text")]
        index: u128,
        /// What the last division left over, below the number of shares.
        remainder: u64,
    }

    /// How many pools a line has: one for each issuer in whose credits it was ever paid.
    LinePools {
        /// The line.
        line: LineId,
        /// How many.
        count: u16,
    }

    /// A key that may spend up to a limit on channels of its owner. There is no record once it is
    /// revoked.
    SpendingKey {
        /// Whose account it spends from.
        owner: AccountId,
        /// The key, which is an account of its own by its nonce.
        key: AccountId,
        /// In whose credits.
        issuer: AccountId,
        /// The most that it may ever spend.
        limit: Amount,
        /// Spent on deposits and fees so far; refunds do not lower it.
        spent: Amount,
    }

    /// Credits that wait for their issuer to pay money for them. They exist until it has.
    Redemption {
        /// Who wants the money.
        holder: AccountId,
        /// The nonce of the holder's request, which names it.
        number: u64,
        /// Whose credits.
        issuer: AccountId,
        /// How much.
        amount: Amount,
        /// What holder and issuer know it by.
        reference: String,
        /// Block time from which the holder may take the credits back.
        deadline_ms: u64,
    }

    /// What an issuer last said about the money behind its credits.
    Reserve {
        /// The issuer.
        issuer: AccountId,
        /// How much there is, as credits.
        amount: Amount,
        /// At the end of which day, in days since 1970 (UTC).
        day: u64,
        /// The hash of the document that says so.
        document: Digest,
        /// Block time of the statement.
        time_ms: u64,
    }

    /// The word of somebody who will publish a version. It is gone when that is published.
    Commitment {
        /// Whose.
        publisher: AccountId,
        /// The hash of publisher, version and a salt.
        commitment: Digest,
        /// The block that it was last made in.
        height: u64,
    }

    /// Fees that a newcomer owes, to be taken from what it earns. There is no record once it has paid.
    Debt {
        /// Who owes.
        account: AccountId,
        /// In whose credits.
        issuer: AccountId,
        /// How much.
        amount: Amount,
        /// To whom.
        creditor: AccountId,
    }

    /// How many newcomers began to owe on the latest day.
    Newcomers {
        /// The day, in days since 1970 (UTC, by block time).
        day: u64,
        /// How many.
        count: u32,
    }

    /// A processor's bond in one issuer's credits.
    Bond {
        /// Whose.
        processor: AccountId,
        /// Whose credits.
        issuer: AccountId,
        /// What it holds.
        held: Amount,
        /// Up to how much is withheld from earnings.
        target: Amount,
        /// Which part of each earning is withheld, in basis points.
        withhold_bps: u16,
        /// Block time from which it can be withdrawn, once it was asked back.
        unbonding_ms: Option<u64>,
    }

    /// How far a holder has drawn from a pool.
    Accrual {
        /// The line.
        line: LineId,
        /// Whose credits.
        issuer: AccountId,
        /// Who.
        holder: AccountId,
        /// The pool's index when it last drew.
        #[serde(with = "u128_text")]
        index: u128,
        /// Part of a grain that it could not draw, times 2⁶⁴.
        fraction: u64,
    }

    /// A channel. It holds `deposit − settled − refunded`.
    Channel {
        /// What it is about; its id is their hash.
        terms: ChannelTerms,
        /// Where it is in its life.
        state: ChannelState,
        /// Put in by the payer, in all.
        deposit: Amount,
        /// Paid out in all, royalties included.
        settled: Amount,
        /// Given back to the payer.
        refunded: Amount,
        /// Lanes below it are unpayable.
        lane_floor: u32,
        /// Bit i: the lane `lane_floor + i` has a record.
        lanes: u64,
        /// Bit i: the lane `lane_floor + i` has a pending claim.
        pending: u64,
    }

    /// A lane that was claimed on.
    Lane {
        /// The channel.
        channel: gristmill_types::ChannelId,
        /// The lane within it.
        lane: u32,
        /// The model version that the first claim named.
        model: ModelId,
        /// The quote that the first claim named.
        quote: QuoteHash,
        /// The model's royalties.
        royalties: Vec<RoyaltyPart>,
        /// Paid out in all, royalties included.
        paid: Amount,
        /// Claims up to this number can pay nothing more.
        seq: u64,
        /// The use that was paid for.
        usage: Usage,
        /// A claim that waits for its deadline.
        pending: Option<Pending>,
    }

    /// A claim without the payer's co-signature, within its time of contest.
    Pending {
        /// The voucher's number.
        seq: u64,
        /// What the voucher promised, cumulative.
        amount: Amount,
        /// The use that it covers, cumulative.
        usage: Usage,
        /// The payee's own word that it is less.
        cap: Option<Cap>,
        /// Ledger time at which it can be paid out.
        deadline_ms: u64,
        /// Whether the payee submitted it.
        by_payee: bool,
    }

    /// A receipt that was shown against a pending claim.
    Cap {
        /// The receipt's number: claims up to it are worth no more than `spent`.
        seq: u64,
        /// Spent on the lane, cumulative.
        spent: Amount,
        /// Used on the lane, cumulative.
        usage: Usage,
    }

    /// The latest deadline that was ever set. While ledger time is before it, an idle ledger goes
    /// on making blocks, so that the deadline comes.
    Deadlines {
        /// Ledger time of it.
        latest_ms: u64,
    }
}

/// A line's part of the payments for a model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RoyaltyPart {
    /// The line.
    pub line: LineId,
    /// In basis points.
    pub bps: u16,
}

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[borsh(use_discriminant = true)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[repr(u8)]
pub enum ChannelState {
    /// In use.
    Open = 0,
    /// The payer asked to close.
    Closing {
        /// Ledger time from which no claim is taken and anyone may close.
        deadline_ms: u64,
    } = 1,
    /// Over; it holds nothing.
    Closed = 2,
}

/// A type that is kept in the state.
pub trait Stored: Sized {
    /// This type's part of a record, if the record is of this kind.
    fn of(record: &Record) -> Option<&Self>;
    /// As a record.
    fn into_record(self) -> Record;
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident($kept:ty) = $tag:expr,)*) => {
        /// A state value.
        #[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        #[borsh(use_discriminant = true)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Record {
            $($(#[$doc])* $name($kept) = $tag,)*
        }

        $(impl Stored for $name {
            fn of(record: &Record) -> Option<&Self> {
                #[allow(clippy::wildcard_enum_match_arm)] // "any other kind" is what is meant
                match record {
                    Record::$name(kept) => Some(kept),
                    _ => None,
                }
            }

            fn into_record(self) -> Record {
                Record::$name(self.into())
            }
        })*
    };
}

// Rare or large kinds are boxed, so that balances, which every transaction touches, stay small.
records! {
    /// A nonce.
    Account(Account) = tag::ACCOUNT,
    /// A balance.
    Balance(Balance) = tag::BALANCE,
    /// An issuer.
    Issuer(Box<Issuer>) = tag::ISSUER,
    /// A deposit that was minted for.
    Deposit(Box<Deposit>) = tag::DEPOSIT,
    /// A processor.
    Processor(Box<Processor>) = tag::PROCESSOR,
    /// An offer.
    Offer(Box<Offer>) = tag::OFFER,
    /// A model line.
    Line(Box<Line>) = tag::LINE,
    /// A model version.
    Model(Box<Model>) = tag::MODEL,
    /// A holder's shares.
    Shares(Shares) = tag::SHARES,
    /// A royalty pool.
    Pool(Box<Pool>) = tag::POOL,
    /// How far a holder has drawn.
    Accrual(Box<Accrual>) = tag::ACCRUAL,
    /// A channel.
    Channel(Box<Channel>) = tag::CHANNEL,
    /// A lane.
    Lane(Box<Lane>) = tag::LANE,
    /// The latest deadline.
    Deadlines(Deadlines) = tag::DEADLINES,
    /// How many pools a line has.
    LinePools(LinePools) = tag::LINE_POOLS,
    /// A spending key.
    SpendingKey(Box<SpendingKey>) = tag::SPENDING_KEY,
    /// Credits to be redeemed.
    Redemption(Box<Redemption>) = tag::REDEMPTION,
    /// An issuer's statement of its reserve.
    Reserve(Box<Reserve>) = tag::RESERVE,
    /// A publication to come.
    Commitment(Box<Commitment>) = tag::COMMITMENT,
    /// Fees that are owed.
    Debt(Box<Debt>) = tag::DEBT,
    /// The newcomers of a day.
    Newcomers(Newcomers) = tag::NEWCOMERS,
    /// A bond.
    Bond(Box<Bond>) = tag::BOND,
}

impl Record {
    /// Where it stands in the state.
    pub fn key(&self) -> StateKey {
        match self {
            Self::Account(r) => keys::account(&r.account),
            Self::Balance(r) => keys::balance(&r.account, &r.issuer),
            Self::Issuer(r) => keys::issuer(&r.issuer),
            Self::Deposit(r) => keys::deposit(&r.issuer, &r.deposit),
            Self::Processor(r) => keys::processor(&r.processor),
            Self::Offer(r) => keys::offer(&r.processor, &r.model),
            Self::Line(r) => keys::line(&r.line),
            Self::Model(r) => keys::model(&r.model),
            Self::Shares(r) => keys::shares(&r.line, &r.holder),
            Self::Pool(r) => keys::pool(&r.line, &r.issuer),
            Self::Accrual(r) => keys::accrual(&r.line, &r.issuer, &r.holder),
            Self::Channel(r) => keys::channel(&r.terms.id()),
            Self::Lane(r) => keys::lane(&r.channel, r.lane),
            Self::Deadlines(_) => keys::deadlines(),
            Self::LinePools(r) => keys::line_pools(&r.line),
            Self::SpendingKey(r) => keys::spending_key(&r.owner, &r.key),
            Self::Redemption(r) => keys::redemption(&r.holder, r.number),
            Self::Reserve(r) => keys::reserve(&r.issuer),
            Self::Commitment(r) => keys::commitment(&r.publisher, &r.commitment),
            Self::Debt(r) => keys::debt(&r.account),
            Self::Newcomers(_) => keys::newcomers(),
            Self::Bond(r) => keys::bond(&r.processor, &r.issuer),
        }
    }
}

impl Channel {
    /// What it holds.
    pub fn available(&self) -> Amount {
        self.deposit.saturating_sub(self.settled).saturating_sub(self.refunded)
    }

    /// The lanes that have a record, in order.
    pub fn open_lanes(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits(self.lanes)
    }

    /// The lanes that have a pending claim, in order.
    pub fn pending_lanes(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits(self.pending)
    }

    fn bits(&self, bits: u64) -> impl Iterator<Item = u32> + '_ {
        (0..u64::BITS)
            .filter(move |i| bits.checked_shr(*i).unwrap_or(0) & 1 == 1)
            .filter_map(|i| self.lane_floor.checked_add(i))
    }
}

impl Pending {
    /// What it is worth, cumulative: the promise, or less by the payee's own word.
    pub fn effective(&self) -> Amount {
        match &self.cap {
            Some(cap) => self.amount.min(cap.spent),
            None => self.amount,
        }
    }

    /// The highest number that it speaks for: a claim up to it is worth no more than this one.
    pub fn through(&self) -> u64 {
        match &self.cap {
            Some(cap) => self.seq.max(cap.seq),
            None => self.seq,
        }
    }

    /// The use that it stands for: by the payee's own word where there is one.
    pub fn used(&self) -> Usage {
        match &self.cap {
            Some(cap) => cap.usage,
            None => self.usage,
        }
    }
}

#[cfg(test)]
mod tests;
