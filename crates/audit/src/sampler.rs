//! The canonical sampler: which token follows, from logits and a seed alone.
//!
//! token = argmax over the top k (k ≤ 64) of ℓ + T·g, with g = −ln(−ln u) and
//! u = `SHA-256("gristmill/draw" ‖ seed ‖ position ‖ token)` mapped into the open interval (0, 1).
//! This is the Gumbel-max trick: the argmax is distributed as softmax(ℓ / T) over those k tokens.
//! Unlike inverse-CDF sampling, a small error in the logits moves the result only where two scores
//! nearly tie, and by how much is measurable: that margin is what an audit pools.
//!
//! This is the one module of the crate with floating point, because logits are floats. It uses
//! only +, ·, / on f64, which IEEE 754 fixes to the bit, and `libm`'s software logarithm in place
//! of the platform's, whose last bit differs between systems. Its results never feed ledger state.
//!
//! Only finite logits take part: −∞ masks a token, and NaN or +∞ come from a broken model, which
//! must not be able to choose a token or to stop the caller.

#![allow(clippy::float_arithmetic)]

use crate::Seed;
use gristmill_types::Sampling;
use sha2::{Digest as _, Sha256};

/// How many of the likeliest tokens take part at most.
pub const MAX_TOP_K: u8 = 64;

/// Domain, seed, position and token fill one block of SHA-256, so a draw costs one compression.
const DRAW: &[u8] = b"gristmill/draw";

/// Sampling parameters that the sampler does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("top_k is {top_k}; it must be 1 to {MAX_TOP_K}")]
pub struct BadSampling {
    /// What was asked for.
    pub top_k: u8,
}

/// The token drawn at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// How far its score lies above the next best; infinite if no other token took part. An
    /// error of the logits below half of this cannot have changed the token.
    pub margin: f64,
}

/// A token that takes part, with its score.
#[derive(Clone, Copy)]
struct Scored {
    token: u32,
    score: f64,
}

/// Draws the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: Seed,
    temperature: f64,
    top_k: usize,
}

impl Sampler {
    /// A sampler with the parameters' temperature and top k; length and stop texts are not its
    /// business.
    pub fn new(seed: Seed, sampling: &Sampling) -> Result<Self, BadSampling> {
        if sampling.top_k == 0 || sampling.top_k > MAX_TOP_K {
            return Err(BadSampling { top_k: sampling.top_k });
        }
        let temperature = f64::from(sampling.temperature_micros) / 1e6;
        Ok(Self { seed, temperature, top_k: usize::from(sampling.top_k) })
    }

    /// The token at the position, counted from 0 at the first output token; `None` if no logit is
    /// finite. Ties go to the lower token id.
    pub fn draw(&self, position: u32, logits: &[f32]) -> Option<Draw> {
        let (best, next) = winner(&self.scores(position, logits))?;
        Some(Draw { token: best.token, margin: best.score - next })
    }

    /// How far below the winner a token's score lies at the position: 0 for the winner, `None` for
    /// a token outside of the top k. A token that merely ties with the winner and loses by its
    /// higher id is given the smallest positive gap, since it was not the one to choose.
    pub fn gap(&self, position: u32, logits: &[f32], token: u32) -> Option<f64> {
        let scores = self.scores(position, logits);
        let (best, _) = winner(&scores)?;
        if best.token == token {
            return Some(0.0);
        }
        let score = scores.iter().find(|scored| scored.token == token)?.score;
        Some((best.score - score).max(f64::MIN_POSITIVE))
    }

    /// The tokens of the top k with their scores, likeliest first.
    fn scores(&self, position: u32, logits: &[f32]) -> Vec<Scored> {
        let gumbel = |token: u32| {
            // At temperature 0 the noise has no weight; it is not computed.
            if self.temperature == 0.0 { 0.0 } else { self.temperature * self.gumbel(position, token) }
        };
        top(logits, self.top_k)
            .into_iter()
            .map(|(token, logit)| Scored { token, score: f64::from(logit) + gumbel(token) })
            .collect()
    }

    fn gumbel(&self, position: u32, token: u32) -> f64 {
        -libm::log(-libm::log(unit(&self.seed, position, token)))
    }
}

/// The token with the highest score, ties by lower id, and the next best score.
fn winner(scores: &[Scored]) -> Option<(Scored, f64)> {
    let (mut best, rest) = scores.split_first().map(|(first, rest)| (*first, rest))?;
    let mut next = f64::NEG_INFINITY;
    for scored in rest {
        if scored.score > best.score || (scored.score == best.score && scored.token < best.token) {
            next = best.score;
            best = *scored;
        } else if scored.score > next {
            next = scored.score;
        }
    }
    Some((best, next))
}

/// The pseudo-random number u of a token at a position: 52 bits, in the middle of their cell, so
/// that it is never 0 or 1 and both logarithms are finite.
pub fn unit(seed: &Seed, position: u32, token: u32) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(DRAW);
    hasher.update(seed.as_bytes());
    hasher.update(position.to_le_bytes());
    hasher.update(token.to_le_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    // The top 52 bits as two halves, each exact as a float; so are the products and the sum.
    let high = f64::from(u32::from_be_bytes([a, b, c, d]));
    let low = f64::from(u32::from_be_bytes([e, f, g, h]) >> 12);
    const CELLS_OF_LOW: f64 = 1_048_576.0; // 2^20
    const CELLS: f64 = 4_503_599_627_370_496.0; // 2^52
    (high * CELLS_OF_LOW + low + 0.5) / CELLS
}

/// The k likeliest tokens with finite logits, likeliest first, ties by lower id.
fn top(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(k.saturating_add(1));
    let mut floor = f32::NEG_INFINITY;
    for (token, &logit) in (0u32..).zip(logits) {
        // Once k are held, an equal logit with a higher id does not enter.
        if !logit.is_finite() || (best.len() >= k && logit <= floor) {
            continue;
        }
        let place = best.partition_point(|&(_, held)| held >= logit);
        best.insert(place, (token, logit));
        best.truncate(k);
        floor = best.last().map_or(f32::NEG_INFINITY, |&(_, held)| held);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature_micros: u32, top_k: u8) -> Sampling {
        Sampling { temperature_micros, top_k, max_tokens: 1, stop: Vec::new() }
    }

    fn sampler(seed: u8, temperature_micros: u32, top_k: u8) -> Sampler {
        Sampler::new(Seed::new([seed; 32]), &sampling(temperature_micros, top_k)).unwrap()
    }

    #[test]
    fn the_top_is_sorted_and_ties_go_to_the_lower_id() {
        let logits = [1.0, 3.0, f32::NAN, 3.0, -0.0, 0.0, f32::INFINITY, 2.0, f32::NEG_INFINITY];
        assert_eq!(top(&logits, 3), [(1, 3.0), (3, 3.0), (7, 2.0)]);
        assert_eq!(top(&logits, 1), [(1, 3.0)]);
        let all: Vec<u32> = top(&logits, 64).into_iter().map(|(token, _)| token).collect();
        assert_eq!(all, [1, 3, 7, 0, 4, 5]);
    }

    #[test]
    fn temperature_zero_takes_the_likeliest() {
        let draw = sampler(1, 0, 64).draw(0, &[0.5, 2.0, 2.0, -1.0]).unwrap();
        assert_eq!(draw, Draw { token: 1, margin: 0.0 });
        assert_eq!(sampler(1, 0, 1).draw(0, &[0.5, 2.0]).unwrap().margin, f64::INFINITY);
    }

    #[test]
    fn broken_logits_do_not_choose() {
        for logits in [&[][..], &[f32::NAN; 4], &[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]] {
            assert_eq!(sampler(1, 1_000_000, 64).draw(0, logits), None);
        }
        let only = [f32::NAN, f32::MIN, f32::INFINITY];
        assert_eq!(sampler(1, u32::MAX, 64).draw(u32::MAX, &only).unwrap().token, 1);
    }

    #[test]
    fn a_gap_is_zero_for_the_winner_only() {
        let sampler = sampler(9, 800_000, 3);
        let logits = [0.1, 0.2, 0.3, 0.4, f32::NAN];
        let winner = sampler.draw(5, &logits).unwrap();
        assert_eq!(sampler.gap(5, &logits, winner.token), Some(0.0));
        assert_eq!(sampler.gap(5, &logits, 0), None, "outside of the top k");
        let gaps: Vec<f64> = (1..4).filter_map(|token| sampler.gap(5, &logits, token)).collect();
        let second = gaps.iter().copied().filter(|gap| *gap > 0.0).fold(f64::INFINITY, f64::min);
        assert_eq!(gaps.len(), 3);
        assert_eq!(second, winner.margin);
        let tie = Sampler::new(Seed::new([1; 32]), &self::sampling(0, 2)).unwrap();
        assert!(tie.gap(0, &[1.0, 1.0], 1).unwrap() > 0.0, "a tie that is lost is not a win");
    }

    #[test]
    fn parameters_are_checked() {
        for top_k in [0, 65, 255] {
            let bad = Sampler::new(Seed::new([0; 32]), &sampling(0, top_k));
            assert_eq!(bad.unwrap_err(), BadSampling { top_k });
        }
    }
}
