//! Log probabilities, for consumers who ask for them.
//!
//! They are the model's own: softmax of its logits over the whole vocabulary, at temperature 1 and
//! before the top k, as OpenAI's API gives them. So they mean the same at every temperature (at 0,
//! where classifiers use them, softmax at the draw's temperature would say nothing), and a token that
//! cannot be drawn has one too. They say how the model judges a token, not how likely its draw was.
//!
//! They are floats and for reading only: nothing that is signed depends on them.

use crate::{Logprobs, TokenLogprob};

/// The log probabilities of the drawn token and of the `top` likeliest. Logits that are not finite
/// have no part, as in the draw.
pub(crate) fn logprobs(logits: &[f32], drawn: u32, top: usize) -> Logprobs {
    let mut finite: Vec<(u32, f32)> =
        (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
    let greatest = finite.iter().map(|(_, logit)| *logit).fold(f32::NEG_INFINITY, f32::max);
    let distance = |logit: f32| f64::from(logit) - f64::from(greatest);
    // The distances are at most 0 and one of them is 0, so the sum is neither 0 nor infinite.
    let total: f64 = finite.iter().map(|(_, logit)| distance(*logit).exp()).sum();
    let of = |(id, logit): (u32, f32)| {
        let logprob = (distance(logit) - total.ln()) as f32;
        // JSON has no infinity.
        TokenLogprob { id, logprob: logprob.max(f32::MIN) }
    };
    let drawn_logit = logits.get(drawn as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if top > 0 && top < finite.len() {
        finite.select_nth_unstable_by(top - 1, order);
    }
    finite.truncate(top);
    finite.sort_unstable_by(order);
    Logprobs { drawn: of((drawn, drawn_logit)), top: finite.into_iter().map(of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: &Logprobs) -> Vec<u32> {
        of.top.iter().map(|token| token.id).collect()
    }

    #[test]
    fn probabilities_are_softmax_of_all_that_is_finite() {
        // Probabilities 1/10, 2/10, 3/10, 4/10, shifted by what softmax does not see.
        let mut logits: Vec<f32> = [1.0f32, 2.0, 3.0, 4.0].iter().map(|part| part.ln() + 500.0).collect();
        logits.extend([f32::NAN, f32::NEG_INFINITY, f32::INFINITY]);
        let found = logprobs(&logits, 1, 20);
        assert_eq!(ids(&found), [3, 2, 1, 0]);
        assert!((f64::from(found.drawn.logprob).exp() - 0.2).abs() < 1e-4);
        let total: f64 = found.top.iter().map(|token| f64::from(token.logprob).exp()).sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
    }

    #[test]
    fn ties_go_to_the_lower_id_and_no_more_are_given_than_asked_for() {
        let logits: Vec<f32> = (0..100).map(|id| [0.0, 7.0, 7.0, -3.0][id % 4]).collect();
        for top in [0, 1, 3, 20] {
            let found = logprobs(&logits, 99, top);
            let expected: Vec<u32> = (0..100).filter(|id| matches!(id % 4, 1 | 2)).take(top).collect();
            assert_eq!(ids(&found), expected);
            assert_eq!(found.drawn.id, 99);
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let found = logprobs(&[f32::MAX, f32::MIN, 0.0], 0, 1);
        assert_eq!(found.drawn.logprob, 0.0);
        assert!(logprobs(&[f32::MAX, f32::MIN], 1, 2).top[1].logprob.is_finite());
        assert!(logprobs(&[1.0], 0, 1).top[0].logprob.abs() < 1e-9);
    }
}
