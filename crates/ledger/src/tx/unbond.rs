//! `unbond`: a processor wants its bond back. It gets it with `withdraw_bond`, after the time in which
//! the bond still answers for what the processor did.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    record::Bond,
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, StateKey};
use serde::{Deserialize, Serialize};

/// The sender asks its bond back.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Unbond {
    /// Whose credits it is in.
    pub issuer: AccountId,
    /// How long it waits, by block time: exactly what the genesis says.
    pub wait_ms: u64,
}

impl Action for Unbond {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::bond(&tx.sender, &self.issuer));
    }

    fn check(&self, _tx: &Transaction, rules: &Rules) -> Result<(), Malformed> {
        let right = self.wait_ms == rules.params.unbonding_ms;
        right.then_some(()).ok_or(Malformed::OutOfBounds { what: "the time that the bond waits" })
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (processor, issuer) = (tx.sender, self.issuer);
        let key = keys::bond(&processor, &issuer);
        let bond: Bond = overlay.get(&key)?.ok_or(Rejection::NoBond)?;
        if bond.unbonding_ms.is_some() {
            return Err(Rejection::Unbonding.into());
        }
        let deadline_ms = context.time_ms.checked_add(self.wait_ms).ok_or(Fault::Range)?;
        let held = bond.held;
        overlay.put(&key, Bond { unbonding_ms: Some(deadline_ms), ..bond })?;
        Ok(vec![Event::UnbondingBegan { processor, issuer, held, deadline_ms }])
    }
}
