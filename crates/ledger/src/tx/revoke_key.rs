//! `revoke_key`: a spending key ends at once, and its channels begin to close. See `spending`.
//!
//! The owner names the channels, so that all keys follow from the payload. It is not checked that it
//! names all of them: a key in the wrong hands could otherwise make every revocation fail by opening
//! one more. A channel that was left out keeps its deposit, and the owner requests its close itself.
//! A channel that is closing or closed already does not stop the revocation either.

use super::{Action, Events, Stop, Transaction, check_list};
use crate::{
    channel::{ChannelBook, check_terms},
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::MAX_KEY_CHANNELS,
    record::{ChannelState, SpendingKey},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// The end of a spending key of the sender.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RevokeKey {
    /// Which key.
    pub key: AccountId,
    /// Channels of the sender whose voucher key it is, at most 64, by ascending id.
    pub channels: Vec<ChannelTerms>,
}

impl Action for RevokeKey {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::spending_key(&tx.sender, &self.key));
        keys.push(keys::deadlines());
        keys.extend(self.channels.iter().map(|terms| keys::channel(&terms.id())));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_list(self.channels.iter().map(ChannelTerms::id), "channels", 0, MAX_KEY_CHANNELS)?;
        for terms in &self.channels {
            check_terms(terms, tx)?;
            if (terms.payer, terms.voucher_key) != (tx.sender, self.key) {
                return Err(Malformed::OtherKey);
            }
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let name = keys::spending_key(&tx.sender, &self.key);
        let known: SpendingKey = overlay.get(&name)?.ok_or(Rejection::NoSuchKey)?;
        overlay.remove(&name)?;
        let SpendingKey { owner, key, issuer, spent, .. } = known;
        let mut events = vec![Event::KeyRevoked { owner, key, issuer, spent }];
        for terms in &self.channels {
            let mut book = ChannelBook::open(overlay, context, terms)?;
            if book.channel()?.state == ChannelState::Open {
                book.request_close()?;
            }
            events.extend(book.into_events());
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Invalid,
        tx::{AuthoriseKey, CloseChannel, OpenChannel, RequestClose, Settle, TopUp},
        world::*,
    };

    /// Three channels that a spending key opened.
    fn world() -> (World, Vec<ChannelTerms>) {
        let mut world = World::with_models();
        let key = AuthoriseKey { key: id(VOUCHER_KEY), issuer: id(ISSUER), limit: grains(100_000) };
        world.must(PAYER, key);
        let mut channels = Vec::new();
        for open_nonce in 0..3 {
            let terms = ChannelTerms { open_nonce, ..world.terms(PAYER, PAYEE) };
            world.must(VOUCHER_KEY, OpenChannel { terms, deposit: grains(500) });
            channels.push(terms);
        }
        channels.sort_by_key(ChannelTerms::id);
        (world, channels)
    }

    fn revoke(channels: &[ChannelTerms]) -> RevokeKey {
        RevokeKey { key: id(VOUCHER_KEY), channels: channels.to_vec() }
    }

    #[test]
    fn stops_at_once_and_closes_what_is_open() {
        let (mut world, channels) = world();
        let [open, closing, closed] = channels[..] else { panic!("three") };
        world.must(VOUCHER_KEY, RequestClose { terms: closing });
        world.must(PAYEE, CloseChannel { terms: closed, lanes: vec![] });
        let before = world.channel(&closing).state;
        let deadline_ms = world.context.clock_ms + GRACE_MS;
        let events = world.must(PAYER, revoke(&channels));
        let (owner, key, issuer) = (id(PAYER), id(VOUCHER_KEY), id(ISSUER));
        let spent = grains(3 * 500 + 4 * FEE);
        let (channel, payer, payee) = (open.id(), open.payer, open.payee);
        let expected = [
            Event::KeyRevoked { owner, key, issuer, spent },
            Event::CloseRequested { channel, payer, payee, deadline_ms },
        ];
        assert_eq!(events, expected);
        assert_eq!(world.channel(&open).state, ChannelState::Closing { deadline_ms });
        assert_eq!(world.channel(&closing).state, before);
        assert_eq!(world.channel(&closed).state, ChannelState::Closed);
        let dead = Err(Invalid::SpendingKey { why: Rejection::NoSuchKey });
        let terms = ChannelTerms { open_nonce: world.nonce(&key), ..world.terms(PAYER, PAYEE) };
        assert_eq!(world.run(world.sign(VOUCHER_KEY, OpenChannel { terms, deposit: grains(500) })), dead);
        assert_eq!(world.run(world.sign(VOUCHER_KEY, TopUp { terms: open, amount: grains(1) })), dead);
        // The payee's claims are taken until the deadline, as after any request to close.
        let claims = vec![approval(claim(&open, 0, 1, 100))];
        world.must(PAYEE, Settle { terms: open, claims, floor: None });
        world.wait(GRACE_MS);
        world.must(STRANGER, CloseChannel { terms: open, lanes: vec![0] });
        assert_eq!(world.rejected(PAYER, revoke(&[])), Rejection::NoSuchKey);
    }

    #[test]
    fn a_channel_that_is_left_out_stays_the_owners() {
        let (mut world, channels) = world();
        world.must(PAYER, revoke(&channels[..2]));
        assert_eq!(world.channel(&channels[2]).state, ChannelState::Open);
        world.must(PAYER, RequestClose { terms: channels[2] });
        // A key that is authorised again starts with its nonce where it was, and nothing spent.
        let again = AuthoriseKey { key: id(VOUCHER_KEY), issuer: id(ISSUER), limit: grains(FEE) };
        world.must(PAYER, again);
        let name = keys::spending_key(&id(PAYER), &id(VOUCHER_KEY));
        assert_eq!(world.get::<SpendingKey>(&name).unwrap().spent, grains(0));
        assert_eq!(world.nonce(&id(VOUCHER_KEY)), 3);
    }

    #[test]
    fn refused() {
        let (mut world, channels) = world();
        assert_eq!(world.rejected(STRANGER, revoke(&[])), Rejection::NoSuchKey);
        let unknown = ChannelTerms { open_nonce: 9, ..channels[0] };
        assert_eq!(world.rejected(PAYER, revoke(&[unknown])), Rejection::UnknownChannel);
        for other in [
            ChannelTerms { voucher_key: id(STRANGER), ..channels[0] },
            ChannelTerms { payer: id(STRANGER), ..channels[0] },
        ] {
            assert_eq!(world.malformed(PAYER, revoke(&[other])), Malformed::OtherKey);
        }
        let double = revoke(&[channels[0], channels[0]]);
        assert_eq!(world.malformed(PAYER, double), Malformed::Unsorted { what: "channels" });
        let many = revoke(&[channels[0]; 65]);
        assert_eq!(world.malformed(PAYER, many), Malformed::Count { what: "channels", min: 0, max: 64 });
    }
}
