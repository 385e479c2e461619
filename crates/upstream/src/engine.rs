//! The engine: what it promises, and how a job becomes a request.

use crate::{
    Address, ApiKey, Limit, UpstreamError, answer::Answer, connection::Http, health::Health, pieces::Pieces,
};
use gristmill_engine::{
    Condition, Engine, EngineInfo, Generation, Job, Load, Prompt, Recomputation, Replay, Source, StartError,
};
use gristmill_tokenizer::{TextBundle, TextError, Tokenizer, Transcript};
use gristmill_types::{Sampling, UPSTREAM_CLASS};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
};

/// The engine class of quotes and receipts. Answers of one upstream and another are not comparable,
/// however alike their names: the class says only who vouches for them.
pub const CLASS: &str = "upstream/openai";

/// A window is not wider than this, whatever a job asks for.
const MAX_WINDOW: usize = 1 << 14;
/// Pieces that fit into a window, so that a voucher is on its way before the last one is used up.
const PIECES: usize = 4;

/// How long an upstream is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the request to its first words; on a slow machine a long prompt takes minutes.
    pub first: Duration,
    /// From words to words.
    pub between: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_secs(300), between: Duration::from_secs(60) }
    }
}

/// How an upstream is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model, as the upstream names it.
    pub model: String,
    /// Bytes of prompt and answer together at most.
    pub context_bytes: u32,
    /// The upstream's own context in tokens, if it told.
    pub context_tokens: Option<u32>,
    /// Whether it says why an answer ends.
    pub explains: bool,
    /// Whether it completes texts, beside chats.
    pub completes: bool,
    /// What the limit of output tokens is called there.
    pub limit: Limit,
    /// Answers at a time at most.
    pub max_running: usize,
    /// How long it is waited for.
    pub patience: Patience,
}

/// Another server as an engine.
pub struct Upstream {
    info: EngineInfo,
    tokenizer: Arc<Tokenizer>,
    http: Http,
    options: Options,
    places: Arc<Semaphore>,
    health: Health,
    runtime: Handle,
}

impl Upstream {
    /// The engine; to be made within the runtime that its answers are to run on.
    pub fn new(address: Address, key: Option<ApiKey>, options: Options) -> Result<Self, UpstreamError> {
        let tokenizer = Tokenizer::new(TextBundle::bytes())
            .map_err(|error: TextError| UpstreamError::Client(error.to_string()))?;
        let max_running = options.max_running.clamp(1, Semaphore::MAX_PERMITS);
        debug_assert!(CLASS.starts_with(UPSTREAM_CLASS));
        let info = EngineInfo {
            class: CLASS.to_owned(),
            exact: false,
            context_tokens: options.context_bytes,
            vocab: 256,
            parameters: 0,
            max_running,
            max_queued: 0,
        };
        let (http, places) = (Http::new(address, key)?, Arc::new(Semaphore::new(max_running)));
        Ok(Self { info, tokenizer, http, options, places, health: Health::new(), runtime: Handle::current() })
    }

    /// The kind of the server's last failure, until it answers again; none while it is well.
    pub fn health(&self) -> watch::Receiver<Option<&'static str>> {
        self.health.watch()
    }

    /// Checks a job; gives how many bytes may follow its prompt.
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
        Ok(left.min(job.sampling.max_tokens))
    }

    /// The request's path and body, and the smaller limit to ask for should its own be refused.
    fn request(
        &self,
        source: &Source,
        sampling: &Sampling,
        prompt: u32,
        limit: u32,
    ) -> (&'static str, Value, Option<u32>) {
        let mut body = json!({
            "model": self.options.model,
            "stream": true,
            // Millionths of at most two.
            "temperature": f64::from(sampling.temperature_micros) / 1e6,
        });
        // A token has a byte at least, so an answer of so many bytes has no more tokens, and the limit
        // cuts nothing that is paid for. One beyond the context says nothing, and some servers refuse it.
        let context = self.options.context_tokens;
        let mut says = context.is_none_or(|context| limit < context).then_some(limit);
        let mut smaller = None;
        let (path, name) = match &source.prompt {
            Prompt::Chat(messages) => {
                let list = messages.iter().map(|of| json!({"role": of.role, "content": of.content}));
                body["messages"] = list.collect();
                ("/chat/completions", self.options.limit.name())
            }
            Prompt::Text(text) => {
                body["prompt"] = json!(text);
                // Without one OpenAI's older endpoint ends at 16 tokens. A prompt of so many bytes has no more
                // tokens: what is left of the context surely has room.
                says = Some(limit);
                smaller = context.and_then(|context| context.checked_sub(prompt));
                smaller = smaller.filter(|room| (1..limit).contains(room));
                ("/completions", self.options.limit.name().map(|_| Limit::OLD))
            }
        };
        if let (Some(name), Some(limit)) = (name, says) {
            body[name] = json!(limit);
        }
        if let Some(top_p) = source.top_p {
            body["top_p"] = json!(top_p);
        }
        if let Some(top_k) = source.top_k {
            body["top_k"] = json!(top_k);
        }
        if let Some(seed) = source.seed {
            body["seed"] = json!(seed);
        }
        if !sampling.stop.is_empty() {
            body["stop"] = json!(sampling.stop);
        }
        (path, body, smaller)
    }
}

impl Engine for Upstream {
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

    fn condition(&self) -> Condition {
        self.health.condition()
    }

    fn start(&self, job: Job) -> Result<Generation, StartError> {
        let limit = self.room(&job)?;
        if job.top_logprobs.is_some() {
            return Err(StartError::Unsupported("give log probabilities: its tokens are bytes"));
        }
        let source = job.source.as_ref();
        let source = source.ok_or(StartError::Unsupported("answer ids, but only words"))?;
        if matches!(source.prompt, Prompt::Text(_)) && !self.options.completes {
            return Err(StartError::Unsupported("complete texts, but only chats: use /v1/chat/completions"));
        }
        let transcript = Transcript::new(Arc::clone(&self.tokenizer), &job.sampling.stop)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let Load { running, queued } = self.load();
            StartError::Busy { running, queued }
        })?;
        let window = job.window.clamp(1, MAX_WINDOW);
        let (events, receiver) = mpsc::channel(window);
        let prompt_tokens = u32::try_from(job.prompt_ids.len()).unwrap_or(u32::MAX);
        let (path, body, smaller) = self.request(source, &job.sampling, prompt_tokens, limit);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let answer = Answer {
            http: self.http.clone(),
            path,
            body,
            smaller,
            patience: self.options.patience,
            explains: self.options.explains,
            pieces: Pieces::new(transcript, limit, window / PIECES),
            prompt_tokens,
            events,
            place,
            health: self.health.clone(),
        };
        self.runtime.spawn(answer.run());
        Ok(Generation::new(receiver, prompt_tokens, || {}))
    }

    fn recompute(&self, _: Replay) -> Result<Recomputation, StartError> {
        Err(StartError::Unsupported("compute an answer again: another server computed it"))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("http", &self.http)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
