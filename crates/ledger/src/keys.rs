//! Every place in the state. A key is SHA-256 over the kind of the record (one byte, its codec tag)
//! and the parts that name it, all of fixed length, so no two records can share a key.

use crate::record::tag;
use gristmill_types::{AccountId, ChannelId, Digest, LineId, ModelId, StateKey, sha256};

fn key(tag: u8, parts: [&[u8]; 3]) -> StateKey {
    let [first, second, third] = parts;
    sha256(&[&[tag], first, second, third]).into()
}

/// The line with this name. Names are unique because the id is the name's hash.
pub fn line_id(name: &str) -> LineId {
    sha256(&[b"gristmill/line/v1", name.as_bytes()]).into()
}

/// An account's nonce.
pub fn account(account: &AccountId) -> StateKey {
    key(tag::ACCOUNT, [account.as_ref(), &[], &[]])
}

/// What an account holds of an issuer's credits.
pub fn balance(account: &AccountId, issuer: &AccountId) -> StateKey {
    key(tag::BALANCE, [account.as_ref(), issuer.as_ref(), &[]])
}

/// An issuer, its limits and its supply.
pub fn issuer(issuer: &AccountId) -> StateKey {
    key(tag::ISSUER, [issuer.as_ref(), &[], &[]])
}

/// A deposit that was minted for.
pub fn deposit(issuer: &AccountId, deposit: &Digest) -> StateKey {
    key(tag::DEPOSIT, [issuer.as_ref(), deposit.as_ref(), &[]])
}

/// A processor.
pub fn processor(processor: &AccountId) -> StateKey {
    key(tag::PROCESSOR, [processor.as_ref(), &[], &[]])
}

/// A processor's offer of a model version.
pub fn offer(processor: &AccountId, model: &ModelId) -> StateKey {
    key(tag::OFFER, [processor.as_ref(), model.as_ref(), &[]])
}

/// A model line.
pub fn line(line: &LineId) -> StateKey {
    key(tag::LINE, [line.as_ref(), &[], &[]])
}

/// A model version.
pub fn model(model: &ModelId) -> StateKey {
    key(tag::MODEL, [model.as_ref(), &[], &[]])
}

/// An account's shares in a line.
pub fn shares(line: &LineId, holder: &AccountId) -> StateKey {
    key(tag::SHARES, [line.as_ref(), holder.as_ref(), &[]])
}

/// A line's royalties in an issuer's credits.
pub fn pool(line: &LineId, issuer: &AccountId) -> StateKey {
    key(tag::POOL, [line.as_ref(), issuer.as_ref(), &[]])
}

/// How many pools a line has.
pub fn line_pools(line: &LineId) -> StateKey {
    key(tag::LINE_POOLS, [line.as_ref(), &[], &[]])
}

/// How far a holder has drawn from a pool.
pub fn accrual(line: &LineId, issuer: &AccountId, holder: &AccountId) -> StateKey {
    key(tag::ACCRUAL, [line.as_ref(), issuer.as_ref(), holder.as_ref()])
}

/// A channel.
pub fn channel(channel: &ChannelId) -> StateKey {
    key(tag::CHANNEL, [channel.as_ref(), &[], &[]])
}

/// A lane of a channel.
pub fn lane(channel: &ChannelId, lane: u32) -> StateKey {
    key(tag::LANE, [channel.as_ref(), &lane.to_be_bytes(), &[]])
}

/// A key that spends from an account.
pub fn spending_key(owner: &AccountId, spender: &AccountId) -> StateKey {
    key(tag::SPENDING_KEY, [owner.as_ref(), spender.as_ref(), &[]])
}

/// Credits to be redeemed.
pub fn redemption(holder: &AccountId, number: u64) -> StateKey {
    key(tag::REDEMPTION, [holder.as_ref(), &number.to_be_bytes(), &[]])
}

/// What an issuer last said about its reserve.
pub fn reserve(issuer: &AccountId) -> StateKey {
    key(tag::RESERVE, [issuer.as_ref(), &[], &[]])
}

/// A publication to come.
pub fn commitment(publisher: &AccountId, commitment: &Digest) -> StateKey {
    key(tag::COMMITMENT, [publisher.as_ref(), commitment.as_ref(), &[]])
}

/// Fees that an account owes.
pub fn debt(account: &AccountId) -> StateKey {
    key(tag::DEBT, [account.as_ref(), &[], &[]])
}

/// The newcomers of a day.
pub fn newcomers() -> StateKey {
    key(tag::NEWCOMERS, [&[], &[], &[]])
}

/// A processor's bond.
pub fn bond(processor: &AccountId, issuer: &AccountId) -> StateKey {
    key(tag::BOND, [processor.as_ref(), issuer.as_ref(), &[]])
}

/// The latest deadline that was ever set.
pub fn deadlines() -> StateKey {
    key(tag::DEADLINES, [&[], &[], &[]])
}
