//! `publish_model`: a version of a model, by the hash of its content.
//!
//! The first version creates the line, which is unique by name, and gives all of its shares to the
//! publisher, who alone publishes later versions. Royalty and licence belong to the version and
//! never change: what is pinned in a lane, or was bought, keeps its terms, and a publisher changes
//! them by publishing anew.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::{FULL_BPS, SHARES},
    record::{Line, Model, Shares},
    rejection::Rejection,
    text,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Digest, ModelId, StateKey};
use serde::{Deserialize, Serialize};

/// A version of the sender's model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PublishModel {
    /// The hash of its manifest, thus of its content.
    pub model: ModelId,
    /// The line's name, for example `acme/speller`.
    pub name: String,
    /// The licence, as an SPDX expression.
    pub licence: String,
    /// The line's part of every payment for it, in basis points, at most 10 000.
    pub royalty_bps: u16,
    /// The tokenizer, by content.
    pub tokenizer: Digest,
    /// What an engine must be able to run, for example `llama-f32`.
    pub engine: String,
    /// Bytes of all its files.
    pub size_bytes: u64,
}

impl Action for PublishModel {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        let line = keys::line_id(&self.name);
        keys.push(keys::model(&self.model));
        keys.push(keys::line(&line));
        keys.push(keys::shares(&line, &tx.sender));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        text::name(&self.name)?;
        text::licence(&self.licence)?;
        text::engine(&self.engine)?;
        if self.royalty_bps > FULL_BPS {
            return Err(Malformed::OutOfBounds { what: "the royalty" });
        }
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let model_key = keys::model(&self.model);
        if overlay.get::<Model>(&model_key)?.is_some() {
            return Err(Rejection::ModelExists.into());
        }
        let id = keys::line_id(&self.name);
        let line_key = keys::line(&id);
        let line = match overlay.get::<Line>(&line_key)? {
            Some(line) if line.owner != Some(tx.sender) => return Err(Rejection::NotLineOwner.into()),
            Some(line) => Line {
                versions: line.versions.checked_add(1).ok_or(Fault::Range)?,
                latest: self.model,
                ..line
            },
            None => {
                let shares = Shares { line: id, holder: tx.sender, shares: SHARES };
                overlay.put(&keys::shares(&id, &tx.sender), shares)?;
                Line {
                    line: id,
                    name: self.name.clone(),
                    owner: Some(tx.sender),
                    versions: 1,
                    latest: self.model,
                }
            }
        };
        let version = line.versions;
        overlay.put(&line_key, line)?;
        let model = Model {
            model: self.model,
            line: id,
            name: self.name.clone(),
            version,
            publisher: tx.sender,
            foreign: false,
            licence: self.licence.clone(),
            royalty_bps: self.royalty_bps,
            tokenizer: self.tokenizer,
            engine: self.engine.clone(),
            size_bytes: self.size_bytes,
            time_ms: context.time_ms,
        };
        overlay.put(&model_key, model)?;
        Ok(vec![Event::ModelPublished {
            model: self.model,
            line: id,
            name: self.name.clone(),
            version,
            publisher: tx.sender,
            royalty_bps: self.royalty_bps,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;

    #[test]
    fn versions_of_a_line() {
        let mut world = World::new();
        let second = ModelId::new([8; 32]);
        let events = world.must(MODELER, publish("acme/speller", MODEL));
        let event = |model, version, royalty_bps| Event::ModelPublished {
            model,
            line: line(),
            name: "acme/speller".into(),
            version,
            publisher: id(MODELER),
            royalty_bps,
        };
        assert_eq!(events, [event(MODEL, 1, ROYALTY_BPS)]);
        let shares: Shares = world.get(&keys::shares(&line(), &id(MODELER))).unwrap();
        assert_eq!(shares.shares, SHARES);
        // A later version may have another royalty; the first keeps its own.
        let events = world.must(MODELER, PublishModel { royalty_bps: 5, ..publish("acme/speller", second) });
        assert_eq!(events, [event(second, 2, 5)]);
        assert_eq!(world.model(&MODEL).unwrap().royalty_bps, ROYALTY_BPS);
        let kept: Line = world.get(&keys::line(&line())).unwrap();
        assert_eq!((kept.versions, kept.latest, kept.owner), (2, second, Some(id(MODELER))));
    }

    #[test]
    fn refused() {
        let mut world = World::with_models();
        let new = ModelId::new([8; 32]);
        for (sender, payload, rejection) in [
            (MODELER, publish("acme/speller", MODEL), Rejection::ModelExists),
            (MODELER, publish("acme/other", FOREIGN), Rejection::ModelExists),
            (STRANGER, publish("acme/speller", new), Rejection::NotLineOwner),
            (MODELER, publish("public/weights", new), Rejection::NotLineOwner),
        ] {
            assert_eq!(world.rejected(sender, payload), rejection);
        }
    }

    #[test]
    fn malformed() {
        let mut world = World::new();
        let good = publish("a", MODEL);
        for bad in [
            PublishModel { name: "A".into(), ..good.clone() },
            PublishModel { licence: "".into(), ..good.clone() },
            PublishModel { engine: "a b".into(), ..good.clone() },
        ] {
            assert!(matches!(world.malformed(MODELER, bad), Malformed::Text { .. }));
        }
        let greedy = PublishModel { royalty_bps: FULL_BPS + 1, ..good.clone() };
        assert_eq!(world.malformed(MODELER, greedy), Malformed::OutOfBounds { what: "the royalty" });
        world.must(MODELER, PublishModel { royalty_bps: FULL_BPS, ..good });
    }
}
