//! `claim_royalty`: a holder of shares draws what its shares have earned in one issuer's credits.

use super::{Action, Events, Stop, Transaction};
use crate::{
    accrual,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    record::{Pool, Shares},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, LineId, StateKey};
use serde::{Deserialize, Serialize};

/// The sender's royalties.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ClaimRoyalty {
    /// From which line.
    pub line: LineId,
    /// In whose credits.
    pub issuer: AccountId,
}

impl Action for ClaimRoyalty {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::shares(&self.line, &tx.sender));
        keys.push(keys::pool(&self.line, &self.issuer));
        keys.push(keys::accrual(&self.line, &self.issuer, &tx.sender));
        keys.push(keys::balance(&tx.sender, &self.issuer));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let Self { line, issuer } = *self;
        let shares: Shares = overlay.get(&keys::shares(&line, &tx.sender))?.ok_or(Rejection::NoShares)?;
        if overlay.get::<Pool>(&keys::pool(&line, &issuer))?.is_none() {
            return Err(Rejection::NothingToClaim.into());
        }
        let amount = accrual::pay(overlay, &line, &issuer, &tx.sender, shares.shares)?;
        if amount.is_zero() {
            return Err(Rejection::NothingToClaim.into());
        }
        Ok(vec![Event::RoyaltyClaimed { line, issuer, holder: tx.sender, amount }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tx::Settle, world::*};

    #[test]
    fn draws_what_accrued() {
        let (mut world, terms) = World::with_channel(1_000_000);
        let draw = ClaimRoyalty { line: line(), issuer: id(ISSUER) };
        assert_eq!(world.rejected(MODELER, draw.clone()), Rejection::NothingToClaim, "no pool yet");
        let settle = |seq, amount| Settle {
            terms,
            claims: vec![approval(claim(&terms, 0, seq, amount))],
            floor: None,
        };
        world.must(PAYEE, settle(1, 50_000));
        let held = world.balance(MODELER);
        let events = world.must(MODELER, draw.clone());
        // The index is rounded down, so the last grain of a payment may wait for the next one.
        let event = |amount| Event::RoyaltyClaimed {
            line: line(),
            issuer: id(ISSUER),
            holder: id(MODELER),
            amount: grains(amount),
        };
        assert_eq!(events, [event(4_999)]);
        assert_eq!(world.balance(MODELER), held - FEE + 4_999);
        assert_eq!(world.rejected(MODELER, draw.clone()), Rejection::NothingToClaim, "nothing new");
        world.must(PAYEE, settle(2, 150_000));
        let events = world.must(MODELER, draw);
        assert!(events == [event(10_000)] || events == [event(10_001)], "{events:?}");
        let pool: Pool = world.get(&keys::pool(&line(), &id(ISSUER))).unwrap();
        assert!(pool.balance <= grains(1), "{pool:?}");
    }

    #[test]
    fn refused() {
        let (mut world, _) = World::with_channel(1_000_000);
        for (sender, line, rejection) in [
            (STRANGER, line(), Rejection::NoShares),
            (MODELER, foreign_line(), Rejection::NoShares),
            (MODELER, LineId::new([0; 32]), Rejection::NoShares),
        ] {
            assert_eq!(world.rejected(sender, ClaimRoyalty { line, issuer: id(ISSUER) }), rejection);
        }
    }
}
