//! `commit_model`: the sender will publish a version, and does not yet say which.
//!
//! A version belongs to whoever publishes its content first, and a name to whoever takes it first. Whoever
//! reads a publication on its way could put its own before it; so a publication takes two steps. The
//! commitment is the hash of publisher and payload, which has a salt and so says nothing; the payload
//! follows in a later block. Whoever sees that has no commitment of its own to this content or this name,
//! and comes a block too late.
//!
//! A payload that is rejected was seen all the same. Its sender checks what can be checked before.

use super::{Action, Body, Events, Stop, Transaction};
use crate::{
    event::Event, executor::Context, genesis::Rules, invalid::Malformed, keys, overlay::Overlay,
    record::Commitment, rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Digest, StateKey, encode, sha256};
use serde::{Deserialize, Serialize};

/// A publication to come.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitModel {
    /// The hash of it, by [`commitment`](Self::commitment).
    pub commitment: Digest,
}

impl CommitModel {
    /// The commitment to this payload of the publisher's: SHA-256 of a domain, the publisher and the
    /// payload's canonical bytes.
    pub fn to(publisher: &AccountId, payload: &Body) -> Self {
        let commitment = sha256(&[b"gristmill/commitment/v1", publisher.as_ref(), &encode(payload)]);
        Self { commitment }
    }
}

/// The key of the commitment that a payload needs.
pub(super) fn key(publisher: &AccountId, payload: impl Into<Body>) -> StateKey {
    keys::commitment(publisher, &CommitModel::to(publisher, &payload.into()).commitment)
}

/// Uses up the commitment of an earlier block.
pub(super) fn reveal(overlay: &mut Overlay<'_>, context: &Context, key: &StateKey) -> Result<(), Stop> {
    let known = overlay.get::<Commitment>(key)?;
    if known.is_none_or(|known| known.height >= context.height) {
        return Err(Rejection::NotCommitted.into());
    }
    Ok(overlay.remove(key)?)
}

impl Action for CommitModel {
    fn reads(&self, tx: &Transaction, keys: &mut Vec<StateKey>) {
        keys.push(keys::commitment(&tx.sender, &self.commitment));
    }

    fn check(&self, _tx: &Transaction, _rules: &Rules) -> Result<(), Malformed> {
        Ok(())
    }

    fn apply(&self, tx: &Transaction, overlay: &mut Overlay<'_>, context: &Context) -> Result<Events, Stop> {
        let (publisher, commitment) = (tx.sender, self.commitment);
        let record = Commitment { publisher, commitment, height: context.height };
        overlay.put(&keys::commitment(&publisher, &commitment), record)?;
        Ok(vec![Event::ModelCommitted { publisher, commitment }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tx::PublishModel, world::*};
    use gristmill_types::ModelId;

    #[test]
    fn a_version_is_published_after_its_commitment_and_once() {
        let mut world = World::new();
        let payload = publish("acme/speller", MODEL);
        assert_eq!(world.rejected(MODELER, payload.clone()), Rejection::NotCommitted);
        let commit = CommitModel::to(&id(MODELER), &payload.clone().into());
        let event = Event::ModelCommitted { publisher: id(MODELER), commitment: commit.commitment };
        assert_eq!(world.must(MODELER, commit.clone()), [event]);
        // Who reads the publication has neither the commitment nor the time to make one.
        assert_eq!(world.rejected(STRANGER, payload.clone()), Rejection::NotCommitted);
        world.must(STRANGER, commit);
        assert_eq!(world.rejected(STRANGER, payload.clone()), Rejection::NotCommitted);
        let as_foreign = register_foreign("thief/speller", MODEL);
        assert_eq!(world.rejected(STRANGER, as_foreign), Rejection::NotCommitted);
        // A commitment to other content does not take the name, nor one to another name the content.
        world.commit(STRANGER, publish("thief/junk", ModelId::new([9; 32])));
        let name = publish("acme/speller", ModelId::new([9; 32]));
        assert_eq!(world.rejected(STRANGER, name), Rejection::NotCommitted);
        for changed in [
            PublishModel { salt: Digest::new([8; 32]), ..payload.clone() },
            PublishModel { royalty_bps: 1, ..payload.clone() },
            PublishModel { name: "acme/other".into(), ..payload.clone() },
        ] {
            assert_eq!(world.rejected(MODELER, changed), Rejection::NotCommitted);
        }
        world.must(MODELER, payload.clone());
        let other = publish("acme/speller", ModelId::new([8; 32]));
        assert_eq!(world.rejected(MODELER, other), Rejection::NotCommitted);
        assert_eq!(world.get::<Commitment>(&super::key(&id(MODELER), payload)), None);
    }

    #[test]
    fn not_in_the_same_block() {
        let mut world = World::new();
        let height = world.context.height;
        let payload = publish("acme/speller", MODEL);
        world.commit(MODELER, payload.clone());
        world.context.height = height;
        assert_eq!(world.rejected(MODELER, payload.clone()), Rejection::NotCommitted);
        // Committing again starts anew.
        world.commit(MODELER, payload.clone());
        world.context.height -= 1;
        assert_eq!(world.rejected(MODELER, payload.clone()), Rejection::NotCommitted);
        world.must(MODELER, payload);
    }
}
