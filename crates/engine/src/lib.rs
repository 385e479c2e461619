//! Engines answer prompts. Nothing else knows candle.
//!
//! [`Engine`] is what the processor sees: start a job, read its events, recompute an answer. The
//! engine of this crate is [`CandleEngine`]: the Llama family (Llama, Mistral, Qwen2, Qwen3) in one
//! forward pass of our own on candle ([`Llama`]), read from Hugging Face folders or GGUF files, with
//! continuous batching on one thread.
//!
//! # The life of a job
//! 1. [`Engine::start`] checks it (ids, lengths, sampling) and admits or refuses it at once:
//!    concurrency and queue are bounded, and a full engine says [`StartError::Busy`].
//! 2. Its prompt is computed in chunks of fixed size, one chunk between two steps of the running
//!    answers, so that a newcomer does not stall them. The size is fixed because it decides shapes,
//!    and shapes decide the last bits.
//! 3. Each step takes one token for every answer that runs. Tokens are drawn by the canonical
//!    sampler of `gristmill-audit` and turned into text by `gristmill-tokenizer`.
//! 4. Events go through a channel as wide as the job's window. If it is full, the answer pauses and
//!    the others go on: who does not pay for more tokens gets no more computed. It keeps its place,
//!    so whoever reads for a payer drops the answer of one who stays away.
//! 5. It ends at an end-of-answer id, a stop text, its length, an error, or when the receiver is
//!    dropped. Its place and its memory are free from then on.
//!
//! # What can be computed again
//! With quantised weights, a row of a matrix product has the same bits alone and among others (where a
//! trial at the start found it so), and attention is computed per sequence, so an answer does not
//! depend on what else the engine did. [`Engine::recompute`] then finds every token again exactly
//! ([`EngineInfo::exact`]). With f32 weights the product's blocking depends on the number of rows:
//! logits move by about 1e-5 between batches, and a comparison allows a margin ([`F32_TOLERANCE`]).
//!
//! # Embeddings
//! [`Embedder`] is to embeddings what [`Engine`] is to answers: texts in, as token ids, vectors out.
//! [`CandleEmbedder`] is a BERT from a folder of sentence-transformers (MiniLM and its kin). A text is
//! computed alone, whatever else waits, so on one machine its vector is the same to the bit in any
//! company, at every precision ([`EmbedderInfo::exact`]). [`Purpose::of`] says which of the two a model is for.
//!
//! This crate knows no money, no network and no ledger.

mod bert;
mod candle;
mod config;
mod embed;
mod embedder;
mod error;
mod exact;
mod folder;
mod gguf;
mod inbox;
mod job;
mod linear;
mod llama;
mod logprobs;
mod purpose;
mod random;
mod rope;
mod scheduler;
mod task;
pub mod train;
mod weights;

pub use candle::{CandleEngine, CandleOptions};
pub use config::{Biases, LlamaConfig, Rope, RopeScaling};
pub use embed::{Embedder, EmbedderInfo, Embedding};
pub use embedder::{CandleEmbedder, EmbedderOptions};
pub use error::{LoadError, StartError};
pub use job::{
    Condition, Done, Engine, EngineInfo, Event, F32_TOLERANCE, Generation, Job, Load, Logprobs,
    MAX_TOP_LOGPROBS, Prompt, Recomputation, Recomputed, Replay, Source, TokenLogprob,
};
pub use linear::Precision;
pub use llama::Llama;
pub use purpose::Purpose;
pub use random::{random_gguf, random_llama};
