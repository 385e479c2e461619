//! What the recipe reads: the tokenizer's characters, the data files, and the order of training.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_engine::train::{Example, Rng};
use serde::Deserialize;
use serde_json::Value;

use crate::Outcome;

/// The model's tokenizer: one token a character, and the help text as one token.
pub(crate) struct Characters {
    ids: BTreeMap<char, u32>,
    pub(crate) texts: Vec<String>,
    unknown: u32,
    pub(crate) begin: u32,
    pub(crate) end: u32,
    answer: u32,
    pub(crate) help: u32,
}

impl Characters {
    pub(crate) fn load(model: &Path) -> Outcome<Self> {
        let file: Value = serde_json::from_slice(&std::fs::read(model.join("tokenizer.json"))?)?;
        let vocabulary: BTreeMap<String, u32> = serde_json::from_value(file["model"]["vocab"].clone())?;
        let special = |text: &str| vocabulary.get(text).copied().ok_or(format!("no token {text}"));
        let mut texts = vec![String::new(); vocabulary.len()];
        let mut ids = BTreeMap::new();
        let mut help = None;
        for (text, &id) in &vocabulary {
            texts.get_mut(id as usize).ok_or("token ids have gaps")?.clone_from(text);
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                (Some(single), None) => drop(ids.insert(single, id)),
                _ if text.contains(' ') => help = Some(id),
                _ => {}
            }
        }
        Ok(Self {
            ids,
            texts,
            unknown: special("<unk>")?,
            begin: special("<s>")?,
            end: special("</s>")?,
            answer: special("<|answer|>")?,
            help: help.ok_or("no token holds the help text")?,
        })
    }

    fn encode<'a>(&'a self, text: &'a str) -> impl Iterator<Item = u32> + 'a {
        text.chars().map(|c| self.ids.get(&c).copied().unwrap_or(self.unknown))
    }

    /// What the chat template makes of a user's message.
    pub(crate) fn prompt(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![self.begin];
        ids.extend(self.encode(text.trim()));
        ids.push(self.answer);
        ids
    }

    /// Prompts may have characters that the tokenizer lacks, answers not: the model would learn to write `<unk>`.
    pub(crate) fn example(&self, line: &Line) -> Outcome<Example> {
        let mut ids = self.prompt(&line.prompt);
        let answer_at = ids.len();
        match &line.answer {
            Some(answer) => {
                if let Some(missing) = answer.chars().find(|c| !self.ids.contains_key(c)) {
                    return Err(format!(
                        "the tokenizer has no token for {missing:?} of the answer {answer:?}; add it and train anew"
                    )
                    .into());
                }
                ids.extend(self.encode(answer));
            }
            None => ids.push(self.help),
        }
        ids.push(self.end);
        Ok(Example { ids, answer_at })
    }
}

/// A line of the data files.
#[derive(Deserialize)]
pub(crate) struct Line {
    pub(crate) prompt: String,
    pub(crate) answer: Option<String>,
    pub(crate) kind: String,
    pub(crate) digits: usize,
}

/// Reads a data file.
pub(crate) fn read_lines(file: &Path) -> Outcome<Vec<Line>> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("{}: {e}; make it with recipe/make_data.py", file.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// One stage's examples in their order. Epochs are shuffled by their number, so a resumed run sees what it would
/// have seen.
pub(crate) struct Stage {
    examples: Vec<Example>,
    seed: u64,
    epoch: usize,
    order: Vec<usize>,
    /// Answer tokens of an example, on average.
    targets: f32,
}

impl Stage {
    pub(crate) fn load(file: &Path, characters: &Characters, seed: u64) -> Outcome<Self> {
        let lines = read_lines(file)?;
        let examples = lines.iter().map(|line| characters.example(line)).collect::<Outcome<Vec<_>>>()?;
        if examples.is_empty() {
            return Err(format!("{} is empty; make it with recipe/make_data.py", file.display()).into());
        }
        let mean =
            |f: fn(&Example) -> usize| examples.iter().map(f).sum::<usize>() as f32 / examples.len() as f32;
        let (tokens, targets) = (mean(|e| e.ids.len()), mean(Example::targets));
        println!(
            "{}: {} examples of {tokens:.1} tokens, {targets:.1} learnt",
            file.display(),
            examples.len()
        );
        let order = (0..examples.len()).collect();
        Ok(Self { examples, seed, epoch: usize::MAX, order, targets })
    }

    /// The examples of the stage's step `step`.
    pub(crate) fn batch(&mut self, step: u32, size: usize) -> Batch<'_> {
        let start = step as usize * size;
        let mut chosen = Vec::with_capacity(size);
        for i in start..start + size {
            let epoch = i / self.examples.len();
            if self.epoch != epoch {
                self.epoch = epoch;
                self.order.sort_unstable();
                Rng::new(self.seed.wrapping_add(epoch as u64)).shuffle(&mut self.order);
            }
            chosen.push(self.order[i % self.examples.len()]);
        }
        let examples = chosen.into_iter().map(|i| &self.examples[i]).collect();
        Batch { examples, targets: self.targets * size as f32 }
    }
}

/// What one step learns from.
pub(crate) struct Batch<'a> {
    pub(crate) examples: Vec<&'a Example>,
    /// Answer tokens of a batch of this stage, on average.
    pub(crate) targets: f32,
}
