//! Bundles, templates, and the files of a very small model.

use crate::Seed;
use fixtures::{bundle, byte_level_json, character_json, sentencepiece_json};
use gristmill_fuzz::join;
use serde_json::{Value, json};

#[path = "../../../tokenizer/tests/it/fixtures.rs"]
#[allow(dead_code, reason = "only the data is needed")]
mod fixtures;

const TEMPLATES: &[&str] = &[
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{{ eos_token }}{% endfor %}",
    "{%- if messages[0].role == 'system' %}{{ raise_exception('no') }}{%- endif %}{{ messages | tojson(indent=2) }}",
    "{% set ns = namespace(x=[]) %}{% for i in range(20) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) }}",
    "{% set x = 'ab' * 3 %}{{ x ~ x | upper | replace('A', 'bb') }}{{ x.split('b') | join('-') }}{{ [1, 2][::-1] }}",
    "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}{{ messages | length }}{% endif %}",
    "{% for k, v in {'a': 1, 'b': none} | items %}{{ loop.index }}{{ k }}{{ v is none }}{% endfor %}",
];

pub(crate) fn add(seeds: &mut Vec<Seed>) {
    let mut unigram = character_json();
    unigram["model"] = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
        "vocab": [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["a", -1.0], ["b", -1.5], ["ab", -2.0]]});
    unigram["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"},
        {"type": "StripAccents"}, {"type": "Strip", "strip_left": true, "strip_right": false}]});
    unigram["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    unigram["decoder"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let mut pieces = character_json();
    pieces["model"] = json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "th": 3, "##e": 4}});
    pieces["normalizer"] = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": true});
    pieces["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"},
        {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"}]});
    pieces["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    let mut dropping = small_bytes();
    dropping["model"]["dropout"] = json!(0.5);
    for json in [small_bytes(), small_pieces(), small_characters(), unigram, pieces, dropping] {
        let bytes = bundle(&json).to_bytes();
        seeds.push(("bundle", join([bytes.as_slice()])));
        seeds.push(("bundle", join([&bytes, "the thé 十7".as_bytes()])));
        let text = json.to_string();
        seeds.push(("config", join([CONFIG.as_bytes(), text.as_bytes()])));
    }
    for template in TEMPLATES {
        seeds.push(("template", join([template.as_bytes(), b"hello", b" <&> "])));
    }
    seeds.push((
        "config",
        join([
            CONFIG,
            r#"{"added_tokens":[{"id":2,"content":"</s>"}],"model":{"vocab":{"a":0}}}"#,
            r#"{"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":true,"chat_template":[{"name":"default","template":"t"}]}"#,
            r#"{"unk_token":"<unk>","pad_token":{"content":"<pad>"}}"#,
            r#"{"eos_token_id":[2,7]}"#,
            "{{ x }}",
        ]),
    ));
    for scaling in [
        r#","rope_scaling":{"type":"linear","factor":2.0}"#,
        r#","head_dim":4,"sliding_window":8,"rope_parameters":{"rope_type":"llama3","rope_theta":5e5,"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}"#,
    ] {
        let config = CONFIG.replace('}', &format!("{scaling}}}"));
        seeds.push(("config", join([config])));
    }
    for family in [
        CONFIG.replace("llama", "mistral"),
        CONFIG.replace('}', r#","sliding_window":8,"num_key_value_heads":1}"#).replace("llama", "mistral"),
        CONFIG.replace('}', r#","use_sliding_window":true,"sliding_window":8,"max_window_layers":0,"num_key_value_heads":2,"layer_types":["sliding_attention"]}"#).replace("llama", "qwen2"),
        CONFIG.replace('}', r#","attention_bias":true,"num_key_value_heads":2,"rope_parameters":{"rope_theta":1e6,"rope_type":"default"},"tie_word_embeddings":true}"#).replace("llama", "qwen3"),
    ] {
        seeds.push(("config", join([family])));
    }
    let weights = safetensors(&tensors(Kind::Plain, 4));
    seeds.push(("safetensors", join([CONFIG.as_bytes(), &weights])));
    let index = br#"{"weight_map":{"a":"model.safetensors"}}"#;
    seeds.push(("safetensors", join([CONFIG.as_bytes(), &weights, index])));
    for kind in [Kind::Qwen2, Kind::Qwen3] {
        let (name, more) = match kind {
            Kind::Qwen2 => ("qwen2", r#","num_key_value_heads":2}"#),
            Kind::Plain | Kind::Quantised | Kind::Qwen3 => {
                ("qwen3", r#","num_key_value_heads":2,"head_dim":2}"#)
            }
        };
        let config = CONFIG.replace("llama", name).replace('}', more);
        seeds.push(("safetensors", join([config.as_bytes(), &safetensors(&tensors(kind, 4))])));
        seeds.push(("gguf", gguf(3, true, kind)));
    }
    for (version, tokenizer) in [(2, true), (3, true), (3, false)] {
        seeds.push(("gguf", gguf(version, tokenizer, Kind::Plain)));
    }
    seeds.push(("gguf", gguf(3, true, Kind::Quantised)));
    embedders(seeds);
}

/// The tests' tokenizers have a token for every byte; a few dozen leave the fuzzer more time.
fn small_bytes() -> Value {
    let mut json = byte_level_json();
    json["model"]["vocab"] =
        json!({"<unk>": 0, "<s>": 1, "</s>": 2, "t": 3, "h": 4, "e": 5, "th": 6, "Ġ": 7});
    json["model"]["merges"] = json!([["t", "h"]]);
    json
}

fn small_pieces() -> Value {
    let mut json = sentencepiece_json();
    json["model"]["vocab"] = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "<0xC3>": 3, "<0xA9>": 4, "▁": 5, "t": 6,
        "h": 7, "th": 8, "▁th": 9});
    json["model"]["merges"] = json!([["t", "h"], ["▁", "th"]]);
    json
}

fn small_characters() -> Value {
    let mut json = character_json();
    json["model"]["vocab"] = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "t": 4, "十": 5, "\n": 6});
    json
}

const CONFIG: &str = r#"{"model_type":"llama","vocab_size":4,"hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":32}"#;

/// What a model has besides a Llama's parts.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// A matrix in q4_k.
    Quantised,
    /// Biases.
    Qwen2,
    /// Norms of heads.
    Qwen3,
}

/// Names and shapes of a model of that configuration.
fn tensors(kind: Kind, inner: u64) -> Vec<(String, Vec<u64>)> {
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![4, 4])];
    for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        all.push((layer(&format!("self_attn.{part}")), vec![4, 4]));
    }
    for (part, shape) in [("gate_proj", [inner, 4]), ("up_proj", [inner, 4]), ("down_proj", [4, inner])] {
        all.push((layer(&format!("mlp.{part}")), shape.to_vec()));
    }
    for part in ["q_proj", "k_proj", "v_proj"].iter().filter(|_| kind == Kind::Qwen2) {
        all.push((format!("model.layers.0.self_attn.{part}.bias"), vec![4]));
    }
    for part in ["q_norm", "k_norm"].iter().filter(|_| kind == Kind::Qwen3) {
        all.push((layer(&format!("self_attn.{part}")), vec![2]));
    }
    for part in ["input_layernorm", "post_attention_layernorm"] {
        all.push((layer(part), vec![4]));
    }
    all.push(("model.norm.weight".to_owned(), vec![4]));
    all.push(("lm_head.weight".to_owned(), vec![4, 4]));
    all
}

fn safetensors(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let (mut header, mut length) = (serde_json::Map::new(), 0_u64);
    for (name, shape) in tensors {
        let end = length + 2 * shape.iter().product::<u64>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [length, end]}));
        length = end;
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend([0x3d, 0x3e].into_iter().cycle().take(length as usize));
    bytes
}

/// A GGUF file: magic, version, counts, metadata, tensors, and their data at a multiple of 32.
fn gguf(version: u32, tokenizer: bool, kind: Kind) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let entry =
        |name: &str, kind: u32, value: Vec<u8>| [text(name), kind.to_le_bytes().into(), value].concat();
    let number = |name: &str, value: u32| entry(name, 4, value.to_le_bytes().into());
    let string = |name: &str, value: &str| entry(name, 8, text(value));
    let strings = |name: &str, values: &[&str]| {
        let mut list = [8_u32.to_le_bytes().to_vec(), (values.len() as u64).to_le_bytes().into()].concat();
        values.iter().for_each(|value| list.extend(text(value)));
        entry(name, 9, list)
    };
    let (name, inner) = match kind {
        Kind::Plain => ("llama", 4),
        // A block of q4_k has 256 numbers of a row.
        Kind::Quantised => ("llama", 256),
        Kind::Qwen2 => ("qwen2", 4),
        Kind::Qwen3 => ("qwen3", 4),
    };
    let key = |of: &str| format!("{name}.{of}");
    let mut metadata = vec![
        string("general.architecture", name),
        number(&key("embedding_length"), 4),
        number(&key("feed_forward_length"), u32::try_from(inner).unwrap()),
        number(&key("block_count"), 1),
        number(&key("attention.head_count"), 2),
        number(&key("context_length"), 32),
    ];
    if tokenizer {
        metadata.push(string("tokenizer.ggml.model", "gpt2"));
        metadata.push(string("tokenizer.ggml.pre", "llama-bpe"));
        metadata.push(strings("tokenizer.ggml.tokens", &["a", "b", "ab", "</s>"]));
        metadata.push(strings("tokenizer.ggml.merges", &["a b"]));
        metadata.push(number("tokenizer.ggml.eos_token_id", 3));
    }
    let tensors = tensors(kind, inner);
    let mut bytes = [b"GGUF".to_vec(), version.to_le_bytes().into()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    metadata.into_iter().for_each(|entry| bytes.extend(entry));
    let mut offset = 0_u64;
    for (name, shape) in &tensors {
        bytes.extend(text(&gguf_name(name)));
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|size| bytes.extend(size.to_le_bytes()));
        let numbers = shape.iter().product::<u64>();
        let quantised = kind == Kind::Quantised && name.contains("down_proj");
        let (kind, length) = if quantised { (12_u32, numbers / 256 * 144) } else { (0, 4 * numbers) };
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += length.next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(0.25_f32.to_le_bytes().into_iter().cycle().take(offset as usize));
    bytes
}

fn gguf_name(name: &str) -> String {
    let mut name = name.replace("model.layers.", "blk.");
    for (from, to) in [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ] {
        name = name.replace(from, to);
    }
    name
}

const BERT: &str = r#"{"model_type":"bert","vocab_size":6,"hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":8,"type_vocab_size":1,"hidden_act":"gelu"}"#;

fn embedders(seeds: &mut Vec<Seed>) {
    let mut all: Vec<(String, Vec<u64>)> = [("word", 6), ("position", 8), ("token_type", 1)]
        .map(|(part, rows)| (format!("embeddings.{part}_embeddings.weight"), vec![rows, 4]))
        .into();
    let mut pair = |name: &str, shape: &[u64]| {
        all.push((format!("{name}.weight"), shape.to_vec()));
        all.push((format!("{name}.bias"), vec![4]));
    };
    pair("embeddings.LayerNorm", &[4]);
    for part in
        ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    {
        pair(&format!("encoder.layer.0.{part}"), &[4, 4]);
    }
    for part in ["intermediate.dense", "output.dense"] {
        pair(&format!("encoder.layer.0.{part}"), &[4, 4]);
    }
    for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
        pair(&format!("encoder.layer.0.{part}"), &[4]);
    }
    let (weights, tokenizer) = (safetensors(&all), small_characters().to_string());
    let module = |kind: &str| json!({"type": format!("sentence_transformers.models.{kind}")});
    let both = json!([module("Transformer"), module("Pooling")]).to_string();
    let three = json!([module("Transformer"), module("Pooling"), module("Normalize")]).to_string();
    let old = r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;
    for (modules, pooling, lengths, prompts) in [
        (&both, r#"{"pooling_mode":"mean"}"#, "", ""),
        (&three, old, r#"{"max_seq_length":5,"do_lower_case":false}"#, r#"{"prompts":{"a":"b"}}"#),
    ] {
        let files: [&[u8]; 8] = [
            BERT.as_bytes(),
            modules.as_bytes(),
            pooling.as_bytes(),
            tokenizer.as_bytes(),
            &weights,
            lengths.as_bytes(),
            prompts.as_bytes(),
            br#"{"model_max_length":512}"#,
        ];
        seeds.push(("embedder", join(files)));
    }
}
