//! Weights from a Hugging Face folder: `config.json` and safetensors, in one file or several.
//!
//! Tensors are read one by one through ordinary file reads. Mapping a file into memory would need
//! unsafe code, and a file that shrinks under the map would kill the process.

use crate::{
    Llama, LlamaConfig, LoadError, Precision,
    weights::{Source, assemble, finite},
};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// The format's own bound.
const MAX_HEADER_BYTES: u64 = 100 << 20;
const MAX_FILES: usize = 1024;

impl Llama {
    /// Loads the folder's weights for a context of at most so many tokens.
    pub fn from_hf_dir(dir: &Path, precision: Precision, context: usize) -> Result<Self, LoadError> {
        let config = LlamaConfig::from_json(&read_text(&dir.join("config.json"))?)?;
        let weights = assemble(&config, precision, &mut Safetensors::open(dir)?)?;
        Ok(Self::new(config, weights, context)?)
    }
}

/// The tensors of a folder's files.
pub(crate) struct Safetensors {
    files: Vec<(PathBuf, File)>,
    /// By name: which file, where its data begins in it, what it is.
    tensors: BTreeMap<String, (usize, u64, TensorInfo)>,
    read: BTreeSet<String>,
}

/// Parts of names of tensors that mean nothing here: tables that are made anew, a copy of tied
/// embeddings, and heads of an encoder for tasks other than embedding.
const MEANINGLESS: [&str; 5] = ["rotary_emb.inv_freq", "lm_head.weight", "position_ids", "pooler.", "cls."];

impl Safetensors {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn open(dir: &Path) -> Result<Self, LoadError> {
        let mut all = Self { files: Vec::new(), tensors: BTreeMap::new(), read: BTreeSet::new() };
        for name in file_names(dir)? {
            all.add(dir.join(name))?;
        }
        Ok(all)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), LoadError> {
        let failed = |reason: String| LoadError::File { path: path.clone(), reason };
        let mut file = File::open(&path).map_err(|error| failed(error.to_string()))?;
        let length = file.metadata().map_err(|error| failed(error.to_string()))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|_| failed("it is too short for a safetensors file".into()))?;
        let header = u64::from_le_bytes(size);
        if header > MAX_HEADER_BYTES || header > length - 8 {
            return Err(failed(format!(
                "its header claims {header} bytes; the file is damaged or no safetensors file"
            )));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(|error| failed(error.to_string()))?;
        let metadata: Metadata = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("its header is damaged: {error}")))?;
        let data = 8 + header;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            if start > end || (end as u64) > length - data {
                return Err(failed(format!("{name} lies beyond the end of the file; download it again")));
            }
            self.tensors.insert(name, (self.files.len(), data, info.clone()));
        }
        self.files.push((path, file));
        Ok(())
    }
}

impl Source for Safetensors {
    fn unread(&self) -> Option<String> {
        let meant = |name: &&String| !MEANINGLESS.iter().any(|part| name.contains(part));
        self.tensors.keys().filter(meant).find(|name| !self.read.contains(*name)).cloned()
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let Some((file, data, info)) = self.tensors.get(name) else {
            return Err(LoadError::Weights(format!("{name} is missing")));
        };
        if info.shape != shape {
            return Err(LoadError::Weights(format!(
                "{name} has the shape {:?}; the configuration makes it {shape:?}",
                info.shape
            )));
        }
        let (kind, width) = match info.dtype {
            Dtype::F32 => (DType::F32, 4),
            Dtype::F16 => (DType::F16, 2),
            Dtype::BF16 => (DType::BF16, 2),
            Dtype::F64 => (DType::F64, 8),
            other => {
                return Err(LoadError::Weights(format!(
                    "{name} is {other:?}; f32, f16, bf16 and f64 are read"
                )));
            }
        };
        let (start, end) = info.data_offsets;
        let length = end - start;
        if shape.iter().product::<usize>().checked_mul(width) != Some(length) {
            return Err(LoadError::Weights(format!(
                "{name} has {length} bytes, which do not make {shape:?}"
            )));
        }
        self.read.insert(name.into());
        let (path, file) = &mut self.files[*file];
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(data + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })?;
        finite(name, Tensor::from_raw_buffer(&bytes, kind, shape, &Device::Cpu)?.to_dtype(DType::F32)?)
    }
}

/// `model.safetensors`, or the files that `model.safetensors.index.json` names.
fn file_names(dir: &Path) -> Result<Vec<String>, LoadError> {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec!["model.safetensors".into()]);
    }
    let failed = |reason: &str| LoadError::File { path: index.clone(), reason: reason.into() };
    let json: Value =
        serde_json::from_str(&read_text(&index)?).map_err(|error| failed(&error.to_string()))?;
    let map = json["weight_map"].as_object().ok_or_else(|| failed("it has no weight_map"))?;
    let mut names: Vec<String> = map.values().filter_map(|name| name.as_str().map(String::from)).collect();
    names.sort();
    names.dedup();
    let inside = |name: &String| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    if names.is_empty() || names.len() > MAX_FILES || !names.iter().all(inside) {
        return Err(failed("its weight_map does not name files of this folder"));
    }
    Ok(names)
}

/// A text file of bounded length.
pub(crate) fn read_text(path: &Path) -> Result<String, LoadError> {
    let failed = |reason: String| LoadError::File { path: path.to_path_buf(), reason };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    let count =
        file.take(MAX_CONFIG_BYTES).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if count as u64 == MAX_CONFIG_BYTES {
        return Err(failed(format!("it has {MAX_CONFIG_BYTES} bytes or more")));
    }
    Ok(text)
}
