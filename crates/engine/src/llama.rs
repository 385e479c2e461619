//! The forward pass of the Llama family.
//!
//! One function, [`Llama::step`], computes any number of new tokens for any number of sequences:
//! all of them go through the matrices as rows of one product, and attention is computed for each
//! sequence against its own keys and values. Prefill, decoding, batching and teacher forcing are
//! all calls of it.
//!
//! Attention comes in two shapes. [`Attention::Block`] takes a sequence's new tokens in one product
//! under a causal mask; prompts are computed so. [`Attention::Rows`] takes each new token alone,
//! the shape of decoding, so that an answer computed again at once has the bits that it had token
//! by token.

use crate::{
    config::LlamaConfig,
    exact::is_exact,
    linear::{Linear, class, kinds},
    rope::RopeTable,
};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{ops, rotary_emb};
use std::collections::{BTreeMap, btree_map::Entry};

/// One layer's weights.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Tensor,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    /// Of each head, where the model has them.
    pub(crate) q_norm: Option<Tensor>,
    pub(crate) k_norm: Option<Tensor>,
    pub(crate) o: Linear,
    pub(crate) mlp_norm: Tensor,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Layer {
    fn matrices(&self) -> [&Linear; 7] {
        // Taken apart whole, so that a new field cannot be forgotten here.
        let Self { attention_norm: _, q, k, v, q_norm: _, k_norm: _, o, mlp_norm: _, gate, up, down } = self;
        [q, k, v, o, gate, up, down]
    }
}

/// All weights, as a source of them fills it.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    pub(crate) head: Linear,
}

/// A model of the Llama family in memory.
#[derive(Clone, Debug)]
pub struct Llama {
    config: LlamaConfig,
    weights: Weights,
    rope: RopeTable,
    context: usize,
}

/// Keys and values of one sequence, (kv_heads, capacity, head_dim) for each layer.
#[derive(Debug)]
pub(crate) struct Kv {
    layers: Vec<(Tensor, Tensor)>,
    capacity: usize,
    len: usize,
}

impl Kv {
    /// How many tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// One sequence's part of a step.
pub(crate) struct Part<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) kv: &'a mut Kv,
}

/// Which rows of logits a step gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Each sequence's last.
    Last,
    /// All, in order.
    All,
}

/// The shape in which attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// A sequence's new tokens at once.
    Block,
    /// Each new token alone.
    Rows,
}

impl Llama {
    /// Puts a model together for a context of at most so many tokens.
    pub(crate) fn new(config: LlamaConfig, weights: Weights, context: usize) -> Result<Self> {
        let context = context.min(config.max_positions);
        let rope = RopeTable::new(&config, context)?;
        Ok(Self { config, weights, rope, context })
    }

    /// The model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Tokens of one sequence at most.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The types of the weight matrices by GGML's names, joined with `+`: `q8_0` for most.
    pub fn kind(&self) -> String {
        kinds(self.matrices())
    }

    /// What quotes and receipts call an engine of this model on this processor.
    pub(crate) fn class(&self) -> String {
        class(self.matrices())
    }

    /// Whether a sequence's logits have the same bits whatever else is in the batch.
    pub fn exact(&self) -> bool {
        self.matrices().all(|matrix| is_exact(matrix.kind()))
    }

    /// Whether an answer's tokens can be compared with those of a recomputation at all: exactly, or
    /// with f32's margin. A quantised product rounds its input to eight bits, where a last bit decides
    /// between two steps; without exact kernels an honest answer may lie as far off as another model's.
    pub(crate) fn comparable(&self) -> bool {
        self.exact() || self.matrices().all(|matrix| matrix.kind() == "f32")
    }

    fn matrices(&self) -> impl Iterator<Item = &Linear> {
        self.weights.layers.iter().flat_map(Layer::matrices).chain([&self.weights.head])
    }

    /// The logits at every position of a sequence, computed at once.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut kv = self.new_kv(ids.len())?;
        self.step(&mut [Part { tokens: ids, kv: &mut kv }], Rows::All, Attention::Block)?.to_vec2()
    }

    /// Room for the keys and values of so many tokens.
    pub(crate) fn new_kv(&self, capacity: usize) -> Result<Kv> {
        let capacity = capacity.min(self.context);
        let shape = (self.config.kv_heads, capacity, self.config.head_dim);
        let zeros = || Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let layers = (0..self.config.layers).map(|_| Ok((zeros()?, zeros()?))).collect::<Result<_>>()?;
        Ok(Kv { layers, capacity, len: 0 })
    }

    /// Computes the parts' new tokens and appends their keys and values. The rows of logits come in
    /// the order of the parts.
    pub(crate) fn step(&self, parts: &mut [Part<'_>], rows: Rows, attention: Attention) -> Result<Tensor> {
        let flat: Vec<u32> = parts.iter().flat_map(|part| part.tokens.iter().copied()).collect();
        for part in parts.iter() {
            if part.tokens.is_empty() || part.kv.len + part.tokens.len() > part.kv.capacity {
                let (new, held, capacity) = (part.tokens.len(), part.kv.len, part.kv.capacity);
                candle_core::bail!("{new} new tokens do not fit behind {held} of {capacity}");
            }
        }
        let count = flat.len();
        let mut x = self.weights.embedding.index_select(&Tensor::from_vec(flat, count, &Device::Cpu)?, 0)?;
        let mut masks = BTreeMap::new();
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let window = self.config.window(index);
            let masks = match masks.entry(window) {
                Entry::Occupied(made) => made.into_mut(),
                Entry::Vacant(empty) => {
                    let masks = parts.iter().map(|part| mask(part, attention, window));
                    empty.insert(masks.collect::<Result<Vec<_>>>()?)
                }
            };
            x = self.layer(index, layer, &x, parts, masks, attention)?;
        }
        for part in parts.iter_mut() {
            part.kv.len += part.tokens.len();
        }
        if rows == Rows::Last && count != parts.len() {
            x = x.index_select(&last_rows(parts)?, 0)?;
        }
        self.weights.head.forward(&self.norm(&x, &self.weights.norm)?)
    }

    fn layer(
        &self,
        index: usize,
        layer: &Layer,
        x: &Tensor,
        parts: &mut [Part<'_>],
        masks: &[Option<Tensor>],
        attention: Attention,
    ) -> Result<Tensor> {
        let h = self.norm(x, &layer.attention_norm)?;
        let (q, k, v) = (layer.q.forward(&h)?, layer.k.forward(&h)?, layer.v.forward(&h)?);
        let mut outputs = Vec::with_capacity(parts.len());
        let mut offset = 0;
        for (part, mask) in parts.iter_mut().zip(masks) {
            let count = part.tokens.len();
            let of_part = |rows: &Tensor| rows.narrow(0, offset, count);
            let q = self.heads(&of_part(&q)?, self.config.heads)?;
            let k = self.heads(&of_part(&k)?, self.config.kv_heads)?;
            let q = self.rotate(&self.norm_heads(q, layer.q_norm.as_ref())?, part.kv.len)?;
            let k = self.rotate(&self.norm_heads(k, layer.k_norm.as_ref())?, part.kv.len)?;
            let v = self.heads(&of_part(&v)?, self.config.kv_heads)?;
            self.attend_part(&q, &k, &v, index, part.kv, mask.as_ref(), attention, &mut outputs)?;
            offset += count;
        }
        let attended = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 0)? };
        let x = (x + layer.o.forward(&attended)?)?;
        let h = self.norm(&x, &layer.mlp_norm)?;
        let inner = (layer.gate.forward(&h)?.silu()? * layer.up.forward(&h)?)?;
        x + layer.down.forward(&inner)?
    }

    /// Stores a part's new keys and values and attends over all of them; pushes rows of output.
    #[allow(clippy::too_many_arguments)] // the three tensors and what they meet, once per layer
    fn attend_part(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        index: usize,
        kv: &Kv,
        mask: Option<&Tensor>,
        attention: Attention,
        outputs: &mut Vec<Tensor>,
    ) -> Result<()> {
        let (keys, values) = &kv.layers[index];
        keys.slice_set(k, 1, kv.len)?;
        values.slice_set(v, 1, kv.len)?;
        let count = q.dim(1)?;
        let window = self.config.window(index);
        // What the rows from the first to the last at these ends see.
        let seen = |first_end: usize, end: usize| -> Result<_> {
            let from = begin(window, first_end);
            Ok((keys.narrow(1, from, end - from)?, values.narrow(1, from, end - from)?))
        };
        match attention {
            Attention::Block => {
                let (keys, values) = seen(kv.len + 1, kv.len + count)?;
                outputs.push(self.attend(q, &keys, &values, mask)?);
            }
            Attention::Rows => {
                for row in 0..count {
                    let end = kv.len + row + 1;
                    let (keys, values) = seen(end, end)?;
                    outputs.push(self.attend(&q.narrow(1, row, 1)?, &keys, &values, None)?);
                }
            }
        }
        Ok(())
    }

    /// Queries (heads, t, width) over keys and values (kv_heads, s, width), to rows (t, heads · width).
    fn attend(&self, q: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let LlamaConfig { heads, kv_heads, head_dim, .. } = self.config;
        let (t, s, shared) = (q.dim(1)?, keys.dim(1)?, heads / kv_heads);
        // Query heads that share a key head stand below each other, as more rows of one product.
        let q = q.reshape((kv_heads, shared * t, head_dim))?;
        let mut scores = (q.matmul(&keys.transpose(1, 2)?)? * (1.0 / (head_dim as f64).sqrt()))?;
        if let Some(mask) = mask {
            scores = scores.reshape((kv_heads, shared, t, s))?.broadcast_add(mask)?;
            scores = scores.reshape((kv_heads, shared * t, s))?;
        }
        let out = ops::softmax_last_dim(&scores)?.matmul(values)?;
        out.reshape((heads, t, head_dim))?.transpose(0, 1)?.reshape((t, heads * head_dim))
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        ops::rms_norm(&x.contiguous()?, weight, self.config.norm_eps)
    }

    /// Rows (t, heads · width) to (heads, t, width).
    fn heads(&self, rows: &Tensor, heads: usize) -> Result<Tensor> {
        rows.reshape((rows.dim(0)?, heads, self.config.head_dim))?.transpose(0, 1)?.contiguous()
    }

    /// Norms each head of (heads, t, width), where the model does.
    fn norm_heads(&self, x: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        match weight {
            Some(weight) => self.norm(&x, weight),
            None => Ok(x),
        }
    }

    /// Rotates (heads, t, width) by positions from `start` on.
    fn rotate(&self, x: &Tensor, start: usize) -> Result<Tensor> {
        let count = x.dim(1)?;
        let (cos, sin) = (self.rope.cos.narrow(0, start, count)?, self.rope.sin.narrow(0, start, count)?);
        let x = x.unsqueeze(0)?;
        let turned = if self.config.rope.interleaved {
            rotary_emb::rope_i(&x, &cos, &sin)?
        } else {
            rotary_emb::rope(&x, &cos, &sin)?
        };
        turned.squeeze(0)
    }
}

/// The first position that a token sees, given the position behind it.
fn begin(window: Option<usize>, end: usize) -> usize {
    window.map_or(0, |window| end.saturating_sub(window))
}

/// Added to a block's scores: −∞ where a token would see a later one, or one before its window. A single
/// token sees all that it is given.
fn mask(part: &Part<'_>, attention: Attention, window: Option<usize>) -> Result<Option<Tensor>> {
    let (count, held) = (part.tokens.len(), part.kv.len);
    if count == 1 || attention == Attention::Rows {
        return Ok(None);
    }
    let (first, end) = (begin(window, held + 1), held + count);
    let cells = (held + 1..=end).flat_map(|row_end| {
        let seen = begin(window, row_end)..row_end;
        (first..end).map(move |column| if seen.contains(&column) { 0.0 } else { f32::NEG_INFINITY })
    });
    Tensor::from_vec(cells.collect::<Vec<f32>>(), (1, 1, count, end - first), &Device::Cpu).map(Some)
}

/// The index of each part's last row.
fn last_rows(parts: &[Part<'_>]) -> Result<Tensor> {
    let mut end = 0;
    let indices: Vec<u32> = parts
        .iter()
        .map(|part| {
            end += part.tokens.len();
            (end - 1) as u32
        })
        .collect();
    let count = indices.len();
    Tensor::from_vec(indices, count, &Device::Cpu)
}

#[cfg(test)]
mod tests;
