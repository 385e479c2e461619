//! `authorise_key`: the sender lets a key spend on channels, up to a limit. See `spending`.
//!
//! Authorising a key again changes its limit and keeps what it has spent, so that an owner raises a
//! limit without a moment in which the key starts anew.

use super::{Action, Events, Stop, Transaction, check_key};
use crate::{
    event::Event, executor::Context, genesis::Rules, invalid::Malformed, keys, overlay::Overlay,
    record::SpendingKey, rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Amount, StateKey};
use serde::{Deserialize, Serialize};

/// A key that may open, top up and request to close channels of the sender.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuthoriseKey {
    /// The key. It signs the vouchers of its channels, too.
    pub key: AccountId,
    /// In whose credits. It never changes.
    pub issuer: AccountId,
    /// The most that it may ever spend, deposits and fees together.
    pub limit: Amount,
}

impl Action for AuthoriseKey {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::spending_key(&tx.sender, &self.key));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.limit.is_zero() {
            return Err(Malformed::ZeroAmount);
        }
        if self.key == tx.sender {
            return Err(Malformed::ToSelf);
        }
        check_key(&self.key, "the spending key").map(drop)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let Self { key, issuer, limit } = *self;
        let name = keys::spending_key(&tx.sender, &key);
        let spent = match overlay.get::<SpendingKey>(&name)? {
            Some(known) if known.issuer != issuer => return Err(Rejection::KeyIssuer.into()),
            Some(known) => known.spent,
            None => Amount::ZERO,
        };
        overlay.put(&name, SpendingKey { owner: tx.sender, key, issuer, limit, spent })?;
        Ok(vec![Event::KeyAuthorised { owner: tx.sender, key, issuer, limit }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Invalid,
        tx::{CloseChannel, OpenChannel, RequestClose, TopUp, Transfer},
        world::*,
    };
    use gristmill_types::{ChannelTerms, Signed};

    fn authorise(limit: u128) -> AuthoriseKey {
        AuthoriseKey { key: id(VOUCHER_KEY), issuer: id(ISSUER), limit: grains(limit) }
    }

    fn world(limit: u128) -> World {
        let mut world = World::new();
        world.must(PAYER, authorise(limit));
        world
    }

    /// Terms of the channel that the spending key's next transaction opens.
    fn terms(world: &World) -> ChannelTerms {
        ChannelTerms { open_nonce: world.nonce(&id(VOUCHER_KEY)), ..world.terms(PAYER, PAYEE) }
    }

    fn open(world: &World, deposit: u128) -> OpenChannel {
        OpenChannel { terms: terms(world), deposit: grains(deposit) }
    }

    fn spent(world: &World) -> u128 {
        world.get::<SpendingKey>(&keys::spending_key(&id(PAYER), &id(VOUCHER_KEY))).unwrap().spent.grains()
    }

    #[test]
    fn spends_up_to_the_limit_and_no_further() {
        let mut world = world(1_000);
        let held = world.balance(PAYER);
        let terms = terms(&world);
        world.must(VOUCHER_KEY, open(&world, 500));
        assert_eq!((world.balance(PAYER), spent(&world)), (held - 500 - FEE, 500 + FEE));
        assert_eq!(world.channel(&terms).terms.payer, id(PAYER));
        // A refused one costs its fee, of the owner and of the limit.
        let top_up = |amount| TopUp { terms, amount: grains(amount) };
        let over = 1_000 - 500 - 2 * FEE + 1;
        assert_eq!(world.send(VOUCHER_KEY, top_up(over)), Err(Rejection::OverKeyLimit));
        assert_eq!((world.balance(PAYER), spent(&world)), (held - 500 - 2 * FEE, 500 + 2 * FEE));
        world.must(VOUCHER_KEY, top_up(over - 1 - 2 * FEE));
        assert_eq!(spent(&world), 1_000 - FEE);
        // What comes back is the owner's and restores nothing.
        let held = world.balance(PAYER);
        world.must(PAYEE, CloseChannel { terms, lanes: vec![] });
        assert!(world.balance(PAYER) > held);
        assert_eq!(spent(&world), 1_000 - FEE);
        assert_eq!(world.send(VOUCHER_KEY, RequestClose { terms }), Err(Rejection::ChannelClosed));
        let broke = world.run(world.sign(VOUCHER_KEY, RequestClose { terms }));
        assert_eq!(broke, Err(Invalid::SpendingKey { why: Rejection::OverKeyLimit }));
        // The owner raises the limit; what was spent stays spent.
        world.must(PAYER, authorise(2_000));
        assert_eq!(spent(&world), 1_000);
        world.must(VOUCHER_KEY, open(&world, 500));
        world.must(PAYER, authorise(1));
        let broke = world.run(world.sign(VOUCHER_KEY, open(&world, 500)));
        assert_eq!(broke, Err(Invalid::SpendingKey { why: Rejection::OverKeyLimit }));
    }

    #[test]
    fn the_owners_balance_is_the_other_limit() {
        let mut world = world(2 * START);
        assert_eq!(world.send(VOUCHER_KEY, open(&world, START)), Err(Rejection::InsufficientBalance));
        let rest = world.balance(PAYER);
        world.must(PAYER, Transfer { to: id(POOR), issuer: id(ISSUER), amount: grains(rest - FEE) });
        let broke = world.run(world.sign(VOUCHER_KEY, open(&world, 500)));
        assert_eq!(broke, Err(Invalid::CannotPayFee { fee: grains(FEE), issuer: id(ISSUER) }));
    }

    #[test]
    fn only_its_own_channels() {
        let mut world = world(10_000);
        let own = ChannelTerms { voucher_key: id(STRANGER), ..world.terms(PAYER, PAYEE) };
        world.must(PAYER, OpenChannel { terms: own, deposit: grains(500) });
        let payer = Malformed::Sender { who: "payer" };
        assert_eq!(world.malformed(VOUCHER_KEY, TopUp { terms: own, amount: grains(1) }), payer);
        assert_eq!(world.malformed(VOUCHER_KEY, RequestClose { terms: own }), payer);
        // The voucher key of a channel is nothing by itself: it must be authorised, by the payer.
        let other = ChannelTerms { payer: id(MODELER), ..terms(&world) };
        let unknown = Err(Invalid::SpendingKey { why: Rejection::NoSuchKey });
        assert_eq!(
            world.run(world.sign(VOUCHER_KEY, OpenChannel { terms: other, deposit: grains(500) })),
            unknown
        );
        assert_eq!(world.rejected(STRANGER, RequestClose { terms: own }), Rejection::NoSuchKey);
        // Its own account is empty: it can do nothing else.
        let transfer = Transfer { to: id(POOR), issuer: id(ISSUER), amount: grains(1) };
        let broke = world.run(world.sign(VOUCHER_KEY, transfer));
        assert!(matches!(broke, Err(Invalid::CannotPayFee { .. })));
        world.must(VOUCHER_KEY, open(&world, 500));
        let opened = ChannelTerms { open_nonce: 0, ..terms(&world) };
        world.must(VOUCHER_KEY, RequestClose { terms: opened });
    }

    #[test]
    fn one_issuers_credits() {
        let mut world = world(10_000);
        let other = ChannelTerms { issuer: id(OTHER_ISSUER), ..terms(&world) };
        let foreign = OpenChannel { terms: other, deposit: grains(500) };
        assert_eq!(world.send(VOUCHER_KEY, foreign), Err(Rejection::KeyIssuer));
        let mut tx = world.sign(VOUCHER_KEY, open(&world, 500)).body;
        tx.fee_issuer = id(OTHER_ISSUER);
        let foreign = Signed::sign(tx, &key(VOUCHER_KEY));
        assert_eq!(world.run(foreign), Err(Invalid::SpendingKey { why: Rejection::KeyIssuer }));
        let changed = AuthoriseKey { issuer: id(OTHER_ISSUER), ..authorise(5) };
        assert_eq!(world.rejected(PAYER, changed), Rejection::KeyIssuer);
    }

    #[test]
    fn the_same_channel_is_not_opened_twice() {
        let mut world = World::new();
        // The owner's second transaction and the key's second one have the same number.
        world.must(PAYER, authorise(100_000));
        let terms = world.terms(PAYER, PAYEE);
        world.must(PAYER, OpenChannel { terms, deposit: grains(500) });
        world.must(VOUCHER_KEY, open(&world, 500));
        assert_eq!(terms, self::terms(&world));
        assert_eq!(world.send(VOUCHER_KEY, open(&world, 700)), Err(Rejection::ChannelExists));
        assert_eq!(world.channel(&terms).deposit, grains(500));
    }

    #[test]
    fn malformed() {
        let mut world = World::new();
        assert_eq!(world.malformed(PAYER, authorise(0)), Malformed::ZeroAmount);
        assert_eq!(world.malformed(VOUCHER_KEY, authorise(1)), Malformed::ToSelf);
        let weak = AuthoriseKey { key: AccountId::new([0; 32]), ..authorise(1) };
        assert_eq!(world.malformed(PAYER, weak), Malformed::Key { what: "the spending key" });
    }
}
