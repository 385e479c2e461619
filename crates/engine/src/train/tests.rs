//! The fused model against candle's own differentiable operations, and the promises of a step.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{loss, ops, rotary_emb};

use super::{
    AdamSettings, AdamW, Example, Rng, Sizes, StepReport, TrainError, TrainModel, Trainer, learning_rate,
};

fn sizes() -> Sizes {
    Sizes {
        vocab_size: 13,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        max_position_embeddings: 12,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
    }
}

/// Sequences of different lengths with a rule: each answer token is the one before plus one.
fn examples() -> Vec<Example> {
    let counts = [(0u32, 7usize, 2usize), (3, 5, 1), (1, 10, 6), (5, 2, 1), (2, 9, 3), (4, 6, 5), (0, 12, 2)];
    let ids = |start: u32, length: usize| (0..length as u32).map(|i| (start + i) % 13).collect();
    counts.map(|(start, length, answer_at)| Example { ids: ids(start, length), answer_at }).to_vec()
}

fn trainer(threads: usize) -> Trainer {
    let model = TrainModel::new(sizes(), 7).unwrap();
    Trainer { model, optimiser: AdamW::new(AdamSettings::default()), threads }
}

fn run(trainer: &mut Trainer, steps: u32) -> Vec<StepReport> {
    let examples = examples();
    let batch: Vec<&Example> = examples.iter().collect();
    (0..steps).map(|_| trainer.step(&batch, 1e-2, 30.0).unwrap()).collect()
}

fn weights(model: &TrainModel) -> Vec<(String, Vec<f32>)> {
    let values = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1().unwrap();
    model.weights().iter().map(|(name, var)| (name.clone(), values(var))).collect()
}

/// One sequence's loss, from candle's slow operations on unpacked tensors.
fn reference(model: &TrainModel, example: &Example) -> candle_core::Result<Tensor> {
    let (s, length) = (model.sizes(), example.ids.len() - 1);
    let (heads, head_dim, eps) = (s.num_attention_heads, s.head_dim(), s.rms_norm_eps as f32);
    let w = |name: String| model.weights()[&name].as_tensor().clone();
    let angles: Vec<f32> = (0..length * head_dim / 2)
        .map(|i| {
            let (position, pair) = (i / (head_dim / 2), i % (head_dim / 2));
            position as f32 * (s.rope_theta as f32).powf(-((2 * pair) as f32) / head_dim as f32)
        })
        .collect();
    let angles = Tensor::from_vec(angles, (length, head_dim / 2), &Device::Cpu)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let mask: Vec<f32> =
        (0..length * length).map(|i| if i % length > i / length { -1e9 } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (1, 1, length, length), &Device::Cpu)?;
    let embedding = w("model.embed_tokens.weight".into());
    let mut x = embedding.index_select(&Tensor::new(&example.ids[..length], &Device::Cpu)?, 0)?;
    for i in 0..s.num_hidden_layers {
        let part = |part: &str| w(format!("model.layers.{i}.{part}.weight"));
        let h = ops::rms_norm_slow(&x, &part("input_layernorm"), eps)?;
        let split = |name: &str| -> candle_core::Result<Tensor> {
            h.matmul(&part(name).t()?)?.reshape((1, length, heads, head_dim))?.transpose(1, 2)?.contiguous()
        };
        let q = rotary_emb::rope_slow(&split("self_attn.q_proj")?, &cos, &sin)?;
        let k = rotary_emb::rope_slow(&split("self_attn.k_proj")?, &cos, &sin)?;
        let scores = (q.matmul(&k.t()?)? / (head_dim as f64).sqrt())?.broadcast_add(&mask)?;
        let y = ops::softmax(&scores, D::Minus1)?.matmul(&split("self_attn.v_proj")?)?;
        let y = y.transpose(1, 2)?.reshape((length, heads * head_dim))?;
        x = (x + y.matmul(&part("self_attn.o_proj").t()?)?)?;
        let h = ops::rms_norm_slow(&x, &part("post_attention_layernorm"), eps)?;
        let gate = ops::silu(&h.matmul(&part("mlp.gate_proj").t()?)?)?;
        let wide = (gate * h.matmul(&part("mlp.up_proj").t()?)?)?;
        x = (x + wide.matmul(&part("mlp.down_proj").t()?)?)?;
    }
    let x = ops::rms_norm_slow(&x, &w("model.norm.weight".into()), eps)?;
    let rows = x.narrow(0, example.answer_at - 1, example.targets())?.contiguous()?;
    let targets = Tensor::new(&example.ids[example.answer_at..], &Device::Cpu)?;
    loss::cross_entropy(&rows.matmul(&embedding.t()?)?, &targets)? * example.targets() as f64
}

#[test]
fn loss_and_gradients_equal_candles_own() {
    let model = TrainModel::new(sizes(), 3).unwrap();
    let examples = examples();
    let batch: Vec<&Example> = examples.iter().collect();
    let loss = model.loss(&batch).unwrap();
    let mut expected = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    for example in &examples {
        expected = (expected + reference(&model, example).unwrap()).unwrap();
    }
    let (ours, theirs) = (loss.to_scalar::<f32>().unwrap(), expected.to_scalar::<f32>().unwrap());
    assert!((ours - theirs).abs() < 1e-4 * theirs, "loss {ours}, expected {theirs}");
    let (ours, theirs) = (loss.backward().unwrap(), expected.backward().unwrap());
    for (name, var) in model.weights() {
        let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        let (ours, theirs) = (ours.get(var).unwrap(), theirs.get(var).unwrap());
        let (off, size) = (norm(&(ours - theirs).unwrap()), norm(theirs));
        assert!(size > 0.0 && off < 1e-4 * size, "{name}: gradient off by {off} of {size}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (mut one, mut three) = (trainer(1), trainer(3));
    assert_eq!(run(&mut one, 3), run(&mut three, 3));
    assert_eq!(weights(&one.model), weights(&three.model));
}

#[test]
fn a_resumed_run_equals_one_without_a_break() {
    let folder = tempfile::tempdir().unwrap();
    let (model, state) = (folder.path().join("model.safetensors"), folder.path().join("state.safetensors"));
    let (mut whole, mut first) = (trainer(2), trainer(2));
    run(&mut whole, 5);
    run(&mut first, 2);
    first.model.save(&model).unwrap();
    first.optimiser.save(&state).unwrap();
    let mut second = Trainer {
        model: TrainModel::load(sizes(), &model).unwrap(),
        optimiser: AdamW::load(AdamSettings::default(), &state).unwrap(),
        threads: 2,
    };
    assert_eq!(second.optimiser.steps(), 2);
    run(&mut second, 3);
    assert_eq!(weights(&whole.model), weights(&second.model));
}

#[test]
fn it_learns_and_answers() {
    let mut trainer = trainer(2);
    let reports = run(&mut trainer, 80);
    let (first, last) = (reports[0].loss, reports[79].loss);
    assert!((first - 13f32.ln()).abs() < 0.3, "before training every token is as likely, not {first}");
    assert!(last < 0.05, "loss {last}");
    let examples = examples();
    let batch: Vec<&Example> = examples.iter().collect();
    assert_eq!(trainer.model.greedy_matches(&batch).unwrap(), vec![true; examples.len()]);
    let mut wrong = examples[0].clone();
    wrong.ids[4] = 12;
    assert_eq!(trainer.model.greedy_matches(&[&examples[1], &wrong]).unwrap(), [true, false]);
    assert_eq!(trainer.model.greedy(&[0, 1], 6, 20).unwrap(), [2, 3, 4, 5]);
    let logits =
        |model: &TrainModel| model.logits(&batch).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let before = logits(&trainer.model);
    trainer.model.scale_logits(4.0).unwrap();
    for (before, after) in before.iter().zip(logits(&trainer.model)) {
        assert!((before * 4.0 - after).abs() < 1e-3 * before.abs().max(1.0), "{before}, {after}");
    }
}

#[test]
fn what_the_model_cannot_read_is_refused() {
    let model = TrainModel::new(sizes(), 3).unwrap();
    for (ids, answer_at, reason) in [
        (vec![1, 13], 1, "outside of the vocabulary"),
        (vec![1; 13], 1, "at most 12 fit"),
        (vec![1, 2], 0, "starts at 0"),
        (vec![1, 2], 3, "starts at 3"),
        (vec![], 1, "starts at 1"),
    ] {
        match model.loss(&[&Example { ids, answer_at }]) {
            Err(TrainError::Example { reason: found }) => assert!(found.contains(reason), "{found}"),
            other => panic!("expected {reason:?}, found {other:?}"),
        }
    }
}

#[test]
fn weights_of_other_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    TrainModel::new(sizes(), 3).unwrap().save(&file).unwrap();
    for (other, reason) in [
        (Sizes { hidden_size: 32, ..sizes() }, "expected shape [13, 32], found [13, 16]"),
        (Sizes { num_hidden_layers: 3, ..sizes() }, "layers.2"),
    ] {
        let error = TrainModel::load(other, &file).err().expect("other sizes").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_learning_rate_rises_and_falls() {
    for (step, expected) in [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.5), (109, 0.01), (110, 0.0), (500, 0.0)] {
        let rate = learning_rate(1.0, step, 10, 110);
        assert!((rate - expected).abs() < 1e-6, "step {step}: {rate}");
    }
}

#[test]
fn the_generator_is_pinned() {
    // The first values of SplitMix64 from seed 1234567, as its author published them.
    let mut rng = Rng::new(1_234_567);
    assert_eq!(rng.bits(), 6_457_827_717_110_365_317);
    assert_eq!(rng.bits(), 3_203_168_211_198_807_973);
    let mut order: Vec<usize> = (0..6).collect();
    Rng::new(1).shuffle(&mut order);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
    assert_ne!(order, sorted);
    assert!((0..1000).all(|_| rng.below(3) < 3 && rng.unit().abs() <= 1.74));
}
