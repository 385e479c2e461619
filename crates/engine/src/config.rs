//! The shape of a Llama-family model, from Hugging Face's `config.json`.
//!
//! A feature that this engine does not compute is an error that names it: a model that loads and
//! then answers wrongly would be worse. All numbers are bounded before anything is allocated.

use crate::LoadError;
use serde_json::Value;

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Token ids.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside of the feed-forward part.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added under the root of the norms.
    pub norm_eps: f32,
    /// Positions that the model was made for.
    pub max_positions: usize,
    /// Whether input and output embeddings are one matrix.
    pub tied: bool,
    /// How positions enter.
    pub rope: Rope,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How the wavelengths were stretched for a longer context.
    pub scaling: RopeScaling,
    /// Whether a pair is two neighbours (GGUF's order of rows) or lies half a head apart (Hugging
    /// Face's).
    pub interleaved: bool,
}

/// How rope's wavelengths were stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long ones by the factor, short ones not, those between by a share of it.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context before the stretch.
        original: f64,
    },
    /// Each by its own factor, as GGUF files carry them.
    Factors(Vec<f32>),
}

pub(crate) const MAX_VOCAB: usize = 1 << 22;
pub(crate) const MAX_WIDTH: usize = 1 << 18;
pub(crate) const MAX_LAYERS: usize = 1 << 10;
pub(crate) const MAX_POSITIONS: usize = 1 << 26;
const MAX_PARAMETERS: u64 = 1 << 42;

impl LlamaConfig {
    /// Reads the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        let json: Value = serde_json::from_str(text).map_err(|error| bad(format!("not JSON: {error}")))?;
        refuse_unsupported(&json)?;
        let heads = size(&json, "num_attention_heads")?;
        let hidden = size(&json, "hidden_size")?;
        let mut max_positions = size(&json, "max_position_embeddings")?;
        if let Some(window) = json["sliding_window"].as_u64() {
            // Within the window, a sliding window is plain attention.
            max_positions = max_positions.min(usize::try_from(window).unwrap_or(usize::MAX));
        }
        let config = Self {
            vocab: size(&json, "vocab_size")?,
            hidden,
            intermediate: size(&json, "intermediate_size")?,
            layers: size(&json, "num_hidden_layers")?,
            heads,
            kv_heads: optional_size(&json, "num_key_value_heads")?.unwrap_or(heads),
            head_dim: match optional_size(&json, "head_dim")? {
                Some(width) => width,
                None => hidden.checked_div(heads).unwrap_or(0),
            },
            norm_eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32,
            max_positions,
            tied: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            rope: rope(&json)?,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the numbers fit together and are within what is allocated for.
    pub fn check(&self) -> Result<(), LoadError> {
        for (name, value, limit) in [
            ("vocab_size", self.vocab, MAX_VOCAB),
            ("hidden_size", self.hidden, MAX_WIDTH),
            ("intermediate_size", self.intermediate, 4 * MAX_WIDTH),
            ("num_hidden_layers", self.layers, MAX_LAYERS),
            ("num_attention_heads", self.heads, MAX_WIDTH),
            ("num_key_value_heads", self.kv_heads, self.heads),
            ("head_dim", self.head_dim, 1024),
            ("max_position_embeddings", self.max_positions, MAX_POSITIONS),
        ] {
            if value == 0 || value > limit {
                return Err(bad(format!("{name} is {value}; it must be 1 to {limit}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(bad(format!(
                "{} heads do not share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(bad(format!("head_dim is {}; rope needs an even one", self.head_dim)));
        }
        if self.heads.saturating_mul(self.head_dim) > MAX_WIDTH {
            return Err(bad(format!("{} heads of {} are too wide", self.heads, self.head_dim)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(bad(format!("rms_norm_eps is {}; it must lie between 0 and 1", self.norm_eps)));
        }
        self.rope.check(self.head_dim)?;
        match self.parameters() {
            Some(count) if count <= MAX_PARAMETERS => Ok(()),
            _ => Err(bad("the model is larger than any that this engine loads".into())),
        }
    }

    /// How many weights the model has; `None` if that does not fit.
    pub fn parameters(&self) -> Option<u64> {
        let size = |rows: usize, columns: usize| (rows as u64).checked_mul(columns as u64);
        let attention = size(self.hidden, self.head_dim)?
            .checked_mul(2 * (self.heads as u64).checked_add(self.kv_heads as u64)?)?;
        let layer = attention
            .checked_add(size(self.hidden, self.intermediate)?.checked_mul(3)?)?
            .checked_add(2 * self.hidden as u64)?;
        let embeddings = size(self.vocab, self.hidden)?.checked_mul(if self.tied { 1 } else { 2 })?;
        layer.checked_mul(self.layers as u64)?.checked_add(embeddings)?.checked_add(self.hidden as u64)
    }

    /// Bytes of keys and values for one token.
    pub(crate) fn kv_bytes_per_token(&self) -> usize {
        2 * size_of::<f32>() * self.layers * self.kv_heads * self.head_dim
    }
}

impl Rope {
    fn check(&self, head_dim: usize) -> Result<(), LoadError> {
        let positive = |name: &str, value: f64| {
            let fits = value.is_finite() && value > 0.0;
            if fits { Ok(()) } else { Err(bad(format!("{name} is {value}; it must be a positive number"))) }
        };
        positive("rope_theta", self.theta)?;
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("rope scaling's factor", *factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                positive("rope scaling's factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("original_max_position_embeddings", *original)?;
                positive("high_freq_factor - low_freq_factor", high_freq_factor - low_freq_factor)
            }
            RopeScaling::Factors(factors) => {
                if factors.len() != head_dim / 2 {
                    return Err(bad(format!("{} rope factors for a head of {head_dim}", factors.len())));
                }
                factors.iter().try_for_each(|factor| positive("a rope factor", f64::from(*factor)))
            }
        }
    }
}

pub(crate) fn bad(reason: String) -> LoadError {
    LoadError::Config(reason)
}

/// Names what the model needs and the engine does not compute.
fn refuse_unsupported(json: &Value) -> Result<(), LoadError> {
    let kind = json["model_type"].as_str().unwrap_or("none");
    if !matches!(kind, "llama" | "mistral") {
        return Err(bad(format!("model_type is {kind}; llama and mistral are supported")));
    }
    let act = json["hidden_act"].as_str().unwrap_or("silu");
    if act != "silu" {
        return Err(bad(format!("hidden_act is {act}; silu is supported")));
    }
    for flag in ["attention_bias", "mlp_bias"] {
        if json[flag].as_bool() == Some(true) {
            return Err(bad(format!("{flag} is true; biases are not supported")));
        }
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
    Ok(())
}

pub(crate) fn size(json: &Value, name: &str) -> Result<usize, LoadError> {
    optional_size(json, name)?.ok_or_else(|| bad(format!("{name} is missing")))
}

pub(crate) fn optional_size(json: &Value, name: &str) -> Result<Option<usize>, LoadError> {
    if json[name].is_null() {
        return Ok(None);
    }
    let value = json[name].as_u64().and_then(|value| usize::try_from(value).ok());
    value
        .map(Some)
        .ok_or_else(|| bad(format!("{name} is {}; it must be a positive whole number", json[name])))
}

/// transformers 5 writes `rope_parameters` with everything; 4 wrote `rope_theta` beside
/// `rope_scaling`.
fn rope(json: &Value) -> Result<Rope, LoadError> {
    let object =
        [&json["rope_parameters"], &json["rope_scaling"]].into_iter().find(|value| value.is_object());
    let object = object.unwrap_or(&Value::Null);
    let theta = object["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0);
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
    fn a_sliding_window_bounds_the_context() {
        assert_eq!(with(json!({"model_type": "mistral", "sliding_window": 32})).unwrap().max_positions, 32);
        assert_eq!(with(json!({"sliding_window": null})).unwrap().max_positions, 128);
    }

    #[test]
    fn what_is_not_computed_is_named() {
        for (changes, word) in [
            (json!({"model_type": "qwen2"}), "qwen2"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"attention_bias": true}), "attention_bias"),
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
