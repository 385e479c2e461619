//! The bits of logits in every shape in which they are computed.

use super::*;
use crate::{Precision, Rope, RopeScaling, random_llama};

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
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    };
    random_llama(config, precision, 7).unwrap()
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
    for kv_heads in [1, 2, 4] {
        let model = model(Precision::Q8_0, kv_heads);
        assert!(model.exact());
        let (ids, prompt) = (ids(90, kv_heads), 33);
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
        forced.extend(step(&ids[prompt..70], Rows::All, Attention::Rows));
        forced.extend(step(&ids[70..], Rows::All, Attention::Rows));
        assert_eq!(bits(&forced), bits(&decoded), "{kv_heads} key heads");
    }
}

#[test]
fn a_batch_has_the_bits_of_each_alone() {
    let model = model(Precision::Q8_0, 2);
    let sequences: Vec<Vec<u32>> = (0..5).map(|i| ids(20 + 9 * i, i)).collect();
    let prompts: Vec<usize> = (0..5).map(|i| 3 + 4 * i).collect();
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
        let alone = decode(&model, &sequences[i][..prompts[i] + 16], prompts[i]);
        assert_eq!(bits(&together[i]), bits(&alone), "sequence {i}");
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
fn quantisation_changes_little_but_something() {
    let (exact, rough) = (model(Precision::F32, 2), model(Precision::Q8_0, 2));
    let ids = ids(60, 1);
    let difference = greatest_difference(&exact.logits(&ids).unwrap(), &rough.logits(&ids).unwrap());
    assert!(difference > 1e-3 && difference < 1.0, "{difference}");
    assert_eq!((exact.kind(), rough.kind()), ("f32".into(), "q8_0".into()));
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
