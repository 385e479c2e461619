//! The seed of one answer's draws.
//!
//! Two ways lead to a seed, under two domains, so that no seed of one kind equals one of the other:
//!
//! - **Joint**: `SHA-256("gristmill/seed/joint/v1" ‖ r_p ‖ r_c ‖ quote ‖ prompt ids ‖ model)`.
//!   r_p is the processor's nonce (a leaf of the tree whose root the quote carries), r_c the
//!   consumer's. The draw is fair if either side is honest.
//! - **Fixed**: `SHA-256("gristmill/seed/fixed/v1" ‖ r_c ‖ prompt ids ‖ model)`, when the consumer
//!   asked for a `seed` as OpenAI's API has it. r_c is [`user_seed_nonce`] of that number. The
//!   processor's nonce and the quote are left out on purpose: the same seed, prompt and model give
//!   the same answer at every processor, under every quote, at any time. The consumer then knows
//!   the draw beforehand, which harms nobody but itself.

use gristmill_types::{AuditCommitment, Digest, ModelId, QuoteHash, sha256};
use std::fmt;

const JOINT: &[u8] = b"gristmill/seed/joint/v1";
const FIXED: &[u8] = b"gristmill/seed/fixed/v1";
const USER: &[u8] = b"gristmill/seed/user/v1";

/// What all draws of one answer come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Wraps bytes that another part derived.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The seed to which processor and consumer contribute.
    pub fn joint(
        processor_nonce: &Digest,
        consumer_nonce: &Digest,
        quote: &QuoteHash,
        prompt_ids: &Digest,
        model: &ModelId,
    ) -> Self {
        let parts: [&[u8]; 6] = [
            JOINT,
            processor_nonce.as_bytes(),
            consumer_nonce.as_bytes(),
            quote.as_bytes(),
            prompt_ids.as_bytes(),
            model.as_bytes(),
        ];
        Self(*sha256(&parts).as_bytes())
    }

    /// The seed that the consumer fixed; `consumer_nonce` is [`user_seed_nonce`] of its number.
    pub fn fixed(consumer_nonce: &Digest, prompt_ids: &Digest, model: &ModelId) -> Self {
        let parts: [&[u8]; 4] = [FIXED, consumer_nonce.as_bytes(), prompt_ids.as_bytes(), model.as_bytes()];
        Self(*sha256(&parts).as_bytes())
    }

    /// The seed that a receipt's commitment stands for, with the plain digest of the prompt's ids (the
    /// commitment holds a salted one) and the receipt's quote and model. The
    /// caller has checked the processor's nonce against the quote ([`verify_nonce`](crate::verify_nonce)).
    pub fn from_commitment(
        commitment: &AuditCommitment,
        prompt_ids: &Digest,
        quote: &QuoteHash,
        model: &ModelId,
    ) -> Self {
        let consumer = &commitment.consumer_nonce;
        match &commitment.processor_nonce {
            Some(leaf) => Self::joint(&leaf.nonce, consumer, quote, prompt_ids, model),
            None => Self::fixed(consumer, prompt_ids, model),
        }
    }
}

/// A seed that is still in use decides future tokens, so it is not printed whole.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "Seed({a:02x}{b:02x}…)")
    }
}

/// The consumer's nonce that stands for a number which the user gave as OpenAI's `seed`.
pub fn user_seed_nonce(seed: i64) -> Digest {
    sha256(&[USER, &seed.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_types::{Finish, ProcessorNonce, Sampling};

    fn digest(byte: u8) -> Digest {
        Digest::new([byte; 32])
    }

    fn commitment(processor_nonce: Option<ProcessorNonce>) -> AuditCommitment {
        AuditCommitment {
            prompt_ids: digest(4),
            output_ids: digest(9),
            sampling: Sampling {
                temperature_micros: 0,
                top_k: 1,
                top_p_micros: 1_000_000,
                max_tokens: 1,
                stop: Vec::new(),
            },
            consumer_nonce: digest(2),
            processor_nonce,
            finish: Finish::Stop,
        }
    }

    #[test]
    fn every_part_of_a_joint_seed_counts() {
        let (quote, model) = (QuoteHash::new([3; 32]), ModelId::new([5; 32]));
        let seed = Seed::joint(&digest(1), &digest(2), &quote, &digest(4), &model);
        let others = [
            Seed::joint(&digest(0), &digest(2), &quote, &digest(4), &model),
            Seed::joint(&digest(1), &digest(0), &quote, &digest(4), &model),
            Seed::joint(&digest(1), &digest(2), &QuoteHash::new([0; 32]), &digest(4), &model),
            Seed::joint(&digest(1), &digest(2), &quote, &digest(0), &model),
            Seed::joint(&digest(1), &digest(2), &quote, &digest(4), &ModelId::new([0; 32])),
            Seed::joint(&digest(2), &digest(1), &quote, &digest(4), &model),
            Seed::fixed(&digest(2), &digest(4), &model),
        ];
        for other in others {
            assert_ne!(seed, other);
        }
    }

    #[test]
    fn a_commitment_leads_back_to_its_seed() {
        let (quote, model) = (QuoteHash::new([3; 32]), ModelId::new([5; 32]));
        let leaf = ProcessorNonce { nonce: digest(1), index: 0, path: Vec::new() };
        assert_eq!(
            Seed::from_commitment(&commitment(Some(leaf)), &digest(4), &quote, &model),
            Seed::joint(&digest(1), &digest(2), &quote, &digest(4), &model)
        );
        let fixed = Seed::from_commitment(&commitment(None), &digest(4), &quote, &model);
        assert_eq!(fixed, Seed::fixed(&digest(2), &digest(4), &model));
        let elsewhere =
            Seed::from_commitment(&commitment(None), &digest(4), &QuoteHash::new([8; 32]), &model);
        assert_eq!(fixed, elsewhere, "a fixed seed does not depend on the quote");
    }

    #[test]
    fn a_seed_is_not_printed_whole() {
        assert_eq!(format!("{:?}", Seed::new([0xab; 32])), "Seed(abab…)");
    }
}
