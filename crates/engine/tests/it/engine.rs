//! Jobs: batching, ends, cancellation, backpressure, admission.

use crate::support::*;
use gristmill_engine::{
    CandleEngine, CandleOptions, Engine, Event, Job, LlamaConfig, Load, MAX_TOP_LOGPROBS, Precision,
    StartError, random_llama,
};
use gristmill_tokenizer::Transcript;
use gristmill_types::Finish;

#[test]
fn an_answer_does_not_depend_on_its_company() {
    let engine = engine();
    // Prompts below, at and above the size of a chunk, lengths that end at different times.
    let jobs: Vec<_> = [5, 256, 17, 300, 1, 257, 40, 90]
        .into_iter()
        .enumerate()
        .map(|(i, count)| job(prompt(count, i), sampling(20 + 7 * i as u32, &[]), i as u8))
        .collect();
    let alone: Vec<Answer> = jobs.iter().map(|job| answer(&engine, job.clone())).collect();
    for (job, answer) in jobs.iter().zip(&alone) {
        assert_eq!(answer.done.finish, Finish::Length);
        assert_eq!(answer.done.output_tokens, job.sampling.max_tokens);
        assert_eq!(answer.done.prompt_tokens as usize, job.prompt_ids.len());
    }
    let under_way: Vec<_> = jobs.iter().map(|job| engine.start(job.clone()).unwrap()).collect();
    let readers: Vec<_> =
        under_way.into_iter().map(|generation| std::thread::spawn(|| collect(generation))).collect();
    let together: Vec<Answer> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(together, alone);
    assert_eq!(engine.load(), Load::default(), "places are free when the end is read");
}

#[test]
fn the_seed_decides() {
    let engine = engine();
    let ask = |seed| answer(&engine, job(prompt(10, 0), sampling(30, &[]), seed)).ids;
    assert_eq!(ask(1), ask(1));
    assert_ne!(ask(1), ask(2));
    let cold = |seed| {
        let mut job = job(prompt(10, 0), sampling(30, &[]), seed);
        job.sampling.temperature_micros = 0;
        answer(&engine, job).ids
    };
    assert_eq!(cold(1), cold(2), "at temperature 0 there is nothing to draw");
}

#[test]
fn a_stop_text_ends_the_answer() {
    let engine = engine();
    let whole = answer(&engine, job(prompt(10, 0), sampling(60, &[]), 3));
    let stop = &whole.text[20..23];
    let at = whole.text.find(stop).unwrap();
    let cut = answer(&engine, job(prompt(10, 0), sampling(60, &["never-there", stop]), 3));
    assert_eq!(cut.text, whole.text[..at]);
    assert_eq!(cut.done.finish, Finish::Stop);
    assert_eq!(cut.ids, whole.ids[..cut.ids.len()]);
    let stops = ["never-there".to_string(), stop.to_string()];
    let again = Transcript::of(engine.tokenizer(), &cut.ids, &stops, true).unwrap();
    assert_eq!(again, cut.text, "the text follows from the ids");
}

#[test]
fn an_end_id_ends_the_answer() {
    let free = answer(&engine(), job(prompt(10, 0), sampling(60, &[]), 3));
    let eos = free.ids[9];
    let at = free.ids.iter().position(|id| *id == eos).unwrap();
    let engine = engine_with(Precision::Q8_0, &[eos], &CandleOptions::default());
    let ended = answer(&engine, job(prompt(10, 0), sampling(60, &[]), 3));
    assert_eq!(ended.ids, free.ids[..=at], "the end id is among the ids");
    let before = engine.tokenizer().decode(&free.ids[..at]).unwrap();
    assert_eq!(ended.text, before, "and not in the text");
    assert_eq!(ended.done.finish, Finish::Stop);
    let mut ignoring = job(prompt(10, 0), sampling(60, &[]), 3);
    ignoring.stop_at_eos = false;
    assert_eq!(answer(&engine, ignoring).ids, free.ids);
}

#[test]
fn the_context_ends_the_answer() {
    let options = CandleOptions { context_tokens: 40, ..CandleOptions::default() };
    let engine = engine_with(Precision::Q8_0, &[], &options);
    let answer = answer(&engine, job(prompt(30, 0), sampling(1_000_000, &[]), 3));
    assert_eq!((answer.ids.len(), answer.done.finish), (10, Finish::Length));
}

#[test]
fn a_dropped_answer_frees_its_place() {
    let options = CandleOptions { max_running: 1, max_queued: 1, ..CandleOptions::default() };
    let engine = engine_with(Precision::Q8_0, &[], &options);
    let long = || engine.start(job(prompt(10, 0), sampling(900, &[]), 3));
    let (first, second) = (long().unwrap(), long().unwrap());
    assert!(matches!(long(), Err(StartError::Busy { .. })));
    eventually("one runs", || engine.load() == Load { running: 1, queued: 1 });
    let third = long();
    assert!(matches!(third, Err(StartError::Busy { running: 1, queued: 1 })), "{third:?}");
    // The first is paused at its window, so only the drop can wake the engine.
    drop(first);
    eventually("the second runs", || engine.load() == Load { running: 1, queued: 0 });
    let third = long().unwrap();
    drop(second);
    drop(third);
    eventually("all places are free", || engine.load() == Load::default());
    assert_eq!(answer(&engine, job(prompt(10, 0), sampling(5, &[]), 3)).ids.len(), 5);
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    let engine = engine();
    let mut slow = job(prompt(10, 0), sampling(40, &[]), 3);
    slow.window = 4;
    let expected = answer(&engine, slow.clone());
    let slow = engine.start(slow).unwrap();
    for seed in 0..3 {
        assert_eq!(answer(&engine, job(prompt(20, 1), sampling(100, &[]), seed)).ids.len(), 100);
    }
    // 300 tokens were computed for others; the slow one would have ended if it were not paused.
    assert_eq!(engine.load(), Load { running: 1, queued: 0 });
    assert_eq!(collect(slow), expected, "it goes on where it paused");
}

#[test]
fn no_more_than_the_window_is_computed_ahead() {
    for window in [0, 1, 5] {
        let engine = engine();
        let mut narrow = job(prompt(10, 0), sampling(50, &[]), 3);
        narrow.window = window;
        let mut generation = engine.start(narrow).unwrap();
        for _ in 0..10 {
            assert!(matches!(generation.blocking_next(), Some(Event::Piece { .. })));
        }
        // Dropping the engine ends its thread, so what remains in the channel was computed ahead.
        drop(engine);
        let mut ahead = 0;
        while let Some(Event::Piece { ids, .. }) = generation.blocking_next() {
            ahead += ids.len();
        }
        assert!(ahead <= window.max(1), "{ahead} tokens ahead of a window of {window}");
    }
}

#[test]
fn an_engine_that_ends_says_so() {
    let engine = engine();
    let mut wide = job(prompt(10, 0), sampling(900, &[]), 3);
    wide.window = 2;
    let mut generation = engine.start(wide).unwrap();
    assert!(matches!(generation.blocking_next(), Some(Event::Piece { .. })));
    drop(engine);
    let answer = {
        let mut last = None;
        while let Some(event) = generation.blocking_next() {
            last = Some(event);
        }
        last
    };
    let Some(Event::Done(done)) = answer else { panic!("Done comes last: {answer:?}") };
    assert_eq!(done.finish, Finish::Error);
    assert!(done.error.unwrap().contains("stopped"));
}

#[test]
fn bad_jobs_are_refused_at_once() {
    let options = CandleOptions { context_tokens: 64, ..CandleOptions::default() };
    let engine = engine_with(Precision::Q8_0, &[], &options);
    let good = || job(prompt(10, 0), sampling(5, &[]), 3);
    let code = |change: fn(&mut gristmill_engine::Job)| {
        let mut job = good();
        change(&mut job);
        engine.start(job).unwrap_err().code()
    };
    assert_eq!(code(|job| job.prompt_ids.clear()), "empty_prompt");
    assert_eq!(code(|job| job.prompt_ids = vec![5; 64]), "context_length_exceeded");
    assert_eq!(code(|job| job.prompt_ids = vec![5; 1_000_000]), "context_length_exceeded");
    assert_eq!(code(|job| job.prompt_ids[3] = 96), "unknown_token");
    assert_eq!(code(|job| job.prompt_ids[3] = u32::MAX), "unknown_token");
    assert_eq!(code(|job| job.sampling.max_tokens = 0), "no_output");
    assert_eq!(code(|job| job.sampling.top_k = 0), "bad_sampling");
    assert_eq!(code(|job| job.sampling.top_k = 65), "bad_sampling");
    assert_eq!(code(|job| job.sampling.top_p_micros = 0), "bad_sampling");
    assert_eq!(code(|job| job.sampling.top_p_micros = 1_000_001), "bad_sampling");
    assert_eq!(code(|job| job.sampling.stop = vec![String::new()]), "bad_stop");
    assert_eq!(engine.load(), Load::default(), "a refused job takes no place");
    let mut extreme = good();
    extreme.sampling.temperature_micros = u32::MAX;
    extreme.window = usize::MAX;
    assert_eq!(answer(&engine, extreme).ids.len(), 5);
}

#[test]
fn log_probabilities_are_the_models_at_every_temperature() {
    let engine = engine_with(Precision::F32, &[], &CandleOptions::default());
    let plain = job(prompt(10, 0), sampling(30, &[]), 3);
    let expected = answer(&engine, plain.clone());
    let whole: Vec<u32> = plain.prompt_ids.iter().chain(&expected.ids).copied().collect();
    let logits = model(Precision::F32).logits(&whole).unwrap();
    let softmax = |row: &[f32]| -> Vec<f64> {
        let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        row.iter().map(|logit| f64::from(*logit) - total.ln()).collect()
    };
    for top in [0, 5, MAX_TOP_LOGPROBS] {
        let mut generation = engine.start(Job { top_logprobs: Some(top), ..plain.clone() }).unwrap();
        let mut all = Vec::new();
        while let Some(Event::Piece { ids, logprobs, .. }) = generation.blocking_next() {
            assert_eq!(ids, logprobs.iter().map(|one| one.drawn.id).collect::<Vec<_>>());
            all.extend(logprobs);
        }
        assert_eq!(all.iter().map(|one| one.drawn.id).collect::<Vec<_>>(), expected.ids, "the draws stay");
        for (one, row) in all.iter().zip(&logits[plain.prompt_ids.len() - 1..]) {
            let expected = softmax(row);
            for token in one.top.iter().chain([&one.drawn]) {
                let difference = f64::from(token.logprob) - expected[token.id as usize];
                assert!(difference.abs() < 1e-4, "{token:?}: {difference}");
            }
            assert_eq!(one.top.len(), usize::from(top));
            assert!(one.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
            let better = expected.iter().filter(|other| **other > expected[one.drawn.id as usize] + 1e-4);
            if better.count() < one.top.len() {
                assert!(one.top.iter().any(|token| token.id == one.drawn.id));
            }
        }
    }
    let refused = engine.start(Job { top_logprobs: Some(MAX_TOP_LOGPROBS + 1), ..plain }).unwrap_err();
    assert_eq!(refused.code(), "bad_logprobs");
}

#[test]
fn memory_bounds_what_runs() {
    // Keys and values of 100 tokens; each job needs 60, so one runs at a time.
    let bytes_per_token = 2 * 4 * 2 * 2 * 16;
    let options = CandleOptions { kv_bytes: 100 * bytes_per_token, ..CandleOptions::default() };
    let engine = engine_with(Precision::Q8_0, &[], &options);
    assert_eq!(engine.info().context_tokens, 100);
    let jobs: Vec<_> =
        (0..3).map(|i| engine.start(job(prompt(10, i), sampling(50, &[]), 3)).unwrap()).collect();
    eventually("one runs", || engine.load() == Load { running: 1, queued: 2 });
    for generation in jobs {
        assert_eq!(collect(generation).ids.len(), 50);
    }
}

/// Many narrow heads: a file of little, and attention scores of gigabytes.
#[test]
fn attention_scores_bound_the_context() {
    let config = LlamaConfig { hidden: 32, heads: 16_384, kv_heads: 1, head_dim: 2, layers: 1, ..config() };
    let model = random_llama(config, Precision::Q8_0, 1).unwrap();
    let open = |pass_bytes| {
        let options = CandleOptions { pass_bytes, ..CandleOptions::default() };
        CandleEngine::new(model.clone(), tokenizer(&[]), &options)
    };
    // Two copies of 16,384 · 90 · 90 scores fit into 1 GiB.
    assert_eq!(open(CandleOptions::default().pass_bytes).unwrap().info().context_tokens, 90);
    let engine = open(2 * 4 * 16_384 * 20 * 20).unwrap();
    assert_eq!(engine.info().context_tokens, 20);
    let error = engine.start(job(prompt(20, 0), sampling(8, &[]), 3)).unwrap_err();
    assert_eq!(error.code(), "context_length_exceeded");
    let answer = answer(&engine, job(prompt(15, 0), sampling(8, &[]), 3));
    assert_eq!((answer.ids.len(), answer.done.error), (5, None));
    let error = open(1000).unwrap_err().to_string();
    assert!(error.contains("pass_bytes"), "{error}");
    let ordinary = engine_with(Precision::Q8_0, &[], &CandleOptions::default());
    assert_eq!(ordinary.info().context_tokens, 1024, "others are as they were");
}

#[test]
fn the_engine_says_what_it_is() {
    let info = engine().info().clone();
    let arithmetic = info.class.strip_prefix("candle-q8_0-").unwrap();
    assert!(arithmetic.len() == 8 && arithmetic.bytes().all(|b| b.is_ascii_hexdigit()), "{arithmetic}");
    assert_eq!((info.exact, info.vocab), (true, 96));
    assert_eq!(info.context_tokens, 1024);
    let info = engine_with(Precision::F32, &[], &CandleOptions::default()).info().clone();
    assert_eq!((info.class.as_str(), info.exact), ("candle-f32", false));
}
