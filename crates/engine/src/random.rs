//! Models with random weights, for tests and measurements: their shapes cost what a trained
//! model's cost, and no download is needed.

use crate::{
    Llama, LlamaConfig, LoadError, Precision,
    weights::{Source, assemble},
};
use candle_core::{Device, Tensor};

/// A model of this shape whose weights follow from the seed. Matrices are uniform with variance
/// 2 / columns, so that attention is far from uniform and logits spread as a trained model's do;
/// norms lie around 1.
pub fn random_llama(config: LlamaConfig, precision: Precision, seed: u64) -> Result<Llama, LoadError> {
    let weights = assemble(&config, precision, &mut Random(seed))?;
    let context = config.max_positions.min(MAX_CONTEXT);
    Ok(Llama::new(config, weights, context)?)
}

/// Tables of positions are made for the whole context; a random model needs no longer one.
const MAX_CONTEXT: usize = 1 << 15;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Uniform in −1 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

impl Source for Random {
    fn has(&self, _name: &str) -> bool {
        true
    }

    fn tensor(&mut self, _name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = match shape {
            [_, columns] => {
                // Uniform in ±a has the variance a² / 3.
                let width = (6.0 / *columns as f32).sqrt();
                (0..count).map(|_| self.next() * width).collect()
            }
            _ => (0..count).map(|_| 1.0 + 0.2 * self.next()).collect(),
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}
