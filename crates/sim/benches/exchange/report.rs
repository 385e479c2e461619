//! Figures, each beside what it is compared with, as text or as JSON.

use crate::machine::Machine;
use anyhow::Result;
use serde::Serialize;

/// What a figure is compared with.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    what: String,
    value: f64,
    /// The figure divided by this.
    ratio: f64,
}

/// What a figure should be.
#[derive(Debug, Serialize)]
pub(crate) struct Aim {
    what: String,
    met: bool,
}

/// One measured figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    group: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    beside: Vec<Beside>,
    aim: Option<Aim>,
}

impl Figure {
    pub(crate) fn new(group: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { group, name: name.into(), value, unit, beside: Vec::new(), aim: None }
    }

    /// Beside a peer or a limit of the same unit.
    pub(crate) fn beside(mut self, what: impl Into<String>, value: f64) -> Self {
        self.beside.push(Beside { what: what.into(), value, ratio: self.value / value });
        self
    }

    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        let what = format!("at most {} {}", shown(limit), self.unit);
        self.aim = Some(Aim { what, met: self.value <= limit });
        self
    }

    pub(crate) fn at_least(mut self, limit: f64) -> Self {
        let what = format!("at least {} {}", shown(limit), self.unit);
        self.aim = Some(Aim { what, met: self.value >= limit });
        self
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self { machine, quick, figures: Vec::new(), notes: Vec::new() }
    }

    /// The one or the other number of repetitions.
    pub(crate) const fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        eprintln!("{}", line(&figure));
        self.figures.push(figure);
    }

    /// Something that the reader has to know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("note: {note}");
        self.notes.push(note);
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        println!("\n{}", self.machine);
        let mut group = "";
        for figure in &self.figures {
            if figure.group != group {
                group = figure.group;
                println!("\n{group}");
            }
            println!("{}", line(figure));
        }
        for note in &self.notes {
            println!("\nnote: {note}");
        }
        if self.quick {
            println!("\na quick run: few repetitions, so these figures are for a look");
        }
        Ok(())
    }
}

fn line(figure: &Figure) -> String {
    let mut text = format!("  {:<58} {:>9} {}", figure.name, shown(figure.value), figure.unit);
    for Beside { what, value, ratio } in &figure.beside {
        text.push_str(&format!("\n      {ratio:.3} × {what} ({} {})", shown(*value), figure.unit));
    }
    if let Some(Aim { what, met }) = &figure.aim {
        text.push_str(&format!("\n      aim: {what}: {}", if *met { "met" } else { "missed" }));
    }
    text
}

/// Three or four digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle value. Empty lists have none.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The value that so many percent do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or(f64::NAN)
}
