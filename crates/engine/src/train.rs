//! Training of small Llamas on the processor, in candle.
//!
//! One step: the batch's sequences are sorted by length and cut into [`SHARDS`] shards of about equal work;
//! threads compute each shard's gradient; the gradients are summed in the shards' order, clipped, and given
//! to AdamW. The number of shards is fixed, so the result does not depend on the number of threads: the same
//! seed, data and build give the same weights on machines of one instruction set.
//!
//! The loss counts answer tokens only. Linear layers read packed rows, so there is no padding to pay for.
//!
//! This module knows nothing of tokenizers, prompts, files of data or serving; it writes weights under
//! Hugging Face's names, which the inference side reads like any other model's.

mod model;
mod ops;
mod optimiser;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;

pub use model::{Example, Sizes, TrainModel};
pub use optimiser::{AdamSettings, AdamW};

/// Shards of a step, whatever the number of threads.
pub const SHARDS: usize = 4;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// candle refused an operation or a file.
    #[error("training: {0}")]
    Candle(#[from] candle_core::Error),
    /// A weight is missing or has another shape.
    #[error("weight {name}: {reason}")]
    Weight {
        /// The weight's name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An example cannot be read by this model.
    #[error("training example: {reason}")]
    Example {
        /// What is wrong.
        reason: String,
    },
    /// The gradient is not finite.
    #[error(
        "the gradient is not finite after step {step}; resume from a checkpoint with a lower learning rate"
    )]
    Diverged {
        /// Steps done before.
        step: u32,
    },
    /// A worker thread panicked.
    #[error("a training thread stopped; this is a fault of the program")]
    Thread,
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, TrainError>;

/// SplitMix64: small, and the same on every platform and in every release, which a recipe that promises to
/// be reproducible needs from its generator. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 even bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Even between −√3 and √3, so that the variance is 1.
    pub fn unit(&mut self) -> f32 {
        let share = (self.bits() >> 40) as f32 / (1u32 << 24) as f32; // exact: 24 bits
        (share * 2.0 - 1.0) * 1.732_050_8
    }

    /// Shuffles in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A learning rate that rises over `warm_up` steps and then falls in a line to zero at `steps`.
pub fn learning_rate(peak: f32, step: u32, warm_up: u32, steps: u32) -> f32 {
    if step < warm_up {
        return peak * (step + 1) as f32 / warm_up as f32;
    }
    let left = steps.saturating_sub(step) as f32;
    peak * left / steps.saturating_sub(warm_up).max(1) as f32
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean loss of an answer token, in nats.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub gradient: f32,
    /// Tokens read, prompts included.
    pub tokens: usize,
}

/// A model and its optimiser.
pub struct Trainer {
    /// The model.
    pub model: TrainModel,
    /// The optimiser.
    pub optimiser: AdamW,
    /// Threads to compute gradients with.
    pub threads: usize,
}

impl Trainer {
    /// One step over `batch`. `scale` is the number of answer tokens that a batch has on average: the loss is
    /// divided by it rather than by the batch's own number, so that every token of the data counts the same.
    pub fn step(&mut self, batch: &[&Example], learning_rate: f32, scale: f32) -> Result<StepReport> {
        let shards = cut(batch);
        let results = self.gradients(&shards, scale)?;
        let mut loss = 0.0;
        let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (shard_loss, gradients) in results {
            loss += shard_loss;
            for (name, var) in self.model.weights() {
                let Some(gradient) = gradients.get(var) else { continue };
                let values = gradient.flatten_all()?.to_vec1::<f32>()?;
                match sums.get_mut(name) {
                    Some(sum) => sum.iter_mut().zip(values).for_each(|(s, v)| *s += v),
                    None => drop(sums.insert(name.clone(), values)),
                }
            }
        }
        let gradient = self.optimiser.step(self.model.weights(), &sums, learning_rate)?;
        let targets: usize = batch.iter().map(|e| e.targets()).sum();
        let tokens = batch.iter().map(|e| e.ids.len()).sum();
        Ok(StepReport { loss: loss / targets.max(1) as f32, gradient, tokens })
    }

    /// Loss and gradient of each shard, in the shards' order.
    fn gradients(&self, shards: &[Vec<&Example>], scale: f32) -> Result<Vec<(f32, GradStore)>> {
        let model = &self.model;
        let one = |shard: &Vec<&Example>| -> Result<(f32, GradStore)> {
            let loss = model.loss(shard)?;
            let gradients = (&loss / f64::from(scale))?.backward()?;
            Ok((loss.to_scalar::<f32>()?, gradients))
        };
        let threads = self.threads.clamp(1, SHARDS);
        let mut results: Vec<Option<Result<(f32, GradStore)>>> = shards.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let run = |first: usize| {
                let own = (first..shards.len()).step_by(threads);
                own.map(|i| (i, one(&shards[i]))).collect::<Vec<_>>()
            };
            let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
            for worker in workers {
                for (i, result) in worker.join().map_err(|_| TrainError::Thread)? {
                    results[i] = Some(result);
                }
            }
            Ok::<_, TrainError>(())
        })?;
        results.into_iter().map(|result| result.unwrap_or(Err(TrainError::Thread))).collect()
    }
}

/// Sorts by length and cuts into at most [`SHARDS`] shards of about equal numbers of tokens.
fn cut<'a>(batch: &[&'a Example]) -> Vec<Vec<&'a Example>> {
    let mut sorted = batch.to_vec();
    sorted.sort_by_key(|e| e.ids.len());
    let share = sorted.iter().map(|e| e.ids.len()).sum::<usize>().div_ceil(SHARDS).max(1);
    let mut shards: Vec<Vec<&Example>> = vec![Vec::new(); SHARDS];
    let mut tokens = 0;
    for example in sorted {
        shards[(tokens / share).min(SHARDS - 1)].push(example);
        tokens += example.ids.len();
    }
    shards.retain(|shard| !shard.is_empty());
    shards
}
