//! Spending keys: what a gateway holds instead of its owner's account key.
//!
//! A spending key is an ed25519 key with a nonce of its own, which sends transactions in its own
//! name. It may open channels of its owner's, top them up and request their close; its owner also pays
//! the fees with which it contests claims on them, pays those out that are due, and ends them. It can do
//! nothing else with what is its owner's. Its channels are those whose terms name the owner as the payer and the key itself
//! as the voucher key. So a channel's terms alone say whose money a transaction spends and under
//! which key, and the key that signs vouchers is the one that can be stopped.
//!
//! Deposits and fees come from the owner's balance and count against the key's limit, in one
//! issuer's credits. What comes back from a channel goes to the owner and does not count back. Since
//! every spending passes here before it is posted, spendings that race each other, of one key or
//! several, never exceed a limit: one of them is refused.

use crate::{
    invalid::Malformed,
    keys,
    overlay::Overlay,
    record::SpendingKey,
    rejection::Rejection,
    tx::{Stop, Transaction},
};
use gristmill_types::{AccountId, Amount, ChannelTerms};

/// Refuses a sender that is neither the payer nor, by the terms, its spending key.
pub(crate) fn check_payer(terms: &ChannelTerms, tx: &Transaction) -> Result<(), Malformed> {
    let may = tx.sender == terms.payer || tx.sender == terms.voucher_key;
    may.then_some(()).ok_or(Malformed::Sender { who: "payer" })
}

/// Counts what the sender spends of the payer's, if the sender is not the payer itself.
pub(crate) fn count(
    overlay: &mut Overlay<'_>,
    payer: &AccountId,
    sender: &AccountId,
    issuer: &AccountId,
    amount: Amount,
) -> Result<(), Stop> {
    if payer == sender {
        return Ok(());
    }
    let name = keys::spending_key(payer, sender);
    let key: SpendingKey = overlay.get(&name)?.ok_or(Rejection::NoSuchKey)?;
    if key.issuer != *issuer {
        return Err(Rejection::KeyIssuer.into());
    }
    let spent = key.spent.checked_add(amount).filter(|spent| *spent <= key.limit);
    let spent = spent.ok_or(Rejection::OverKeyLimit)?;
    overlay.put(&name, SpendingKey { spent, ..key })?;
    Ok(())
}
