//! A sentence encoder's shape, from `config.json`, and what is done with its output, from the files
//! of sentence-transformers.
//!
//! As with other models, what is not computed is refused by name: a vector that is almost right
//! would be compared with good ones and nobody would notice.

use crate::{
    LoadError,
    config::{
        MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH, bad, bounded, optional_size, pass_bytes, size,
    },
    folder::read_text,
};
use serde_json::Value;
use std::path::Path;

/// The shape of a BERT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) max_positions: usize,
    pub(crate) token_types: usize,
    pub(crate) norm_eps: f32,
    pub(crate) activation: Activation,
}

/// The function between the two matrices of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    GeluTanh,
    Relu,
}

/// How a text's rows become one vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) pooling: Pooling,
    pub(crate) normalise: bool,
    /// Tokens of a text for which the model was made, where its files say so.
    pub(crate) max_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The first token's row.
    First,
    /// The mean of all rows.
    Mean,
}

impl BertConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        Self::from_json(&json(&dir.join("config.json"))?)
    }

    fn from_json(json: &Value) -> Result<Self, LoadError> {
        let kind = json["model_type"].as_str().unwrap_or("none");
        if kind != "bert" {
            return Err(bad(format!("model_type is {kind}; embeddings are made by bert")));
        }
        let positions = json["position_embedding_type"].as_str().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(bad(format!("position_embedding_type is {positions}; absolute is supported")));
        }
        for flag in ["is_decoder", "add_cross_attention"] {
            if json[flag].as_bool() == Some(true) {
                return Err(bad(format!("{flag} is true; encoders are supported")));
            }
        }
        let activation = match json["hidden_act"].as_str().unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(bad(format!("hidden_act is {other}; gelu, gelu_new and relu are supported")));
            }
        };
        let config = Self {
            vocab: size(json, "vocab_size")?,
            hidden: size(json, "hidden_size")?,
            intermediate: size(json, "intermediate_size")?,
            layers: size(json, "num_hidden_layers")?,
            heads: size(json, "num_attention_heads")?,
            max_positions: size(json, "max_position_embeddings")?,
            token_types: optional_size(json, "type_vocab_size")?.unwrap_or(2),
            norm_eps: json["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32,
            activation,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        for (name, value, limit) in [
            ("vocab_size", self.vocab, MAX_VOCAB),
            ("hidden_size", self.hidden, MAX_WIDTH),
            ("intermediate_size", self.intermediate, 4 * MAX_WIDTH),
            ("num_hidden_layers", self.layers, MAX_LAYERS),
            ("num_attention_heads", self.heads, self.hidden),
            ("max_position_embeddings", self.max_positions, MAX_POSITIONS),
            ("type_vocab_size", self.token_types, MAX_VOCAB),
        ] {
            bounded(name, value, limit)?;
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(bad(format!("{} heads do not share a width of {}", self.heads, self.hidden)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(bad(format!("layer_norm_eps is {}; it must lie between 0 and 1", self.norm_eps)));
        }
        Ok(())
    }

    /// Bytes that the pass over one text of so many tokens holds at most.
    pub(crate) fn pass_bytes(&self, tokens: usize) -> usize {
        pass_bytes(tokens, tokens, self.heads, self.hidden.max(self.intermediate))
    }

    /// How many weights the model has.
    pub(crate) fn parameters(&self) -> u64 {
        let size = |rows: usize, columns: usize| (rows as u64).saturating_mul(columns as u64);
        let square = size(self.hidden, self.hidden).saturating_mul(4);
        let inner = size(self.hidden, self.intermediate).saturating_mul(2);
        // Biases, and two norms of scale and shift.
        let vectors = (9 * self.hidden as u64).saturating_add(self.intermediate as u64);
        let layer = square.saturating_add(inner).saturating_add(vectors);
        let rows = self.vocab + self.max_positions + self.token_types + 2;
        layer.saturating_mul(self.layers as u64).saturating_add(size(rows, self.hidden))
    }
}

impl Sentence {
    /// Reads `modules.json` and what it names.
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let modules = optional_json(&dir.join("modules.json"))?.ok_or_else(|| {
            bad("there is no modules.json, so nothing says how one vector is made of a text; \
                 save the model with sentence-transformers"
                .into())
        })?;
        refuse_prompt(dir)?;
        let (mut pooling, mut normalise) = (None, false);
        let modules = modules.as_array().ok_or_else(|| bad("modules.json is no list".into()))?;
        for (index, module) in modules.iter().enumerate() {
            // Older and newer versions differ in the path before the last word.
            let kind = module["type"].as_str().unwrap_or_default();
            match (index, kind.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") => {}
                (1, "Pooling") => pooling = Some(read_pooling(dir, module)?),
                (2, "Normalize") => normalise = true,
                _ => {
                    return Err(bad(format!(
                        "modules.json has {kind} in place {index}; Transformer, Pooling and perhaps Normalize are supported, in this order"
                    )));
                }
            }
        }
        let pooling = pooling.ok_or_else(|| bad("modules.json has no Pooling".into()))?;
        Ok(Self { pooling, normalise, max_tokens: max_tokens(dir)? })
    }
}

/// A text that the model wants in front of every input: who encodes knows nothing of it.
fn refuse_prompt(dir: &Path) -> Result<(), LoadError> {
    let settings = optional_json(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();
    let name = settings["default_prompt_name"].as_str().unwrap_or_default();
    match settings["prompts"][name].as_str() {
        Some(prompt) if !prompt.is_empty() => {
            Err(bad(format!("the model puts the prompt {prompt:?} before every text; that is not supported")))
        }
        _ => Ok(()),
    }
}

fn read_pooling(dir: &Path, module: &Value) -> Result<Pooling, LoadError> {
    let path = module["path"].as_str().unwrap_or("1_Pooling");
    let inside = !path.is_empty() && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !inside {
        return Err(bad(format!("modules.json names the folder {path:?}; it must lie in the model's")));
    }
    let json = json(&dir.join(path).join("config.json"))?;
    let modes: Vec<String> = match &json["pooling_mode"] {
        Value::String(mode) => vec![mode.clone()],
        Value::Array(modes) => modes.iter().map(|mode| mode.as_str().unwrap_or("none").into()).collect(),
        // Before, each mode had a switch of its own.
        _ => switches(&json),
    };
    match modes.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mean"] => Ok(Pooling::Mean),
        ["cls"] => Ok(Pooling::First),
        _ => Err(bad(format!("pooling is {}; mean or cls is supported", modes.join(" and ")))),
    }
}

fn switches(json: &Value) -> Vec<String> {
    let fields = json.as_object().into_iter().flatten();
    let on = fields.filter(|(_, value)| value.as_bool() == Some(true));
    let modes = on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_"));
    modes.map(|mode| mode.trim_end_matches("_tokens").trim_end_matches("_token").into()).collect()
}

/// Where the model's length is said: by older versions beside the model, by newer with the tokenizer.
fn max_tokens(dir: &Path) -> Result<Option<usize>, LoadError> {
    let settings = optional_json(&dir.join("sentence_bert_config.json"))?.unwrap_or_default();
    let lowers = settings["do_lower_case"].as_bool() == Some(true);
    let tokenizer = optional_json(&dir.join("tokenizer.json"))?.unwrap_or_default();
    if lowers && tokenizer["normalizer"]["lowercase"].as_bool() != Some(true) {
        return Err(bad(
            "do_lower_case is true and the tokenizer does not do it; that is not supported".into()
        ));
    }
    if let Some(tokens) = optional_size(&settings, "max_seq_length")? {
        return Ok(Some(tokens));
    }
    let settings = optional_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    // Where there is no bound, a number stands here that is no size.
    Ok(settings["model_max_length"].as_u64().and_then(|tokens| usize::try_from(tokens).ok()))
}

fn json(path: &Path) -> Result<Value, LoadError> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| LoadError::File { path: path.into(), reason: format!("not JSON: {error}") })
}

fn optional_json(path: &Path) -> Result<Option<Value>, LoadError> {
    if path.exists() { json(path).map(Some) } else { Ok(None) }
}
