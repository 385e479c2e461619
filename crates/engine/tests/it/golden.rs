//! Logits against Python transformers (`tests/golden/make.py`), at every position.

use crate::support::{golden, golden_numbers, greatest_difference};
use gristmill_engine::{Llama, Precision};

const VARIANTS: [&str; 6] = ["plain", "scaled", "biased", "mistral", "qwen2", "qwen3"];

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

/// The comparison notices what it is there for: the same weights with one feature left out.
#[test]
fn an_error_would_be_noticed() {
    for (name, right, wrong) in [
        ("scaled", "\"llama3\"", "\"default\""),
        ("mistral", "\"sliding_window\": 20", "\"sliding_window\": 21"),
        ("qwen2", "\"use_sliding_window\": true", "\"use_sliding_window\": false"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(golden(name).join("config.json")).unwrap();
        assert!(config.contains(right), "{name}");
        std::fs::write(dir.path().join("config.json"), config.replace(right, wrong)).unwrap();
        std::fs::copy(golden(name).join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        let (ids, expected) = golden_numbers(name);
        let model = Llama::from_hf_dir(dir.path(), Precision::F32, 128).unwrap();
        let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
        assert!(difference > 1e-2, "{name}: {difference}");
    }
}

/// The numbers of a configuration count the weights that there are.
#[test]
fn parameters_are_counted() {
    for name in VARIANTS {
        let path = golden(name).join("model.safetensors");
        let weights = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
        let count: usize = weights.values().map(|weight| weight.elem_count()).sum();
        let model = Llama::from_hf_dir(&golden(name), Precision::F32, 128).unwrap();
        assert_eq!(model.config().parameters(), Some(count as u64), "{name}");
    }
}
