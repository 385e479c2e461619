//! `post_offer`: a processor offers a model version at a price, or changes such an offer.
//!
//! An offer makes a processor findable. It does not bind: the quote that the processor signs for a
//! request does.

use super::{Action, Events, Stop, Transaction, check_list};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::{MAX_OFFER_ISSUERS, MAX_OFFERS, MAX_PRICE},
    record::{Issuer, Model, Offer, Processor},
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
