//! `register_foreign`: known public weights, so that they can be offered and paid for here.
//!
//! A foreign model has no owner, no shares and no royalty. It is a line of one version under a name
//! that no other line has; another quantisation of the same weights is another content and takes
//! another name. The name is only a label: what counts is the hash.

use super::{Action, Events, Stop, Transaction, commit_model};
use crate::{
    event::Event,
    executor::Context,
    genesis::Rules,
    invalid::Malformed,
    keys,
    overlay::Overlay,
    record::{Line, Model},
    rejection::Rejection,
    text,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Digest, ModelId, StateKey};
use serde::{Deserialize, Serialize};

/// Known public weights.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegisterForeign {
    /// The hash of its manifest, thus of its content.
    pub model: ModelId,
    /// What people call it, for example `qwen/qwen3-0.6b-q8_0`.
    pub name: String,
    /// The licence under which its makers gave it away, as an SPDX expression.
    pub licence: String,
    /// The tokenizer, by content.
    pub tokenizer: Digest,
    /// What an engine must be able to run, for example `qwen3-q8_0`.
    pub engine: String,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// The salt of the commitment: otherwise a publication could be forestalled by registering it.
    pub salt: Digest,
}

impl Action for RegisterForeign {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::model(&self.model));
        keys.push(keys::line(&keys::line_id(&self.name)));
        keys.push(commit_model::key(&tx.sender, self.clone()));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        text::name(&self.name)?;
        text::licence(&self.licence)?;
        text::engine(&self.engine)
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let model_key = keys::model(&self.model);
        if overlay.get::<Model>(&model_key)?.is_some() {
            return Err(Rejection::ModelExists.into());
        }
        let id = keys::line_id(&self.name);
        let line_key = keys::line(&id);
        if overlay.get::<Line>(&line_key)?.is_some() {
            return Err(Rejection::NameTaken.into());
        }
        let commitment = commit_model::key(&tx.sender, self.clone());
        commit_model::reveal(overlay, context, &commitment)?;
        let line = Line { line: id, name: self.name.clone(), owner: None, versions: 1, latest: self.model };
        overlay.put(&line_key, line)?;
        let model = Model {
            model: self.model,
            line: id,
            name: self.name.clone(),
            version: 1,
            publisher: tx.sender,
            foreign: true,
            licence: self.licence.clone(),
            royalty_bps: 0,
            parents: Vec::new(),
            royalties: Vec::new(),
            tokenizer: self.tokenizer,
            engine: self.engine.clone(),
            size_bytes: self.size_bytes,
            time_ms: context.time_ms,
        };
        overlay.put(&model_key, model)?;
        Ok(vec![Event::ForeignRegistered {
            model: self.model,
            line: id,
            name: self.name.clone(),
            publisher: tx.sender,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::*;

    #[test]
    fn registers_without_owner() {
        let mut world = World::new();
        world.commit(STRANGER, register_foreign("public/weights", FOREIGN));
        let events = world.must(STRANGER, register_foreign("public/weights", FOREIGN));
        let event = Event::ForeignRegistered {
            model: FOREIGN,
            line: foreign_line(),
            name: "public/weights".into(),
            publisher: id(STRANGER),
        };
        assert_eq!(events, [event]);
        let model = world.model(&FOREIGN).unwrap();
        assert!(model.foreign && model.royalty_bps == 0);
        assert_eq!(world.get::<Line>(&keys::line(&foreign_line())).unwrap().owner, None);
    }

    #[test]
    fn refused() {
        let mut world = World::with_models();
        let new = ModelId::new([8; 32]);
        for (payload, rejection) in [
            (register_foreign("another/name", FOREIGN), Rejection::ModelExists),
            (register_foreign("another/name", MODEL), Rejection::ModelExists),
            (register_foreign("public/weights", new), Rejection::NameTaken),
            (register_foreign("acme/speller", new), Rejection::NameTaken),
        ] {
            assert_eq!(world.rejected(MODELER, payload), rejection);
        }
        let good = register_foreign("a", new);
        for bad in [
            RegisterForeign { name: "a//b".into(), ..good.clone() },
            RegisterForeign { licence: "".into(), ..good.clone() },
            RegisterForeign { engine: "".into(), ..good },
        ] {
            assert!(matches!(world.malformed(MODELER, bad), Malformed::Text { .. }));
        }
    }
}
