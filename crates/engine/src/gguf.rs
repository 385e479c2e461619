//! Models from GGUF files: shape, weights as they are stored, and the tokenizer where the file's
//! description of it is complete.
//!
//! A file's tokenizer is used if it is byte-level BPE with a way of splitting words that is known
//! for certain. For others a `tokenizer.json` beside the file is needed: a tokenizer that is almost
//! right would count wrongly and answer worse without anybody noticing.

use crate::{
    Llama, LlamaConfig, LoadError, Precision,
    config::{Biases, MAX_LAYERS, Rope, RopeScaling},
    error::plain,
    linear::{Linear, has_finite_scales},
    weights::{Source, assemble, finite, not_finite},
};
use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, TensorInfo, Value},
        tokenizer::TokenizerFromGguf,
    },
};
use gristmill_tokenizer::{SpecialTokens, TextBundle};
use std::{
    collections::BTreeSet,
    fs::File,
    io::BufReader,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Architectures by the names that files give them. Llama's rows of q and k are stored with pairs beside
/// each other; Mistral's files go by its name.
const INTERLEAVED: [&str; 1] = ["llama"];
const HALVED: [&str; 2] = ["qwen2", "qwen3"];

/// An opened file.
pub(crate) struct Gguf {
    content: Content,
    file: BufReader<File>,
    read: BTreeSet<String>,
}

impl Llama {
    /// Loads a GGUF file for a context of at most so many tokens. The precision is the file's.
    pub fn from_gguf(path: &Path, context: usize) -> Result<Self, LoadError> {
        Gguf::open(path)?.llama(context)
    }
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::File { path: path.to_path_buf(), reason };
        let mut file = BufReader::new(File::open(path).map_err(|error| failed(error.to_string()))?);
        let content = guarded(|| Content::read(&mut file)).map_err(failed)?;
        let length = file.get_ref().metadata().map_err(|error| failed(error.to_string()))?.len();
        // Tensors that lie over each other would let a small file take much memory.
        let mut infos = content.tensor_infos.values();
        let sum = infos.try_fold(0u64, |sum, info| sum.checked_add(size_in_bytes(info)?));
        if sum.is_none_or(|sum| sum > length) {
            let reason =
                "its tensors need more bytes than it has; it is damaged or cut off, download it again";
            return Err(failed(reason.into()));
        }
        Ok(Self { content, file, read: BTreeSet::new() })
    }

    pub(crate) fn llama(&mut self, context: usize) -> Result<Llama, LoadError> {
        let config = self.config()?;
        // The precision asked for has no effect: this source keeps its own.
        let weights = assemble(&config, Precision::Q8_0, self)?;
        Ok(Llama::new(config, weights, context)?)
    }

    fn config(&mut self) -> Result<LlamaConfig, LoadError> {
        let architecture = self.text("general.architecture")?.unwrap_or_default();
        let interleaved = INTERLEAVED.contains(&architecture.as_str());
        if !interleaved && !HALVED.contains(&architecture.as_str()) {
            let known = INTERLEAVED.iter().chain(&HALVED).copied().collect::<Vec<_>>().join(", ");
            return Err(LoadError::Config(format!(
                "the file's architecture is {architecture:?}; supported are {known}"
            )));
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let (hidden, heads) =
            (self.required(&key("embedding_length"))?, self.required(&key("attention.head_count"))?);
        let head_dim = match self.size(&key("attention.key_length"))? {
            Some(width) => width,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        self.refuse_unsupported(&architecture, head_dim)?;
        let layers = self.required(&key("block_count"))?;
        let has = |part: &str| self.content.tensor_infos.contains_key(&format!("blk.0.{part}"));
        let window = self.size(&key("attention.sliding_window"))?.filter(|window| *window > 0);
        let config = LlamaConfig {
            vocab: self.vocab()?,
            hidden,
            intermediate: self.required(&key("feed_forward_length"))?,
            layers,
            heads,
            kv_heads: self.size(&key("attention.head_count_kv"))?.unwrap_or(heads),
            head_dim,
            norm_eps: self.number(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-5) as f32,
            max_positions: self.required(&key("context_length"))?,
            tied: !self.content.tensor_infos.contains_key("output.weight"),
            biases: Biases {
                qkv: has("attn_q.bias"),
                output: has("attn_output.bias"),
                mlp: has("ffn_gate.bias"),
            },
            qk_norm: has("attn_q_norm.weight"),
            windows: window.map_or_else(Vec::new, |window| vec![Some(window); layers.min(MAX_LAYERS)]),
            rope: Rope {
                theta: self.number(&key("rope.freq_base"))?.unwrap_or(10_000.0),
                scaling: self.rope_scaling(&architecture, head_dim)?,
                interleaved,
            },
        };
        config.check()?;
        Ok(config)
    }

    /// Names what the file needs and the engine does not compute. Tensors without a place are found
    /// when all are read.
    fn refuse_unsupported(&self, architecture: &str, head_dim: usize) -> Result<(), LoadError> {
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| self.size(&key(name));
        let reason = if size("rope.dimension_count")?.is_some_and(|width| width != head_dim) {
            "rope turns only a part of each head; that is not supported".into()
        } else if size("attention.value_length")?.is_some_and(|width| width != head_dim) {
            "values are not as wide as keys; that is not supported".into()
        } else if size("expert_count")?.is_some_and(|count| count > 0) {
            "mixtures of experts are not supported".into()
        } else if architecture != "llama" && size("attention.sliding_window")?.is_some_and(|size| size > 0) {
            format!(
                "a sliding window is not supported in files of {architecture}, which do not say in which layers"
            )
        } else {
            return Ok(());
        };
        Err(LoadError::Config(reason))
    }

    fn rope_scaling(&mut self, architecture: &str, head_dim: usize) -> Result<RopeScaling, LoadError> {
        if self.content.tensor_infos.contains_key("rope_freqs.weight") {
            let factors = self.quantised("rope_freqs.weight", &[head_dim / 2])?.dequantize(&Device::Cpu)?;
            return Ok(RopeScaling::Factors(factors.to_vec1()?));
        }
        let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
        match self.text(&key("type"))?.as_deref() {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") => match self.number(&key("factor"))? {
                Some(factor) => Ok(RopeScaling::Linear { factor }),
                None => Err(LoadError::Config(format!("{} is missing", key("factor")))),
            },
            Some(other) => Err(LoadError::Config(format!("rope scaling of type {other} is not supported"))),
        }
    }

    /// The vocabulary is as large as the embedding says.
    fn vocab(&self) -> Result<usize, LoadError> {
        let info = self.content.tensor_infos.get("token_embd.weight");
        match info.map(|info| info.shape.dims()) {
            Some([vocab, _]) => Ok(*vocab),
            _ => Err(LoadError::Weights("token_embd.weight is missing or no matrix".into())),
        }
    }

    /// The tensor as it is stored. Its shape is checked first: it bounds what is allocated.
    fn quantised(&mut self, name: &str, shape: &[usize]) -> Result<QTensor, LoadError> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(LoadError::Weights(format!("{name} is missing")));
        };
        if info.shape.dims() != shape {
            return Err(LoadError::Weights(format!(
                "{name} has the shape {:?}; the configuration makes it {shape:?}",
                info.shape.dims()
            )));
        }
        self.read.insert(name.into());
        guarded(|| self.content.tensor(&mut self.file, name, &Device::Cpu))
            .map_err(|error| LoadError::Weights(format!("{name}: {error}")))
    }

    /// The key's value; `None` if the file does not have it. One of another type is an error: what stands in
    /// a file is never replaced by a default.
    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            LoadError::Config(format!("{key} (stored as {:?}) is not {expected}", value.value_type()))
        })
    }

    fn text(&self, key: &str) -> Result<Option<String>, LoadError> {
        self.value(key, "a text", |value| value.to_string().ok().cloned())
    }

    fn flag(&self, key: &str) -> Result<bool, LoadError> {
        Ok(self.value(key, "true or false", |value| value.to_bool().ok())?.unwrap_or(false))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        self.value(key, "a number with a fraction", |value| match value {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(value) => Some(*value),
            _ => None,
        })
    }

    fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.value(key, "a whole number from 0 on", integer)
    }

    fn required(&self, key: &str) -> Result<usize, LoadError> {
        self.size(key)?.ok_or_else(|| LoadError::Config(format!("{key} is missing")))
    }

    fn id(&self, key: &str) -> Result<Option<u32>, LoadError> {
        self.value(key, "a token's id", |value| integer(value).and_then(|id| u32::try_from(id).ok()))
    }

    /// The tokenizer that the file describes.
    pub(crate) fn text_bundle(&mut self) -> Result<TextBundle, LoadError> {
        let kind = self.text("tokenizer.ggml.model")?.unwrap_or_default();
        let split = self.text("tokenizer.ggml.pre")?.unwrap_or_default();
        let known = match (kind.as_str(), split.as_str()) {
            ("gpt2", "llama3" | "llama-v3" | "llama-bpe" | "smaug-bpe") => "llama3",
            ("gpt2", "qwen2") => "qwen2",
            ("gpt2", "gpt-2") => "gpt-2",
            _ => {
                return Err(LoadError::Config(format!(
                    "the file's tokenizer ({kind} {split}) is not one that can be rebuilt for certain; put the model's tokenizer.json beside it"
                )));
            }
        };
        let id = |name: &str| self.id(&format!("tokenizer.ggml.{name}_token_id"));
        let (bos, eos, eot) = (id("bos")?, id("eos")?, id("eot")?);
        let (unk, pad) = (id("unknown")?, id("padding")?);
        // The reader below would pass over these if they were of another type.
        self.flag("tokenizer.ggml.add_eos_token")?;
        self.value("tokenizer.ggml.token_type", "a list", |value| value.to_vec().ok().map(drop))?;
        self.content.metadata.insert("tokenizer.ggml.pre".into(), Value::String(known.into()));
        let tokenizer =
            guarded(|| tokenizers::Tokenizer::from_gguf(&self.content)).map_err(LoadError::Config)?;
        let tokenizer_json =
            tokenizer.to_string(false).map_err(|error| LoadError::Config(error.to_string()))?;
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let mut eos_ids: Vec<u32> = [eos, eot].into_iter().flatten().collect();
        eos_ids.sort_unstable();
        eos_ids.dedup();
        Ok(TextBundle {
            tokenizer_json,
            chat_template: self.text("tokenizer.chat_template")?,
            special: SpecialTokens { bos: token(bos), eos: token(eos), unk: token(unk), pad: token(pad) },
            add_bos: self.flag("tokenizer.ggml.add_bos_token")?,
            eos_ids,
        })
    }
}

impl Source for Gguf {
    fn unread(&self) -> Option<String> {
        self.content.tensor_infos.keys().filter(|name| !self.read.contains(*name)).min().cloned()
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let tensor = self.quantised(&gguf_name(name)?, shape)?.dequantize(&Device::Cpu)?;
        finite(name, tensor)
    }

    fn linear(&mut self, name: &str, out: usize, input: usize, _: Precision) -> Result<Linear, LoadError> {
        let weight = self.quantised(&gguf_name(name)?, &[out, input])?;
        match weight.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                Ok(Linear::dense(finite(name, weight.dequantize(&Device::Cpu)?)?))
            }
            kind if has_finite_scales(kind, &weight.data()?) => Ok(Linear::quantised(weight)),
            _ => Err(not_finite(name)),
        }
    }
}

/// What a tensor takes in the file; `None` if that does not fit.
fn size_in_bytes(info: &TensorInfo) -> Option<u64> {
    let count = info.shape.dims().iter().try_fold(1usize, |count, size| count.checked_mul(*size))?;
    let blocks = count.div_ceil(info.ggml_dtype.block_size());
    u64::try_from(blocks.checked_mul(info.ggml_dtype.type_size())?).ok()
}

fn integer(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(value) => Some(value.into()),
        Value::U16(value) => Some(value.into()),
        Value::U32(value) => usize::try_from(value).ok(),
        Value::U64(value) => usize::try_from(value).ok(),
        Value::I8(value) => usize::try_from(value).ok(),
        Value::I16(value) => usize::try_from(value).ok(),
        Value::I32(value) => usize::try_from(value).ok(),
        Value::I64(value) => usize::try_from(value).ok(),
        Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
    }
}

/// GGUF's name of a tensor.
pub(crate) fn gguf_name(name: &str) -> Result<String, LoadError> {
    let direct = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(direct) = direct {
        return Ok(direct.into());
    }
    let unknown = || LoadError::Weights(format!("{name} has no place in a GGUF file"));
    let rest = name.strip_prefix("model.layers.").ok_or_else(unknown)?;
    let (index, part) = rest.split_once('.').ok_or_else(unknown)?;
    let (part, kind) = part.rsplit_once('.').ok_or_else(unknown)?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return Err(unknown()),
    };
    Ok(format!("blk.{index}.{part}.{kind}"))
}

/// Runs the reader on bytes from outside: a panic of it (an overflow in a damaged header) is an
/// error like others.
fn guarded<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(plain),
        Err(_) => Err("the file is damaged".into()),
    }
}
