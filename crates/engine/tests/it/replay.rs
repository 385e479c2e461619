//! Answers computed again from what a receipt carries.

use crate::support::*;
use gristmill_engine::{
    CandleEngine, CandleOptions, Engine, F32_TOLERANCE, Job, Precision, Recomputed, Replay, StartError,
};
use proptest::prelude::*;

fn replay(job: &Job, output_ids: &[u32]) -> Replay {
    Replay {
        prompt_ids: job.prompt_ids.clone(),
        output_ids: output_ids.to_vec(),
        sampling: job.sampling.clone(),
        seed: job.seed,
    }
}

fn recompute(engine: &CandleEngine, replay: Replay) -> Recomputed {
    engine.recompute(replay).unwrap().blocking_wait().unwrap()
}

#[test]
fn a_quantised_answer_is_found_again_exactly() {
    let engine = engine();
    // Answers longer than a chunk of recomputation, prompts longer than a chunk of prefill, drawn
    // in company.
    let jobs: Vec<Job> = [4, 300, 70]
        .into_iter()
        .enumerate()
        .map(|(i, n)| job(prompt(n, i), sampling(150, &[]), i as u8))
        .collect();
    let under_way: Vec<_> = jobs.iter().map(|job| engine.start(job.clone()).unwrap()).collect();
    let readers: Vec<_> =
        under_way.into_iter().map(|generation| std::thread::spawn(|| collect(generation))).collect();
    // Another engine: nothing of the first one's state can help.
    let auditor = crate::support::engine();
    for (job, reader) in jobs.iter().zip(readers) {
        let answer = reader.join().unwrap();
        let found = recompute(&auditor, replay(job, &answer.ids));
        assert_eq!(found.gaps, vec![Some(0.0); 150]);
        assert_eq!(found.first_mismatch(0.0), None);
    }
}

#[test]
fn an_f32_answer_is_found_again_within_the_tolerance() {
    let engine = engine_with(Precision::F32, &[], &CandleOptions::default());
    let job = job(prompt(40, 0), sampling(200, &[]), 1);
    let answer = answer(&engine, job.clone());
    let found = recompute(&engine, replay(&job, &answer.ids));
    assert_eq!(found.first_mismatch(F32_TOLERANCE), None, "{:?}", found.gaps);
}

#[test]
fn answers_from_a_nucleus_are_found_again() {
    for (precision, tolerance) in [(Precision::Q8_0, 0.0), (Precision::F32, F32_TOLERANCE)] {
        let engine = engine_with(precision, &[], &CandleOptions::default());
        for seed in 0..6 {
            let mut job = job(prompt(40, 0), sampling(200, &[]), seed);
            job.sampling.top_p_micros = 600_000;
            let narrow = answer(&engine, job.clone());
            let found = recompute(&engine, replay(&job, &narrow.ids));
            assert_eq!(found.first_mismatch(tolerance), None, "{precision:?}, {seed}");
            // An answer from all of the top k has tokens from outside of the nucleus.
            let mut wide = job.clone();
            wide.sampling.top_p_micros = 1_000_000;
            let wide = answer(&engine, wide);
            let found = recompute(&engine, replay(&job, &wide.ids));
            assert!(found.gaps.contains(&None), "{precision:?}, {seed}");
        }
    }
}

#[test]
fn another_precision_is_noticed() {
    let (honest, other) = (engine(), engine_with(Precision::F32, &[], &CandleOptions::default()));
    let job = job(prompt(40, 0), sampling(200, &[]), 1);
    let answer = answer(&other, job.clone());
    let found = recompute(&honest, replay(&job, &answer.ids));
    assert!(found.first_mismatch(0.0).is_some(), "200 draws from other logits agree to the token");
}

#[test]
fn a_changed_token_seed_or_prompt_is_noticed() {
    let engine = engine();
    let job = job(prompt(40, 0), sampling(60, &[]), 1);
    let answer = answer(&engine, job.clone());
    for at in [0, 1, 30, 59] {
        let mut ids = answer.ids.clone();
        ids[at] = if ids[at] == 50 { 51 } else { 50 };
        let found = recompute(&engine, replay(&job, &ids));
        assert_eq!(found.first_mismatch(0.0), Some(at));
        assert_eq!(found.gaps.len(), 60);
    }
    let mut other = job.clone();
    other.seed = gristmill_audit::Seed::new([9; 32]);
    assert!(recompute(&engine, replay(&other, &answer.ids)).first_mismatch(0.0).is_some());
    let mut other = job;
    other.prompt_ids[0] += 1;
    assert!(recompute(&engine, replay(&other, &answer.ids)).first_mismatch(0.0).is_some());
}

#[test]
fn bad_replays_are_refused() {
    let engine = engine();
    let job = job(prompt(40, 0), sampling(5, &[]), 1);
    let code = |ids: &[u32]| engine.recompute(replay(&job, ids)).unwrap_err().code();
    assert_eq!(code(&[5; 6]), "answer_too_long");
    assert_eq!(code(&[96]), "unknown_token");
    assert_eq!(recompute(&engine, replay(&job, &[])).gaps, []);
    let mut empty = replay(&job, &[5]);
    empty.prompt_ids.clear();
    assert!(matches!(engine.recompute(empty), Err(StartError::EmptyPrompt)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is asked, what is answered can be computed again to the token.
    #[test]
    fn every_answer_is_found_again(
        count in 1usize..280,
        salt in 0usize..1000,
        seed: u8,
        temperature_micros in 0u32..3_000_000,
        top_k in 1u8..=64,
        max_tokens in 1u32..80,
    ) {
        let engine = engine();
        let mut job = job(prompt(count, salt), sampling(max_tokens, &[]), seed);
        job.sampling.temperature_micros = temperature_micros;
        job.sampling.top_k = top_k;
        let ids = answer(&engine, job.clone()).ids;
        prop_assert_eq!(recompute(&engine, replay(&job, &ids)).first_mismatch(0.0), None);
    }
}
