//! Shapes from Hugging Face's `config.json`, as transformers 4 and 5 write it.
//!
//! What a file leaves out has the family's default, as in transformers. A feature that this engine
//! does not compute is an error that names it: a model that loads and then answers wrongly would be
//! worse.

use super::{Biases, LlamaConfig, MAX_LAYERS, Rope, RopeScaling, bad, bounded, optional_size, size};
use crate::LoadError;
use serde_json::Value;

/// Where families differ in what their files say or leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl LlamaConfig {
    /// Reads the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        let json: Value = serde_json::from_str(text).map_err(|error| bad(format!("not JSON: {error}")))?;
        let family = family(&json)?;
        refuse_unsupported(&json)?;
        let heads = size(&json, "num_attention_heads")?;
        let hidden = size(&json, "hidden_size")?;
        let layers = size(&json, "num_hidden_layers")?;
        // Windows are listed by layer, so their number is bounded before that.
        bounded("num_hidden_layers", layers, MAX_LAYERS)?;
        let kv_heads = optional_size(&json, "num_key_value_heads")?;
        let config = Self {
            vocab: size(&json, "vocab_size")?,
            hidden,
            intermediate: size(&json, "intermediate_size")?,
            layers,
            heads,
            kv_heads: kv_heads.unwrap_or(match family {
                Family::Llama => heads,
                Family::Mistral => 8,
                Family::Qwen2 | Family::Qwen3 => 32,
            }),
            head_dim: match optional_size(&json, "head_dim")? {
                Some(width) => width,
                None if family == Family::Qwen3 => 128,
                None => hidden.checked_div(heads).unwrap_or(0),
            },
            norm_eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32,
            max_positions: size(&json, "max_position_embeddings")?,
            tied: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            biases: biases(&json, family),
            qk_norm: family == Family::Qwen3,
            windows: windows(&json, family, layers)?,
            rope: rope(&json)?,
        };
        config.check()?;
        Ok(config)
    }
}

fn family(json: &Value) -> Result<Family, LoadError> {
    match json["model_type"].as_str().unwrap_or("none") {
        "llama" => Ok(Family::Llama),
        "mistral" => Ok(Family::Mistral),
        "qwen2" => Ok(Family::Qwen2),
        "qwen3" => Ok(Family::Qwen3),
        "bert" => Err(bad("model_type is bert; it makes embeddings and answers no prompts".into())),
        other => Err(bad(format!("model_type is {other}; llama, mistral, qwen2 and qwen3 are supported"))),
    }
}

/// Names what the model needs and the engine does not compute.
fn refuse_unsupported(json: &Value) -> Result<(), LoadError> {
    let act = json["hidden_act"].as_str().unwrap_or("silu");
    if act != "silu" {
        return Err(bad(format!("hidden_act is {act}; silu is supported")));
    }
    if !json["quantization_config"].is_null() {
        return Err(bad(
            "the weights are quantised in a format of their own; use the original weights or a GGUF".into(),
        ));
    }
    let partial = |value: &Value| value["partial_rotary_factor"].as_f64().is_some_and(|factor| factor != 1.0);
    if partial(json) || partial(&json["rope_parameters"]) {
        return Err(bad("partial_rotary_factor is not supported".into()));
    }
    for feature in ["num_experts", "num_local_experts", "attn_logit_softcapping", "final_logit_softcapping"] {
        if !matches!(&json[feature], Value::Null) && json[feature].as_f64() != Some(0.0) {
            return Err(bad(format!("{feature} is {}; that is not supported", json[feature])));
        }
    }
    Ok(())
}

/// Qwen2 has biases that its files do not mention; the others say so where they have any.
fn biases(json: &Value, family: Family) -> Biases {
    let on = |flag: &str| json[flag].as_bool() == Some(true);
    match family {
        Family::Llama => {
            let attention = on("attention_bias");
            Biases { qkv: attention, output: attention, mlp: on("mlp_bias") }
        }
        Family::Mistral => Biases::default(),
        Family::Qwen2 => Biases { qkv: true, output: false, mlp: false },
        Family::Qwen3 => {
            let attention = on("attention_bias");
            Biases { qkv: attention, output: attention, mlp: false }
        }
    }
}

/// The sliding windows, by layer: of Mistral in every layer, of Qwen where it is switched on.
fn windows(json: &Value, family: Family, layers: usize) -> Result<Vec<Option<usize>>, LoadError> {
    let width = optional_size(json, "sliding_window")?;
    let switched = json["use_sliding_window"].as_bool() == Some(true);
    let (width, first) = match family {
        Family::Llama if width.is_some() => {
            return Err(bad("llama has no sliding_window; this file has".into()));
        }
        // Mistral's first models were made with one, and a file that says nothing means it.
        Family::Mistral if json.get("sliding_window").is_none() => (Some(4096), 0),
        Family::Mistral => (width, 0),
        Family::Qwen2 | Family::Qwen3 if switched => {
            let width = if json.get("sliding_window").is_none() { Some(4096) } else { width };
            (width, optional_size(json, "max_window_layers")?.unwrap_or(28))
        }
        Family::Llama | Family::Qwen2 | Family::Qwen3 => (None, 0),
    };
    let kinds = match &json["layer_types"] {
        Value::Null => None,
        Value::Array(kinds) if kinds.len() == layers => Some(kinds),
        _ => return Err(bad(format!("layer_types is no list of {layers} layers"))),
    };
    let slides = |layer: usize| match kinds {
        None => Ok(layer >= first),
        Some(kinds) => match kinds.get(layer).and_then(Value::as_str) {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            other => Err(bad(format!(
                "a layer's attention is {}; full_attention and sliding_attention are supported",
                other.unwrap_or("none")
            ))),
        },
    };
    let windows = (0..layers).map(|layer| Ok(if slides(layer)? { width } else { None }));
    let windows: Vec<Option<usize>> = windows.collect::<Result<_, LoadError>>()?;
    Ok(if windows.iter().all(Option::is_none) { Vec::new() } else { windows })
}

/// transformers 5 writes `rope_parameters` with everything; 4 wrote `rope_theta` beside
/// `rope_scaling`.
fn rope(json: &Value) -> Result<Rope, LoadError> {
    let object =
        [&json["rope_parameters"], &json["rope_scaling"]].into_iter().find(|value| value.is_object());
    let object = object.unwrap_or(&Value::Null);
    let theta = object["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0);
    if let Some(kind) =
        ["full_attention", "sliding_attention"].into_iter().find(|kind| object[*kind].is_object())
    {
        return Err(bad(format!("rope has parameters of its own for {kind}; that is not supported")));
    }
    let number = |name: &str| object[name].as_f64().ok_or_else(|| bad(format!("rope scaling has no {name}")));
    let kind = object["rope_type"].as_str().or(object["type"].as_str()).unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        },
        other => {
            return Err(bad(format!(
                "rope scaling of type {other} is not supported; default, linear and llama3 are"
            )));
        }
    };
    Ok(Rope { theta, scaling, interleaved: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain() -> Value {
        json!({"model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 160,
               "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128})
    }

    fn with(changes: Value) -> Result<LlamaConfig, LoadError> {
        let mut json = plain();
        for (name, value) in changes.as_object().unwrap() {
            json[name] = value.clone();
        }
        LlamaConfig::from_json(&json.to_string())
    }

    #[test]
    fn defaults_are_hugging_faces() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.kv_heads, config.head_dim, config.tied), (4, 16, false));
        assert_eq!(config.rope, Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false });
        // Embeddings twice, two layers of four attention and three other matrices and two norms, one norm.
        assert_eq!(config.parameters(), Some(2 * 96 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 160 + 128) + 64));
    }

    #[test]
    fn both_spellings_of_rope_are_read() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let old = with(json!({"rope_theta": 500000.0, "rope_scaling": scaling})).unwrap();
        let mut parameters = scaling;
        parameters["rope_theta"] = json!(500_000.0);
        let new = with(json!({"rope_parameters": parameters})).unwrap();
        assert_eq!(old.rope, new.rope);
        assert_eq!(old.rope.theta, 500_000.0);
        assert!(matches!(old.rope.scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
        let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn windows_are_those_of_the_family() {
        let windows = |changes: Value| with(changes).unwrap().windows;
        let mistral = |window: Value| {
            windows(json!({"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": window}))
        };
        assert_eq!(mistral(json!(32)), [Some(32), Some(32)]);
        assert!(mistral(json!(null)).is_empty());
        assert_eq!(windows(json!({"model_type": "mistral", "num_key_value_heads": 4})), [Some(4096); 2]);
        for family in ["qwen2", "qwen3"] {
            let qwen = |changes: Value| {
                let mut all = json!({"model_type": family, "num_key_value_heads": 4, "sliding_window": 32});
                all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
                windows(all)
            };
            assert!(qwen(json!({"max_window_layers": 0})).is_empty(), "it is off if nothing is said");
            assert!(qwen(json!({"use_sliding_window": false, "max_window_layers": 0})).is_empty());
            assert!(qwen(json!({"use_sliding_window": true})).is_empty(), "from layer 28 on");
            let second = json!({"use_sliding_window": true, "max_window_layers": 1});
            assert_eq!(qwen(second), [None, Some(32)]);
            let kinds = json!(["sliding_attention", "full_attention"]);
            let first = json!({"use_sliding_window": true, "max_window_layers": 1, "layer_types": kinds});
            assert_eq!(qwen(first), [Some(32), None]);
        }
    }

    #[test]
    fn families_differ_in_what_they_leave_out() {
        let shape = |family: &str, changes: Value| {
            let mut all = json!({"model_type": family, "num_attention_heads": 32, "hidden_size": 128});
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let config = with(all).unwrap();
            (config.kv_heads, config.head_dim, config.biases, config.qk_norm)
        };
        let (none, qkv) = (Biases::default(), Biases { qkv: true, ..Biases::default() });
        assert_eq!(shape("llama", json!({})), (32, 4, none, false));
        assert_eq!(shape("mistral", json!({"attention_bias": true})), (8, 4, none, false));
        assert_eq!(shape("qwen2", json!({})), (32, 4, qkv, false));
        assert_eq!(shape("qwen3", json!({})), (32, 128, none, true));
        let attention = Biases { qkv: true, output: true, mlp: false };
        assert_eq!(shape("qwen3", json!({"attention_bias": true})).2, attention);
        let all = json!({"attention_bias": true, "mlp_bias": true, "head_dim": 8});
        assert_eq!(shape("llama", all), (32, 8, Biases { mlp: true, ..attention }, false));
    }

    #[test]
    fn what_is_not_computed_is_named() {
        for (changes, word) in [
            (json!({"model_type": "qwen3_moe"}), "qwen3_moe"),
            (json!({"model_type": "bert"}), "embeddings"),
            (json!({"num_experts": 8}), "num_experts"),
            (json!({"num_local_experts": 8}), "num_local_experts"),
            (json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
            (json!({"sliding_window": 32}), "sliding_window"),
            (json!({"layer_types": ["full_attention", "chunked_attention"]}), "chunked_attention"),
            (json!({"layer_types": ["full_attention"]}), "layer_types"),
            (
                json!({"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": 0}),
                "sliding window",
            ),
            (json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}), "full_attention"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"quantization_config": {"quant_method": "gptq"}}), "quantised"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "yarn"),
            (json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "low_freq_factor"),
            (json!({"partial_rotary_factor": 0.5}), "partial"),
        ] {
            let error = with(changes).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn bad_numbers_are_errors() {
        for (name, value) in [
            ("vocab_size", json!(0)),
            ("vocab_size", json!(u64::MAX)),
            ("vocab_size", json!(-1)),
            ("vocab_size", json!("96")),
            ("vocab_size", json!(null)),
            ("hidden_size", json!(1u64 << 40)),
            ("num_hidden_layers", json!(100_000)),
            ("num_attention_heads", json!(0)),
            ("num_key_value_heads", json!(3)),
            ("num_key_value_heads", json!(8)),
            ("head_dim", json!(15)),
            ("head_dim", json!(1u64 << 30)),
            ("max_position_embeddings", json!(u64::MAX)),
            ("rms_norm_eps", json!(0.0)),
            ("rope_theta", json!(-1.0)),
            ("rope_theta", json!(0)),
        ] {
            let error = with(json!({ name: value })).unwrap_err();
            assert!(matches!(error, LoadError::Config(_)), "{name}: {error}");
        }
        for text in ["", "[]", "{", "null"] {
            assert!(LlamaConfig::from_json(text).is_err(), "{text}");
        }
    }
}
