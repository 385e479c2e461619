//! Embeddings against sentence-transformers (`tests/golden/make_bert.py`), their bits and bounds.

use crate::support::{eventually, golden};
use gristmill_engine::{
    CandleEmbedder, Embedder, EmbedderOptions, Load, LoadError, Precision, Purpose, StartError,
};
use serde::Deserialize;
use std::{fs, path::Path};

#[derive(Deserialize)]
struct Numbers {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

fn numbers(name: &str) -> Numbers {
    serde_json::from_slice(&fs::read(golden(name).join("vectors.json")).unwrap()).unwrap()
}

fn open_with(name: &str, options: &EmbedderOptions) -> CandleEmbedder {
    CandleEmbedder::open(&golden(name), options).unwrap()
}

fn open(name: &str) -> CandleEmbedder {
    open_with(name, &EmbedderOptions::default())
}

fn embed(embedder: &CandleEmbedder, inputs: &[Vec<u32>]) -> Vec<Vec<f32>> {
    embedder.embed(inputs.to_vec()).unwrap().blocking_wait().unwrap()
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|x| x.to_bits()).collect()).collect()
}

fn greatest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for (name, normalised) in [("bert-mean", true), ("bert-cls", false)] {
        let (embedder, expected) = (open(name), numbers(name));
        for (text, ids) in expected.texts.iter().zip(&expected.ids) {
            assert_eq!(&embedder.tokenizer().encode(text).unwrap(), ids, "{text:?}");
        }
        let vectors = embed(&embedder, &expected.ids);
        let difference = greatest_difference(&vectors, &expected.vectors);
        assert!(difference < 1e-5, "{name}: {difference}");
        let apart = greatest_difference(&expected.vectors[..1], &expected.vectors[1..2]);
        assert!(apart > 1e-2, "different texts differ: {apart}");
        let info = embedder.info();
        assert_eq!((info.class.as_str(), info.exact), ("candle-f32", true));
        assert_eq!((info.dimensions, info.normalised), (32, normalised));
        assert_eq!(info.context_tokens, 64, "what the folder says, not how many positions there are");
        assert_eq!(info.parameters, 22_656, "all but the pooler, which is not used");
    }
}

#[test]
fn a_vector_does_not_depend_on_its_company() {
    let inputs = numbers("bert-mean").ids;
    for precision in [Precision::F32, Precision::Q8_0] {
        let embedder = open_with("bert-mean", &EmbedderOptions { precision, ..Default::default() });
        assert!(embedder.info().class.starts_with(&format!("candle-{}", precision.name())));
        let alone: Vec<Vec<f32>> =
            inputs.iter().map(|ids| embed(&embedder, std::slice::from_ref(ids)).remove(0)).collect();
        let mut turned = inputs.clone();
        turned.reverse();
        let (one, other) = (embedder.embed(inputs.clone()).unwrap(), embedder.embed(turned).unwrap());
        let mut back = other.blocking_wait().unwrap();
        back.reverse();
        assert_eq!(bits(&one.blocking_wait().unwrap()), bits(&alone));
        assert_eq!(bits(&back), bits(&alone));
    }
}

#[test]
fn quantised_vectors_are_near() {
    let expected = numbers("bert-mean");
    let options = EmbedderOptions { precision: Precision::Q8_0, ..Default::default() };
    let vectors = embed(&open_with("bert-mean", &options), &expected.ids);
    let difference = greatest_difference(&vectors, &expected.vectors);
    assert!(difference > 1e-5 && difference < 0.05, "{difference}");
}

#[test]
fn bad_requests_are_refused_at_once() {
    let embedder = open_with("bert-mean", &EmbedderOptions { max_inputs: 3, ..Default::default() });
    let code = |inputs: Vec<Vec<u32>>| embedder.embed(inputs).unwrap_err().code();
    assert_eq!(code(vec![]), "no_input");
    assert_eq!(code(vec![vec![5]; 4]), "too_many_inputs");
    assert_eq!(code(vec![vec![5], vec![]]), "empty_input");
    assert_eq!(code(vec![vec![5], vec![5; 65]]), "context_length_exceeded");
    assert_eq!(code(vec![vec![5, 90]]), "unknown_token");
    let error = embedder.embed(vec![vec![5], vec![5; 65]]).unwrap_err().to_string();
    assert!(error.contains("input 1 has 65 tokens") && error.contains("64"), "{error}");
    assert_eq!(embedder.load(), Load::default(), "a refused request takes no place");
    assert_eq!(embed(&embedder, &[vec![5; 64]]).len(), 1);
}

#[test]
fn the_queue_is_bounded_and_dropped_requests_leave_it() {
    let options = EmbedderOptions { max_queued: 1, max_inputs: 20_000, ..Default::default() };
    let embedder = open_with("bert-mean", &options);
    let long = || embedder.embed(vec![vec![5; 64]; 20_000]);
    let (first, second) = (long().unwrap(), long().unwrap());
    assert!(matches!(long().unwrap_err(), StartError::Busy { running: 1, queued: 1 }));
    drop(first);
    eventually("a dropped request leaves", || embedder.load().queued == 0);
    // A short request takes turns with the long one.
    assert_eq!(embed(&embedder, &[vec![6]]).len(), 1);
    assert_eq!(embedder.load(), Load { running: 1, queued: 0 }, "the long one goes on");
    drop(embedder);
    assert!(second.blocking_wait().unwrap_err().contains("stopped"));
}

/// A copy of a golden folder.
fn folder() -> tempfile::TempDir {
    let (dir, from) = (tempfile::tempdir().unwrap(), golden("bert-mean"));
    for name in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "1_Pooling/config.json",
    ] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(from.join(name), path).unwrap();
    }
    dir
}

fn write(dir: &Path, name: &str, json: &serde_json::Value) {
    fs::write(dir.join(name), json.to_string()).unwrap();
}

fn edit(dir: &Path, name: &str, key: &str, value: serde_json::Value) {
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap();
    json[key] = value;
    write(dir, name, &json);
}

#[test]
fn older_folders_are_read() {
    let (dir, expected) = (folder(), numbers("bert-mean"));
    let old = serde_json::json!({"word_embedding_dimension": 32, "pooling_mode_cls_token": false,
                                 "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false});
    write(dir.path(), "1_Pooling/config.json", &old);
    let modules = ["Transformer", "Pooling", "Normalize"].map(|kind| {
        serde_json::json!({"path": if kind == "Pooling" { "1_Pooling" } else { "" },
                           "type": format!("sentence_transformers.models.{kind}")})
    });
    write(dir.path(), "modules.json", &modules.into_iter().collect());
    write(dir.path(), "sentence_bert_config.json", &serde_json::json!({"max_seq_length": 50}));
    // A model with a task's head has the encoder under a name of its own.
    let path = dir.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let renamed: std::collections::HashMap<_, _> =
        tensors.into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
    candle_core::safetensors::save(&renamed, path).unwrap();
    let embedder = CandleEmbedder::open(dir.path(), &EmbedderOptions::default()).unwrap();
    assert_eq!(embedder.info().context_tokens, 50);
    let difference = greatest_difference(&embed(&embedder, &expected.ids), &expected.vectors);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn what_is_not_computed_is_named() {
    use serde_json::json;
    type Damage = Box<dyn Fn(&Path)>;
    let set = |name: &'static str, key: &'static str, value: serde_json::Value| -> Damage {
        Box::new(move |dir| edit(dir, name, key, value.clone()))
    };
    let cases: Vec<(Damage, &str)> = vec![
        (set("config.json", "model_type", json!("roberta")), "roberta"),
        (set("config.json", "hidden_act", json!("mish")), "mish"),
        (set("config.json", "position_embedding_type", json!("relative_key")), "relative_key"),
        (set("config.json", "is_decoder", json!(true)), "is_decoder"),
        (set("config.json", "num_attention_heads", json!(5)), "heads"),
        (set("config.json", "num_hidden_layers", json!(3)), "encoder.layer.2"),
        (set("config.json", "vocab_size", json!(91)), "shape"),
        (set("config.json", "layer_norm_eps", json!(0)), "layer_norm_eps"),
        (set("1_Pooling/config.json", "pooling_mode", json!("max")), "max"),
        (set("1_Pooling/config.json", "pooling_mode", json!(["mean", "cls"])), "mean and cls"),
        (set("sentence_bert_config.json", "do_lower_case", json!(true)), ""),
        (set("config_sentence_transformers.json", "default_prompt_name", json!("query")), ""),
        (
            Box::new(|dir| {
                edit(dir, "config_sentence_transformers.json", "default_prompt_name", json!("query"));
                edit(dir, "config_sentence_transformers.json", "prompts", json!({"query": "query: "}));
            }),
            "query: ",
        ),
        (
            Box::new(|dir| {
                edit(dir, "sentence_bert_config.json", "do_lower_case", json!(true));
                edit(dir, "tokenizer.json", "normalizer", json!(null));
            }),
            "do_lower_case",
        ),
        (
            Box::new(|dir| {
                let dense = json!([{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"},
                                   {"path": "2_Dense", "type": "a.Dense"}]);
                write(dir, "modules.json", &dense);
            }),
            "Dense",
        ),
        (
            Box::new(|dir| {
                let outside =
                    json!([{"path": "", "type": "a.Transformer"}, {"path": "../x", "type": "a.Pooling"}]);
                write(dir, "modules.json", &outside);
            }),
            "../x",
        ),
        (Box::new(|dir| fs::remove_file(dir.join("modules.json")).unwrap()), "modules.json"),
        (Box::new(|dir| fs::remove_file(dir.join("tokenizer.json")).unwrap()), "tokenizer.json"),
    ];
    for (damage, word) in cases {
        let dir = folder();
        damage(dir.path());
        match CandleEmbedder::open(dir.path(), &EmbedderOptions::default()) {
            Ok(_) => assert_eq!(word, "", "it loads although {word:?} is not supported"),
            Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{word:?}: {error}"),
        }
    }
}

/// A folder of 8 MB whose longest text would have attention scores of 512 GiB.
#[test]
fn attention_scores_bound_the_context() {
    let dir = folder();
    edit(dir.path(), "config.json", "max_position_embeddings", 65_536.into());
    edit(dir.path(), "config.json", "num_attention_heads", 32.into());
    edit(dir.path(), "sentence_bert_config.json", "max_seq_length", 65_536.into());
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let positions =
        candle_core::Tensor::zeros((65_536, 32), candle_core::DType::F32, &candle_core::Device::Cpu);
    tensors.insert("embeddings.position_embeddings.weight".into(), positions.unwrap());
    candle_core::safetensors::save(&tensors, path).unwrap();
    let open = |pass_bytes| {
        CandleEmbedder::open(dir.path(), &EmbedderOptions { pass_bytes, ..EmbedderOptions::default() })
    };
    // Two copies of 32 · 2048 · 2048 scores are 1 GiB.
    let embedder = open(EmbedderOptions::default().pass_bytes).unwrap();
    assert_eq!(embedder.info().context_tokens, 2048);
    let error = embedder.embed(vec![vec![5; 65_536]]).unwrap_err();
    assert_eq!(error.code(), "context_length_exceeded");
    let embedder = open(2 * 4 * 32 * 100 * 100).unwrap();
    assert_eq!(embedder.info().context_tokens, 100);
    assert_eq!(embed(&embedder, &[vec![5; 100]]).len(), 1);
    let error = open(100).unwrap_err().to_string();
    assert!(error.contains("pass_bytes"), "{error}");
}

#[test]
fn weights_without_numbers_do_not_load() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let damaged = candle_core::Tensor::full(f32::NAN, 32, &candle_core::Device::Cpu).unwrap();
    tensors.insert("embeddings.LayerNorm.bias".into(), damaged);
    candle_core::safetensors::save(&tensors, path).unwrap();
    let error = CandleEmbedder::open(dir.path(), &EmbedderOptions::default()).unwrap_err();
    assert!(matches!(&error, LoadError::Weights(text) if text.contains("LayerNorm")), "{error}");
}

#[test]
fn a_folder_says_what_it_is_for() {
    assert_eq!(Purpose::of(&golden("bert-mean")).unwrap(), Purpose::Embeddings);
    assert_eq!(Purpose::of(&golden("plain")).unwrap(), Purpose::Answers);
    assert_eq!(Purpose::of(Path::new("model.gguf")).unwrap(), Purpose::Answers);
    assert!(Purpose::of(tempfile::tempdir().unwrap().path()).is_err());
}
