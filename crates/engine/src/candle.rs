//! The candle engine: the handle that others hold. The work is done by the scheduler on a thread of
//! its own.
//!
//! candle spreads each matrix product over a pool of threads that wait for each other by spinning.
//! The pool is one for the process and its size is read once, from `CANDLE_NUM_THREADS`, by default
//! all cores. Where something else keeps a core busy, each product then waits for a time slice: a
//! model of a million parameters on two busy cores was 12 times slower with two threads than with
//! one. Set the variable to the number of cores that the engine has to itself, at least 1. It never
//! changes a result.

use crate::{
    Condition, Engine, EngineInfo, F32_TOLERANCE, Generation, Job, Llama, Load, LoadError, MAX_TOP_LOGPROBS,
    Precision, Recomputation, Recomputed, Replay, StartError,
    config::longest,
    gguf::Gguf,
    inbox::Inbox,
    scheduler::{Limits, Scheduler},
    task::{Answer, Check, Goal, Task},
};
use gristmill_audit::Sampler;
use gristmill_tokenizer::{TextBundle, Tokenizer, Transcript};
use gristmill_types::Sampling;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// A window is not wider than this, whatever a job asks for.
const MAX_WINDOW: usize = 1 << 14;

/// How an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandleOptions {
    /// How weights from a Hugging Face folder are kept; a GGUF file keeps its own.
    pub precision: Precision,
    /// Tokens of prompt and answer together at most; the model's own bound may be lower.
    pub context_tokens: usize,
    /// Answers computed at a time at most.
    pub max_running: usize,
    /// Jobs waiting at most.
    pub max_queued: usize,
    /// Bytes for keys and values at most, over all answers. A context that does not fit is cut.
    pub kv_bytes: usize,
    /// Bytes that one pass holds beside weights, keys and values at most: attention scores, or a layer's
    /// widest rows. A context that does not fit is cut.
    pub pass_bytes: usize,
}

impl Default for CandleOptions {
    fn default() -> Self {
        Self {
            precision: Precision::Q8_0,
            context_tokens: 8192,
            max_running: 8,
            max_queued: 64,
            kv_bytes: 1 << 30,
            pass_bytes: 1 << 30,
        }
    }
}

/// A Llama that answers on this machine's processor.
///
/// Dropping it ends its thread after the current step; answers under way end with an error.
pub struct CandleEngine {
    info: EngineInfo,
    tokenizer: Arc<Tokenizer>,
    inbox: Arc<Inbox<Task>>,
    places: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    comparable: bool,
}

impl CandleEngine {
    /// Loads a model and starts its thread: a Hugging Face folder, or a GGUF file, beside which a
    /// `tokenizer.json` is used in place of the file's own tokenizer.
    pub fn open(path: &Path, options: &CandleOptions) -> Result<Self, LoadError> {
        let (model, bundle) = if path.is_dir() {
            let model = Llama::from_hf_dir(path, options.precision, options.context_tokens)?;
            (model, TextBundle::from_hf_dir(path)?)
        } else {
            let mut file = Gguf::open(path)?;
            let beside = path.parent().filter(|dir| dir.join("tokenizer.json").exists());
            let bundle = match beside {
                Some(dir) => TextBundle::from_hf_dir(dir)?,
                None => file.text_bundle()?,
            };
            (file.llama(options.context_tokens)?, bundle)
        };
        Self::new(model, Tokenizer::new(bundle)?, options)
    }

    /// Starts the thread of a model that is in memory.
    pub fn new(model: Llama, tokenizer: Arc<Tokenizer>, options: &CandleOptions) -> Result<Self, LoadError> {
        let kv_tokens = options.kv_bytes / model.config().kv_bytes_per_token().max(1);
        let context = model.context().min(options.context_tokens).min(kv_tokens);
        let context = longest(context, options.pass_bytes, |context| model.config().pass_bytes(context));
        if context < 2 {
            let reason =
                "kv_bytes, pass_bytes or context_tokens leave no room for a prompt and an answer; raise them";
            return Err(LoadError::Config(reason.into()));
        }
        let max_running = options.max_running.max(1);
        let info = EngineInfo {
            class: model.class(),
            exact: model.exact(),
            context_tokens: u32::try_from(context).unwrap_or(u32::MAX),
            vocab: u32::try_from(model.config().vocab).unwrap_or(u32::MAX),
            parameters: model.config().parameters().unwrap_or(u64::MAX),
            max_running,
            max_queued: options.max_queued,
        };
        let comparable = model.comparable();
        let inbox = Arc::new(Inbox::default());
        let running = Arc::new(AtomicUsize::new(0));
        let limits = Limits { running: max_running, kv_tokens };
        let scheduler = Scheduler::new(model, Arc::clone(&inbox), limits, Arc::clone(&running));
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || scheduler.run())
            .map_err(LoadError::Thread)?;
        let places = max_running.saturating_add(options.max_queued).min(Semaphore::MAX_PERMITS);
        Ok(Self { info, tokenizer, inbox, places: Arc::new(Semaphore::new(places)), running, comparable })
    }

    /// Checks a prompt; gives how many tokens may follow it.
    fn room(&self, prompt: &[u32], sampling: &Sampling) -> Result<u32, StartError> {
        if prompt.is_empty() {
            return Err(StartError::EmptyPrompt);
        }
        if sampling.max_tokens == 0 {
            return Err(StartError::NoOutput);
        }
        let context = self.info.context_tokens;
        let tokens = prompt.len();
        let left = u32::try_from(tokens).ok().and_then(|tokens| context.checked_sub(tokens)).unwrap_or(0);
        if left == 0 {
            return Err(StartError::PromptTooLong { tokens, context });
        }
        self.check_ids(prompt)?;
        Ok(left.min(sampling.max_tokens))
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), StartError> {
        let vocab = self.info.vocab;
        match ids.iter().find(|id| **id >= vocab) {
            Some(id) => Err(StartError::UnknownToken { id: *id, vocab }),
            None => Ok(()),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, StartError> {
        if self.inbox.is_closed() {
            return Err(StartError::Stopped);
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let Load { running, queued } = self.load();
            StartError::Busy { running, queued }
        })
    }

    fn submit(
        &self,
        prompt: Vec<u32>,
        limit: u32,
        goal: Goal,
        place: OwnedSemaphorePermit,
    ) -> Result<(), StartError> {
        let capacity = prompt.len() + limit as usize;
        let task = Task { prompt, capacity, kv: None, goal, place };
        self.inbox.push(task).map_err(|_| StartError::Stopped)
    }
}

impl Engine for CandleEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn load(&self) -> Load {
        let places = self.info.max_running.saturating_add(self.info.max_queued);
        let taken = places.saturating_sub(self.places.available_permits());
        let running = self.running.load(Ordering::Relaxed).min(taken);
        Load { running, queued: taken - running }
    }

    fn condition(&self) -> Condition {
        Condition::of_thread(self.inbox.is_closed())
    }

    fn start(&self, job: Job) -> Result<Generation, StartError> {
        let limit = self.room(&job.prompt_ids, &job.sampling)?;
        let sampler = Sampler::new(job.seed, &job.sampling)?;
        if let Some(asked) = job.top_logprobs.filter(|asked| *asked > MAX_TOP_LOGPROBS) {
            return Err(StartError::TooManyLogprobs { asked, limit: MAX_TOP_LOGPROBS });
        }
        let transcript = Transcript::new(Arc::clone(&self.tokenizer), &job.sampling.stop)?;
        let place = self.place()?;
        let (events, receiver) = mpsc::channel(job.window.clamp(1, MAX_WINDOW) + 1);
        let prompt_tokens = u32::try_from(job.prompt_ids.len()).unwrap_or(u32::MAX);
        let answer = Answer {
            sampler,
            transcript,
            tokenizer: Arc::clone(&self.tokenizer),
            events,
            stop_at_eos: job.stop_at_eos,
            top_logprobs: job.top_logprobs,
            prompt_tokens,
            limit,
            drawn: 0,
            last: 0,
        };
        self.submit(job.prompt_ids, limit, Goal::Answer(Box::new(answer)), place)?;
        let inbox = Arc::clone(&self.inbox);
        Ok(Generation::new(receiver, prompt_tokens, move || inbox.ring()))
    }

    fn recompute(&self, replay: Replay) -> Result<Recomputation, StartError> {
        if !self.comparable {
            let reason = "compare answers of this model's quantisation on this processor, where a batch changes last bits";
            return Err(StartError::Unsupported(reason));
        }
        let limit = self.room(&replay.prompt_ids, &replay.sampling)?;
        let tokens = replay.output_ids.len();
        if tokens > limit as usize {
            return Err(StartError::AnswerTooLong { tokens, limit });
        }
        self.check_ids(&replay.output_ids)?;
        let sampler = Sampler::new(replay.seed, &replay.sampling)?;
        let (result, receiver) = oneshot::channel();
        if tokens == 0 {
            let _ = result.send(Ok(Recomputed { gaps: Vec::new() }));
            return Ok(Recomputation::new(receiver));
        }
        let place = self.place()?;
        // A gap is a difference of two scores, so each logit may be off by the half of the margin.
        let slack = if self.info.exact { 0.0 } else { F32_TOLERANCE / 2.0 };
        let check = Check { sampler, output: replay.output_ids, gaps: Vec::new(), slack, result };
        self.submit(replay.prompt_ids, limit, Goal::Check(Box::new(check)), place)?;
        Ok(Recomputation::new(receiver))
    }
}

impl Drop for CandleEngine {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl std::fmt::Debug for CandleEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleEngine").field("info", &self.info).finish_non_exhaustive()
    }
}
