//! AdamW with gradient clipping, whose state can be saved: candle's own keeps its moments private, so a run
//! could not be resumed exactly.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor, Var};

use super::{Result, TrainError};

/// Constants of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean squared gradient.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub eps: f32,
    /// Decoupled decay of matrices; norms are not decayed.
    pub weight_decay: f32,
    /// Largest norm of the whole gradient.
    pub clip: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.01, clip: 1.0 }
    }
}

/// The optimiser's state: two moments a weight.
pub struct AdamW {
    settings: AdamSettings,
    steps: u32,
    moments: BTreeMap<String, [Vec<f32>; 2]>,
}

impl AdamW {
    /// A fresh state.
    pub fn new(settings: AdamSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// Steps done.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Clips `gradients` together and moves the weights; returns the gradient's norm before clipping.
    pub fn step(
        &mut self,
        weights: &BTreeMap<String, Var>,
        gradients: &BTreeMap<String, Vec<f32>>,
        learning_rate: f32,
    ) -> Result<f32> {
        let s = self.settings;
        let squares: f64 = gradients.values().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum();
        let norm = squares.sqrt() as f32;
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.steps });
        }
        let shrink = if norm > s.clip { s.clip / norm } else { 1.0 };
        self.steps += 1;
        let correct = |beta: f32| 1.0 - beta.powi(self.steps as i32);
        let (correct1, correct2) = (correct(s.beta1), correct(s.beta2));
        for (name, var) in weights {
            let Some(gradient) = gradients.get(name) else { continue };
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let decay = if var.rank() > 1 { 1.0 - learning_rate * s.weight_decay } else { 1.0 };
            let [first, second] = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| [vec![0.0; values.len()], vec![0.0; values.len()]]);
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((value, gradient), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
                let g = gradient * shrink;
                *m = s.beta1 * *m + (1.0 - s.beta1) * g;
                *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
                let ahead = (*m / correct1) / ((*v / correct2).sqrt() + s.eps);
                *value = *value * decay - learning_rate * ahead;
            }
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(norm)
    }

    /// Writes the state as safetensors.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for (name, moments) in &self.moments {
            for (order, values) in ["first", "second"].iter().zip(moments) {
                tensors.insert(format!("{order}.{name}"), Tensor::new(values.as_slice(), &Device::Cpu)?);
            }
        }
        tensors.insert("steps".to_owned(), Tensor::new(&[self.steps], &Device::Cpu)?);
        Ok(candle_core::safetensors::save(&tensors, file)?)
    }

    /// Reads a state that [`AdamW::save`] wrote.
    pub fn load(settings: AdamSettings, file: &Path) -> Result<Self> {
        let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
        let part = |name: &str| {
            tensors.get(name).ok_or_else(|| TrainError::Weight {
                name: name.to_owned(),
                reason: format!("missing in {}; start without it", file.display()),
            })
        };
        let steps = part("steps")?.to_vec1::<u32>()?.first().copied().unwrap_or(0);
        let mut moments = BTreeMap::new();
        for name in tensors.keys().filter_map(|key| key.strip_prefix("first.")) {
            let of =
                |order: &str| -> Result<Vec<f32>> { Ok(part(&format!("{order}.{name}"))?.to_vec1::<f32>()?) };
            moments.insert(name.to_owned(), [of("first")?, of("second")?]);
        }
        Ok(Self { settings, steps, moments })
    }
}
