//! `withdraw_offer`: a processor ends an offer. Requests under quotes that it signed go on.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    record::{Offer, Processor},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{ModelId, StateKey};
use serde::{Deserialize, Serialize};

/// The end of the sender's offer.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WithdrawOffer {
    /// Of which model.
    pub model: ModelId,
}

impl Action for WithdrawOffer {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::processor(&tx.sender));
        keys.push(keys::offer(&tx.sender, &self.model));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, _context: &Context) -> Result<Events, Stop> {
        let offer_key = keys::offer(&tx.sender, &self.model);
        if overlay.get::<Offer>(&offer_key)?.is_none() {
            return Err(Rejection::NoSuchOffer.into());
        }
        overlay.remove(&offer_key)?;
        let processor_key = keys::processor(&tx.sender);
        let mut processor: Processor = overlay.expect(&processor_key)?;
        processor.offers = processor.offers.checked_sub(1).ok_or(Fault::Range)?;
        overlay.put(&processor_key, processor)?;
        Ok(vec![Event::OfferWithdrawn { processor: tx.sender, model: self.model }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tx::{PostOffer, RegisterProcessor},
        world::*,
    };
    use gristmill_types::Prices;

    #[test]
    fn withdraws_once() {
        let mut world = World::with_models();
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        let offer = PostOffer { model: MODEL, prices: Prices::default(), issuers: vec![id(ISSUER)] };
        world.must(PAYEE, offer);
        let gone = WithdrawOffer { model: MODEL };
        let events = world.must(PAYEE, gone.clone());
        assert_eq!(events, [Event::OfferWithdrawn { processor: id(PAYEE), model: MODEL }]);
        assert_eq!(world.get::<Offer>(&keys::offer(&id(PAYEE), &MODEL)), None);
        assert_eq!(world.get::<Processor>(&keys::processor(&id(PAYEE))).unwrap().offers, 0);
        assert_eq!(world.rejected(PAYEE, gone.clone()), Rejection::NoSuchOffer);
        assert_eq!(world.rejected(STRANGER, gone), Rejection::NoSuchOffer);
    }
}
