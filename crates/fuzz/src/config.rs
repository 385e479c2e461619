//! The small files of a model's folder.

use crate::parts;
use gristmill_engine::LlamaConfig;
use gristmill_tokenizer::TextBundle;

const FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];
const MAX_PARAMETERS: u64 = 1 << 42;

/// Each part is a file, in the order above.
pub fn run(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, part) in FILES.iter().zip(parts(data)) {
        std::fs::write(folder.path().join(name), part).unwrap();
        if *name == "config.json"
            && let Ok(text) = std::str::from_utf8(part)
            && let Ok(config) = LlamaConfig::from_json(text)
        {
            assert!(config.check().is_ok());
            assert!(config.parameters().is_some_and(|count| count <= MAX_PARAMETERS), "{config:?}");
        }
    }
    if let Ok(bundle) = TextBundle::from_hf_dir(folder.path()) {
        assert_eq!(TextBundle::from_bytes(&bundle.to_bytes()).unwrap(), bundle);
        assert!(bundle.eos_ids.is_sorted_by(|a, b| a < b));
    }
}
