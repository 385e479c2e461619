//! The candle embedder: the handle that others hold, and its thread.
//!
//! The thread computes one text at a time, of each request in turn, so that a request of a thousand
//! texts does not stall one of a single text. See [`crate::bert`] for why texts do not share a
//! product.

use crate::{
    Condition, Embedder, EmbedderInfo, Embedding, Load, LoadError, Precision, StartError,
    bert::Bert,
    config::longest,
    error::plain,
    inbox::{Exit, Inbox},
    scheduler::guarded,
};
use gristmill_tokenizer::{TextBundle, Tokenizer};
use std::{collections::VecDeque, path::Path, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How an embedder is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbedderOptions {
    /// How weights are kept. With f32 vectors equal those of sentence-transformers to about 1e-6.
    pub precision: Precision,
    /// Bytes that one pass holds beside weights at most: attention scores, or a layer's widest rows.
    /// A context that does not fit is cut.
    pub pass_bytes: usize,
    /// Inputs of one request at most.
    pub max_inputs: usize,
    /// Requests waiting at most.
    pub max_queued: usize,
}

impl Default for EmbedderOptions {
    fn default() -> Self {
        Self { precision: Precision::F32, pass_bytes: 1 << 30, max_inputs: 2048, max_queued: 64 }
    }
}

/// A BERT that makes vectors on this machine's processor.
///
/// Dropping it ends its thread after the current text; requests under way end with an error.
pub struct CandleEmbedder {
    info: EmbedderInfo,
    tokenizer: Arc<Tokenizer>,
    inbox: Arc<Inbox<Request>>,
    places: Arc<Semaphore>,
}

/// One request under way.
struct Request {
    inputs: VecDeque<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
    result: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
    /// Held for its whole life: queue and work together are bounded by it.
    place: OwnedSemaphorePermit,
}

impl CandleEmbedder {
    /// Loads a folder of sentence-transformers with a BERT in it and starts its thread.
    pub fn open(dir: &Path, options: &EmbedderOptions) -> Result<Self, LoadError> {
        let model = Bert::from_hf_dir(dir, options.precision)?;
        let tokenizer = Tokenizer::new(TextBundle::from_hf_dir(dir)?)?;
        let (config, sentence) = (model.config(), model.sentence());
        let context = sentence.max_tokens.unwrap_or(config.max_positions).min(config.max_positions);
        let context = longest(context, options.pass_bytes, |tokens| config.pass_bytes(tokens));
        if context == 0 {
            return Err(LoadError::Config("pass_bytes leaves no room for a text; raise it".into()));
        }
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let info = EmbedderInfo {
            class: model.class(),
            exact: true,
            context_tokens: bounded(context),
            vocab: bounded(config.vocab),
            dimensions: bounded(config.hidden),
            normalised: sentence.normalise,
            parameters: config.parameters(),
            max_inputs: options.max_inputs,
            max_queued: options.max_queued,
        };
        let inbox = Arc::new(Inbox::default());
        let works = Arc::clone(&inbox);
        std::thread::Builder::new()
            .name("embedder".into())
            .spawn(move || run(&model, &works))
            .map_err(LoadError::Thread)?;
        let places = options.max_queued.saturating_add(1).min(Semaphore::MAX_PERMITS);
        Ok(Self { info, tokenizer, inbox, places: Arc::new(Semaphore::new(places)) })
    }

    fn check(&self, inputs: &[Vec<u32>]) -> Result<(), StartError> {
        let EmbedderInfo { max_inputs, context_tokens: limit, vocab, .. } = self.info;
        match inputs.len() {
            0 => return Err(StartError::NoInput),
            count if count > max_inputs => {
                return Err(StartError::TooManyInputs { inputs: count, limit: max_inputs });
            }
            _ => {}
        }
        for (index, ids) in inputs.iter().enumerate() {
            let tokens = ids.len();
            if tokens == 0 {
                return Err(StartError::EmptyInput { index });
            }
            if tokens > limit as usize {
                return Err(StartError::InputTooLong { index, tokens, limit });
            }
            if let Some(id) = ids.iter().find(|id| **id >= vocab) {
                return Err(StartError::UnknownToken { id: *id, vocab });
            }
        }
        Ok(())
    }
}

impl Embedder for CandleEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn load(&self) -> Load {
        let places = self.info.max_queued.saturating_add(1);
        let taken = places.saturating_sub(self.places.available_permits());
        let running = taken.min(1);
        Load { running, queued: taken - running }
    }

    fn condition(&self) -> Condition {
        Condition::of_thread(self.inbox.is_closed())
    }

    fn embed(&self, inputs: Vec<Vec<u32>>) -> Result<Embedding, StartError> {
        self.check(&inputs)?;
        if self.inbox.is_closed() {
            return Err(StartError::Stopped);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let Load { running, queued } = self.load();
            StartError::Busy { running, queued }
        })?;
        let (result, receiver) = oneshot::channel();
        let request = Request { inputs: inputs.into(), vectors: Vec::new(), result, place };
        self.inbox.push(request).map_err(|_| StartError::Stopped)?;
        Ok(Embedding::new(receiver))
    }
}

impl Drop for CandleEmbedder {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl std::fmt::Debug for CandleEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleEmbedder").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Works until the inbox is closed.
fn run(model: &Bert, inbox: &Arc<Inbox<Request>>) {
    let _exit = Exit(Arc::clone(inbox));
    let mut requests: VecDeque<Request> = VecDeque::new();
    while let Some(arrived) = inbox.take() {
        requests.extend(arrived);
        requests.retain(|request| !request.result.is_closed());
        match requests.pop_front() {
            Some(request) => requests.extend(advance(model, request)),
            None => inbox.wait(),
        }
    }
}

/// Computes a request's next text; gives the request back if there are more.
fn advance(model: &Bert, mut request: Request) -> Option<Request> {
    let Some(ids) = request.inputs.pop_front() else { return end(request, None) };
    match guarded(|| finite(model.embed(&ids).map_err(plain)?)) {
        Ok(vector) => request.vectors.push(vector),
        Err(reason) => {
            tracing::error!(reason, "an embedding failed");
            return end(request, Some(reason));
        }
    }
    if request.inputs.is_empty() { end(request, None) } else { Some(request) }
}

/// Its place is free before its reader hears of the end.
fn end(request: Request, error: Option<String>) -> Option<Request> {
    let Request { vectors, result, place, .. } = request;
    drop(place);
    let _ = result.send(error.map_or(Ok(vectors), Err));
    None
}

fn finite(vector: Vec<f32>) -> Result<Vec<f32>, String> {
    let damaged = || "the model gave no finite vector; its weights are damaged".to_string();
    vector.iter().all(|x| x.is_finite()).then_some(vector).ok_or_else(damaged)
}
