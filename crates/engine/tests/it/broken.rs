//! Folders and weights that are damaged.

use crate::support::*;
use gristmill_engine::{CandleEngine, CandleOptions, Engine, Llama, LoadError, Precision};
use gristmill_types::Finish;
use std::{fs, path::Path};

/// A copy of a golden folder.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden("plain").join(name), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
    dir
}

fn load(dir: &Path) -> Result<Llama, LoadError> {
    Llama::from_hf_dir(dir, Precision::F32, 128)
}

fn edit_config(dir: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_whole_folder_answers() {
    let dir = folder();
    let engine = CandleEngine::open(dir.path(), &CandleOptions::default()).unwrap();
    assert_eq!(engine.info().context_tokens, 128);
    assert_eq!(engine.info().parameters, 98_624);
    // config.json says that token 2 ends an answer.
    assert_eq!(engine.tokenizer().bundle().eos_ids, [2]);
    assert_eq!(answer(&engine, job(prompt(10, 0), sampling(8, &[]), 3)).done.error, None);
}

#[test]
fn damaged_folders_say_what_is_wrong() {
    let weights = |dir: &Path| dir.join("model.safetensors");
    type Damage = Box<dyn Fn(&Path)>;
    let config = |edit: fn(&mut serde_json::Value)| -> Damage { Box::new(move |dir| edit_config(dir, edit)) };
    let cut = |length: usize| -> Damage {
        Box::new(move |dir| {
            let bytes = fs::read(dir.join("model.safetensors")).unwrap();
            fs::write(dir.join("model.safetensors"), &bytes[..length]).unwrap();
        })
    };
    let cases: Vec<(Damage, &str)> = vec![
        (Box::new(|dir| fs::remove_file(dir.join("config.json")).unwrap()), "config.json"),
        (Box::new(move |dir| fs::remove_file(weights(dir)).unwrap()), "model.safetensors"),
        (Box::new(|dir| fs::write(dir.join("config.json"), "{").unwrap()), "not JSON"),
        (Box::new(move |dir| fs::write(weights(dir), [0xff; 100]).unwrap()), "damaged"),
        (cut(0), "too short"),
        (cut(7), "too short"),
        (cut(100), "header"),
        (cut(200_000), "beyond the end"),
        (config(|json| json["num_hidden_layers"] = 3.into()), "model.layers.2"),
        (config(|json| json["hidden_size"] = 128.into()), "shape"),
        (config(|json| json["vocab_size"] = 4_000_000.into()), "shape"),
        (config(|json| json["num_hidden_layers"] = u64::MAX.into()), "num_hidden_layers"),
        (config(|json| json["attention_bias"] = true.into()), "q_proj.bias is missing"),
        (config(|json| json["model_type"] = "qwen3".into()), "q_norm.weight is missing"),
        // Weights that the configuration does not speak of are not passed over.
        (config(|json| json["num_hidden_layers"] = 1.into()), "model.layers.1"),
        (
            Box::new(|dir| {
                let index = r#"{"weight_map": {"a": "../outside.safetensors"}}"#;
                fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
            }),
            "weight_map",
        ),
    ];
    for (damage, word) in cases {
        let dir = folder();
        damage(dir.path());
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(word), "expected {word:?}: {error}");
    }
}

#[test]
fn weights_may_lie_in_several_files_and_in_half_precision() {
    let dir = folder();
    let whole = load(dir.path()).unwrap();
    let path = dir.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    fs::remove_file(path).unwrap();
    let (mut first, mut second) = (std::collections::HashMap::new(), std::collections::HashMap::new());
    let mut map = serde_json::Map::new();
    for (name, tensor) in tensors {
        let (file, part) = if name.contains("mlp") { ("a", &mut first) } else { ("b", &mut second) };
        map.insert(name.clone(), format!("{file}.safetensors").into());
        part.insert(name, tensor.to_dtype(candle_core::DType::BF16).unwrap());
    }
    candle_core::safetensors::save(&first, dir.path().join("a.safetensors")).unwrap();
    candle_core::safetensors::save(&second, dir.path().join("b.safetensors")).unwrap();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let (ids, _) = golden_numbers("plain");
    let halved = load(dir.path()).unwrap();
    let difference = greatest_difference(&whole.logits(&ids).unwrap(), &halved.logits(&ids).unwrap());
    assert!(difference > 1e-4 && difference < 0.3, "{difference}");
}

#[test]
fn a_matrix_that_does_not_quantise_says_so() {
    let mut config = config();
    config.intermediate = 100;
    for precision in [Precision::Q8_0, Precision::Q4K] {
        let error = gristmill_engine::random_llama(config.clone(), precision, 1).unwrap_err();
        let expected = format!("{} needs a multiple of 32", precision.name());
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

/// Replaces the last norm's weights by one value.
fn damage_norm(dir: &Path, value: f32) {
    let path = dir.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let damaged = candle_core::Tensor::full(value, 64, &candle_core::Device::Cpu).unwrap();
    tensors.insert("model.norm.weight".into(), damaged);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn weights_that_are_no_numbers_do_not_load() {
    for value in [f32::NAN, f32::INFINITY] {
        let dir = folder();
        damage_norm(dir.path(), value);
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("model.norm.weight"), "{error}");
    }
}

#[test]
fn logits_that_are_no_numbers_end_an_answer_with_an_error() {
    let dir = folder();
    damage_norm(dir.path(), f32::MAX);
    let options = CandleOptions { precision: Precision::F32, ..CandleOptions::default() };
    let engine = CandleEngine::open(dir.path(), &options).unwrap();
    for _ in 0..2 {
        let answer = answer(&engine, job(prompt(10, 0), sampling(8, &[]), 3));
        assert_eq!(answer.done.finish, Finish::Error);
        assert!(answer.done.error.unwrap().contains("finite"), "the thread goes on after it");
    }
}
