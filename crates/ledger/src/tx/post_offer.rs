//! `post_offer`: a processor offers a model version at a price, or changes such an offer.
//!
//! An offer makes a processor findable. It does not bind: the quote that the processor signs for a
//! request does.

use super::{Action, Events, Stop, Transaction, check_list};
use crate::{
    debt::Owing,
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::{MAX_OFFER_ISSUERS, MAX_OFFERS, MAX_PRICE},
    record::{Debt, Issuer, Model, Offer, Processor},
    rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, ModelId, Prices, StateKey};
use serde::{Deserialize, Serialize};

/// The sender's offer of a model version. There is one per processor and model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PostOffer {
    /// What.
    pub model: ModelId,
    /// At what price.
    pub prices: Prices,
    /// Whose credits are accepted: 1 to 8 issuers, ascending.
    pub issuers: Vec<AccountId>,
}

impl Action for PostOffer {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::processor(&tx.sender));
        keys.push(keys::offer(&tx.sender, &self.model));
        keys.push(keys::model(&self.model));
        keys.push(keys::debt(&tx.sender));
        keys.extend(self.issuers.iter().map(keys::issuer));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        check_list(self.issuers.iter(), "accepted issuers", 1, MAX_OFFER_ISSUERS)?;
        let Prices { input_per_mtok, output_per_mtok, per_msec, per_mreq } = self.prices;
        if [input_per_mtok, output_per_mtok, per_msec, per_mreq].iter().any(|price| *price > MAX_PRICE) {
            return Err(Malformed::OutOfBounds { what: "a price" });
        }
        Ok(())
    }

    fn owing(&self, tx: &Transaction) -> Owing {
        // What it owes it must be able to earn.
        if self.issuers.contains(&tx.fee_issuer) { Owing::More } else { Owing::Never }
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let processor_key = keys::processor(&tx.sender);
        let mut processor: Processor = overlay.get(&processor_key)?.ok_or(Rejection::NotProcessor)?;
        if overlay.get::<Model>(&keys::model(&self.model))?.is_none() {
            return Err(Rejection::UnknownModel.into());
        }
        for issuer in &self.issuers {
            if overlay.get::<Issuer>(&keys::issuer(issuer))?.is_none() {
                return Err(Rejection::UnknownIssuer.into());
            }
        }
        let offer_key = keys::offer(&tx.sender, &self.model);
        if overlay.get::<Offer>(&offer_key)?.is_none() {
            // Otherwise accounts without credits could fill the market for nothing.
            if processor.offers > 0 && overlay.get::<Debt>(&keys::debt(&tx.sender))?.is_some() {
                return Err(Rejection::OwesFees.into());
            }
            if processor.offers >= MAX_OFFERS {
                return Err(Rejection::TooManyOffers.into());
            }
            processor.offers = processor.offers.checked_add(1).ok_or(Fault::Range)?;
            overlay.put(&processor_key, processor)?;
        }
        let offer = Offer {
            processor: tx.sender,
            model: self.model,
            prices: self.prices,
            issuers: self.issuers.clone(),
            time_ms: context.time_ms,
        };
        overlay.put(&offer_key, offer)?;
        Ok(vec![Event::OfferPosted {
            processor: tx.sender,
            model: self.model,
            prices: self.prices,
            issuers: self.issuers.clone(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tx::RegisterProcessor, world::*};
    use gristmill_types::Amount;

    fn offer(model: ModelId, issuers: &[u8]) -> PostOffer {
        let mut issuers: Vec<_> = issuers.iter().map(|number| id(*number)).collect();
        issuers.sort();
        PostOffer { model, prices: Prices { output_per_mtok: grains(7), ..Prices::default() }, issuers }
    }

    fn world() -> World {
        let mut world = World::with_models();
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        world
    }

    #[test]
    fn posts_and_replaces() {
        let mut world = world();
        let events = world.must(PAYEE, offer(MODEL, &[ISSUER]));
        assert!(
            matches!(&events[..], [Event::OfferPosted { processor, model: MODEL, .. }] if *processor == id(PAYEE))
        );
        world.must(PAYEE, offer(FOREIGN, &[ISSUER, OTHER_ISSUER]));
        let mut cheaper = offer(MODEL, &[ISSUER]);
        cheaper.prices.output_per_mtok = grains(5);
        world.must(PAYEE, cheaper.clone());
        let kept: Offer = world.get(&keys::offer(&id(PAYEE), &MODEL)).unwrap();
        assert_eq!(kept.prices, cheaper.prices);
        let processor: Processor = world.get(&keys::processor(&id(PAYEE))).unwrap();
        assert_eq!(processor.offers, 2);
    }

    #[test]
    fn refused() {
        let mut world = world();
        let unknown = ModelId::new([8; 32]);
        for (sender, payload, rejection) in [
            (STRANGER, offer(MODEL, &[ISSUER]), Rejection::NotProcessor),
            (PAYEE, offer(unknown, &[ISSUER]), Rejection::UnknownModel),
            (PAYEE, offer(MODEL, &[ISSUER, STRANGER]), Rejection::UnknownIssuer),
        ] {
            assert_eq!(world.rejected(sender, payload), rejection);
        }
    }

    #[test]
    fn bounded_per_processor() {
        let mut world = world();
        world.scans = false;
        for number in 0..MAX_OFFERS {
            let mut bytes = [7; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            let foreign = register_foreign(&format!("m{number}"), ModelId::new(bytes));
            world.commit(MODELER, foreign.clone());
            world.must(MODELER, foreign);
            world.must(PAYEE, offer(ModelId::new(bytes), &[ISSUER]));
        }
        world.check();
        assert_eq!(world.rejected(PAYEE, offer(MODEL, &[ISSUER])), Rejection::TooManyOffers);
        // An offer that exists can still be changed.
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&[0, 0]);
        world.must(PAYEE, offer(ModelId::new(bytes), &[ISSUER]));
    }

    #[test]
    fn malformed() {
        let mut world = world();
        let count = Malformed::Count { what: "accepted issuers", min: 1, max: MAX_OFFER_ISSUERS };
        assert_eq!(world.malformed(PAYEE, offer(MODEL, &[])), count);
        assert_eq!(world.malformed(PAYEE, offer(MODEL, &[1, 2, 3, 4, 5, 6, 7, 8, 9])), count);
        let mut unsorted = offer(MODEL, &[ISSUER, OTHER_ISSUER]);
        unsorted.issuers.reverse();
        let error = Malformed::Unsorted { what: "accepted issuers" };
        assert_eq!(world.malformed(PAYEE, unsorted), error);
        assert_eq!(world.malformed(PAYEE, offer(MODEL, &[ISSUER, ISSUER])), error);
        let mut dear = offer(MODEL, &[ISSUER]);
        dear.prices.per_mreq = MAX_PRICE.checked_add(Amount::from_grains(1)).unwrap();
        assert_eq!(world.malformed(PAYEE, dear), Malformed::OutOfBounds { what: "a price" });
    }
}
