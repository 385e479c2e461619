//! What a model is for, from its files alone.

use crate::{LoadError, folder::read_text};
use serde_json::Value;
use std::path::Path;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It answers prompts; [`CandleEngine::open`](crate::CandleEngine::open) loads it.
    Answers,
    /// It makes vectors of texts; [`CandleEmbedder::open`](crate::CandleEmbedder::open) loads it.
    Embeddings,
}

impl Purpose {
    /// The purpose of a folder or a file. That it is known does not mean that the model loads.
    pub fn of(path: &Path) -> Result<Self, LoadError> {
        if !path.is_dir() {
            return Ok(Self::Answers);
        }
        let path = path.join("config.json");
        let json: Value = serde_json::from_str(&read_text(&path)?)
            .map_err(|error| LoadError::File { path, reason: format!("not JSON: {error}") })?;
        Ok(if json["model_type"] == "bert" { Self::Embeddings } else { Self::Answers })
    }
}
