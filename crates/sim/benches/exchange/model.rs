//! A model of 100 million parameters with random weights: it costs what a trained one costs.

use anyhow::Result;
use gristmill_engine::{
    Biases, CandleEngine, CandleOptions, LlamaConfig, Precision, Rope, RopeScaling, random_llama,
};
use gristmill_tokenizer::{TextBundle, Tokenizer};
use std::path::Path;

/// Bytes of a q8_0 block of 32 weights: 32 of one byte and a scale of two.
const BLOCK_BYTES: f64 = 34.0;
const BLOCK_WEIGHTS: f64 = 32.0;

pub(crate) fn config() -> LlamaConfig {
    LlamaConfig {
        // The starter tokenizer's, so that a gateway can decode what comes.
        vocab: 408,
        hidden: 768,
        intermediate: 2048,
        layers: 14,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        norm_eps: 1e-5,
        max_positions: 4096,
        tied: true,
        biases: Biases::default(),
        qk_norm: false,
        windows: Vec::new(),
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    }
}

pub(crate) fn engine() -> Result<CandleEngine> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/numbers"));
    let tokenizer = Tokenizer::new(TextBundle::from_hf_dir(folder)?)?;
    let model = random_llama(config(), Precision::Q8_0, 1)?;
    Ok(CandleEngine::new(
        model,
        tokenizer,
        &CandleOptions { context_tokens: 4096, ..CandleOptions::default() },
    )?)
}

/// Bytes of weights that each step reads.
pub(crate) fn weight_bytes() -> f64 {
    config().parameters().map_or(f64::NAN, |count| count as f64) / BLOCK_WEIGHTS * BLOCK_BYTES
}
