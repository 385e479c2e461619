//! `withdraw`: pays out pending claims whose time has come. Anybody may send it; the money goes to
//! the payee and the models' lines.

use super::{Action, Events, Stop, Transaction, check_list, settle::MAX_LANES};
use crate::{
    channel::{ChannelBook, check_terms},
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ChannelTerms, LineId, StateKey};
use serde::{Deserialize, Serialize};

/// Claims whose time has come.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Withdraw {
    /// Which channel.
    pub terms: ChannelTerms,
    /// 1 to 64 lanes, ascending. If one of them is not due, none is paid.
    pub lanes: Vec<MaturedLane>,
}

/// A lane with a matured claim.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct MaturedLane {
    /// The lane.
    pub lane: u32,
    /// The line of its model, as in the lane's record.
    pub line: LineId,
}

impl Action for Withdraw {
    fn reads(&self, _tx: &Transaction, keys: &mut Vec<StateKey>) {
        let id = self.terms.id();
        keys.push(keys::channel(&id));
        keys.push(keys::balance(&self.terms.payee, &self.terms.issuer));
        for item in &self.lanes {
            keys.push(keys::lane(&id, item.lane));
            keys.push(keys::pool(&item.line, &self.terms.issuer));
        }
    }

    fn check(&self, tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_terms(&self.terms, tx)?;
        check_list(self.lanes.iter().map(|item| item.lane), "lanes", 1, MAX_LANES)
    }

    fn apply(&self, _tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let mut book = ChannelBook::open(overlay, context, &self.terms)?;
        book.require_not_closed()?;
        for item in &self.lanes {
            let mut lane = book.lane(item.lane)?.ok_or(Rejection::NothingPending)?;
            if lane.pending.is_none() {
                return Err(Rejection::NothingPending.into());
            }
            if lane.line != item.line {
                return Err(Rejection::WrongLine.into());
            }
            if !book.mature(&mut lane)? {
                return Err(Rejection::NotDue.into());
            }
            book.put_lane(lane)?;
        }
        Ok(book.into_events())
    }
}
