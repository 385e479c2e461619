//! The shape of a model of the Llama family: Llama, Mistral, Qwen2 and Qwen3 differ in what is present,
//! so each difference is a field here and no family has code of its own.
//!
//! All numbers are bounded before anything is allocated.

mod huggingface;

use crate::{LoadError, scheduler::PREFILL_TOKENS};
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
    /// Which matrices have biases.
    pub biases: Biases,
    /// Whether each head's query and key are normed before they are turned.
    pub qk_norm: bool,
    /// For each layer the last tokens that it sees, the newest among them; `None` if it sees all, and
    /// empty if all layers do.
    pub windows: Vec<Option<usize>>,
    /// How positions enter.
    pub rope: Rope,
}

/// Which matrices have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Those of query, key and value.
    pub qkv: bool,
    /// That of attention's output.
    pub output: bool,
    /// Those of the feed-forward part.
    pub mlp: bool,
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
            bounded(name, value, limit)?;
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
        if !self.windows.is_empty() && self.windows.len() != self.layers {
            return Err(bad(format!("{} windows are given for {} layers", self.windows.len(), self.layers)));
        }
        if self.windows.contains(&Some(0)) {
            return Err(bad("a sliding window is 0; it must be at least 1".into()));
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
        let Biases { qkv, output, mlp } = self.biases;
        let width = |present: bool, width: usize| if present { width as u64 } else { 0 };
        let heads = self.heads.checked_add(2 * self.kv_heads)?.checked_mul(self.head_dim)?;
        let biases = width(qkv, heads) + width(output, self.hidden);
        let biases = biases + width(mlp, 2 * self.intermediate + self.hidden);
        let norms = 2 * self.hidden as u64 + width(self.qk_norm, 2 * self.head_dim);
        let layer = attention
            .checked_add(size(self.hidden, self.intermediate)?.checked_mul(3)?)?
            .checked_add(biases + norms)?;
        let embeddings = size(self.vocab, self.hidden)?.checked_mul(if self.tied { 1 } else { 2 })?;
        layer.checked_mul(self.layers as u64)?.checked_add(embeddings)?.checked_add(self.hidden as u64)
    }

    /// The layer's window.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Bytes that a step over one chunk of a prompt holds at most, behind so many tokens.
    pub(crate) fn pass_bytes(&self, context: usize) -> usize {
        let width = self.hidden.max(self.intermediate).max(self.heads.saturating_mul(self.head_dim));
        pass_bytes(context.min(PREFILL_TOKENS), context, self.heads, width)
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

pub(crate) fn bounded(name: &str, value: usize, limit: usize) -> Result<(), LoadError> {
    if value == 0 || value > limit {
        return Err(bad(format!("{name} is {value}; it must be 1 to {limit}")));
    }
    Ok(())
}

/// Bytes that a pass of so many rows holds at most beside weights, keys and values: two copies of one layer's
/// attention scores, or four of its widest rows.
pub(crate) fn pass_bytes(rows: usize, context: usize, heads: usize, width: usize) -> usize {
    let scores = heads.saturating_mul(context).saturating_mul(2);
    scores.max(width.saturating_mul(4)).saturating_mul(rows).saturating_mul(size_of::<f32>())
}

/// The longest context, up to `most`, whose bytes stay within the limit; 0 if none does. Bytes grow with it.
pub(crate) fn longest(most: usize, limit: usize, bytes: impl Fn(usize) -> usize) -> usize {
    let (mut fits, mut most) = (0, most);
    while fits < most {
        let middle = most - (most - fits) / 2;
        if bytes(middle) <= limit {
            fits = middle;
        } else {
            most = middle - 1;
        }
    }
    fits
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_cut_to_the_longest_that_fits() {
        for most in 0..20 {
            for limit in 0..500 {
                let bytes = |context: usize| 3 * context * context + 2;
                let expected = (1..=most).rev().find(|context| bytes(*context) <= limit).unwrap_or(0);
                assert_eq!(longest(most, limit, bytes), expected, "{most} {limit}");
            }
        }
        // 8 heads: 2 · 8 · 1000 scores are more than four rows of 64, until the context is 15 tokens.
        assert_eq!(pass_bytes(256, 1000, 8, 64), 256 * 16_000 * 4);
        assert_eq!(pass_bytes(15, 15, 8, 64), 15 * 256 * 4);
        assert_eq!(pass_bytes(2, usize::MAX, 8, 64), usize::MAX);
    }
}
