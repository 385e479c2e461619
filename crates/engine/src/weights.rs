//! Putting a model's weights together, from any source of named tensors.
//!
//! Names are Hugging Face's; a source with other names translates.

use crate::{
    LoadError,
    config::{Biases, LlamaConfig},
    linear::{Linear, Precision},
    llama::{Layer, Weights},
};
use candle_core::{DType, Tensor};

/// Where weights come from.
pub(crate) trait Source {
    /// The tensor in f32. A missing name or another shape is an error that says so.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError>;

    /// The matrix (out, in), at the precision unless the source keeps its own.
    fn linear(
        &mut self,
        name: &str,
        out: usize,
        input: usize,
        precision: Precision,
    ) -> Result<Linear, LoadError> {
        Linear::new(self.tensor(name, &[out, input])?, precision)
    }

    /// A tensor that nobody asked for and that means something: a sign that the model is not the one
    /// that is computed.
    fn unread(&self) -> Option<String>;
}

/// Refuses a tensor with NaN or infinite values: quantising it would hide the damage in wrong but
/// finite answers. A sum is finite only if all its terms are.
pub(crate) fn finite(name: &str, tensor: Tensor) -> Result<Tensor, LoadError> {
    let sum = tensor.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    if sum.is_finite() {
        return Ok(tensor);
    }
    Err(not_finite(name))
}

pub(crate) fn not_finite(name: &str) -> LoadError {
    LoadError::Weights(format!("{name} has values that are no finite numbers; the file is damaged"))
}

/// Reads all weights of the configuration.
pub(crate) fn assemble(
    config: &LlamaConfig,
    precision: Precision,
    source: &mut dyn Source,
) -> Result<Weights, LoadError> {
    config.check()?;
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let (hidden, vocab) = (config.hidden, config.vocab);
    let embedding = source.tensor(EMBEDDING, &[vocab, hidden])?;
    let layers =
        (0..config.layers).map(|index| layer(config, precision, source, index)).collect::<Result<_, _>>()?;
    let norm = source.tensor("model.norm.weight", &[hidden])?;
    let head = if config.tied { EMBEDDING } else { "lm_head.weight" };
    let head = source.linear(head, vocab, hidden, precision.of_head())?;
    if let Some(name) = source.unread() {
        return Err(LoadError::Weights(format!(
            "{name} has no place in the model that the configuration describes; it is not computed here"
        )));
    }
    Ok(Weights { embedding, layers, norm, head })
}

fn layer(
    config: &LlamaConfig,
    precision: Precision,
    source: &mut dyn Source,
    index: usize,
) -> Result<Layer, LoadError> {
    let LlamaConfig { hidden, intermediate, heads, kv_heads, head_dim, .. } = *config;
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let name = |part: &str| format!("model.layers.{index}.{part}.weight");
    let attention_norm = source.tensor(&name("input_layernorm"), &[hidden])?;
    let mlp_norm = source.tensor(&name("post_attention_layernorm"), &[hidden])?;
    let mut head_norm = |part: &str| match config.qk_norm {
        true => source.tensor(&name(part), &[head_dim]).map(Some),
        false => Ok(None),
    };
    let (q_norm, k_norm) = (head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?);
    let mut linear = |part: &str, out: usize, input: usize, bias: bool| -> Result<Linear, LoadError> {
        let linear = source.linear(&name(part), out, input, precision)?;
        if !bias {
            return Ok(linear);
        }
        let name = format!("model.layers.{index}.{part}.bias");
        Ok(linear.with_bias(source.tensor(&name, &[out])?))
    };
    let Biases { qkv, output, mlp } = config.biases;
    Ok(Layer {
        attention_norm,
        q: linear("self_attn.q_proj", q_width, hidden, qkv)?,
        k: linear("self_attn.k_proj", kv_width, hidden, qkv)?,
        v: linear("self_attn.v_proj", kv_width, hidden, qkv)?,
        q_norm,
        k_norm,
        o: linear("self_attn.o_proj", hidden, q_width, output)?,
        mlp_norm,
        gate: linear("mlp.gate_proj", intermediate, hidden, mlp)?,
        up: linear("mlp.up_proj", intermediate, hidden, mlp)?,
        down: linear("mlp.down_proj", hidden, intermediate, mlp)?,
    })
}
