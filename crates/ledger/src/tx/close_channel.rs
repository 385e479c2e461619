//! `close_channel`: the end of a channel. By the payee at any time; by anybody once the payer's
//! request has reached its deadline; never while a claim is pending. The payer gets back the rest.

use super::{Action, Events, Stop, Transaction, check_list, settle::MAX_LANES};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    record::ChannelState,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, StateKey};
use serde::{Deserialize, Serialize};

/// The end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CloseChannel {
    /// Which channel.
    pub terms: ChannelTerms,
    /// Exactly the lanes that have a record, ascending; they are deleted.
    pub lanes: Vec<u32>,
}

impl Action for CloseChannel {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::balance(&self.terms.payer, &self.terms.issuer));
        keys.extend(self.lanes.iter().map(|lane| keys::lane(&id, *lane)));
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_list(self.lanes.iter(), "lanes", 0, MAX_LANES)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        let due = matches!(
            book.channel()?.state,
            ChannelState::Closing { deadline_ms } if deadline_ms <= context.clock_ms
        );
        if !due && tx.sender != self.terms.payee {
            return Err(Rejection::NotYetClosable.into());
        }
        book.remove_lanes(&self.lanes, |_| true)?;
        book.close()?;
        Ok(book.into_events())
    }
}
