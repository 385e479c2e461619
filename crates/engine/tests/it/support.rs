//! A small model, a tokenizer with one printable character a token, and short ways to use them.

use gristmill_audit::Seed;
use gristmill_engine::{
    Biases, CandleEngine, CandleOptions, Done, Engine, Event, Generation, Job, Llama, LlamaConfig, Precision,
    Rope, RopeScaling, random_llama,
};
use gristmill_tokenizer::{SpecialTokens, TextBundle, Tokenizer};
use gristmill_types::Sampling;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};

pub(crate) const VOCAB: usize = 96;

pub(crate) fn config() -> LlamaConfig {
    LlamaConfig {
        vocab: VOCAB,
        hidden: 64,
        intermediate: 160,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        norm_eps: 1e-5,
        max_positions: 1024,
        tied: false,
        biases: Biases::default(),
        qk_norm: false,
        windows: Vec::new(),
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    }
}

pub(crate) fn model(precision: Precision) -> Llama {
    random_llama(config(), precision, 1).unwrap()
}

/// `<unk>`, `<s>`, `</s>`, then `!` to `}`.
pub(crate) fn tokens() -> Vec<String> {
    let specials = ["<unk>", "<s>", "</s>"].map(String::from).into_iter();
    specials.chain((b'!'..=b'}').map(|byte| char::from(byte).to_string())).collect()
}

pub(crate) fn tokenizer_json() -> Value {
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let vocab: serde_json::Map<String, Value> =
        tokens().into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    })
}

pub(crate) fn tokenizer(eos_ids: &[u32]) -> Arc<Tokenizer> {
    let bundle = TextBundle {
        tokenizer_json: tokenizer_json().to_string(),
        chat_template: None,
        special: SpecialTokens::default(),
        add_bos: false,
        eos_ids: eos_ids.to_vec(),
    };
    Tokenizer::new(bundle).unwrap()
}

pub(crate) fn engine_with(precision: Precision, eos_ids: &[u32], options: &CandleOptions) -> CandleEngine {
    CandleEngine::new(model(precision), tokenizer(eos_ids), options).unwrap()
}

pub(crate) fn engine() -> CandleEngine {
    engine_with(Precision::Q8_0, &[], &CandleOptions::default())
}

pub(crate) fn sampling(max_tokens: u32, stop: &[&str]) -> Sampling {
    let stop = stop.iter().map(|stop| stop.to_string()).collect();
    Sampling { temperature_micros: 900_000, top_k: 40, top_p_micros: 1_000_000, max_tokens, stop }
}

pub(crate) fn prompt(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| (3 + (i * 37 + salt * 11 + i * i) % (VOCAB - 3)) as u32).collect()
}

pub(crate) fn job(prompt_ids: Vec<u32>, sampling: Sampling, seed: u8) -> Job {
    Job {
        prompt_ids,
        sampling,
        seed: Seed::new([seed; 32]),
        window: 16,
        stop_at_eos: true,
        top_logprobs: None,
        source: None,
    }
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) done: Done,
}

pub(crate) fn collect(mut generation: Generation) -> Answer {
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        match generation.blocking_next().expect("Done comes last") {
            Event::Piece { ids: next, text: piece, logprobs } => {
                assert!(logprobs.is_empty(), "nobody asked");
                ids.extend(next);
                text.push_str(&piece);
            }
            Event::Done(done) => {
                assert_eq!(generation.blocking_next(), None, "nothing comes after Done");
                assert_eq!(done.output_tokens as usize, ids.len());
                return Answer { ids, text, done };
            }
        }
    }
}

pub(crate) fn answer(engine: &CandleEngine, job: Job) -> Answer {
    collect(engine.start(job).unwrap())
}

/// Waits for a condition of another thread, at most ten seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 10, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A folder of numbers made with Python transformers.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The ids and the logits at every position that transformers computed.
pub(crate) fn golden_numbers(name: &str) -> (Vec<u32>, Vec<Vec<f32>>) {
    #[derive(serde::Deserialize)]
    struct Numbers {
        ids: Vec<u32>,
        logits: Vec<Vec<f32>>,
    }
    let text = std::fs::read_to_string(golden(name).join("logits.json")).unwrap();
    let numbers: Numbers = serde_json::from_str(&text).unwrap();
    (numbers.ids, numbers.logits)
}

pub(crate) fn greatest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
