//! Logits against Python transformers (`tests/golden/make.py`), at every position.

use crate::support::{golden, golden_numbers, greatest_difference};
use gristmill_engine::{Llama, Precision};

const VARIANTS: [&str; 2] = ["plain", "scaled"];

#[test]
fn logits_are_those_of_transformers() {
    for name in VARIANTS {
        let (ids, expected) = golden_numbers(name);
        assert!(ids.len() >= 64 && expected.len() == ids.len());
        let model = Llama::from_hf_dir(&golden(name), Precision::F32, 128).unwrap();
        let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn quantised_logits_are_near() {
    for name in VARIANTS {
        let (ids, expected) = golden_numbers(name);
        let model = Llama::from_hf_dir(&golden(name), Precision::Q8_0, 128).unwrap();
        let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
        assert!(difference > 1e-3 && difference < 0.5, "{name}: {difference}");
    }
}

/// The comparison notices what it is there for: the same weights with rope's scaling left out.
#[test]
fn an_error_in_rope_would_be_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(golden("scaled").join("config.json")).unwrap();
    let wrong = config.replace("\"llama3\"", "\"default\"");
    assert_ne!(config, wrong);
    std::fs::write(dir.path().join("config.json"), wrong).unwrap();
    std::fs::copy(golden("scaled").join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let (ids, expected) = golden_numbers("scaled");
    let model = Llama::from_hf_dir(dir.path(), Precision::F32, 128).unwrap();
    let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
    assert!(difference > 1e-2, "{difference}");
}
