//! A recipe's training.json: what is trained, on which files, for how long and how fast.

use std::path::Path;

use gristmill_engine::train::{Sizes, learning_rate};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Outcome;

/// The whole plan of a training run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Of the first weights and of the order of the examples.
    pub(crate) seed: u64,
    /// Examples of a step.
    pub(crate) batch: usize,
    pub(crate) stages: Vec<StagePlan>,
    /// The finished model's logits are multiplied by this. OpenAI's clients ask at temperature 1 unless told
    /// otherwise; where there is one right answer, the model should give it then too.
    pub(crate) sharpen: f64,
    /// Sizes under Hugging Face's names, without `vocab_size`, which the tokenizer decides.
    model: Map<String, Value>,
}

/// A stretch of steps on one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StagePlan {
    pub(crate) file: String,
    pub(crate) steps: u32,
    /// Begins a slope of the learning rate. The first stage has one.
    slope: Option<Slope>,
}

/// Up to `peak` in `warm_up` steps, then in a line to zero.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slope {
    peak: f32,
    warm_up: u32,
    /// Steps from its begin to zero, where it does not end in zero at the next slope.
    over: Option<u32>,
}

impl Plan {
    /// Reads and checks the plan of a model folder.
    pub(crate) fn load(model: &Path) -> Outcome<Self> {
        let file = model.join("recipe/training.json");
        let fault = |reason: String| format!("{}: {reason}", file.display());
        let text = std::fs::read_to_string(&file)
            .map_err(|e| fault(format!("{e}; copy models/numbers/recipe/training.json and adapt it")))?;
        let plan: Self = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
        if plan.stages.first().is_none_or(|stage| stage.slope.is_none()) {
            return Err(fault("the first stage needs a slope of the learning rate".to_owned()).into());
        }
        if plan.batch == 0 || plan.stages.iter().any(|stage| stage.steps == 0) {
            return Err(fault("batch and steps must be at least 1".to_owned()).into());
        }
        Ok(plan)
    }

    /// All steps together.
    pub(crate) fn steps(&self) -> u32 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The stage of a step, and the step's number within it.
    pub(crate) fn stage(&self, step: u32) -> Outcome<(usize, u32)> {
        let mut left = step;
        for (i, stage) in self.stages.iter().enumerate() {
            if left < stage.steps {
                return Ok((i, left));
            }
            left -= stage.steps;
        }
        Err(format!("step {step} is after the last one").into())
    }

    /// The learning rate of a step.
    pub(crate) fn rate(&self, step: u32) -> f32 {
        let (mut slope, mut starts, mut ends) = (Slope { peak: 0.0, warm_up: 0, over: None }, 0, 0);
        for stage in &self.stages {
            if let Some(next) = stage.slope {
                if step < ends {
                    break;
                }
                (slope, starts) = (next, ends);
            }
            ends += stage.steps;
        }
        learning_rate(slope.peak, step - starts, slope.warm_up, slope.over.unwrap_or(ends - starts))
    }

    /// The model's sizes.
    pub(crate) fn sizes(&self, vocab_size: usize) -> Outcome<Sizes> {
        let mut model = self.model.clone();
        model.insert("vocab_size".to_owned(), vocab_size.into());
        Ok(serde_json::from_value(Value::Object(model)).map_err(|e| format!("training.json, model: {e}"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_and_stages_follow_each_other() {
        let slope = |peak| Some(Slope { peak, warm_up: 10, over: None });
        let stage = |steps, slope| StagePlan { file: String::new(), steps, slope };
        let stages = vec![stage(60, slope(1.0)), stage(50, None), stage(110, slope(0.5))];
        let plan = Plan { seed: 0, batch: 1, stages, sharpen: 1.0, model: Map::new() };
        assert_eq!(plan.steps(), 220);
        for (step, at, rate) in [
            (0, (0, 0), 0.1),
            (59, (0, 59), 0.51),
            (60, (1, 0), 0.5),
            (109, (1, 49), 0.01),
            (110, (2, 0), 0.05),
            (119, (2, 9), 0.5),
            (219, (2, 109), 0.005),
        ] {
            assert_eq!(plan.stage(step).unwrap(), at, "step {step}");
            assert!((plan.rate(step) - rate).abs() < 1e-6, "step {step}: {}", plan.rate(step));
        }
        assert!(plan.stage(220).is_err());
        // A slope that the next one takes over before its end.
        let first = Some(Slope { peak: 1.0, warm_up: 0, over: Some(200) });
        let second = Some(Slope { peak: 0.5, warm_up: 0, over: None });
        let plan = Plan { stages: vec![stage(100, first), stage(50, second)], ..plan };
        for (step, rate) in [(0, 1.0), (99, 0.505), (100, 0.5), (125, 0.25), (149, 0.01)] {
            assert!((plan.rate(step) - rate).abs() < 1e-6, "step {step}: {}", plan.rate(step));
        }
    }
}
