//! A trainable Llama under Hugging Face's names and conventions, reading packed sequences.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::ops::{CausalSoftmax, CrossEntropy, Merge, RmsNorm, Rotation, Split, Spread, SwiGlu};
use super::{Result, Rng, TrainError};

/// Sizes of a Llama, named as in Hugging Face's `config.json`; input and output embeddings are tied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Channels of a token's state.
    pub hidden_size: usize,
    /// Channels inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads; keys and values have as many.
    pub num_attention_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
}

impl Sizes {
    /// Channels of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Every weight's name and shape, in one fixed order.
    fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let (d, ff) = (self.hidden_size, self.intermediate_size);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, d])];
        for layer in 0..self.num_hidden_layers {
            let shapes = [
                ("input_layernorm", vec![d]),
                ("self_attn.q_proj", vec![d, d]),
                ("self_attn.k_proj", vec![d, d]),
                ("self_attn.v_proj", vec![d, d]),
                ("self_attn.o_proj", vec![d, d]),
                ("post_attention_layernorm", vec![d]),
                ("mlp.gate_proj", vec![ff, d]),
                ("mlp.up_proj", vec![ff, d]),
                ("mlp.down_proj", vec![d, ff]),
            ];
            all.extend(shapes.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)));
        }
        all.push(("model.norm.weight".to_owned(), vec![d]));
        all
    }
}

/// One sequence to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Index of the answer's first token: only the answer is learnt. At least 1.
    pub answer_at: usize,
}

impl Example {
    /// Number of tokens that are predicted.
    pub fn targets(&self) -> usize {
        self.ids.len().saturating_sub(self.answer_at)
    }
}

struct Layer {
    attention_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    feed_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// A Llama whose weights are variables.
pub struct TrainModel {
    sizes: Sizes,
    weights: BTreeMap<String, Var>,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    rotation: Arc<Rotation>,
}

impl TrainModel {
    /// Fresh weights from a seed: the same seed gives the same weights on every machine.
    pub fn new(sizes: Sizes, seed: u64) -> Result<Self> {
        let mut rng = Rng::new(seed);
        // Matrices that write to the residual stream start smaller, so that depth does not inflate it.
        let shrink = 1.0 / (2.0 * sizes.num_hidden_layers.max(1) as f32).sqrt();
        let mut weights = BTreeMap::new();
        for (name, shape) in sizes.weights() {
            let count = shape.iter().product();
            let values: Vec<f32> = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                let writes = name.contains("o_proj") || name.contains("down_proj");
                let spread = if name.contains("embed") { 0.02 } else { (shape[1] as f32).sqrt().recip() };
                let spread = if writes { spread * shrink } else { spread };
                (0..count).map(|_| rng.unit() * spread).collect()
            };
            weights.insert(name, Var::from_vec(values, shape, &Device::Cpu)?);
        }
        Self::assemble(sizes, weights)
    }

    /// Weights from a safetensors file.
    pub fn load(sizes: Sizes, file: &Path) -> Result<Self> {
        let mut found = candle_core::safetensors::load(file, &Device::Cpu)?;
        let mut weights = BTreeMap::new();
        for (name, shape) in sizes.weights() {
            let tensor = found.remove(&name).ok_or_else(|| TrainError::Weight {
                name: name.clone(),
                reason: format!("missing in {}; train again or name another folder", file.display()),
            })?;
            if tensor.dims() != shape {
                let reason = format!("expected shape {shape:?}, found {:?}", tensor.dims());
                return Err(TrainError::Weight { name, reason });
            }
            weights.insert(name, Var::from_tensor(&tensor.to_dtype(DType::F32)?)?);
        }
        Self::assemble(sizes, weights)
    }

    fn assemble(sizes: Sizes, weights: BTreeMap<String, Var>) -> Result<Self> {
        let get = |name: &str| -> Result<Tensor> {
            let var = weights.get(name).ok_or_else(|| TrainError::Weight {
                name: name.to_owned(),
                reason: "missing; this is a fault of the program".to_owned(),
            })?;
            Ok(var.as_tensor().clone())
        };
        let layer = |i: usize| -> Result<Layer> {
            let part = |part: &str| get(&format!("model.layers.{i}.{part}.weight"));
            Ok(Layer {
                attention_norm: part("input_layernorm")?,
                query: part("self_attn.q_proj")?,
                key: part("self_attn.k_proj")?,
                value: part("self_attn.v_proj")?,
                output: part("self_attn.o_proj")?,
                feed_norm: part("post_attention_layernorm")?,
                gate: part("mlp.gate_proj")?,
                up: part("mlp.up_proj")?,
                down: part("mlp.down_proj")?,
            })
        };
        let embedding = get("model.embed_tokens.weight")?;
        let layers = (0..sizes.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        let norm = get("model.norm.weight")?;
        let rotation =
            Arc::new(Rotation::new(sizes.max_position_embeddings, sizes.head_dim(), sizes.rope_theta));
        Ok(Self { sizes, weights, embedding, layers, norm, rotation })
    }

    /// The sizes that the model was made with.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Every weight by its Hugging Face name.
    pub fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    /// Writes the weights as safetensors.
    pub fn save(&self, file: &Path) -> Result<()> {
        let tensors =
            self.weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        Ok(candle_core::safetensors::save(&tensors, file)?)
    }

    /// Multiplies all logits by `factor`, through the last norm. Greedy answers stay the same; answers drawn
    /// at temperature 1 become those of temperature 1 / `factor`.
    pub fn scale_logits(&self, factor: f64) -> Result<()> {
        let norm = self.weights.get("model.norm.weight").ok_or_else(|| TrainError::Weight {
            name: "model.norm.weight".to_owned(),
            reason: "missing; this is a fault of the program".to_owned(),
        })?;
        Ok(norm.set(&(norm.as_tensor() * factor)?)?)
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.weights.values().map(|var| var.elem_count()).sum()
    }

    /// Checks what the operations take for granted.
    fn check(&self, batch: &[&Example]) -> Result<()> {
        let longest = self.sizes.max_position_embeddings;
        for example in batch {
            let (length, at) = (example.ids.len(), example.answer_at);
            let unknown = example.ids.iter().find(|&&id| id as usize >= self.sizes.vocab_size);
            let reason = match unknown {
                Some(id) => format!("token {id} is outside of the vocabulary of {}", self.sizes.vocab_size),
                None if length > longest => format!("{length} tokens, at most {longest} fit"),
                None if at == 0 || at > length => format!("the answer starts at {at} of {length} tokens"),
                None => continue,
            };
            return Err(TrainError::Example { reason });
        }
        Ok(())
    }

    /// The state behind each row that predicts an answer token, normalised: (targets, hidden).
    fn states(&self, batch: &[&Example]) -> Result<Tensor> {
        self.check(batch)?;
        // The last token of a sequence predicts nothing, so it is not read.
        let lengths = Arc::new(batch.iter().map(|e| e.ids.len() - 1).collect::<Vec<_>>());
        let ids: Vec<u32> = batch.iter().flat_map(|e| e.ids[..e.ids.len() - 1].iter().copied()).collect();
        let (heads, head_dim) = (self.sizes.num_attention_heads, self.sizes.head_dim());
        let spread = |rotation| Arc::new(Spread { lengths: lengths.clone(), heads, head_dim, rotation });
        let (rotated, plain) = (spread(Some(self.rotation.clone())), spread(None));
        let eps = self.sizes.rms_norm_eps as f32;
        let scale = (head_dim as f32).sqrt().recip();
        let count = ids.len();
        let mut x = self.embedding.index_select(&Tensor::from_vec(ids, count, &Device::Cpu)?, 0)?;
        for (depth, layer) in self.layers.iter().enumerate() {
            let h = x.apply_op2(&layer.attention_norm, RmsNorm { eps })?;
            let q = h.matmul(&layer.query.t()?)?.apply_op1(Split(rotated.clone()))?;
            let k = h.matmul(&layer.key.t()?)?.apply_op1(Split(rotated.clone()))?;
            let v = h.matmul(&layer.value.t()?)?.apply_op1(Split(plain.clone()))?;
            let shares = q.matmul(&k.t()?)?.apply_op1(CausalSoftmax { scale })?;
            let mut y = shares.matmul(&v)?.apply_op1(Merge(plain.clone()))?;
            if depth + 1 == self.layers.len() {
                // After the last attention, rows that predict nothing are of no use.
                let rows = predicting(batch)?;
                (x, y) = (x.index_select(&rows, 0)?, y.index_select(&rows, 0)?);
            }
            x = (x + y.matmul(&layer.output.t()?)?)?;
            let h = x.apply_op2(&layer.feed_norm, RmsNorm { eps })?;
            let wide = h.matmul(&layer.gate.t()?)?.apply_op2(&h.matmul(&layer.up.t()?)?, SwiGlu)?;
            x = (x + wide.matmul(&layer.down.t()?)?)?;
        }
        Ok(x.apply_op2(&self.norm, RmsNorm { eps })?)
    }

    /// Logits of every answer token of every example, in order: (targets, vocabulary).
    pub fn logits(&self, batch: &[&Example]) -> Result<Tensor> {
        Ok(self.states(batch)?.matmul(&self.embedding.t()?)?)
    }

    /// Sum of the answer tokens' losses in nats.
    pub fn loss(&self, batch: &[&Example]) -> Result<Tensor> {
        let logits = self.logits(batch)?;
        let targets = batch.iter().flat_map(|e| e.ids[e.answer_at..].iter().copied()).collect();
        Ok(logits.apply_op1(CrossEntropy(Arc::new(targets)))?)
    }

    /// For each example, whether greedy decoding after its prompt gives exactly its answer.
    ///
    /// Greedy decoding follows the answer as long as every token of it is the most likely one after the ones
    /// before it, so one pass over prompt and answer decides.
    pub fn greedy_matches(&self, batch: &[&Example]) -> Result<Vec<bool>> {
        let best = self.logits(batch)?.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
        let mut at = 0;
        Ok(batch
            .iter()
            .map(|example| {
                let answer = &example.ids[example.answer_at..];
                at += answer.len();
                best[at - answer.len()..at] == *answer
            })
            .collect())
    }

    /// Greedy continuation of a prompt until `stop` or `limit` tokens, without a cache: for trying out.
    pub fn greedy(&self, prompt: &[u32], stop: u32, limit: usize) -> Result<Vec<u32>> {
        let mut ids = prompt.to_vec();
        while ids.len() < (prompt.len() + limit).min(self.sizes.max_position_embeddings - 1) {
            ids.push(stop); // the token to predict; what it holds does not matter
            let example = Example { answer_at: ids.len() - 1, ids: ids.clone() };
            ids.pop();
            let next = self.logits(&[&example])?.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
            match next.first() {
                Some(&id) if id != stop => ids.push(id),
                _ => break,
            }
        }
        Ok(ids.split_off(prompt.len()))
    }
}

/// The packed rows that predict an answer token.
fn predicting(batch: &[&Example]) -> Result<Tensor> {
    let mut rows = Vec::new();
    let mut start = 0;
    for example in batch {
        let length = example.ids.len() - 1;
        rows.extend((example.answer_at - 1..length).map(|row| (start + row) as u32));
        start += length;
    }
    let count = rows.len();
    Ok(Tensor::from_vec(rows, count, &Device::Cpu)?)
}
