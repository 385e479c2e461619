//! `show_receipt`: the payee's own word against a claim that is pending. Anybody may send it; the
//! payer, or somebody who watches for it, has the interest. The rules are in `channel`.

use super::{Action, Events, Stop, Transaction, settle::verify_receipt};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, Receipt, Signed, StateKey};
use serde::{Deserialize, Serialize};

/// A receipt against a pending claim.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ShowReceipt {
    /// Which channel.
    pub terms: ChannelTerms,
    /// The receipt. Its model and quote are not looked at: a payee who writes others into it than
    /// those of the lane has still said what was spent there.
    pub receipt: Box<Signed<Receipt>>,
}

impl Action for ShowReceipt {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::lane(&id, self.receipt.body.lane));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        let body = &self.receipt.body;
        if (body.chain, body.channel) != (self.terms.chain, self.terms.id()) {
            return Err(Malformed::Mismatch { what: "the receipt" });
        }
        verify_receipt(&self.terms, &self.receipt)
    }

    fn apply(&self, _tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        book.cap(&self.receipt.body)?;
        Ok(book.into_events())
    }
}
