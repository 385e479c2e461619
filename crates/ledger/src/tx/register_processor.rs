//! `register_processor`: an account says that it processes, under which key its serving side signs
//! receipts, and where it answers. A second registration replaces the first and keeps the offers.

use super::{Action, Events, Stop, Transaction, check_key};
use crate::{
    debt::Owing, event::Event, executor::Context, genesis::Rules, invalid::Malformed, keys, overlay::Overlay,
    params::MAX_ENDPOINTS, record::Processor, text,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, StateKey};
use serde::{Deserialize, Serialize};

/// The sender as a processor.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegisterProcessor {
    /// The key of its serving side, which signs receipts. It can be changed without moving the
    /// account that is paid.
    pub receipt_key: AccountId,
    /// Where it answers, best first; at most 4 of at most 128 bytes.
    pub endpoints: Vec<String>,
}

impl Action for RegisterProcessor {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::processor(&tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Malformed::Count { what: "endpoints", min: 0, max: MAX_ENDPOINTS });
        }
        self.endpoints.iter().try_for_each(|endpoint| text::endpoint(endpoint))?;
        check_key(&self.receipt_key, "the receipt key").map(drop)
    }

    fn owing(&self, tx: &Transaction) -> Owing {
        if tx.nonce == 0 { Owing::Begin } else { Owing::More }
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let key = keys::processor(&tx.sender);
        let offers = overlay.get::<Processor>(&key)?.map_or(0, |known| known.offers);
        let record = Processor {
            processor: tx.sender,
            receipt_key: self.receipt_key,
            endpoints: self.endpoints.clone(),
            offers,
            time_ms: context.time_ms,
        };
        overlay.put(&key, record)?;
        Ok(vec![Event::ProcessorRegistered {
            processor: tx.sender,
            receipt_key: self.receipt_key,
            endpoints: self.endpoints.clone(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tx::PostOffer, world::*};
    use gristmill_types::Prices;

    fn register(endpoints: &[&str]) -> RegisterProcessor {
        RegisterProcessor {
            receipt_key: id(RECEIPT_KEY),
            endpoints: endpoints.iter().map(|e| e.to_string()).collect(),
        }
    }

    #[test]
    fn registers_and_changes() {
        let mut world = World::with_models();
        let events = world.must(PAYEE, register(&["https://a:1"]));
        let event = Event::ProcessorRegistered {
            processor: id(PAYEE),
            receipt_key: id(RECEIPT_KEY),
            endpoints: vec!["https://a:1".into()],
        };
        assert_eq!(events, [event]);
        let offer = PostOffer { model: MODEL, prices: Prices::default(), issuers: vec![id(ISSUER)] };
        world.must(PAYEE, offer);
        world.must(PAYEE, register(&[]));
        let record: Processor = world.get(&keys::processor(&id(PAYEE))).unwrap();
        assert_eq!((record.offers, record.endpoints), (1, vec![]), "offers stay");
    }

    #[test]
    fn malformed() {
        let mut world = World::new();
        let five = register(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            world.malformed(PAYEE, five),
            Malformed::Count { what: "endpoints", min: 0, max: MAX_ENDPOINTS }
        );
        assert!(matches!(world.malformed(PAYEE, register(&["a b"])), Malformed::Text { .. }));
        let weak = RegisterProcessor { receipt_key: AccountId::new([0; 32]), endpoints: vec![] };
        assert_eq!(world.malformed(PAYEE, weak), Malformed::Key { what: "the receipt key" });
    }
}
