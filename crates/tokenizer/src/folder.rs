//! Reading a bundle from a Hugging Face model folder.
//!
//! Files, each bounded: `tokenizer.json` (required), `tokenizer_config.json` and
//! `special_tokens_map.json` (special tokens, chat template), `chat_template.jinja` (wins over the
//! template in the config), `generation_config.json` and `config.json` (ids that end an answer).

use crate::{MAX_BUNDLE_BYTES, SpecialTokens, TextBundle, TextError};
use serde_json::Value;
use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

const MAX_CONFIG_BYTES: u64 = 16 << 20;
const MAX_EOS_IDS: usize = 64;

impl TextBundle {
    /// Reads the folder's tokenizer files.
    pub fn from_hf_dir(dir: &Path) -> Result<Self, TextError> {
        let tokenizer_json = read(&dir.join("tokenizer.json"), MAX_BUNDLE_BYTES as u64)?
            .ok_or_else(|| missing(&dir.join("tokenizer.json")))?;
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        let map = read_json(&dir.join("special_tokens_map.json"))?;
        let token = |name: &str| token_text(&config[name]).or_else(|| token_text(&map[name]));
        let special = SpecialTokens {
            bos: token("bos_token"),
            eos: token("eos_token"),
            unk: token("unk_token"),
            pad: token("pad_token"),
        };
        let chat_template = match read(&dir.join("chat_template.jinja"), MAX_CONFIG_BYTES)? {
            Some(template) => Some(template),
            None => template_in_config(&config["chat_template"]),
        };
        let mut eos_ids = BTreeSet::new();
        for file in ["generation_config.json", "config.json"] {
            eos_ids.extend(ids(&read_json(&dir.join(file))?["eos_token_id"]));
        }
        if let Some(id) = special.eos.as_deref().and_then(|eos| added_id(&tokenizer_json, eos)) {
            eos_ids.insert(id);
        }
        Ok(Self {
            tokenizer_json,
            chat_template,
            special,
            add_bos: config["add_bos_token"].as_bool().unwrap_or(false),
            eos_ids: eos_ids.into_iter().take(MAX_EOS_IDS).collect(),
        })
    }
}

fn missing(path: &Path) -> TextError {
    let reason = "there is no such file; a model folder needs it".to_string();
    TextError::File { path: path.to_path_buf(), reason }
}

/// The file's text; `None` if there is no such file.
fn read(path: &Path, limit: u64) -> Result<Option<String>, TextError> {
    let failed = |reason: String| TextError::File { path: path.to_path_buf(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(failed(format!("it has more than {limit} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| failed("it is not UTF-8".into()))
}

/// The file's JSON; null if there is no such file.
fn read_json(path: &Path) -> Result<Value, TextError> {
    let Some(text) = read(path, MAX_CONFIG_BYTES)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| TextError::File { path: path.to_path_buf(), reason: format!("not JSON: {error}") })
}

/// A special token stands as its text or as an object with the text in `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(String::from)
}

/// A template stands as its text or as a list of named ones, of which `default` is for chat.
fn template_in_config(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    let named = value.as_array()?;
    let default = named.iter().find(|entry| entry["name"] == "default").or_else(|| named.first())?;
    default["template"].as_str().map(String::from)
}

/// One id or a list of ids.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.as_array() {
        Some(list) => list.iter().filter_map(id).collect(),
        None => id(value).into_iter().collect(),
    }
}

/// The id of a token, from `tokenizer.json` alone, so that reading a folder compiles nothing.
fn added_id(tokenizer_json: &str, text: &str) -> Option<u32> {
    let json: Value = serde_json::from_str(tokenizer_json).ok()?;
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let id = added
        .filter(|token| token["content"] == text)
        .find_map(|token| token["id"].as_u64())
        .or_else(|| json["model"]["vocab"][text].as_u64())?;
    u32::try_from(id).ok()
}
