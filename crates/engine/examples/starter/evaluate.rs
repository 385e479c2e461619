//! Measures the model: exact answers by language and number of digits, and refusals.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_engine::train::{Example, Sizes, TrainModel};

use crate::Outcome;
use crate::corpus::{Characters, Line, read_lines};

/// Failures that are printed at most.
const SHOWN: usize = 60;
/// Sequences computed together.
const TOGETHER: usize = 32;

/// Right and all.
type Cell = (usize, usize);

/// By kind, by number of digits (0: refusals).
pub(crate) type Table = BTreeMap<String, BTreeMap<usize, Cell>>;

/// The share of right answers.
pub(crate) fn share<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> String {
    let (right, all) = cells.into_iter().fold((0, 0), |(r, a), cell| (r + cell.0, a + cell.1));
    format!("{:.1}%", 100.0 * right as f64 / all.max(1) as f64)
}

/// Whether each example is answered exactly.
fn matches(model: &TrainModel, examples: &[Example]) -> Outcome<Vec<bool>> {
    let mut all = Vec::with_capacity(examples.len());
    for some in examples.chunks(TOGETHER) {
        all.extend(model.greedy_matches(&some.iter().collect::<Vec<_>>())?);
    }
    Ok(all)
}

/// Counts right answers.
pub(crate) fn measure(model: &TrainModel, characters: &Characters, lines: &[&Line]) -> Outcome<Table> {
    let examples = lines.iter().map(|line| characters.example(line)).collect::<Outcome<Vec<_>>>()?;
    let mut table = Table::new();
    for (line, right) in lines.iter().zip(matches(model, &examples)?) {
        let cell = table.entry(line.kind.clone()).or_default().entry(line.digits).or_default();
        *cell = (cell.0 + usize::from(right), cell.1 + 1);
    }
    Ok(table)
}

/// Prints the tables of the model card, then what was answered wrong.
pub(crate) fn evaluate(model_dir: &Path, file: &Path) -> Outcome<()> {
    let (model, characters) = load(model_dir)?;
    let lines = read_lines(file)?;
    let (numbers, refusals): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.answer.is_some());
    let table = measure(&model, &characters, &numbers)?;
    let lengths: Vec<String> =
        table.values().next().into_iter().flat_map(BTreeMap::keys).map(|n| format!("{n} digits")).collect();
    println!("| language | exact | {} |\n|---|---|{}", lengths.join(" | "), "---|".repeat(lengths.len()));
    for (kind, cells) in &table {
        let by: Vec<String> = cells.values().map(|(right, all)| format!("{right}/{all}")).collect();
        println!("| {kind} | {} | {} |", share(cells.values()), by.join(" | "));
    }
    println!("\nall: {}\n", share(table.values().flat_map(BTreeMap::values)));

    let table = measure(&model, &characters, &refusals)?;
    println!("| refusals | right | of |\n|---|---|---|");
    for (kind, cells) in &table {
        let by: Vec<String> = cells.values().map(|(right, all)| format!("{right}/{all}")).collect();
        println!("| {kind} | {} | {} |", share(cells.values()), by.join(" | "));
    }
    println!("\nall: {}\n", share(table.values().flat_map(BTreeMap::values)));

    let with_help = |line: &&Line| {
        let prompt = characters.prompt(&line.prompt);
        Example { answer_at: prompt.len(), ids: prompt.into_iter().chain([characters.help]).collect() }
    };
    let refused = matches(&model, &numbers.iter().map(with_help).collect::<Vec<_>>())?;
    let refused = refused.iter().filter(|refused| **refused).count();
    println!("proper requests refused: {refused} of {}\n", numbers.len());

    let examples = lines.iter().map(|line| characters.example(line)).collect::<Outcome<Vec<_>>>()?;
    let wrong = lines.iter().zip(matches(&model, &examples)?).filter(|(_, right)| !right);
    for (line, _) in wrong.take(SHOWN) {
        let (said, wanted) = (reply(&model, &characters, &line.prompt)?, line.answer.as_deref());
        println!("{:?}: expected {:?}, said {said:?}", line.prompt, wanted.unwrap_or("the help text"));
    }
    Ok(())
}

/// Prints the model's answer to one request.
pub(crate) fn ask(model_dir: &Path, text: &str) -> Outcome<()> {
    let (model, characters) = load(model_dir)?;
    println!("{}", reply(&model, &characters, text)?);
    Ok(())
}

fn load(model_dir: &Path) -> Outcome<(TrainModel, Characters)> {
    let sizes: Sizes = serde_json::from_slice(&std::fs::read(model_dir.join("config.json"))?)?;
    let model = TrainModel::load(sizes, &model_dir.join("model.safetensors"))?;
    Ok((model, Characters::load(model_dir)?))
}

fn reply(model: &TrainModel, characters: &Characters, text: &str) -> Outcome<String> {
    let ids = model.greedy(&characters.prompt(text), characters.end, 120)?;
    Ok(ids.iter().filter_map(|&id| characters.texts.get(id as usize)).map(String::as_str).collect())
}
