//! Draws follow softmax(ℓ / T) over the top k: chi-square with fixed seeds.

use gristmill_audit::{Sampler, Seed, unit};
use gristmill_types::Sampling;

const DRAWS: u32 = 20_000;

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// Pearson's statistic of observed counts against probabilities.
fn chi_square(counts: &[u32], expected: &[f64]) -> f64 {
    counts
        .iter()
        .zip(expected)
        .map(|(count, p)| {
            let mean = p * f64::from(DRAWS);
            (f64::from(*count) - mean).powi(2) / mean
        })
        .sum()
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [1.5f32, 0.0, -0.7, 1.4, 0.3, -2.0, 0.9, 0.31];
    // 99.9 % quantile of chi-square with 7 degrees of freedom. The seeds are fixed, so the test
    // either always passes or always fails.
    const LIMIT: f64 = 24.32;
    for (seed, micros) in [(1u8, 1_000_000u32), (2, 700_000), (3, 1_600_000)] {
        let sampling = Sampling {
            temperature_micros: micros,
            top_k: 8,
            top_p_micros: 1_000_000,
            max_tokens: 1,
            stop: Vec::new(),
        };
        let sampler = Sampler::new(Seed::new([seed; 32]), &sampling).unwrap();
        let mut counts = [0u32; 8];
        for position in 0..DRAWS {
            counts[sampler.draw(position, &logits).unwrap().token as usize] += 1;
        }
        let statistic = chi_square(&counts, &softmax(&logits, f64::from(micros) / 1e6));
        assert!(statistic < LIMIT, "seed {seed}, T {micros}: {statistic} with {counts:?}");
        // The test has teeth: the same counts do not pass for another temperature.
        let wrong = chi_square(&counts, &softmax(&logits, f64::from(micros) / 1e6 * 1.2));
        assert!(wrong > LIMIT, "seed {seed}, T {micros}: a wrong temperature passes with {wrong}");
    }
}

#[test]
fn only_the_top_k_are_drawn() {
    let logits = [0.0f32, 0.1, 0.2, 0.3, 0.4];
    let sampling = Sampling {
        temperature_micros: 50_000_000,
        top_k: 2,
        top_p_micros: 1_000_000,
        max_tokens: 1,
        stop: Vec::new(),
    };
    let sampler = Sampler::new(Seed::new([4; 32]), &sampling).unwrap();
    let mut counts = [0u32; 5];
    for position in 0..1_000 {
        counts[sampler.draw(position, &logits).unwrap().token as usize] += 1;
    }
    assert_eq!(counts[..3], [0, 0, 0]);
    assert!(counts[3] > 400 && counts[4] > 400, "{counts:?}");
}

#[test]
fn the_unit_is_uniform_and_open() {
    let seed = Seed::new([5; 32]);
    let mut counts = [0u32; 10];
    for position in 0..DRAWS {
        let u = unit(&seed, position, position / 7);
        assert!(u > 0.0 && u < 1.0);
        counts[(u * 10.0) as usize] += 1;
    }
    // 99.9 % quantile of chi-square with 9 degrees of freedom.
    let statistic = chi_square(&counts, &[0.1; 10]);
    assert!(statistic < 27.88, "{statistic} with {counts:?}");
}
