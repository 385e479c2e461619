//! What a start is doing: a line that changes on a terminal, plain lines elsewhere, events with `--json`.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{
    io::IsTerminal as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often the line changes.
const TICK: Duration = Duration::from_millis(100);
/// Where lines are plain, a step that took so long says so.
const LONG: Duration = Duration::from_secs(1);

/// The steps of a start.
pub(crate) struct Steps {
    output: Output,
    bar: Option<ProgressBar>,
    now: Mutex<Option<(&'static str, Instant)>>,
}

impl Steps {
    /// None yet.
    pub(crate) fn new(output: Output) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = (terminal && !output.is_json()).then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.enable_steady_tick(TICK);
        }
        Self { output, bar, now: Mutex::new(None) }
    }

    fn now(&self) -> MutexGuard<'_, Option<(&'static str, Instant)>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next step begins: its name for programs, and what it is.
    pub(crate) fn begin(&self, name: &'static str, what: &str) {
        self.end();
        *self.now() = Some((name, Instant::now()));
        match &self.bar {
            Some(bar) => {
                bar.set_style(style("{spinner} {msg} {elapsed}"));
                bar.reset_elapsed();
                bar.set_message(what.to_owned());
            }
            None => self.output.say(what),
        }
    }

    /// Of the step's work, so many bytes are done.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_style(style("{spinner} {msg} {wide_bar} {bytes}/{total_bytes}"));
                bar.set_length(total);
            }
            bar.set_position(done);
        }
    }

    /// The step under way is done.
    fn end(&self) {
        let Some((name, since)) = self.now().take() else { return };
        let took = since.elapsed();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.output.event(&json!({"event": "step", "step": name, "ms": ms}));
        if self.bar.is_none() && took >= LONG {
            self.output.say(&format!("  took {:.1} s", took.as_secs_f64()));
        }
    }
}

impl Drop for Steps {
    /// On a terminal nothing is left of it: what was done is said by the greeting, or by the error.
    fn drop(&mut self) {
        self.end();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
