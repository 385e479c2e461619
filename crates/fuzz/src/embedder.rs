//! Folders of sentence-transformers: a model that anybody may have made loads or is refused, within memory
//! of about its size; one that loads makes vectors or says why not.

use crate::parts;
use gristmill_engine::{CandleEmbedder, Embedder as _, EmbedderOptions};
use std::fs;

const FILES: [&str; 8] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    "model.safetensors",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
];

/// Each part is a file, in the order above; one that is empty is left out.
pub fn run(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let mut weights = 0;
    for (name, part) in FILES.iter().zip(parts(data)).filter(|(_, part)| !part.is_empty()) {
        fs::write(folder.path().join(name), part).unwrap();
        if name.ends_with("safetensors") {
            weights = part.len() as u64;
        }
    }
    let Ok(embedder) = CandleEmbedder::open(folder.path(), &EmbedderOptions::default()) else { return };
    let info = embedder.info().clone();
    // Sixteen bits each at least; tensors may lie over each other.
    assert!(info.parameters <= 64 * weights, "{} of {weights} bytes", info.parameters);
    let text: Vec<u32> = (0..info.vocab).take(usize::try_from(info.context_tokens.min(4)).unwrap()).collect();
    if let Ok(embedding) = embedder.embed(vec![text])
        && let Ok(vectors) = embedding.blocking_wait()
    {
        assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [info.dimensions as usize]);
    }
}
