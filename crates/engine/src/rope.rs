//! Rotary position embedding: the tables of cosines and sines.
//!
//! They are made with `libm`, not with the platform's functions, whose last bit differs between
//! systems: tables that differ would make every logit differ.

use crate::config::{LlamaConfig, Rope, RopeScaling};
use candle_core::{Device, Result, Tensor};
use std::f64::consts::TAU;

/// Cosines and sines, (positions, head_dim / 2) each.
#[derive(Clone, Debug)]
pub(crate) struct RopeTable {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl RopeTable {
    pub(crate) fn new(config: &LlamaConfig, positions: usize) -> Result<Self> {
        let frequencies = frequencies(&config.rope, config.head_dim);
        let shape = (positions, frequencies.len());
        // transformers multiplies in f32, and the last bits of an angle of many turns matter.
        let angles: Vec<f32> = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| function(f64::from(*angle)) as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        Ok(Self { cos: table(libm::cos)?, sin: table(libm::sin)? })
    }
}

/// Radians per position, one for each pair of a head.
fn frequencies(rope: &Rope, head_dim: usize) -> Vec<f32> {
    let base = |pair: usize| 1.0 / libm::pow(rope.theta, (2 * pair) as f64 / head_dim as f64);
    (0..head_dim / 2).map(|pair| stretch(&rope.scaling, pair, base(pair)) as f32).collect()
}

fn stretch(scaling: &RopeScaling, pair: usize, frequency: f64) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Factors(factors) => {
            frequency / factors.get(pair).map_or(1.0, |factor| f64::from(*factor))
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let turns = original * frequency / TAU;
            if turns > *high_freq_factor {
                frequency
            } else if turns < *low_freq_factor {
                frequency / factor
            } else {
                let share = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}
