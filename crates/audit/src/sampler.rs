//! The canonical sampler: which token follows, from logits and a seed alone.
//!
//! token = argmax over the top k (k ≤ 64) of ℓ + T·g, with g = −ln(−ln u) and
//! u = `SHA-256("gristmill/draw" ‖ seed ‖ position ‖ token)` mapped into the open interval (0, 1).
//! This is the Gumbel-max trick: the argmax is distributed as softmax(ℓ / T) over those k tokens.
//! Unlike inverse-CDF sampling, a small error in the logits moves the result only where two scores
//! nearly tie, and by how much is measurable: that margin is what an audit pools.
//!
//! With `top_p` below 1 only the nucleus takes part: of the top k in their order, those before which less
//! than `top_p` of their probability at the temperature lies. That is a threshold, so an error of the
//! logits may move a token over it, by a hair and yet with effect. An audit that allows for an error of
//! the logits ([`Sampler::gap`]'s slack) therefore knows three kinds of tokens: in the nucleus whatever
//! the error, outside of it whatever the error, and open. An open token may be drawn, but need not:
//! only those that are surely in stand against the drawn one. Without slack nothing is open.
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
pub enum BadSampling {
    /// No token takes part, or more than are ever looked at.
    #[error("top_k is {0}; it must be 1 to {MAX_TOP_K}")]
    TopK(u8),
    /// No share of the probability, or more than all of it.
    #[error("top_p is {0} millionths; it must be 1 to {ALL}")]
    TopP(u32),
}

/// All of the probability, in millionths.
const ALL: u32 = 1_000_000;

/// The token drawn at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// How far its score lies above the next best; infinite if no other token took part. An
    /// error of the logits below half of this cannot have changed the token, unless it moved the nucleus.
    pub margin: f64,
}

/// A token that takes part, with its score.
#[derive(Clone, Copy)]
struct Scored {
    token: u32,
    score: f64,
}

/// Where a token stands to the nucleus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    /// An error of the logits decides.
    Open,
    Outside,
}

/// Draws the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: Seed,
    temperature: f64,
    top_k: usize,
    /// `None` if all of the top k take part.
    top_p: Option<f64>,
}

impl Sampler {
    /// A sampler with the parameters' temperature, top k and top p; length and stop texts are not its
    /// business.
    pub fn new(seed: Seed, sampling: &Sampling) -> Result<Self, BadSampling> {
        if sampling.top_k == 0 || sampling.top_k > MAX_TOP_K {
            return Err(BadSampling::TopK(sampling.top_k));
        }
        if sampling.top_p_micros == 0 || sampling.top_p_micros > ALL {
            return Err(BadSampling::TopP(sampling.top_p_micros));
        }
        let temperature = f64::from(sampling.temperature_micros) / 1e6;
        // At temperature 0 the likeliest has all of the probability.
        let cuts = sampling.top_p_micros < ALL && sampling.temperature_micros > 0;
        let top_p = cuts.then(|| f64::from(sampling.top_p_micros) / 1e6);
        Ok(Self { seed, temperature, top_k: usize::from(sampling.top_k), top_p })
    }

    /// The token at the position, counted from 0 at the first output token; `None` if no logit is
    /// finite. Ties go to the lower token id.
    pub fn draw(&self, position: u32, logits: &[f32]) -> Option<Draw> {
        let top = top(logits, self.top_k);
        let inside = self.nucleus(&top, 0.0);
        let taking_part = top.iter().zip(inside).filter(|(_, place)| *place == Place::Inside);
        let scores: Vec<Scored> = taking_part.map(|(token, _)| self.score(position, *token)).collect();
        let (best, next) = winner(&scores)?;
        Some(Draw { token: best.token, margin: best.score - next })
    }

    /// How far below the winner a token's score lies at the position: 0 for the winner, `None` for
    /// a token outside of the top k or the nucleus. A token that merely ties with the winner and loses
    /// by its higher id is given the smallest positive gap, since it was not the one to choose.
    ///
    /// `slack` is how far each logit may be off those of the draw: 0 where they are the same to the bit.
    /// It decides only which tokens are in the nucleus; gaps are for the caller to judge.
    pub fn gap(&self, position: u32, logits: &[f32], token: u32, slack: f64) -> Option<f64> {
        let top = top(logits, self.top_k);
        let places = self.nucleus(&top, slack);
        let stands = |(of, place): (&(u32, f32), Place)| match place {
            Place::Inside => true,
            Place::Open => of.0 == token,
            Place::Outside => false,
        };
        let standing = top.iter().zip(places).filter(|(of, place)| stands((of, *place)));
        let scores: Vec<Scored> = standing.map(|(of, _)| self.score(position, *of)).collect();
        let (best, _) = winner(&scores)?;
        if best.token == token {
            return Some(0.0);
        }
        let score = scores.iter().find(|scored| scored.token == token)?.score;
        Some((best.score - score).max(f64::MIN_POSITIVE))
    }

    fn score(&self, position: u32, (token, logit): (u32, f32)) -> Scored {
        // At temperature 0 the noise has no weight; it is not computed.
        let noise =
            if self.temperature == 0.0 { 0.0 } else { self.temperature * self.gumbel(position, token) };
        Scored { token, score: f64::from(logit) + noise }
    }

    /// Where each of the top tokens stands, if each logit may be off by the slack.
    fn nucleus(&self, top: &[(u32, f32)], slack: f64) -> Vec<Place> {
        let Some(top_p) = self.top_p else { return vec![Place::Inside; top.len()] };
        let greatest = top.first().map_or(0.0, |&(_, logit)| f64::from(logit));
        let weight = |&(_, logit): &(u32, f32)| libm::exp((f64::from(logit) - greatest) / self.temperature);
        let weights: Vec<f64> = top.iter().map(weight).collect();
        // The two sides of a share are off by this factor at most; it stays finite.
        let factor = libm::exp((2.0 * slack / self.temperature).min(700.0));
        // What surely lies before a token in the order, or what may, and whether that leaves it inside.
        let before = |at: usize, logit: f32, lean: f64| {
            let distance = |other: f32| f64::from(other) - f64::from(logit);
            let comes = |other: usize, (_, held): &(u32, f32)| {
                if slack == 0.0 { other < at } else { other != at && distance(*held) > lean }
            };
            let sides = top.iter().zip(&weights).enumerate();
            sides.fold((0.0, 0.0), |(front, rest), (other, (of, weight))| {
                if comes(other, of) { (front + weight, rest) } else { (front, rest + weight) }
            })
        };
        let inside =
            |(front, rest): (f64, f64), factor: f64| front * factor < top_p * (front * factor + rest);
        (0..)
            .zip(top)
            .map(|(at, &(_, logit))| {
                if inside(before(at, logit, -2.0 * slack), factor) {
                    Place::Inside
                } else if inside(before(at, logit, 2.0 * slack), 1.0 / factor) {
                    Place::Open
                } else {
                    Place::Outside
                }
            })
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
        Sampling { temperature_micros, top_k, top_p_micros: ALL, max_tokens: 1, stop: Vec::new() }
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
        assert_eq!(sampler.gap(5, &logits, winner.token, 0.0), Some(0.0));
        assert_eq!(sampler.gap(5, &logits, 0, 0.0), None, "outside of the top k");
        let gaps: Vec<f64> = (1..4).filter_map(|token| sampler.gap(5, &logits, token, 0.0)).collect();
        let second = gaps.iter().copied().filter(|gap| *gap > 0.0).fold(f64::INFINITY, f64::min);
        assert_eq!(gaps.len(), 3);
        assert_eq!(second, winner.margin);
        let tie = Sampler::new(Seed::new([1; 32]), &self::sampling(0, 2)).unwrap();
        assert!(tie.gap(0, &[1.0, 1.0], 1, 0.0).unwrap() > 0.0, "a tie that is lost is not a win");
    }

    #[test]
    fn parameters_are_checked() {
        for top_k in [0, 65, 255] {
            let bad = Sampler::new(Seed::new([0; 32]), &sampling(0, top_k));
            assert_eq!(bad.unwrap_err(), BadSampling::TopK(top_k));
        }
        for top_p in [0, ALL + 1, u32::MAX] {
            let sampling = Sampling { top_p_micros: top_p, ..sampling(0, 5) };
            assert_eq!(Sampler::new(Seed::new([0; 32]), &sampling).unwrap_err(), BadSampling::TopP(top_p));
        }
    }

    fn nucleus_of(temperature_micros: u32, top_p_micros: u32) -> Sampler {
        let sampling = Sampling { top_p_micros, ..sampling(temperature_micros, 64) };
        Sampler::new(Seed::new([3; 32]), &sampling).unwrap()
    }

    /// Logits with the probabilities 0.4, 0.3, 0.2 and 0.1.
    fn tenths() -> Vec<f32> {
        [4.0f32, 3.0, 2.0, 1.0].iter().map(|tenths| tenths.ln()).collect()
    }

    fn places(sampler: &Sampler, logits: &[f32], slack: f64) -> Vec<Place> {
        sampler.nucleus(&top(logits, 64), slack)
    }

    #[test]
    fn the_nucleus_is_the_least_prefix_with_the_probability() {
        for (top_p, count) in [(1, 1), (390_000, 1), (410_000, 2), (690_000, 2), (710_000, 3), (910_000, 4)] {
            let places = places(&nucleus_of(ALL, top_p), &tenths(), 0.0);
            let inside = places.iter().filter(|place| **place == Place::Inside).count();
            assert_eq!((inside, places.len()), (count, 4), "{top_p}");
            assert!(places[..count].iter().all(|place| *place == Place::Inside));
        }
        // Half the temperature squares the ratios: 16, 9, 4, 1 of 30.
        let colder = places(&nucleus_of(500_000, 550_000), &tenths(), 0.0);
        assert_eq!(colder, [Place::Inside, Place::Inside, Place::Outside, Place::Outside]);
        let whole = places(&nucleus_of(ALL, ALL), &tenths(), 0.5);
        assert_eq!(whole, [Place::Inside; 4]);
        // Of equals, so many are inside as the rule says, by their ids.
        let ties = places(&nucleus_of(ALL, 500_000), &[1.0; 8], 0.0);
        assert_eq!(ties.iter().filter(|place| **place == Place::Inside).count(), 4);
        // At temperature 0 the likeliest is drawn, whatever top p.
        assert_eq!(nucleus_of(0, 1).draw(0, &tenths()).unwrap().token, 0);
    }

    #[test]
    fn only_the_nucleus_is_drawn_and_found_again() {
        let (sampler, logits) = (nucleus_of(ALL, 500_000), tenths());
        let mut counts = [0; 4];
        for position in 0..1_000 {
            let token = sampler.draw(position, &logits).unwrap().token;
            counts[token as usize] += 1;
            for other in 0..4 {
                let gap = sampler.gap(position, &logits, other, 0.0);
                assert_eq!(gap == Some(0.0), other == token);
                assert_eq!(gap.is_none(), other >= 2, "outside of the nucleus");
            }
        }
        assert!(counts[2..] == [0, 0] && counts[0] > 520 && counts[1] > 370, "{counts:?}");
    }

    #[test]
    fn near_the_threshold_a_token_is_open() {
        use Place::{Inside, Open, Outside};
        let logits = tenths();
        for (top_p, slack, expected) in [
            // 0.7 lies before the third: it is open where an error may move that over the threshold.
            (699_900, 0.0, [Inside, Inside, Outside, Outside]),
            (699_900, 1e-3, [Inside, Inside, Open, Outside]),
            (700_100, 0.0, [Inside, Inside, Inside, Outside]),
            (700_100, 1e-3, [Inside, Inside, Open, Outside]),
            (690_000, 1e-3, [Inside, Inside, Outside, Outside]),
            (710_000, 1e-3, [Inside, Inside, Inside, Outside]),
        ] {
            assert_eq!(places(&nucleus_of(ALL, top_p), &logits, slack), expected, "{top_p} {slack}");
        }
        // However cold, the likeliest is in and what is far from it is out.
        for temperature in [1, 100, 10_000] {
            let cold = places(&nucleus_of(temperature, 500_000), &logits, 1e-3);
            assert_eq!(cold, [Inside, Outside, Outside, Outside], "{temperature}");
        }
        // Two that nearly tie may change their places, so either may be the one that is inside.
        let tied = [2.0, 1.0, 1.0 - 1e-4, 0.0];
        let sampler = nucleus_of(ALL, 650_000);
        assert_eq!(places(&sampler, &tied, 0.0), [Inside, Inside, Outside, Outside]);
        assert_eq!(places(&sampler, &tied, 1e-3), [Inside, Open, Open, Outside]);
    }
}
