//! The OpenAI schema: what stock clients send, and what they understand.
//!
//! Lenient where OpenAI is: content as text or as parts, either name of the token limit, one stop
//! text or several, unknown members ignored. Strict where money or meaning is at stake: a parameter
//! that would change the answer and that we do not honour is refused with its name and the reason,
//! unless it carries the value that changes nothing.
//!
//! The schema is shared by three parties. A client speaks it to its gateway, the gateway speaks it to
//! a processor. Between those two the model is a version id, and the answer carries one more
//! member, `gristmill`, that the gateway replaces by its own before the client sees it.

mod answer;
mod embeddings;
mod error;
mod members;
mod params;
mod request;
pub mod schema;

pub use answer::{
    Answer, Choice, ChoiceError, Chunk, ChunkChoice, Credits, Delta, Extension, FinishReason, LimitedBy,
    Logprob, Model, ModelList, Pricing, ReplyMessage, TopLogprob, Usage,
};
pub use embeddings::{BadVectors, EmbeddingItem, EmbeddingList, Encoding, Vector, read_vectors, vector_line};
pub use error::{ANSWER_CUT, ApiError, CHANNEL_CLOSING, ErrorBody, INTERNAL_ERROR, Partial};
pub use request::{
    MAX_CHOICES, MAX_INPUTS, MAX_MESSAGES, MAX_REQUEST_BYTES, MAX_STOPS, Message, Prompt, PromptRequest,
    Role, SamplingDefaults, Shape, StreamOptions,
};
