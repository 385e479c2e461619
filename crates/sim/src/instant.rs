//! An engine that computes nothing: its answers are given, at once or at a pace.
//!
//! It keeps the real engine's promises: jobs are checked and bounded at once, events wait for their
//! reader within the job's window, a dropped answer frees its place, and ids decode to the text
//! that goes with them.

use anyhow::Result;
use gristmill_audit::Sampler;
use gristmill_engine::{
    Done, Engine, EngineInfo, Event, Generation, Job, Load, Recomputation, Replay, StartError,
};
use gristmill_tokenizer::{TextBundle, Tokenizer, Transcript};
use gristmill_types::Finish;
use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

const MAX_WINDOW: usize = 1 << 14;

/// What an [`InstantEngine`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// This text and the id that ends an answer.
    Text(String),
    /// This text again and again, as long as the request allows. Not empty.
    Endless(String),
}

/// How an [`InstantEngine`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What.
    pub answers: Answers,
    /// From the start of a job to its first token.
    pub prefill: Duration,
    /// From one token to the next.
    pub pace: Duration,
    /// Tokens of prompt and answer together at most.
    pub context_tokens: u32,
    /// Answers at a time at most.
    pub max_running: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            answers: Answers::Endless("abcdefghijklmnopqrstuvwxyz ".to_owned()),
            prefill: Duration::ZERO,
            pace: Duration::ZERO,
            context_tokens: 8192,
            max_running: 64,
        }
    }
}

/// The engine. Dropping it ends its thread; answers under way end with an error.
pub struct InstantEngine {
    info: EngineInfo,
    tokenizer: Arc<Tokenizer>,
    script: Script,
    ids: Arc<[u32]>,
    places: Arc<Semaphore>,
    desk: Arc<Desk>,
}

/// What the engine's thread works on.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    arrived: Vec<Answer>,
    rung: bool,
    closed: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rung = true;
        self.bell.notify_one();
    }
}

/// One answer under way.
struct Answer {
    events: mpsc::Sender<Event>,
    transcript: Transcript,
    tokenizer: Arc<Tokenizer>,
    ids: Arc<[u32]>,
    stop_at_eos: bool,
    prompt_tokens: u32,
    limit: u32,
    drawn: u32,
    /// When the next token is there.
    due: Instant,
    pace: Duration,
    place: OwnedSemaphorePermit,
}

impl InstantEngine {
    /// An engine with the starter model's tokenizer.
    pub fn starter(script: Script) -> Result<Self> {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/numbers"));
        Self::new(Tokenizer::new(TextBundle::from_hf_dir(folder)?)?, script)
    }

    /// An engine with this tokenizer.
    pub fn new(tokenizer: Arc<Tokenizer>, script: Script) -> Result<Self> {
        let mut ids = match &script.answers {
            Answers::Text(text) | Answers::Endless(text) => tokenizer.encode(text)?,
        };
        ids.retain(|id| !tokenizer.is_eos(*id));
        if matches!(script.answers, Answers::Text(_)) {
            ids.extend(tokenizer.bundle().eos_ids.first());
        }
        anyhow::ensure!(!ids.is_empty(), "the script says nothing: give a text with at least one token");
        let info = EngineInfo {
            class: "instant".to_owned(),
            exact: true,
            context_tokens: script.context_tokens,
            vocab: u32::try_from(tokenizer.vocab_size())?,
            parameters: 0,
            max_running: script.max_running,
            max_queued: 0,
        };
        let desk = Arc::new(Desk::default());
        let work = Arc::clone(&desk);
        std::thread::Builder::new().name("engine-instant".to_owned()).spawn(move || run(&work))?;
        let places = Arc::new(Semaphore::new(script.max_running));
        Ok(Self { info, tokenizer, script, ids: ids.into(), places, desk })
    }

    fn room(&self, job: &Job) -> Result<u32, StartError> {
        let (tokens, context) = (job.prompt_ids.len(), self.info.context_tokens);
        if job.prompt_ids.is_empty() {
            return Err(StartError::EmptyPrompt);
        }
        if job.sampling.max_tokens == 0 {
            return Err(StartError::NoOutput);
        }
        let left = u32::try_from(tokens).ok().and_then(|tokens| context.checked_sub(tokens)).unwrap_or(0);
        if left == 0 {
            return Err(StartError::PromptTooLong { tokens, context });
        }
        match job.prompt_ids.iter().find(|id| **id >= self.info.vocab) {
            Some(id) => Err(StartError::UnknownToken { id: *id, vocab: self.info.vocab }),
            None => Ok(left.min(job.sampling.max_tokens)),
        }
    }
}

impl Engine for InstantEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn load(&self) -> Load {
        let free = self.places.available_permits();
        Load { running: self.info.max_running.saturating_sub(free), queued: 0 }
    }

    fn start(&self, job: Job) -> Result<Generation, StartError> {
        let limit = self.room(&job)?;
        Sampler::new(job.seed, &job.sampling)?;
        if job.top_logprobs.is_some() {
            return Err(StartError::Unsupported("give log probabilities, since it computes none"));
        }
        let transcript = Transcript::new(Arc::clone(&self.tokenizer), &job.sampling.stop)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let Load { running, queued } = self.load();
            StartError::Busy { running, queued }
        })?;
        let (events, receiver) = mpsc::channel(job.window.clamp(1, MAX_WINDOW) + 1);
        let prompt_tokens = u32::try_from(job.prompt_ids.len()).unwrap_or(u32::MAX);
        let answer = Answer {
            events,
            transcript,
            tokenizer: Arc::clone(&self.tokenizer),
            ids: Arc::clone(&self.ids),
            stop_at_eos: job.stop_at_eos,
            prompt_tokens,
            limit,
            drawn: 0,
            due: Instant::now() + self.script.prefill,
            pace: self.script.pace,
            place,
        };
        let mut state = self.desk.lock();
        if state.closed {
            return Err(StartError::Stopped);
        }
        state.arrived.push(answer);
        state.rung = true;
        drop(state);
        self.desk.bell.notify_one();
        let desk = Arc::clone(&self.desk);
        Ok(Generation::new(receiver, prompt_tokens, move || desk.ring()))
    }

    fn recompute(&self, _: Replay) -> Result<Recomputation, StartError> {
        Err(StartError::Unsupported("compute anything again: its answers are given"))
    }
}

impl Drop for InstantEngine {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.bell.notify_one();
    }
}

impl std::fmt::Debug for InstantEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstantEngine").field("script", &self.script).finish_non_exhaustive()
    }
}

/// The engine's thread: each turn gives at most one token to every answer that may have one.
fn run(desk: &Desk) {
    let mut running: Vec<Answer> = Vec::new();
    loop {
        let mut state = desk.lock();
        state.rung = false;
        if state.closed {
            state.arrived.clear();
            return;
        }
        running.append(&mut state.arrived);
        drop(state);
        running.retain(|answer| !answer.events.is_closed());
        let now = Instant::now();
        let mut worked = false;
        for mut answer in std::mem::take(&mut running) {
            if answer.due > now || answer.events.capacity() <= 1 {
                running.push(answer);
                continue;
            }
            worked = true;
            match answer.advance(now) {
                Some((finish, error)) => answer.end(finish, error),
                None => running.push(answer),
            }
        }
        if !worked {
            // Answers without room wait for the bell, the others for their time.
            let next = running.iter().filter(|answer| answer.events.capacity() > 1).map(|answer| answer.due);
            wait(desk, next.min().map(|due| due.saturating_duration_since(Instant::now())));
        }
    }
}

fn wait(desk: &Desk, most: Option<Duration>) {
    let idle = |state: &mut State| !state.rung && !state.closed;
    let state = desk.lock();
    match most {
        None => drop(desk.bell.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)),
        Some(most) => {
            drop(desk.bell.wait_timeout_while(state, most, idle).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Answer {
    /// Gives the next token; says how the answer ends with it, if it does.
    fn advance(&mut self, now: Instant) -> Option<(Finish, Option<String>)> {
        let at = usize::try_from(self.drawn).unwrap_or(usize::MAX) % self.ids.len();
        let id = self.ids[at];
        self.drawn += 1;
        self.due = now + self.pace;
        match self.text_of(id) {
            Ok((text, finish)) => {
                // There is room, or the reader is gone and nobody misses it.
                let _ = self.events.try_send(Event::Piece { ids: vec![id], text, logprobs: Vec::new() });
                finish.map(|finish| (finish, None))
            }
            Err(error) => Some((Finish::Error, Some(error.to_string()))),
        }
    }

    fn text_of(&mut self, id: u32) -> Result<(String, Option<Finish>), gristmill_tokenizer::TextError> {
        if self.stop_at_eos && self.tokenizer.is_eos(id) {
            return Ok((self.transcript.finish()?.text, Some(Finish::Stop)));
        }
        let next = self.transcript.push(id)?;
        if next.stop {
            return Ok((next.text, Some(Finish::Stop)));
        }
        if self.drawn < self.limit {
            return Ok((next.text, None));
        }
        let rest = self.transcript.finish()?;
        Ok((next.text + &rest.text, Some(if rest.stop { Finish::Stop } else { Finish::Length })))
    }

    /// Its place is free before its reader hears of the end.
    fn end(self, finish: Finish, error: Option<String>) {
        let Self { events, prompt_tokens, drawn, place, .. } = self;
        drop(place);
        let done = Done { finish, prompt_tokens, output_tokens: drawn, error, refused: false };
        // One slot is kept for it.
        let _ = events.try_send(Event::Done(done));
    }
}
