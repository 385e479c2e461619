//! Weights in safetensors beside their configuration: within memory of about the files' size.

use crate::parts;
use gristmill_engine::{Llama, Precision};
use std::fs::write;

/// `config.json`, then `model.safetensors`, then perhaps an index.
pub fn run(data: &[u8]) {
    let mut parts = parts(data);
    let (Some(config), Some(weights)) = (parts.next(), parts.next()) else { return };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("config.json"), config).unwrap();
    write(folder.path().join("model.safetensors"), weights).unwrap();
    if let Some(index) = parts.next() {
        write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    }
    if let Ok(model) = Llama::from_hf_dir(folder.path(), Precision::F32, 16) {
        let parameters = model.config().parameters().unwrap();
        // Sixteen bits each at least; tensors may lie over each other.
        assert!(parameters <= 64 * weights.len() as u64, "{parameters} of {} bytes", weights.len());
    }
}
