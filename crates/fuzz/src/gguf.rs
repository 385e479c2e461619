//! GGUF files: a model that anybody may have made loads or is refused, within memory of about its size.

use gristmill_engine::{CandleEngine, CandleOptions, Engine as _};

/// The file.
pub fn run(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, data).unwrap();
    let options = CandleOptions { context_tokens: 16, kv_bytes: 1 << 20, ..CandleOptions::default() };
    if let Ok(engine) = CandleEngine::open(&path, &options) {
        let info = engine.info();
        // A weight has four bits at least.
        assert!(info.parameters <= 2 * data.len() as u64, "{info:?}");
        assert!(info.context_tokens <= 16);
        let _ = engine.tokenizer().encode("a");
    }
}
