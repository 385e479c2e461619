//! The shelf: the models that this processor serves.

use crate::config::ServedModel;
use gristmill_types::{Digest, ModelId};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Models by version.
#[derive(Default)]
pub(crate) struct Shelf(RwLock<BTreeMap<ModelId, Arc<ServedModel>>>);

impl Shelf {
    /// Puts a model on the shelf.
    pub(crate) fn put(&self, model: ServedModel) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(model.id, Arc::new(model));
    }

    /// A model by its version.
    pub(crate) fn get(&self, id: &ModelId) -> Option<Arc<ServedModel>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All models, by version.
    pub(crate) fn all(&self) -> Vec<Arc<ServedModel>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The bytes of a text bundle by its digest.
    pub(crate) fn bundle(&self, digest: &Digest) -> Option<Vec<u8>> {
        let all = self.all();
        all.iter()
            .find(|model| model.tokenizer.digest() == *digest)
            .map(|model| model.tokenizer.bundle().to_bytes())
    }
}
