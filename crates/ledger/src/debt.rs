//! Fees that a newcomer owes. Who has no credits yet can register as a processor, post an offer and
//! settle what it earned all the same: the fees are noted, and taken from its earnings before it gets
//! any of them.
//!
//! Somebody must begin to owe with its first transaction, which registers it as a processor; only so
//! many accounts may on one day, and each may owe only so much (the genesis says how many, and how
//! much). So this cannot be used to fill the ledger for nothing. A debt that was paid is over, and does
//! not come back.

use crate::{
    executor::Context,
    genesis::Rules,
    invalid::Fault,
    keys,
    overlay::Overlay,
    params::DAY_MS,
    posting::{Side, post},
    record::{Debt, Issuer, Newcomers},
    tx::{Stop, Transaction},
};
use gristmill_types::{AccountId, Amount, ChannelId};

/// Whether a sender may owe the fee of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owing {
    /// It may not.
    Never,
    /// It may owe more, if it owes already.
    More,
    /// It may, and it may begin to.
    Begin,
}

/// Notes the fee as owed by the sender. Says whether it may be.
pub(crate) fn owe(
    overlay: &mut Overlay<'_>,
    tx: &Transaction,
    rules: &Rules,
    context: &Context,
    fee: Amount,
) -> Result<bool, Fault> {
    let owing = tx.body.action().owing(tx);
    if owing == Owing::Never {
        return Ok(false);
    }
    let key = keys::debt(&tx.sender);
    let (account, issuer, creditor) = (tx.sender, tx.fee_issuer, rules.fee_account);
    let before = match overlay.get::<Debt>(&key)? {
        Some(debt) if debt.issuer != issuer => return Ok(false),
        Some(debt) => debt.amount,
        None if owing == Owing::Begin && begin(overlay, rules, context, &issuer)? => Amount::ZERO,
        None => return Ok(false),
    };
    match before.checked_add(fee).filter(|sum| *sum <= rules.params.newcomer_debt) {
        Some(amount) => overlay.put(&key, Debt { account, issuer, amount, creditor }).map(|()| true),
        None => Ok(false),
    }
}

/// Takes one of the day's places, if there is one.
fn begin(
    overlay: &mut Overlay<'_>,
    rules: &Rules,
    context: &Context,
    issuer: &AccountId,
) -> Result<bool, Fault> {
    if overlay.get::<Issuer>(&keys::issuer(issuer))?.is_none() {
        return Ok(false);
    }
    let today = context.time_ms.checked_div(DAY_MS).ok_or(Fault::Range)?;
    let known = overlay.get::<Newcomers>(&keys::newcomers())?;
    let count = known.filter(|known| known.day == today).map_or(0, |known| known.count);
    if count >= rules.params.newcomers_per_day {
        return Ok(false);
    }
    let count = count.checked_add(1).ok_or(Fault::Range)?;
    overlay.put(&keys::newcomers(), Newcomers { day: today, count })?;
    Ok(true)
}

/// Pays what the account owes in these credits out of `earned`, which the channel holds for it. Says
/// how much that was.
pub(crate) fn repay(
    overlay: &mut Overlay<'_>,
    account: &AccountId,
    issuer: &AccountId,
    channel: &ChannelId,
    earned: Amount,
) -> Result<Amount, Stop> {
    let key = keys::debt(account);
    let Some(debt) = overlay.get::<Debt>(&key)?.filter(|debt| debt.issuer == *issuer) else {
        return Ok(Amount::ZERO);
    };
    let part = debt.amount.min(earned);
    let rest = debt.amount.checked_sub(part).ok_or(Fault::Range)?;
    post(overlay, issuer, Side::Channel(channel), Side::Account(&debt.creditor), part)?;
    if rest.is_zero() {
        overlay.remove(&key)?;
    } else {
        overlay.put(&key, Debt { amount: rest, ..debt })?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Event, Invalid, Rejection,
        params::Params,
        tx::{OpenChannel, PostOffer, RegisterProcessor, Settle, Transfer, WithdrawOffer},
        world::*,
    };
    use gristmill_types::{ChannelTerms, Prices, Signed};
    use std::sync::Arc;

    fn register() -> RegisterProcessor {
        RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] }
    }

    fn offer() -> PostOffer {
        PostOffer { model: MODEL, prices: Prices::default(), issuers: vec![id(ISSUER)] }
    }

    fn owed(world: &World, number: u8) -> Option<u128> {
        world.get::<Debt>(&keys::debt(&id(number))).map(|debt| debt.amount.grains())
    }

    /// The payload's fee is owed.
    fn owes(world: &mut World, body: impl Into<crate::Body>) -> Vec<Event> {
        let outcome = world.run(world.sign(POOR, body)).unwrap();
        assert!(outcome.owed && outcome.rejection.is_none(), "{outcome:?}");
        outcome.events
    }

    fn cannot_pay(world: &mut World, sender: u8, body: impl Into<crate::Body>) {
        let result = world.run(world.sign(sender, body));
        assert!(matches!(result, Err(Invalid::CannotPayFee { .. })), "{result:?}");
    }

    /// A world with little room for debts.
    fn world(newcomers_per_day: u32, newcomer_debt: u128) -> World {
        let mut world = World::with_models();
        let rules = (*world.rules).clone();
        let newcomer_debt = grains(newcomer_debt);
        let params = Params { newcomers_per_day, newcomer_debt, ..rules.params.clone() };
        world.rules = Arc::new(Rules { params, ..rules });
        world
    }

    fn channel(world: &mut World) -> ChannelTerms {
        let terms = world.terms(PAYER, POOR);
        world.must(PAYER, OpenChannel { terms, deposit: grains(1_000) });
        terms
    }

    #[test]
    fn a_newcomer_registers_sells_and_is_paid() {
        let mut world = world(10, 1_000);
        owes(&mut world, register());
        owes(&mut world, offer());
        assert_eq!(owed(&world, POOR), Some(2 * FEE));
        let terms = channel(&mut world);
        let treasury = world.balance(TREASURY);
        let settle = |seq, amount| Settle {
            terms,
            claims: vec![approval(claim(&terms, 0, seq, amount))],
            floor: None,
        };
        // The first earning does not even cover what is owed.
        let events = owes(&mut world, settle(1, 20));
        let [Event::ClaimPaid { earned, owed: paid, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((earned.grains(), paid.grains()), (18, 18));
        assert_eq!((owed(&world, POOR), world.balance(POOR)), (Some(3 * FEE - 18), 0));
        owes(&mut world, settle(2, 220));
        assert_eq!((owed(&world, POOR), world.balance(POOR)), (None, 180 - 22));
        assert_eq!(world.balance(TREASURY), treasury + 4 * FEE);
        // From now on it pays like everybody.
        world.must(POOR, settle(3, 240));
        let amount = grains(world.balance(POOR) - FEE);
        world.must(POOR, Transfer { to: id(PAYER), issuer: id(ISSUER), amount });
        cannot_pay(&mut world, POOR, settle(4, 300));
    }

    #[test]
    fn only_what_a_newcomer_needs_and_only_so_much() {
        let mut world = world(10, 3 * FEE);
        cannot_pay(&mut world, POOR, offer());
        cannot_pay(&mut world, POOR, WithdrawOffer { model: MODEL });
        owes(&mut world, register());
        let refused = world.run(world.sign(POOR, WithdrawOffer { model: MODEL }));
        assert!(matches!(refused, Err(Invalid::CannotPayFee { .. })));
        // An offer that could not earn what is owed.
        cannot_pay(&mut world, POOR, PostOffer { issuers: vec![id(OTHER_ISSUER)], ..offer() });
        // Owed in one issuer's credits only.
        let mut tx = world.sign(POOR, register()).body;
        tx.fee_issuer = id(OTHER_ISSUER);
        let tx = Signed::sign(tx, &key(POOR));
        assert!(matches!(world.run(tx), Err(Invalid::CannotPayFee { .. })));
        // A rejected transaction is owed for, too.
        let outcome = world.run(world.sign(POOR, PostOffer { model: ModelId::new([77; 32]), ..offer() }));
        assert_eq!(outcome.unwrap().rejection, Some(Rejection::UnknownModel));
        owes(&mut world, offer());
        assert_eq!(owed(&world, POOR), Some(3 * FEE));
        cannot_pay(&mut world, POOR, offer());
        let params = Params { newcomer_debt: grains(1_000), ..world.rules.params.clone() };
        world.rules = Arc::new(Rules { params, ..(*world.rules).clone() });
        // A second offer has to be earned first.
        let second = PostOffer { model: FOREIGN, ..offer() };
        let outcome = world.run(world.sign(POOR, second)).unwrap();
        assert_eq!(outcome.rejection, Some(Rejection::OwesFees));
        // Somebody else's channel is not the sender's earning.
        let terms = world.terms(PAYER, PAYEE);
        world.must(PAYER, OpenChannel { terms, deposit: grains(1_000) });
        let item = with_receipt(approval(claim(&terms, 0, 1, 100)), receipt(&terms, 0, 1, 100));
        cannot_pay(&mut world, POOR, Settle { terms, claims: vec![item], floor: None });
    }

    #[test]
    fn so_many_on_one_day() {
        let mut world = world(1, 1_000);
        // In credits of nobody it would never be paid.
        let mut tx = world.sign(9, register()).body;
        tx.fee_issuer = id(STRANGER);
        assert!(world.run(Signed::sign(tx, &key(9))).is_err());
        owes(&mut world, register());
        cannot_pay(&mut world, 9, register());
        // Those who have credits are not counted.
        world.must(PAYEE, register());
        world.wait(DAY_MS);
        assert!(world.run(world.sign(9, register())).unwrap().owed);
        cannot_pay(&mut world, 10, register());
        let count: Newcomers = world.get(&keys::newcomers()).unwrap();
        assert_eq!((count.day, count.count), (1, 1));
    }

    #[test]
    fn earnings_in_other_credits_pay_nothing() {
        let mut world = world(10, 1_000);
        owes(&mut world, register());
        let mut terms = world.terms(PAYER, POOR);
        terms.issuer = id(OTHER_ISSUER);
        let deposit = crate::tx::Mint { deposit: Digest::new([1; 32]), to: id(PAYER), amount: grains(5_000) };
        world.must(PAYER, Transfer { to: id(OTHER_ISSUER), issuer: id(ISSUER), amount: grains(1_000) });
        world.must(OTHER_ISSUER, deposit);
        terms.open_nonce = world.nonce(&id(PAYER));
        world.must(PAYER, OpenChannel { terms, deposit: grains(1_000) });
        let settle = Settle { terms, claims: vec![approval(claim(&terms, 0, 1, 100))], floor: None };
        // Its fee could not come out of it, so it is not owed for.
        cannot_pay(&mut world, POOR, settle.clone());
        let mut tx = world.sign(POOR, settle.clone()).body;
        tx.fee_issuer = id(OTHER_ISSUER);
        assert!(matches!(world.run(Signed::sign(tx, &key(POOR))), Err(Invalid::CannotPayFee { .. })));
        let Settle { claims, .. } = settle;
        let claims = claims.into_iter().map(|item| with_receipt(item, receipt(&terms, 0, 1, 100))).collect();
        let events = world.must(PAYER, Settle { terms, claims, floor: None });
        let [Event::ClaimPaid { owed: paid, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(*paid, Amount::ZERO);
        assert_eq!((world.balance_of(POOR, OTHER_ISSUER), owed(&world, POOR)), (90, Some(FEE)));
    }

    use gristmill_types::{Digest, ModelId};
}
