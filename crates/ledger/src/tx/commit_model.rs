//! `commit_model`: the sender will publish a version, and does not yet say which.
//!
//! A version belongs to whoever publishes its content first. Whoever reads a publication on its way
//! could put its own before it; so a version is published in two steps. The commitment names it by the
//! hash of publisher, version and a salt, which says nothing; the publication that follows in a later
//! block shows the salt. Whoever sees that has no commitment of its own, and comes a block too late.

use super::{Action, Events, Stop, Transaction};
use crate::{
    event::Event, executor::Context, genesis::Rules, invalid::Malformed, keys, overlay::Overlay,
    record::Commitment, rejection::Rejection,
};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{AccountId, Digest, ModelId, StateKey, sha256};
use serde::{Deserialize, Serialize};

/// A publication to come.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitModel {
    /// The hash of it, by [`commitment`](Self::commitment).
    pub commitment: Digest,
}

impl CommitModel {
    /// SHA-256 of a domain, the publisher, the version and a salt of 32 random bytes, one after the
    /// other.
    pub fn commitment(publisher: &AccountId, model: &ModelId, salt: &Digest) -> Digest {
        sha256(&[b"gristmill/commitment/v1", publisher.as_ref(), model.as_ref(), salt.as_ref()])
    }

    /// The commitment to this version.
    pub fn to(publisher: &AccountId, model: &ModelId, salt: &Digest) -> Self {
        Self { commitment: Self::commitment(publisher, model, salt) }
    }
}

/// The key of the commitment that a publication needs.
pub(super) fn key(publisher: &AccountId, model: &ModelId, salt: &Digest) -> StateKey {
    keys::commitment(publisher, &CommitModel::commitment(publisher, model, salt))
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

    #[test]
    fn a_version_is_published_after_its_commitment_and_once() {
        let mut world = World::new();
        let payload = publish("acme/speller", MODEL);
        assert_eq!(world.rejected(MODELER, payload.clone()), Rejection::NotCommitted);
        let commit = CommitModel::to(&id(MODELER), &MODEL, &SALT);
        let event = Event::ModelCommitted { publisher: id(MODELER), commitment: commit.commitment };
        assert_eq!(world.must(MODELER, commit.clone()), [event]);
        // Who reads the publication has neither the commitment nor the time to make one.
        assert_eq!(world.rejected(STRANGER, payload.clone()), Rejection::NotCommitted);
        world.must(STRANGER, commit.clone());
        assert_eq!(world.rejected(STRANGER, payload.clone()), Rejection::NotCommitted);
        assert_eq!(
            world.rejected(STRANGER, register_foreign("thief/speller", MODEL)),
            Rejection::NotCommitted
        );
        let other_salt = PublishModel { salt: Digest::new([8; 32]), ..payload.clone() };
        assert_eq!(world.rejected(MODELER, other_salt), Rejection::NotCommitted);
        world.must(MODELER, payload);
        let other = publish("acme/speller", ModelId::new([8; 32]));
        assert_eq!(world.rejected(MODELER, other), Rejection::NotCommitted);
        assert_eq!(world.get::<Commitment>(&super::key(&id(MODELER), &MODEL, &SALT)), None);
    }

    #[test]
    fn not_in_the_same_block() {
        let mut world = World::new();
        let height = world.context.height;
        world.must(MODELER, CommitModel::to(&id(MODELER), &MODEL, &SALT));
        world.context.height = height;
        assert_eq!(world.rejected(MODELER, publish("acme/speller", MODEL)), Rejection::NotCommitted);
        // Committing again starts anew.
        world.must(MODELER, CommitModel::to(&id(MODELER), &MODEL, &SALT));
        world.context.height -= 1;
        assert_eq!(world.rejected(MODELER, publish("acme/speller", MODEL)), Rejection::NotCommitted);
        world.must(MODELER, publish("acme/speller", MODEL));
    }
}
