//! The bits of logits in every shape in which they are computed.

use super::*;
use crate::{
    Biases, LoadError, Precision, Rope, RopeScaling,
    exact::STEP_ROWS,
    random::Random,
    random_llama,
    weights::{Source, assemble},
};
use candle_core::quantized::{GgmlDType, QTensor};

/// All types for which an engine may claim that it is exact.
const EXACT_TYPES: [GgmlDType; 6] =
    [GgmlDType::Q4_0, GgmlDType::Q5_0, GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];

fn model(precision: Precision, kv_heads: usize) -> Llama {
    let config = LlamaConfig {
        vocab: 96,
        hidden: 64,
        intermediate: 160,
        layers: 2,
        heads: 4,
        kv_heads,
        head_dim: 16,
        norm_eps: 1e-5,
        max_positions: 128,
        tied: kv_heads == 1,
        biases: Biases::default(),
        qk_norm: false,
        windows: Vec::new(),
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    };
    random_llama(config, precision, 7).unwrap()
}

/// A model whose matrices suit `q4_k` and candle's tiled kernels, but for one in each layer.
fn wide(precision: Precision) -> Llama {
    let mut config = model(Precision::F32, 2).config().clone();
    (config.hidden, config.intermediate, config.head_dim) = (256, 352, 64);
    random_llama(config, precision, 7).unwrap()
}

/// The shape of a model with all that families have of their own.
fn sliding() -> LlamaConfig {
    LlamaConfig {
        biases: Biases { qkv: true, output: true, mlp: true },
        qk_norm: true,
        windows: vec![Some(20), None],
        ..model(Precision::F32, 2).config().clone()
    }
}

/// Random weights with every matrix at one type, as files may have them.
struct Typed(Random, GgmlDType);

impl Source for Typed {
    fn unread(&self) -> Option<String> {
        None
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, LoadError> {
        self.0.tensor(name, shape)
    }

    fn linear(
        &mut self,
        name: &str,
        out: usize,
        input: usize,
        _: Precision,
    ) -> std::result::Result<Linear, LoadError> {
        Ok(Linear::quantised(QTensor::quantize(&self.tensor(name, &[out, input])?, self.1)?))
    }
}

/// Models of the types that are exact, if this processor's kernels are.
fn exact_models() -> Vec<Llama> {
    let mut models: Vec<Llama> = [1, 2, 4].map(|kv_heads| model(Precision::Q8_0, kv_heads)).into();
    models.extend([wide(Precision::Q8_0), wide(Precision::Q4K)]);
    assert_eq!(models.last().map(Llama::kind).as_deref(), Some("q4_k+q8_0"));
    assert!(models.first().is_some_and(Llama::exact));
    models.push(random_llama(sliding(), Precision::Q8_0, 7).unwrap());
    let mut config = wide(Precision::F32).config().clone();
    config.intermediate = 512;
    for kind in EXACT_TYPES {
        let weights = assemble(&config, Precision::Q8_0, &mut Typed(Random(7), kind)).unwrap();
        models.push(Llama::new(config.clone(), weights, 128).unwrap());
    }
    models.retain(|model| {
        if !model.exact() {
            println!("skipped: {} is not exact on this processor", model.kind());
        }
        model.exact()
    });
    models
}

fn ids(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 37 + salt * 11 + i * i) % 96) as u32).collect()
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Prompt in one block, then token by token: one row for the prompt's end and one for each token.
fn decode(model: &Llama, ids: &[u32], prompt: usize) -> Vec<Vec<f32>> {
    let mut kv = model.new_kv(ids.len()).unwrap();
    let mut step = |tokens: &[u32]| {
        let mut parts = [Part { tokens, kv: &mut kv }];
        model.step(&mut parts, Rows::Last, Attention::Block).unwrap().to_vec2::<f32>().unwrap().remove(0)
    };
    let mut rows = vec![step(&ids[..prompt])];
    rows.extend(ids[prompt..].chunks(1).map(step));
    rows
}

fn greatest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn teacher_forcing_has_the_bits_of_decoding() {
    for model in exact_models() {
        let (ids, prompt) = (ids(90, model.config().kv_heads), 33);
        let decoded = decode(&model, &ids, prompt);
        let mut kv = model.new_kv(ids.len()).unwrap();
        let mut step = |tokens: &[u32], rows, attention| {
            model
                .step(&mut [Part { tokens, kv: &mut kv }], rows, attention)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()
        };
        let mut forced = step(&ids[..prompt], Rows::Last, Attention::Block);
        for tokens in ids[prompt..].chunks(STEP_ROWS) {
            forced.extend(step(tokens, Rows::All, Attention::Rows));
        }
        assert_eq!(bits(&forced), bits(&decoded), "{} {:?}", model.kind(), model.config());
    }
}

#[test]
fn a_batch_has_the_bits_of_each_alone() {
    for model in exact_models() {
        compare_batches(&model);
    }
}

fn compare_batches(model: &Llama) {
    let sequences: Vec<Vec<u32>> = (0..5).map(|i| ids(20 + 9 * i, i)).collect();
    let prompts: Vec<usize> = (0..5).map(|i| 1 + 2 * i).collect();
    let mut kvs: Vec<Kv> = sequences.iter().map(|_| model.new_kv(120).unwrap()).collect();
    let mut together: Vec<Vec<Vec<f32>>> = vec![Vec::new(); 5];
    for turn in 0..17 {
        // Ragged: on the first turn whole prompts, then one token each.
        let mut parts: Vec<Part<'_>> = kvs
            .iter_mut()
            .enumerate()
            .map(|(i, kv)| {
                let tokens = if turn == 0 {
                    &sequences[i][..prompts[i]]
                } else {
                    &sequences[i][prompts[i] + turn - 1..prompts[i] + turn]
                };
                Part { tokens, kv }
            })
            .collect();
        let rows = model.step(&mut parts, Rows::Last, Attention::Block).unwrap();
        for (i, row) in rows.to_vec2::<f32>().unwrap().into_iter().enumerate() {
            together[i].push(row);
        }
    }
    for i in 0..5 {
        let alone = decode(model, &sequences[i][..prompts[i] + 16], prompts[i]);
        assert_eq!(bits(&together[i]), bits(&alone), "{}, sequence {i}", model.kind());
    }
}

#[test]
fn f32_shapes_agree_closely() {
    let model = model(Precision::F32, 2);
    assert!(!model.exact());
    let ids = ids(100, 3);
    let at_once = model.logits(&ids).unwrap();
    let decoded = decode(&model, &ids, 40);
    let difference = greatest_difference(&at_once[39..], &decoded);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn a_window_is_the_same_in_every_shape() {
    let model = random_llama(sliding(), Precision::F32, 7).unwrap();
    let ids = ids(100, 3);
    let at_once = model.logits(&ids).unwrap();
    // Chunks that begin within a window and beyond one, and single tokens.
    let mut kv = model.new_kv(100).unwrap();
    let (mut rows, mut rest) = (Vec::new(), &ids[..]);
    for count in [7, 30, 1, 25, 1, 1, 35] {
        let (tokens, later) = rest.split_at(count);
        let mut parts = [Part { tokens, kv: &mut kv }];
        let logits = model.step(&mut parts, Rows::All, Attention::Block).unwrap();
        rows.extend(logits.to_vec2::<f32>().unwrap());
        rest = later;
    }
    let difference = greatest_difference(&rows, &at_once);
    assert!(rest.is_empty() && difference < 1e-4, "{difference}");
    // With windows in all layers, tokens two windows back are out of reach.
    let config = LlamaConfig { windows: vec![Some(20); 2], ..sliding() };
    let model = random_llama(config, Precision::F32, 7).unwrap();
    let mut other = ids.clone();
    other[50] = (other[50] + 1) % 96;
    let (one, other) = (model.logits(&ids).unwrap(), model.logits(&other).unwrap());
    let apart: Vec<bool> = one.iter().zip(&other).map(|(one, other)| one != other).collect();
    assert_eq!(apart.iter().position(|apart| *apart), Some(50));
    assert_eq!(apart.iter().rposition(|apart| *apart), Some(50 + 2 * 19));
}

#[test]
fn quantisation_changes_little_but_something() {
    let (exact, rough) = (model(Precision::F32, 2), model(Precision::Q8_0, 2));
    let ids = ids(60, 1);
    let difference = greatest_difference(&exact.logits(&ids).unwrap(), &rough.logits(&ids).unwrap());
    assert!(difference > 1e-3 && difference < 1.0, "{difference}");
    assert_eq!((exact.kind(), rough.kind()), ("f32".into(), "q8_0".into()));
}

#[test]
fn four_bits_are_further_than_eight_and_not_far() {
    let ids = ids(60, 1);
    let logits = |precision| wide(precision).logits(&ids).unwrap();
    let (exact, eight, four) = (logits(Precision::F32), logits(Precision::Q8_0), logits(Precision::Q4K));
    let (near, far) = (greatest_difference(&exact, &eight), greatest_difference(&exact, &four));
    assert!(far > 2.0 * near && far < 3.0, "{near} {far}");
}

#[test]
fn later_tokens_do_not_reach_back() {
    let model = model(Precision::F32, 2);
    let (a, mut b) = (ids(30, 1), ids(30, 1));
    b[20] = (b[20] + 1) % 96;
    let (a, b) = (model.logits(&a).unwrap(), model.logits(&b).unwrap());
    assert_eq!(bits(&a[..20]), bits(&b[..20]));
    assert!(greatest_difference(&a[20..21], &b[20..21]) > 1e-2);
    assert!(greatest_difference(&a[29..], &b[29..]) > 1e-4);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let model = model(Precision::F32, 2);
    let mut kv = model.new_kv(10).unwrap();
    let mut step = |tokens: &[u32]| {
        model.step(&mut [Part { tokens, kv: &mut kv }], Rows::Last, Attention::Block).map(|_| ())
    };
    assert!(step(&[]).is_err());
    assert!(step(&[1; 11]).is_err());
    assert!(step(&[96]).is_err(), "a token outside of the vocabulary");
    step(&[1; 8]).unwrap();
    assert!(step(&[1; 3]).is_err());
    step(&[1; 2]).unwrap();
}
