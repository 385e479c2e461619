//! Trains and measures the starter model, `models/numbers`; its README.md has the commands.
//!
//! ```text
//! starter train MODEL_DIR DATA_DIR [--threads N] [--stop-at STEP]
//! starter evaluate MODEL_DIR FILE.jsonl
//! starter ask MODEL_DIR TEXT…
//! ```
//!
//! `train` reads MODEL_DIR/tokenizer.json, MODEL_DIR/recipe/training.json and, from DATA_DIR, the files that the
//! latter names, and held_out.jsonl to show how it goes. It keeps its state in DATA_DIR/checkpoint and continues
//! from there; when it has done all steps it writes model.safetensors and config.json to MODEL_DIR. It knows nothing
//! of numbers: docs/modelers.md makes another model with it.
//!
//! The threads compute parts of a batch each, so candle's own threads are of no use: run `train` with
//! `RAYON_NUM_THREADS=1`.

mod corpus;
mod evaluate;
mod plan;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gristmill_engine::train::{AdamSettings, AdamW, Sizes, TrainModel, Trainer};
use serde_json::{Value, json};

use corpus::{Characters, Line, Stage, read_lines};
use evaluate::{ask, evaluate, measure, share};
use plan::{Plan, StagePlan};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const REPORT_EVERY: u32 = 20;
const CHECKPOINT_EVERY: u32 = 200;
/// Every so manieth held-out line is watched while training; nothing is chosen by it.
const WATCH_EVERY: usize = 9;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["train", model, data, options @ ..] => {
            train(model.as_ref(), data.as_ref(), &Options::read(options)?)
        }
        ["evaluate", model, file] => evaluate(model.as_ref(), file.as_ref()),
        ["ask", model, text @ ..] => ask(model.as_ref(), &text.join(" ")),
        _ => Err("expected: train MODEL_DIR DATA_DIR | evaluate MODEL_DIR FILE | ask MODEL_DIR TEXT".into()),
    }
}

/// What does not change the result.
struct Options {
    stop_at: u32,
    threads: usize,
}

impl Options {
    fn read(words: &[&str]) -> Outcome<Self> {
        let mut options = Self { stop_at: u32::MAX, threads: 2 };
        for pair in words.chunks(2) {
            match pair {
                ["--stop-at", value] => options.stop_at = value.parse()?,
                ["--threads", value] => options.threads = value.parse()?,
                _ => return Err(format!("unknown option {pair:?}; see the head of this program").into()),
            }
        }
        Ok(options)
    }
}

/// Hugging Face's description of the model.
fn config(sizes: &Sizes, characters: &Characters) -> Outcome<Value> {
    let mut config = serde_json::to_value(sizes)?;
    let more = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": sizes.head_dim(),
        "num_key_value_heads": sizes.num_attention_heads,
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "bos_token_id": characters.begin,
        "eos_token_id": characters.end,
    });
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    Ok(config)
}

/// The last state of a run: a folder named by its steps, complete or absent.
struct Checkpoints(PathBuf);

impl Checkpoints {
    /// The state to start from.
    fn open(&self, sizes: Sizes, seed: u64) -> Outcome<(TrainModel, AdamW)> {
        let settings = AdamSettings::default();
        let Some(last) = self.complete()?.pop() else {
            return Ok((TrainModel::new(sizes, seed)?, AdamW::new(settings)));
        };
        let model = TrainModel::load(sizes, &last.join("model.safetensors"))?;
        Ok((model, AdamW::load(settings, &last.join("optimiser.safetensors"))?))
    }

    /// Folders that were written to their end, by their steps.
    fn complete(&self) -> Outcome<Vec<PathBuf>> {
        std::fs::create_dir_all(&self.0)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            found.extend((path.extension().is_none()).then_some(path));
        }
        found.sort();
        Ok(found)
    }

    /// Writes beside and renames, then removes the states before.
    fn save(&self, trainer: &Trainer) -> Outcome<()> {
        let before = self.complete()?;
        let folder = self.0.join(format!("{:06}", trainer.optimiser.steps()));
        let beside = folder.with_extension("new");
        std::fs::create_dir_all(&beside)?;
        trainer.model.save(&beside.join("model.safetensors"))?;
        trainer.optimiser.save(&beside.join("optimiser.safetensors"))?;
        std::fs::rename(beside, &folder)?;
        before.iter().try_for_each(std::fs::remove_dir_all)?;
        Ok(())
    }
}

fn train(model_dir: &Path, data_dir: &Path, options: &Options) -> Outcome<()> {
    let (characters, plan) = (Characters::load(model_dir)?, Plan::load(model_dir)?);
    let load = |(i, stage): (usize, &StagePlan)| {
        Stage::load(&data_dir.join(&stage.file), &characters, plan.seed.wrapping_add(1000 * i as u64))
    };
    let mut stages = plan.stages.iter().enumerate().map(load).collect::<Outcome<Vec<_>>>()?;
    let steps = plan.steps();
    let held = read_lines(&data_dir.join("held_out.jsonl"))?;
    let watch: Vec<&Line> = held.iter().step_by(WATCH_EVERY).collect();

    let checkpoints = Checkpoints(data_dir.join("checkpoint"));
    let (model, optimiser) = checkpoints.open(plan.sizes(characters.texts.len())?, plan.seed)?;
    println!("{} parameters, {} steps done of {}", model.parameters(), optimiser.steps(), steps);
    let mut trainer = Trainer { model, optimiser, threads: options.threads };

    let last = steps.min(options.stop_at);
    let (started, mut seen, mut loss) = (Instant::now(), 0, 0.0);
    while trainer.optimiser.steps() < last {
        let step = trainer.optimiser.steps();
        let (stage, within) = plan.stage(step)?;
        let batch = stages[stage].batch(within, plan.batch);
        let report = trainer.step(&batch.examples, plan.rate(step), batch.targets)?;
        (seen, loss) = (seen + report.tokens, loss + report.loss / REPORT_EVERY as f32);
        let done = step + 1;
        if done.is_multiple_of(REPORT_EVERY) {
            let speed = seen as f64 / started.elapsed().as_secs_f64();
            println!("step {done} loss {loss:.4} rate {:.2e} {speed:.0} tokens/s", plan.rate(step));
            std::io::stdout().flush()?;
            loss = 0.0;
        }
        if done.is_multiple_of(CHECKPOINT_EVERY) || done == last {
            checkpoints.save(&trainer)?;
            let table = measure(&trainer.model, &characters, &watch)?;
            let row = table.iter().map(|(kind, cells)| format!("{kind} {}", share(cells.values())));
            println!("held out: {}", row.collect::<Vec<_>>().join(", "));
        }
    }
    if trainer.optimiser.steps() < steps {
        return Ok(());
    }
    trainer.model.scale_logits(plan.sharpen)?;
    trainer.model.save(&model_dir.join("model.safetensors"))?;
    let text = serde_json::to_string_pretty(&config(trainer.model.sizes(), &characters)?)?;
    std::fs::write(model_dir.join("config.json"), text + "\n")?;
    println!("wrote {}", model_dir.display());
    Ok(())
}
