//! GGUF files, written with candle from the golden weights.

use crate::support::*;
use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QStorage, QTensor,
        gguf_file::{Value, write},
    },
};
use gristmill_engine::{CandleEngine, CandleOptions, Engine, Llama, LoadError, Precision};
use std::{collections::BTreeMap, fs::File, path::Path};

/// The order of the rows of q and k in files of llama: the halves of each head interleaved.
fn interleave(weight: &Tensor, head_dim: usize) -> Tensor {
    let split = weight.reshape((weight.dim(0).unwrap() / head_dim, 2, head_dim / 2, ())).unwrap();
    split.transpose(1, 2).unwrap().contiguous().unwrap().reshape(weight.shape()).unwrap()
}

fn gguf_name(name: &str) -> String {
    let mut name = name.replace("model.layers.", "blk.");
    for (from, to) in [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ] {
        name = name.replace(from, to);
    }
    name
}

/// The golden weights as a GGUF file's tensors.
fn tensors(name: &str, interleaved: Option<usize>, kind: GgmlDType) -> BTreeMap<String, QTensor> {
    let weights =
        candle_core::safetensors::load(golden(name).join("model.safetensors"), &Device::Cpu).unwrap();
    weights
        .into_iter()
        .map(|(name, weight)| {
            let turned = name.contains("q_proj") || name.contains("k_proj");
            let weight = match interleaved {
                Some(head_dim) if turned => interleave(&weight, head_dim),
                _ => weight,
            };
            let kind = if weight.rank() == 1 || name.contains("embed") { GgmlDType::F32 } else { kind };
            (gguf_name(&name), QTensor::quantize(&weight, kind).unwrap())
        })
        .collect()
}

type Metadata<'a> = BTreeMap<&'a str, Value>;

fn plain_metadata() -> Metadata<'static> {
    [
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", Value::U32(64)),
        ("llama.feed_forward_length", Value::U32(160)),
        ("llama.block_count", Value::U32(2)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.key_length", Value::U32(16)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.context_length", Value::U32(128)),
    ]
    .into()
}

fn with_tokenizer<'a>(mut metadata: Metadata<'a>, split: &str) -> Metadata<'a> {
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let kinds = (0..VOCAB).map(|id| Value::I32(if id < 3 { 3 } else { 1 })).collect();
    metadata.extend([
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(split.into())),
        ("tokenizer.ggml.tokens", texts(tokens())),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.chat_template", Value::String("{{ messages[0].content }}".into())),
    ]);
    metadata
}

fn save(path: &Path, metadata: &Metadata<'_>, tensors: &BTreeMap<String, QTensor>) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

#[test]
fn a_gguf_computes_what_the_folder_computes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let (ids, expected) = golden_numbers("plain");
    save(&path, &plain_metadata(), &tensors("plain", Some(16), GgmlDType::F32));
    let model = Llama::from_gguf(&path, 128).unwrap();
    let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
    assert!(difference < 1e-4, "f32: {difference}");
    save(&path, &plain_metadata(), &tensors("plain", Some(16), GgmlDType::Q8_0));
    let model = Llama::from_gguf(&path, 128).unwrap();
    assert_eq!((model.kind().as_str(), model.exact()), ("q8_0", true));
    let folder = Llama::from_hf_dir(&golden("plain"), Precision::Q8_0, 128).unwrap();
    let difference = greatest_difference(&model.logits(&ids).unwrap(), &folder.logits(&ids).unwrap());
    assert!(difference < 1e-3, "q8_0: {difference}");
}

/// Files of other families, and of Llama's kin that go by its name.
#[test]
fn families_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (name, architecture, head_dim) in
        [("biased", "llama", 16), ("mistral", "llama", 8), ("qwen2", "qwen2", 16), ("qwen3", "qwen3", 32)]
    {
        let key = |name: &str| format!("{architecture}.{name}");
        let mut metadata: BTreeMap<String, Value> = [
            ("embedding_length", Value::U32(64)),
            ("feed_forward_length", Value::U32(96)),
            ("block_count", Value::U32(2)),
            ("attention.head_count", Value::U32(4)),
            ("attention.head_count_kv", Value::U32(2)),
            ("attention.key_length", Value::U32(head_dim)),
            ("attention.value_length", Value::U32(head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("rope.freq_base", Value::F32(1000.0)),
            ("context_length", Value::U32(128)),
        ]
        .map(|(name, value)| (key(name), value))
        .into();
        metadata.insert("general.architecture".into(), Value::String(architecture.into()));
        if name == "mistral" {
            metadata.insert(key("attention.sliding_window"), Value::U32(20));
        }
        let metadata: Metadata = metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let interleaved = (architecture == "llama").then_some(head_dim as usize);
        save(&path, &metadata, &tensors(name, interleaved, GgmlDType::F32));
        let model = Llama::from_gguf(&path, 128).unwrap();
        let (ids, mut expected) = golden_numbers(name);
        if name == "qwen2" {
            // A window in some layers is what its files cannot say.
            let text = std::fs::read_to_string(golden(name).join("config.json")).unwrap();
            let text = text.replace("\"use_sliding_window\": true", "\"use_sliding_window\": false");
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            let weights = golden(name).join("model.safetensors");
            std::fs::copy(weights, dir.path().join("model.safetensors")).unwrap();
            let folder = Llama::from_hf_dir(dir.path(), Precision::F32, 128).unwrap();
            expected = folder.logits(&ids).unwrap();
            let mut metadata = metadata.clone();
            metadata.insert("qwen2.attention.sliding_window", Value::U32(20));
            let refused = dir.path().join("refused.gguf");
            save(&refused, &metadata, &tensors(name, interleaved, GgmlDType::F32));
            let error = Llama::from_gguf(&refused, 128).unwrap_err().to_string();
            assert!(error.contains("sliding window"), "{error}");
        }
        let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

/// A folder with weights that suit types with blocks of 256, but for one matrix in each layer.
fn wide_folder(dir: &Path) {
    let text = std::fs::read_to_string(golden("plain").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [("hidden_size", 256), ("intermediate_size", 352), ("head_dim", 64)] {
        config[key] = value.into();
    }
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut state = 1u64;
    let mut tensor = |shape: &[usize]| {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        let count: usize = shape.iter().product();
        let values: Vec<f32> = match shape {
            [_, columns] => (0..count).map(|_| next() * (6.0 / *columns as f32).sqrt()).collect(),
            _ => (0..count).map(|_| 1.0 + 0.2 * next()).collect(),
        };
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let weights =
        candle_core::safetensors::load(golden("plain").join("model.safetensors"), &Device::Cpu).unwrap();
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    let wide = |width: &usize| match *width {
        32 => 128, // two key heads
        64 => 256,
        160 => 352,
        other => other,
    };
    let wide: std::collections::HashMap<String, Tensor> = names
        .into_iter()
        .map(|name| (name.clone(), tensor(&weights[name].dims().iter().map(wide).collect::<Vec<_>>())))
        .collect();
    candle_core::safetensors::save(&wide, dir.join("model.safetensors")).unwrap();
}

/// The folder's weights as a GGUF file, each matrix at the type that its name in the file is given.
fn save_wide(dir: &Path, path: &Path, kind: impl Fn(&str) -> GgmlDType) {
    let mut metadata = plain_metadata();
    metadata.extend([
        ("llama.embedding_length", Value::U32(256)),
        ("llama.feed_forward_length", Value::U32(352)),
        ("llama.attention.key_length", Value::U32(64)),
        ("llama.rope.dimension_count", Value::U32(64)),
    ]);
    let weights = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap();
    let tensors = weights
        .into_iter()
        .map(|(name, weight)| {
            let turned = name.contains("q_proj") || name.contains("k_proj");
            let weight = if turned { interleave(&weight, 64) } else { weight };
            let name = gguf_name(&name);
            let kind = if weight.rank() == 1 { GgmlDType::F32 } else { kind(&name) };
            (name, QTensor::quantize(&weight, kind).unwrap())
        })
        .collect();
    save(path, &metadata, &tensors);
}

#[test]
fn four_bits_from_a_folder_are_those_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    wide_folder(dir.path());
    // As llama.cpp writes it: rows of 352 do not suit, the output is finer, embeddings are of any type.
    save_wide(dir.path(), &path, |name| match name {
        "token_embd.weight" => GgmlDType::F32,
        "output.weight" => GgmlDType::Q8_0,
        name if name.contains("ffn_down") => GgmlDType::Q8_0,
        _ => GgmlDType::Q4K,
    });
    let file = Llama::from_gguf(&path, 128).unwrap();
    let folder = Llama::from_hf_dir(dir.path(), Precision::Q4K, 128).unwrap();
    assert_eq!((file.kind().as_str(), folder.kind().as_str()), ("q4_k+q8_0", "q4_k+q8_0"));
    assert_eq!(file.exact(), folder.exact());
    let plain = Llama::from_hf_dir(dir.path(), Precision::F32, 128).unwrap();
    let logits = |model: &Llama| model.logits(&prompt(60, 0)).unwrap();
    let (same, rough) = (
        greatest_difference(&logits(&file), &logits(&folder)),
        greatest_difference(&logits(&file), &logits(&plain)),
    );
    // Rows of q and k lie in another order there, so sums do, and a last bit decides between two steps
    // of a rounded activation.
    assert!(same < 0.2 * rough && rough < 3.0, "{same} {rough}");
}

/// Files of type Q4_K_M have `q6_k` in them, for which candle has another kernel at one row.
#[test]
fn answers_of_a_file_of_several_types_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    wide_folder(dir.path());
    save_wide(dir.path(), &path, |name| match name {
        name if name.contains("ffn_down") => GgmlDType::Q8_0,
        "output.weight" | "token_embd.weight" => GgmlDType::Q6K,
        name if name.contains("attn_v") => GgmlDType::Q6K,
        _ => GgmlDType::Q4K,
    });
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
    let engine = CandleEngine::open(&path, &CandleOptions::default()).unwrap();
    assert!(engine.info().class.starts_with("candle-q4_k+q6_k+q8_0-"), "{}", engine.info().class);
    for seed in 0..10 {
        let job = job(prompt(20, 0), sampling(100, &[]), seed);
        let answer = answer(&engine, job.clone());
        let tokens = answer.ids.len();
        let replay = gristmill_engine::Replay {
            prompt_ids: job.prompt_ids,
            output_ids: answer.ids,
            sampling: job.sampling,
            seed: job.seed,
        };
        match engine.recompute(replay) {
            Ok(found) => assert_eq!(found.blocking_wait().unwrap().gaps, vec![Some(0.0); tokens]),
            // Rather none than one that accuses the honest.
            Err(error) => assert!(!engine.info().exact && error.code() == "unsupported", "{error}"),
        }
    }
}

#[test]
fn tied_weights_wide_heads_and_rope_factors_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut metadata = plain_metadata();
    metadata.extend([
        ("llama.feed_forward_length", Value::U32(128)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.attention.key_length", Value::U32(32)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("llama.rope.dimension_count", Value::U32(32)),
        ("llama.rope.freq_base", Value::F32(500.0)),
        ("llama.context_length", Value::U32(256)),
    ]);
    let mut tensors = tensors("scaled", Some(32), GgmlDType::F32);
    // The factors that make llama3's scaling with factor 4, bounds 1 and 4 and 64 positions.
    let factors: Vec<f32> = (0..16)
        .map(|pair| {
            let turns = 64.0 * 500f64.powf(-2.0 * f64::from(pair) / 32.0) / std::f64::consts::TAU;
            let share = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
            (1.0 / (share + (1.0 - share) / 4.0)) as f32
        })
        .collect();
    let factors = Tensor::from_vec(factors, 16, &Device::Cpu).unwrap();
    tensors.insert("rope_freqs.weight".into(), QTensor::quantize(&factors, GgmlDType::F32).unwrap());
    save(&path, &metadata, &tensors);
    let (ids, expected) = golden_numbers("scaled");
    let model = Llama::from_gguf(&path, 128).unwrap();
    let difference = greatest_difference(&model.logits(&ids).unwrap(), &expected);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn a_files_own_tokenizer_is_used_where_it_is_certain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let weights = tensors("plain", Some(16), GgmlDType::Q8_0);
    save(&path, &with_tokenizer(plain_metadata(), "gpt-2"), &weights);
    let options = CandleOptions { max_running: 2, ..CandleOptions::default() };
    let engine = CandleEngine::open(&path, &options).unwrap();
    let bundle = engine.tokenizer().bundle();
    assert_eq!(bundle.eos_ids, [2]);
    assert_eq!((bundle.special.bos.as_deref(), bundle.special.eos.as_deref()), (Some("<s>"), Some("</s>")));
    assert_eq!(engine.tokenizer().encode("Ab1").unwrap(), [35, 68, 19]);
    let message = gristmill_tokenizer::ChatMessage { role: "user".into(), content: "Ab1".into() };
    assert_eq!(engine.tokenizer().encode_chat(&[message]).unwrap(), [35, 68, 19]);
    assert_eq!(answer(&engine, job(prompt(10, 0), sampling(8, &[]), 3)).done.error, None);
    save(&path, &with_tokenizer(plain_metadata(), "something-new"), &weights);
    let error = CandleEngine::open(&path, &options).unwrap_err();
    assert!(matches!(&error, LoadError::Config(text) if text.contains("tokenizer.json")), "{error}");
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
    let engine = CandleEngine::open(&path, &options).unwrap();
    assert_eq!(engine.tokenizer().encode("Ab1").unwrap(), [35, 68, 19]);
}

#[test]
fn what_is_not_supported_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let weights = tensors("plain", Some(16), GgmlDType::Q8_0);
    for (key, value, word) in [
        ("general.architecture", Value::String("qwen3moe".into()), "qwen3moe"),
        ("general.architecture", Value::String("qwen2".into()), "qwen2.embedding_length"),
        ("llama.attention.value_length", Value::U32(8), "wide as keys"),
        ("llama.expert_count", Value::U32(8), "experts"),
        ("llama.rope.scaling.type", Value::String("yarn".into()), "yarn"),
        ("llama.rope.dimension_count", Value::U32(8), "part of each head"),
        ("llama.embedding_length", Value::U32(128), "shape"),
        ("llama.embedding_length", Value::U64(u64::MAX), "hidden_size"),
        ("llama.block_count", Value::U32(3), "missing"),
        ("llama.block_count", Value::U32(u32::MAX), "num_hidden_layers"),
        ("llama.attention.head_count", Value::U32(0), "head"),
        ("llama.context_length", Value::String("x".into()), "context_length"),
    ] {
        let mut metadata = plain_metadata();
        metadata.insert(key, value);
        save(&path, &metadata, &weights);
        let error = Llama::from_gguf(&path, 128).unwrap_err().to_string();
        assert!(error.contains(word), "{key}: {error}");
    }
}

/// A value of another type is no reason to take a default in its place.
#[test]
fn values_of_another_type_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let weights = tensors("plain", Some(16), GgmlDType::Q8_0);
    let text = || Value::String("2".into());
    let refused = |key: &'static str, value: Value| {
        let mut metadata = with_tokenizer(plain_metadata(), "gpt-2");
        metadata.insert(key, value);
        save(&path, &metadata, &weights);
        let error = CandleEngine::open(&path, &CandleOptions::default()).unwrap_err();
        assert!(matches!(&error, LoadError::Config(text) if text.contains(key)), "{key}: {error}");
    };
    refused("general.architecture", Value::U32(1));
    for key in [
        "llama.block_count",
        "llama.attention.key_length",
        "llama.attention.head_count_kv",
        "llama.attention.sliding_window",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
        "llama.expert_count",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_eos_token",
    ] {
        refused(key, text());
    }
    refused("llama.attention.head_count_kv", Value::Array(vec![Value::U32(2); 2]));
    refused("llama.attention.head_count_kv", Value::I32(-2));
    refused("llama.attention.layer_norm_rms_epsilon", text());
    refused("llama.rope.freq_base", Value::U32(10_000));
    refused("llama.rope.scaling.type", Value::U32(0));
    refused("tokenizer.ggml.pre", Value::U32(0));
    refused("tokenizer.chat_template", Value::Array(vec![text()]));
    // Of any width, and absent where there is a default.
    let mut metadata = with_tokenizer(plain_metadata(), "gpt-2");
    metadata.insert("llama.attention.head_count_kv", Value::I64(2));
    metadata.remove("llama.attention.layer_norm_rms_epsilon");
    metadata.remove("llama.attention.key_length");
    save(&path, &metadata, &weights);
    CandleEngine::open(&path, &CandleOptions::default()).unwrap();
}

/// A quantised matrix is not dequantised to be read, and yet damage in it is found.
#[test]
fn quantised_matrices_without_numbers_do_not_load() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for name in ["blk.1.ffn_down.weight", "output.weight"] {
        let mut weights = tensors("plain", Some(16), GgmlDType::Q8_0);
        let weight = &weights[name];
        let (mut bytes, shape) = (weight.data().unwrap().into_owned(), weight.shape().clone());
        let last = bytes.len() - GgmlDType::Q8_0.type_size();
        bytes[last..last + 2].copy_from_slice(&[0, 0x7e]);
        let data = QStorage::from_data(bytes.into(), &Device::Cpu, GgmlDType::Q8_0).unwrap();
        weights.insert(name.into(), QTensor::new(data, shape).unwrap());
        save(&path, &plain_metadata(), &weights);
        let error = Llama::from_gguf(&path, 128).unwrap_err();
        assert!(matches!(&error, LoadError::Weights(text) if text.contains("no finite")), "{name}: {error}");
    }
}

/// All tensors may claim the same bytes, so that a small file would take much memory.
#[test]
fn tensors_over_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let weights = tensors("plain", Some(16), GgmlDType::F32);
    save(&path, &plain_metadata(), &weights);
    Llama::from_gguf(&path, 128).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let mut begin = 0;
    for (name, tensor) in &weights {
        let place = bytes.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap();
        // Behind the name: how many sizes, the sizes, the type, and the place of the data.
        let place = place + name.len() + 4 + 8 * tensor.rank() + 4;
        bytes[place..place + 8].fill(0);
        begin = begin.max(place + 8);
    }
    let largest = weights.values().map(QTensor::storage_size_in_bytes).max().unwrap();
    bytes.truncate(begin.next_multiple_of(32) + largest);
    std::fs::write(&path, &bytes).unwrap();
    let error = Llama::from_gguf(&path, 128).unwrap_err();
    assert!(matches!(&error, LoadError::File { reason, .. } if reason.contains("more bytes")), "{error}");
}

/// A tensor that nothing asks for tells that the model is another.
#[test]
fn tensors_without_a_place_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut weights = tensors("plain", Some(16), GgmlDType::Q8_0);
    let extra = Tensor::ones(64, candle_core::DType::F32, &Device::Cpu).unwrap();
    weights.insert("blk.1.attn_sinks.weight".into(), QTensor::quantize(&extra, GgmlDType::F32).unwrap());
    save(&path, &plain_metadata(), &weights);
    let error = Llama::from_gguf(&path, 128).unwrap_err().to_string();
    assert!(error.contains("blk.1.attn_sinks.weight"), "{error}");
}

#[test]
fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    save(&path, &plain_metadata(), &tensors("plain", Some(16), GgmlDType::Q8_0));
    let bytes = std::fs::read(&path).unwrap();
    for end in [0, 3, 4, 8, 20, 100, 700, 2_000, bytes.len() / 2, bytes.len() - 40] {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(Llama::from_gguf(&path, 128).is_err(), "cut at {end}");
    }
    // Every byte of the header in turn: an error or a model, never a panic or a huge allocation.
    for at in 0..400 {
        let mut damaged = bytes.clone();
        damaged[at] = !damaged[at];
        std::fs::write(&path, &damaged).unwrap();
        let _ = Llama::from_gguf(&path, 128);
    }
}
