//! Models with random weights, for tests and measurements: their shapes cost what a trained
//! model's cost, and no download is needed.

use crate::{
    Llama, LlamaConfig, LoadError, Precision,
    gguf::gguf_name,
    linear::Linear,
    weights::{Source, assemble},
};
use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

/// A model of this shape whose weights follow from the seed. Matrices are uniform with variance
/// 2 / columns, so that attention is far from uniform and logits spread as a trained model's do;
/// norms lie around 1.
pub fn random_llama(config: LlamaConfig, precision: Precision, seed: u64) -> Result<Llama, LoadError> {
    let weights = assemble(&config, precision, &mut Random(seed))?;
    let context = config.max_positions.min(MAX_CONTEXT);
    Ok(Llama::new(config, weights, context)?)
}

/// Writes such a model as a GGUF file of the architecture llama, without a tokenizer, so that other
/// programs can be measured with the same weights.
pub fn random_gguf(
    config: LlamaConfig,
    precision: Precision,
    seed: u64,
    path: &Path,
) -> Result<(), LoadError> {
    let mut written = Written { random: Random(seed), tensors: BTreeMap::new() };
    assemble(&config, precision, &mut written)?;
    let number = |number: usize| Value::U32(u32::try_from(number).unwrap_or(u32::MAX));
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("tokenizer.ggml.model", Value::String("no_vocab".into())),
        ("llama.vocab_size", number(config.vocab)),
        ("llama.embedding_length", number(config.hidden)),
        ("llama.feed_forward_length", number(config.intermediate)),
        ("llama.block_count", number(config.layers)),
        ("llama.attention.head_count", number(config.heads)),
        ("llama.attention.head_count_kv", number(config.kv_heads)),
        ("llama.attention.key_length", number(config.head_dim)),
        ("llama.attention.value_length", number(config.head_dim)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps)),
        ("llama.rope.dimension_count", number(config.head_dim)),
        ("llama.rope.freq_base", Value::F32(config.rope.theta as f32)),
        ("llama.context_length", number(config.max_positions)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        written.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.as_ref())).collect();
    let mut file = File::create(path)
        .map_err(|error| LoadError::File { path: path.into(), reason: error.to_string() })?;
    Ok(gguf_file::write(&mut file, &metadata, &tensors)?)
}

/// Random weights that are kept as they are made. Of a tensor that is made twice, as a table and as a
/// matrix, the matrix stays.
struct Written {
    random: Random,
    tensors: BTreeMap<String, Arc<QTensor>>,
}

impl Source for Written {
    fn unread(&self) -> Option<String> {
        None
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let tensor = self.random.tensor(name, shape)?;
        self.tensors.insert(gguf_name(name)?, Arc::new(QTensor::quantize(&tensor, GgmlDType::F32)?));
        Ok(tensor)
    }

    fn linear(
        &mut self,
        name: &str,
        out: usize,
        input: usize,
        precision: Precision,
    ) -> Result<Linear, LoadError> {
        let linear = Linear::new(self.random.tensor(name, &[out, input])?, precision)?;
        self.tensors.insert(gguf_name(name)?, linear.stored()?);
        Ok(linear)
    }
}

/// Tables of positions are made for the whole context; a random model needs no longer one.
const MAX_CONTEXT: usize = 1 << 15;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Uniform in −1 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

impl Source for Random {
    fn unread(&self) -> Option<String> {
        None
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = match shape {
            [_, columns] => {
                // Uniform in ±a has the variance a² / 3.
                let width = (6.0 / *columns as f32).sqrt();
                (0..count).map(|_| self.next() * width).collect()
            }
            // Norms and biases; both lie around what they do not change.
            _ if name.ends_with(".bias") => (0..count).map(|_| self.next()).collect(),
            _ => (0..count).map(|_| 1.0 + 0.2 * self.next()).collect(),
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}
