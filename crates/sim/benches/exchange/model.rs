//! A model of 100 million parameters with random weights: it costs what a trained one costs.

use anyhow::Result;
use gristmill_engine::{
    Biases, CandleEngine, CandleOptions, Llama, LlamaConfig, Precision, Rope, RopeScaling, random_gguf,
    random_llama,
};
use gristmill_tokenizer::{TextBundle, Tokenizer};
use std::{path::Path, sync::Arc};

const CONTEXT: usize = 4096;

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
        max_positions: CONTEXT,
        tied: true,
        biases: Biases::default(),
        qk_norm: false,
        windows: Vec::new(),
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    }
}

pub(crate) fn engine() -> Result<CandleEngine> {
    Ok(CandleEngine::new(random_llama(config(), Precision::Q8_0, 1)?, tokenizer()?, &options())?)
}

fn tokenizer() -> Result<Arc<Tokenizer>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/numbers"));
    Ok(Tokenizer::new(TextBundle::from_hf_dir(folder)?)?)
}

fn options() -> CandleOptions {
    CandleOptions { context_tokens: CONTEXT, ..CandleOptions::default() }
}

/// The model as a file that other programs read too.
pub(crate) fn write(path: &Path, precision: Precision) -> Result<()> {
    Ok(random_gguf(config(), precision, 1, path)?)
}

/// An engine with such a file.
pub(crate) fn open(path: &Path) -> Result<CandleEngine> {
    Ok(CandleEngine::new(Llama::from_gguf(path, CONTEXT)?, tokenizer()?, &options())?)
}

/// Bytes of weights that each step reads.
pub(crate) fn weight_bytes(precision: Precision) -> f64 {
    let bits = match precision {
        Precision::F32 => 32.0,
        // A block of 32 weights has 32 bytes and a scale of two.
        Precision::Q8_0 => 8.5,
        // A block of 256 weights has 128 bytes, twelve for the scales of its parts and four for theirs.
        Precision::Q4K => 4.5,
    };
    config().parameters().map_or(f64::NAN, |count| count as f64) * bits / 8.0
}
