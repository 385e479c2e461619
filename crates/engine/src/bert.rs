//! BERT as an encoder of sentences: one vector for one text.
//!
//! One text is one pass, never a row among those of other texts: products have the shapes of that
//! text alone, so its vector has the same bits in any company, at every precision.

mod config;

pub(crate) use config::{Activation, BertConfig, Pooling, Sentence};

use crate::{
    LoadError, Precision,
    folder::Safetensors,
    linear::{Linear, class},
    weights::Source,
};
use candle_core::{Device, Result, Tensor};
use candle_nn::ops;
use std::path::Path;

/// A layer's norm: scale and shift.
#[derive(Clone, Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Clone, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

impl Layer {
    fn matrices(&self) -> [&Linear; 6] {
        // Taken apart whole, so that a new field cannot be forgotten here.
        let Self { query, key, value, output, attention_norm: _, up, down, norm: _ } = self;
        [query, key, value, output, up, down]
    }
}

/// A model in memory.
#[derive(Clone, Debug)]
pub(crate) struct Bert {
    config: BertConfig,
    sentence: Sentence,
    words: Tensor,
    /// What a position adds, with what the first segment adds to every position.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Bert {
    /// Loads a folder of sentence-transformers.
    pub(crate) fn from_hf_dir(dir: &Path, precision: Precision) -> std::result::Result<Self, LoadError> {
        let (config, sentence) = (BertConfig::read(dir)?, Sentence::read(dir)?);
        let mut source = Safetensors::open(dir)?;
        // A bare encoder's names begin at once, those of a model with a task's head with `bert.`.
        let root = if source.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let model = Reader { source: &mut source, root, precision }.read(config, sentence)?;
        match source.unread() {
            None => Ok(model),
            Some(name) => {
                Err(LoadError::Weights(format!("{name} has no place in a BERT; it is not computed here")))
            }
        }
    }

    pub(crate) fn config(&self) -> &BertConfig {
        &self.config
    }

    pub(crate) fn sentence(&self) -> &Sentence {
        &self.sentence
    }

    /// What quotes and receipts call an embedder of this model on this processor.
    pub(crate) fn class(&self) -> String {
        class(self.layers.iter().flat_map(Layer::matrices))
    }

    /// The vector of one text; at least one token, at most as many as there are positions.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let rows = self.forward(ids)?.to_vec2::<f32>()?;
        let mut vector: Vec<f64> = match self.sentence.pooling {
            Pooling::First => rows.first().into_iter().flatten().map(|x| f64::from(*x)).collect(),
            Pooling::Mean => {
                let sum = |column: usize| rows.iter().map(|row| f64::from(row[column])).sum::<f64>();
                (0..self.config.hidden).map(|column| sum(column) / rows.len() as f64).collect()
            }
        };
        if self.sentence.normalise {
            let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Ok(vector.into_iter().map(|x| x as f32).collect())
    }

    /// The last layer's output at every position.
    fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let x = (self.words.index_select(&ids, 0)? + self.positions.narrow(0, 0, ids.dim(0)?)?)?;
        let mut x = self.norm.forward(&x, self.config.norm_eps)?;
        for layer in &self.layers {
            let attended = layer.output.forward(&self.attend(layer, &x)?)?;
            x = layer.attention_norm.forward(&(x + attended)?, self.config.norm_eps)?;
            let inner = self.config.activation.apply(&layer.up.forward(&x)?)?;
            x = layer.norm.forward(&(&x + layer.down.forward(&inner)?)?, self.config.norm_eps)?;
        }
        Ok(x)
    }

    fn attend(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let (count, heads) = (x.dim(0)?, self.config.heads);
        let width = self.config.hidden / heads;
        let split = |rows: Tensor| rows.reshape((count, heads, width))?.transpose(0, 1)?.contiguous();
        let query = split(layer.query.forward(x)?)?;
        let key = split(layer.key.forward(x)?)?;
        let value = split(layer.value.forward(x)?)?;
        let scores = (query.matmul(&key.transpose(1, 2)?)? * (1.0 / (width as f64).sqrt()))?;
        let out = ops::softmax_last_dim(&scores)?.matmul(&value)?;
        out.transpose(0, 1)?.reshape((count, heads * width))
    }
}

impl Norm {
    fn forward(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, eps)
    }
}

impl Activation {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Relu => x.relu(),
        }
    }
}

/// Puts the weights together.
struct Reader<'a> {
    source: &'a mut Safetensors,
    root: &'static str,
    precision: Precision,
}

impl Reader<'_> {
    fn read(mut self, config: BertConfig, sentence: Sentence) -> std::result::Result<Bert, LoadError> {
        let hidden = config.hidden;
        let words = self.tensor("embeddings.word_embeddings.weight", &[config.vocab, hidden])?;
        let positions =
            self.tensor("embeddings.position_embeddings.weight", &[config.max_positions, hidden])?;
        let segments =
            self.tensor("embeddings.token_type_embeddings.weight", &[config.token_types, hidden])?;
        let positions = positions.broadcast_add(&segments.narrow(0, 0, 1)?)?;
        let norm = self.norm("embeddings.LayerNorm", hidden)?;
        let layers = (0..config.layers)
            .map(|index| self.layer(index, &config))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Bert { config, sentence, words, positions, norm, layers })
    }

    fn layer(&mut self, index: usize, config: &BertConfig) -> std::result::Result<Layer, LoadError> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            query: self.linear(&name("attention.self.query"), hidden, hidden)?,
            key: self.linear(&name("attention.self.key"), hidden, hidden)?,
            value: self.linear(&name("attention.self.value"), hidden, hidden)?,
            output: self.linear(&name("attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: self.linear(&name("intermediate.dense"), inner, hidden)?,
            down: self.linear(&name("output.dense"), hidden, inner)?,
            norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, LoadError> {
        self.source.tensor(&format!("{}{name}", self.root), shape)
    }

    fn linear(&mut self, name: &str, out: usize, input: usize) -> std::result::Result<Linear, LoadError> {
        let weight = format!("{}{name}.weight", self.root);
        let linear = self.source.linear(&weight, out, input, self.precision)?;
        Ok(linear.with_bias(self.tensor(&format!("{name}.bias"), &[out])?))
    }

    fn norm(&mut self, name: &str, width: usize) -> std::result::Result<Norm, LoadError> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"), &[width])?,
            bias: self.tensor(&format!("{name}.bias"), &[width])?,
        })
    }
}
