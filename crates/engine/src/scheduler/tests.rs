//! Turns of the scheduler, driven by hand.

use super::*;
use crate::{
    Biases, Event, LlamaConfig, Precision, Rope, RopeScaling, random_llama,
    task::{Answer, Check},
};
use gristmill_audit::{Sampler, Seed};
use gristmill_tokenizer::{SpecialTokens, TextBundle, Tokenizer, Transcript};
use gristmill_types::Sampling;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

fn tokenizer() -> Arc<Tokenizer> {
    let json = r#"{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
    let bundle = TextBundle {
        tokenizer_json: json.into(),
        chat_template: None,
        special: SpecialTokens::default(),
        add_bos: false,
        eos_ids: Vec::new(),
    };
    Tokenizer::new(bundle).unwrap()
}

fn scheduler(running: usize, kv_tokens: usize) -> Scheduler {
    let config = LlamaConfig {
        vocab: 32,
        hidden: 32,
        intermediate: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        norm_eps: 1e-5,
        max_positions: 4096,
        tied: true,
        biases: Biases::default(),
        qk_norm: false,
        windows: Vec::new(),
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None, interleaved: false },
    };
    let model = random_llama(config, Precision::Q8_0, 1).unwrap();
    Scheduler::new(model, Arc::default(), Limits { running, kv_tokens }, Arc::default())
}

fn place() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn sampler() -> Sampler {
    let sampling = Sampling {
        temperature_micros: 1_000_000,
        top_k: 8,
        top_p_micros: 1_000_000,
        max_tokens: 1,
        stop: Vec::new(),
    };
    Sampler::new(Seed::new([1; 32]), &sampling).unwrap()
}

fn answer(prompt: usize, limit: u32, window: usize) -> (Task, mpsc::Receiver<Event>) {
    let (events, receiver) = mpsc::channel(window + 1);
    let answer = Answer {
        sampler: sampler(),
        transcript: Transcript::new(tokenizer(), &[]).unwrap(),
        tokenizer: tokenizer(),
        events,
        stop_at_eos: true,
        top_logprobs: None,
        prompt_tokens: prompt as u32,
        limit,
        drawn: 0,
        last: 0,
    };
    let capacity = prompt + limit as usize;
    let goal = Goal::Answer(Box::new(answer));
    (Task { prompt: vec![3; prompt], capacity, kv: None, goal, place: place() }, receiver)
}

fn taken(events: &mut mpsc::Receiver<Event>) -> usize {
    std::iter::from_fn(|| events.try_recv().ok()).count()
}

#[test]
fn a_long_prompt_does_not_stall_a_running_answer() {
    let mut scheduler = scheduler(4, 100_000);
    let (task, mut running) = answer(5, 100, 100);
    scheduler.waiting.push_back(task);
    assert!(scheduler.turn());
    assert_eq!(taken(&mut running), 2, "the end of the prompt gives a token, the turn's step another");
    let (task, mut newcomer) = answer(3 * PREFILL_TOKENS + 1, 10, 100);
    scheduler.waiting.push_back(task);
    for chunk in 0..4 {
        assert_eq!(taken(&mut newcomer), 0, "chunk {chunk}");
        assert!(scheduler.turn());
        assert_eq!(taken(&mut running), 1, "chunk {chunk}");
    }
    assert_eq!(taken(&mut newcomer), 2);
}

#[test]
fn newcomers_wait_for_each_other_not_for_ever() {
    let mut scheduler = scheduler(4, 100_000);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (task, reader) = answer(2 * PREFILL_TOKENS, 100, 100);
        scheduler.waiting.push_back(task);
        readers.push(reader);
    }
    let mut counts = Vec::new();
    for _ in 0..6 {
        scheduler.turn();
        counts.push(readers.iter_mut().map(taken).collect::<Vec<_>>());
    }
    let expected = [[0, 0, 0], [2, 0, 0], [1, 0, 0], [1, 2, 0], [1, 1, 0], [1, 1, 2]];
    assert_eq!(counts, expected);
}

#[test]
fn a_task_that_needs_much_memory_is_not_overtaken() {
    let mut scheduler = scheduler(4, 100);
    let (first, reader) = answer(10, 50, 1);
    let (large, _large) = answer(10, 80, 1);
    let (small, _small) = answer(10, 10, 1);
    scheduler.waiting.extend([first, large, small]);
    scheduler.turn();
    assert_eq!((scheduler.running.len(), scheduler.waiting.len()), (1, 2));
    drop(reader);
    scheduler.turn();
    let running: Vec<usize> = scheduler.running.iter().map(|task| task.capacity).collect();
    assert_eq!((running, scheduler.waiting.len()), (vec![90], 1), "the large one comes first");
}

#[test]
fn with_nothing_to_do_a_turn_says_so() {
    let mut scheduler = scheduler(4, 1_000);
    assert!(!scheduler.turn());
    let (task, mut events) = answer(5, 100, 2);
    scheduler.waiting.push_back(task);
    assert!(scheduler.turn());
    assert!(!scheduler.turn(), "the window is full");
    assert_eq!(taken(&mut events), 2);
    assert!(scheduler.turn());
    drop(events);
    assert!(!scheduler.turn());
    assert!(scheduler.running.is_empty());
}

#[test]
fn a_panic_is_an_error() {
    let result: Result<(), String> = guarded(|| panic!("by this test"));
    assert!(result.unwrap_err().contains("defect"));
}

#[test]
fn a_task_that_fails_ends_alone() {
    let mut scheduler = scheduler(4, 1_000);
    let (good, mut good_events) = answer(5, 3, 10);
    let (result, mut verdict) = oneshot::channel();
    // A recomputation without an answer breaks what `Check` takes for granted.
    let check = Check { sampler: sampler(), output: Vec::new(), gaps: vec![None; 2], slack: 0.0, result };
    let goal = Goal::Check(Box::new(check));
    let mut bad = Task { prompt: vec![3; 4], capacity: 8, kv: None, goal, place: place() };
    let mut kv = scheduler.model.new_kv(8).unwrap();
    let mut parts = [Part { tokens: &bad.prompt, kv: &mut kv }];
    scheduler.model.step(&mut parts, Rows::Last, Attention::Block).unwrap();
    bad.kv = Some(kv);
    scheduler.running.push(bad);
    scheduler.waiting.push_back(good);
    for _ in 0..4 {
        scheduler.turn();
    }
    assert!(verdict.try_recv().unwrap().unwrap_err().contains("0 new tokens"));
    assert_eq!(taken(&mut good_events), 4, "three pieces and the end");
}
