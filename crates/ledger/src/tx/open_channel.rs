//! `open_channel`: the payer puts a deposit behind vouchers to one payee. See the protocol in
//! `channel`.

use super::{Action, Events, Stop, Transaction, check_key};
use crate::{
    channel::check_terms,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::MAX_DEPOSIT,
    posting::{Side, post},
    record::{Channel, ChannelState},
    rejection::Rejection,
    spending::{self, check_payer},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// A channel from the sender.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OpenChannel {
    /// What it is about. The payer is the sender, or the sender is the voucher key and a spending key
    /// of the payer's; `open_nonce` is this transaction's nonce.
    pub terms: ChannelTerms,
    /// How much the payer puts in.
    pub deposit: Amount,
}

impl Action for OpenChannel {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::channel(&self.terms.id()));
        keys.push(keys::balance(&self.terms.payer, &self.terms.issuer));
    }

    fn check(&self, tx: &Transaction, rules: &Rules) -> Result<(), Malformed> {
        let terms = &self.terms;
        check_terms(terms, tx)?;
        check_payer(terms, tx)?;
        if terms.open_nonce != tx.nonce {
            return Err(Malformed::OpenNonce);
        }
        if terms.payer == terms.payee {
            return Err(Malformed::ToSelf);
        }
        if !(rules.params.min_grace_ms..=rules.params.max_grace_ms).contains(&terms.grace_ms) {
            return Err(Malformed::OutOfBounds { what: "the grace period" });
        }
        if !(rules.params.min_deposit..=MAX_DEPOSIT).contains(&self.deposit) {
            return Err(Malformed::OutOfBounds { what: "the deposit" });
        }
        check_key(&terms.voucher_key, "the voucher key")?;
        check_key(&terms.receipt_key, "the receipt key").map(drop)
    }

    fn spends_on(&self) -> Option<&ChannelTerms> {
        Some(&self.terms)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let channel = self.terms.id();
        let record = Channel {
            terms: self.terms,
            state: ChannelState::Open,
            deposit: Amount::ZERO,
            settled: Amount::ZERO,
            refunded: Amount::ZERO,
            lane_floor: 0,
            lanes: 0,
            pending: 0,
        };
        // The payer and its spending key count from 0 both, so one may have opened it for the other.
        if overlay.get::<Channel>(&keys::channel(&channel))?.is_some() {
            return Err(Rejection::ChannelExists.into());
        }
        overlay.put(&keys::channel(&channel), record)?;
        let payer = self.terms.payer;
        spending::count(overlay, &payer, &tx.sender, &self.terms.issuer, self.deposit)?;
        let (from, to) = (Side::Account(&payer), Side::Channel(&channel));
        post(overlay, &self.terms.issuer, from, to, self.deposit)?;
        Ok(vec![Event::ChannelOpened { channel, terms: Box::new(self.terms), deposit: self.deposit }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;
    use gristmill_types::{AccountId, ChainId};

    #[test]
    fn opens() {
        let mut world = World::new();
        let terms = world.terms(PAYER, PAYEE);
        let events = world.must(PAYER, OpenChannel { terms, deposit: grains(500) });
        let channel = terms.id();
        assert_eq!(events, [Event::ChannelOpened { channel, terms: Box::new(terms), deposit: grains(500) }]);
        assert_eq!(world.balance(PAYER), START - 500 - FEE);
        let record = world.channel(&terms);
        assert_eq!(
            (record.deposit, record.available(), record.state),
            (grains(500), grains(500), ChannelState::Open)
        );
        // The same terms name a used nonce.
        assert_eq!(world.malformed(PAYER, OpenChannel { terms, deposit: grains(500) }), Malformed::OpenNonce);
    }

    #[test]
    fn refused() {
        let mut world = World::new();
        let good = world.terms(PAYER, PAYEE);
        let open = |terms, deposit| OpenChannel { terms, deposit: grains(deposit) };
        let range = &world.rules.params.clone();
        for (terms, deposit, error) in [
            (
                ChannelTerms { chain: ChainId::new([0; 32]), ..good },
                500,
                Malformed::Mismatch { what: "the channel's terms" },
            ),
            (ChannelTerms { payer: id(STRANGER), ..good }, 500, Malformed::Sender { who: "payer" }),
            (ChannelTerms { open_nonce: 1, ..good }, 500, Malformed::OpenNonce),
            (ChannelTerms { payee: id(PAYER), ..good }, 500, Malformed::ToSelf),
            (
                ChannelTerms { grace_ms: range.min_grace_ms - 1, ..good },
                500,
                Malformed::OutOfBounds { what: "the grace period" },
            ),
            (
                ChannelTerms { grace_ms: range.max_grace_ms + 1, ..good },
                500,
                Malformed::OutOfBounds { what: "the grace period" },
            ),
            (good, 99, Malformed::OutOfBounds { what: "the deposit" }),
            (good, (1 << 63) + 1, Malformed::OutOfBounds { what: "the deposit" }),
            (
                ChannelTerms { voucher_key: AccountId::new([0; 32]), ..good },
                500,
                Malformed::Key { what: "the voucher key" },
            ),
            (
                ChannelTerms { receipt_key: AccountId::new([0; 32]), ..good },
                500,
                Malformed::Key { what: "the receipt key" },
            ),
        ] {
            assert_eq!(world.malformed(PAYER, open(terms, deposit)), error);
        }
        assert_eq!(world.rejected(PAYER, open(good, START)), Rejection::InsufficientBalance);
    }
}
