//! The engine's thread: which tokens are computed next, for whom.
//!
//! Each turn: take new tasks, drop those nobody waits for, begin waiting ones while there is room,
//! then compute one chunk of one prompt (the oldest first), one chunk of one recomputation, and one
//! token for every answer whose reader has room, of so many answers at a time that the rows' bits do
//! not depend on their number. If none of these had anything to do, sleep until a
//! task comes, a reader takes an event or goes away.
//!
//! Determinism rests on shapes: a prompt is cut into chunks of [`PREFILL_TOKENS`] whatever else
//! runs, each chunk is a step of its own, and attention never mixes sequences.
//!
//! Nothing that a task does ends the thread: each unit of work is guarded, a panic in it becomes an
//! error of the tasks in it. Weights are never written, keys and values die with their task.

use crate::{
    error::plain,
    exact::STEP_ROWS,
    inbox::{Exit, Inbox},
    llama::{Attention, Llama, Part, Rows},
    task::{Ending, Goal, Task},
};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Tokens of a prompt that are computed at once. Larger chunks compute faster; smaller ones stall
/// running answers less and need less memory for attention scores.
pub(crate) const PREFILL_TOKENS: usize = 256;

/// Tokens of a recomputed answer that are computed at once: their rows must have the bits that they
/// had among those of other answers.
const CHECK_TOKENS: usize = STEP_ROWS;

/// What the thread may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tasks that run at a time.
    pub(crate) running: usize,
    /// Tokens for which keys and values are held in all.
    pub(crate) kv_tokens: usize,
}

pub(crate) struct Scheduler {
    model: Llama,
    inbox: Arc<Inbox<Task>>,
    limits: Limits,
    waiting: VecDeque<Task>,
    /// In the order in which they began.
    running: Vec<Task>,
    /// Published for `Engine::load`.
    count: Arc<AtomicUsize>,
}

impl Scheduler {
    pub(crate) fn new(
        model: Llama,
        inbox: Arc<Inbox<Task>>,
        limits: Limits,
        count: Arc<AtomicUsize>,
    ) -> Self {
        Self { model, inbox, limits, waiting: VecDeque::new(), running: Vec::new(), count }
    }

    /// Works until the inbox is closed.
    pub(crate) fn run(mut self) {
        let _exit = Exit(Arc::clone(&self.inbox));
        while let Some(tasks) = self.inbox.take() {
            self.waiting.extend(tasks);
            if !self.turn() {
                self.inbox.wait();
            }
        }
    }

    /// One turn; false if there was nothing to do.
    fn turn(&mut self) -> bool {
        self.waiting.retain(|task| !task.is_cancelled());
        self.running.retain(|task| !task.is_cancelled());
        self.begin();
        self.count.store(self.running.len(), Ordering::Relaxed);
        let prefilled = self.prefill();
        let checked = self.check();
        let decoded = self.decode();
        prefilled || checked || decoded
    }

    /// Begins waiting tasks in their order while there is room for them. One that needs much memory
    /// is not overtaken, or it might wait for ever.
    fn begin(&mut self) {
        while self.running.len() < self.limits.running {
            let held: usize = self.running.iter().map(|task| task.capacity).sum();
            let fits = |task: &mut Task| held + task.capacity <= self.limits.kv_tokens;
            let Some(mut task) = self.waiting.pop_front_if(fits) else { return };
            match guarded(|| self.model.new_kv(task.capacity).map_err(plain)) {
                Ok(kv) => {
                    task.kv = Some(kv);
                    self.running.push(task);
                }
                Err(reason) => task.end(Ending::Failed(reason)),
            }
        }
    }

    /// Computes the next chunk of the oldest prompt that is not complete.
    fn prefill(&mut self) -> bool {
        let Some(index) = self.running.iter().position(|task| !task.has_prompt()) else { return false };
        let task = &mut self.running[index];
        let done = task.prefilled();
        let end = (done + PREFILL_TOKENS).min(task.prompt.len());
        let tokens = &task.prompt[done..end];
        let logits = match task.kv.as_mut() {
            Some(kv) => step(&self.model, &mut [Part { tokens, kv }], Rows::Last, Attention::Block),
            None => Err("a task runs without memory; this is a defect".into()),
        };
        let complete = end == task.prompt.len();
        let ended = logits.and_then(|rows| if complete { advance(task, &rows) } else { Ok(None) });
        self.settle(vec![(index, ended)]);
        true
    }

    /// Computes the next chunk of the oldest recomputation.
    fn check(&mut self) -> bool {
        let ready = |task: &Task| task.has_prompt() && matches!(task.goal, Goal::Check(_));
        let Some(index) = self.running.iter().position(ready) else { return false };
        let task = &mut self.running[index];
        let ended = match (&task.goal, task.kv.as_mut()) {
            (Goal::Check(check), Some(kv)) => {
                let tokens = check.next_tokens(CHECK_TOKENS);
                step(&self.model, &mut [Part { tokens, kv }], Rows::All, Attention::Rows)
            }
            _ => Err("a task runs without memory; this is a defect".into()),
        };
        let ended = ended.and_then(|rows| advance(task, &rows));
        self.settle(vec![(index, ended)]);
        true
    }

    /// Computes one token for every answer whose reader has room.
    fn decode(&mut self) -> bool {
        let mut indices = Vec::new();
        let mut parts = Vec::new();
        for (index, task) in self.running.iter_mut().enumerate() {
            let ready = task.has_prompt();
            if let (true, Goal::Answer(answer), Some(kv)) = (ready, &task.goal, task.kv.as_mut())
                && answer.has_room()
            {
                indices.push(index);
                parts.push(Part { tokens: std::slice::from_ref(&answer.last), kv });
            }
        }
        if parts.is_empty() {
            return false;
        }
        let one_step = |parts: &mut [Part<'_>]| {
            let count = parts.len();
            match step(&self.model, parts, Rows::Last, Attention::Block) {
                Ok(rows) => rows.into_iter().map(Ok).collect(),
                Err(reason) => vec![Err(reason); count],
            }
        };
        let rows: Vec<Result<Vec<f32>, String>> = parts.chunks_mut(STEP_ROWS).flat_map(one_step).collect();
        let pairs = indices.into_iter().zip(rows);
        let advanced = pairs
            .map(|(index, row)| (index, row.and_then(|row| advance(&mut self.running[index], &[row]))))
            .collect();
        self.settle(advanced);
        true
    }

    /// Removes the tasks that ended or failed; indices ascend.
    fn settle(&mut self, results: Vec<(usize, Result<Option<Ending>, String>)>) {
        for (index, result) in results.into_iter().rev() {
            let ending = match result {
                Ok(None) => continue,
                Ok(Some(ending)) => ending,
                Err(reason) => {
                    tracing::error!(reason, "an answer failed");
                    Ending::Failed(reason)
                }
            };
            let task = self.running.remove(index);
            self.count.store(self.running.len(), Ordering::Relaxed);
            task.end(ending);
        }
    }
}

/// Uses the logits that were computed for a task; says whether it ends with them.
fn advance(task: &mut Task, rows: &[Vec<f32>]) -> Result<Option<Ending>, String> {
    guarded(|| task.advance(rows))
}

fn step(
    model: &Llama,
    parts: &mut [Part<'_>],
    rows: Rows,
    attention: Attention,
) -> Result<Vec<Vec<f32>>, String> {
    guarded(|| model.step(parts, rows, attention).and_then(|logits| logits.to_vec2()).map_err(plain))
}

/// Runs one unit of work; a panic is its error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(_) => Err("the engine met a defect of its own while computing; see its log".into()),
    }
}

#[cfg(test)]
mod tests;
