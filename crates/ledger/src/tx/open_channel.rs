//! `open_channel`: the payer puts a deposit behind vouchers to one payee. See the protocol in
//! `channel`.

use super::{Action, Events, Stop, Transaction, check_key};
use crate::{
    channel::{check_sender, check_terms},
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    params::MAX_DEPOSIT,
    posting::{Side, post},
    record::{Channel, ChannelState},
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// A channel from the sender.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OpenChannel {
    /// What it is about. The payer is the sender, `open_nonce` this transaction's nonce, which makes
    /// the channel's id unique.
    pub terms: ChannelTerms,
    /// How much the sender puts in.
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
        check_sender(&terms.payer, tx, "payer")?;
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
        // The terms name the sender and its nonce, which is used once: no such channel exists.
        overlay.put(&keys::channel(&channel), record)?;
        let (from, to) = (Side::Account(&tx.sender), Side::Channel(&channel));
        post(overlay, &self.terms.issuer, from, to, self.deposit)?;
        Ok(vec![Event::ChannelOpened { channel, terms: Box::new(self.terms), deposit: self.deposit }])
    }
}
