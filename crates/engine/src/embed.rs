//! What an embedder is to the parts that use it: texts in, as token ids; vectors out.
//!
//! It stands beside [`Engine`](crate::Engine): the same errors, the same bounds, the same [`Load`].

use crate::{Condition, Load, StartError};
use gristmill_tokenizer::Tokenizer;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Something that makes vectors of texts.
pub trait Embedder: Send + Sync {
    /// What it is and what its bounds are.
    fn info(&self) -> &EmbedderInfo;

    /// The tokenizer of its model; [`Tokenizer::encode`] gives the ids to embed.
    fn tokenizer(&self) -> &Arc<Tokenizer>;

    /// What it is doing now, in requests.
    fn load(&self) -> Load;

    /// Whether it takes requests at all.
    fn condition(&self) -> Condition {
        Condition::Well
    }

    /// Starts one request of several inputs, or refuses it at once. Never waits.
    fn embed(&self, inputs: Vec<Vec<u32>>) -> Result<Embedding, StartError>;
}

/// What an embedder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbedderInfo {
    /// The engine class, for example `candle-f32`. Vectors are comparable within a class.
    pub class: String,
    /// Whether a vector is the same to the bit whatever else the embedder computes, on one machine.
    /// Another kind of processor may add in another order: who compares vectors that two machines
    /// made allows for last bits, as `gristmill receipt verify` does.
    pub exact: bool,
    /// Tokens of one input at most.
    pub context_tokens: u32,
    /// Token ids are below this.
    pub vocab: u32,
    /// Numbers in a vector.
    pub dimensions: u32,
    /// Whether vectors have length 1, so that their product is their cosine.
    pub normalised: bool,
    /// Weights of the model.
    pub parameters: u64,
    /// Inputs of one request at most.
    pub max_inputs: usize,
    /// Requests waiting at most, beside the one that is computed.
    pub max_queued: usize,
}

/// A request under way. Dropping it cancels it.
#[derive(Debug)]
pub struct Embedding(oneshot::Receiver<Result<Vec<Vec<f32>>, String>>);

impl Embedding {
    /// A request whose result comes from a channel; for authors of embedders.
    pub fn new(result: oneshot::Receiver<Result<Vec<Vec<f32>>, String>>) -> Self {
        Self(result)
    }

    /// Waits for the vectors, in the order of the inputs; an error is the embedder's own.
    pub async fn wait(self) -> Result<Vec<Vec<f32>>, String> {
        self.0.await.unwrap_or_else(|_| Err("the embedder stopped".into()))
    }

    /// [`wait`](Self::wait) for threads outside of an async runtime.
    pub fn blocking_wait(self) -> Result<Vec<Vec<f32>>, String> {
        self.0.blocking_recv().unwrap_or_else(|_| Err("the embedder stopped".into()))
    }
}
