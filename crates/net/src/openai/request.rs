//! Requests for answers: chats and texts, read with care, written for a processor.

use super::{
    ApiError, Encoding,
    members::{
        read_chat_logprobs, read_inputs, read_max_tokens, read_messages, read_model, read_stops,
        read_stream_options, read_text,
    },
    params::Params,
};
use gristmill_types::{Limits, Sampling, Unit};
use serde::Serialize;
use serde_json::Value;

/// The largest request body, in bytes.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// The most messages of one request.
pub const MAX_MESSAGES: usize = 1_024;
/// The most stop texts of one request.
pub const MAX_STOPS: usize = 4;

/// The most answers to one request. Each is bought on a lane of its own, of which there are 64.
pub const MAX_CHOICES: u32 = 16;

/// The most texts of one embeddings request, as with OpenAI.
pub const MAX_INPUTS: usize = 2_048;

/// How long an answer to a text is unless the request says: as long as with OpenAI.
const TEXT_TOKENS: u32 = 16;
/// The most log probabilities beside that of the token itself, as with OpenAI's chats.
pub(super) const MAX_LOGPROBS: u32 = 20;
pub(super) const MAX_MODEL_BYTES: usize = 256;
pub(super) const MAX_STOP_BYTES: usize = 256;
const MAX_TOP_K: u32 = 64;

/// Who speaks. OpenAI's newer `developer` is read as `system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The person.
    User,
    /// The model, earlier.
    Assistant,
}

impl Role {
    /// The role as chat templates name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message. Several text parts are joined without a separator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// How a stream is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamOptions {
    /// Whether one last chunk, without choices, carries the usage.
    pub include_usage: bool,
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Prompt {
    /// A conversation, of which the chat template makes one text.
    #[serde(rename = "messages")]
    Messages(Vec<Message>),
    /// A text to go on from, as it stands.
    #[serde(rename = "prompt")]
    Text(String),
    /// Texts of each of which a vector is made.
    #[serde(rename = "input")]
    Inputs(Vec<String>),
}

/// In which of OpenAI's shapes a request and its answer are: that of `/v1/chat/completions`, of the older
/// `/v1/completions`, or of `/v1/embeddings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Messages.
    Chat,
    /// Text.
    Text,
    /// Vectors.
    Embeddings,
}

impl Shape {
    /// The route of such requests.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Text => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }
}

/// A request for an answer that was read and can be honoured. Written, it is an OpenAI request again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromptRequest {
    /// The model: a name at a gateway, a version id at a processor.
    pub model: String,
    /// What is to be answered.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// How many answers; at a processor always one.
    #[serde(skip_serializing_if = "is_one")]
    pub n: u32,
    /// Whether the answer comes in chunks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// How chunks are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// The most output tokens; `max_completion_tokens` is read as the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 takes the likeliest token, up to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How many of the likeliest tokens take part, 1 to 64. An extension of ours and of many others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u8>,
    /// The share of probability of which the likeliest tokens take part, below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Fixes the consumer's share of the draw, and leaves out the processor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts that end the answer, at most four.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Whether each token comes with its log probability, and with those of how many of the likeliest.
    /// The two shapes ask for it differently.
    #[serde(skip)]
    pub top_logprobs: Option<u8>,
    /// How the client wants the numbers of vectors; no affair of the processor's.
    #[serde(skip)]
    pub encoding: Encoding,
}

/// A request for vectors as it is written.
#[derive(Serialize)]
struct WrittenInputs<'a> {
    model: &'a str,
    input: &'a [String],
}

/// The request as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    request: &'a PromptRequest,
    #[serde(flatten)]
    logprobs: Option<Wish>,
}

/// How log probabilities are asked for.
#[derive(Serialize)]
#[serde(untagged)]
enum Wish {
    Chat { logprobs: bool, top_logprobs: u8 },
    Text { logprobs: u8 },
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

/// What applies where a request says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingDefaults {
    /// Temperature in millionths.
    pub temperature_micros: u32,
    /// How many of the likeliest tokens take part.
    pub top_k: u8,
}

impl Default for SamplingDefaults {
    /// Temperature 1, as with OpenAI, over the 64 likeliest tokens, the most that the sampler takes.
    fn default() -> Self {
        Self { temperature_micros: 1_000_000, top_k: 64 }
    }
}

impl PromptRequest {
    /// Reads the body of a request in this shape.
    pub fn parse(body: &[u8], shape: Shape) -> Result<Self, ApiError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(ApiError::too_large(MAX_REQUEST_BYTES));
        }
        let mut params = Params::parse(body)?;
        let model = read_model(&mut params)?;
        let prompt = match shape {
            Shape::Chat => Prompt::Messages(read_messages(&mut params)?),
            Shape::Text => Prompt::Text(read_text(&mut params)?),
            Shape::Embeddings => return Self::inputs(model, params),
        };
        params.refuse_unsupported()?;
        let stream = params.boolean("stream")?.unwrap_or(false);
        let max_tokens = read_max_tokens(&mut params)?;
        let request = Self {
            model,
            prompt,
            n: params.integer("n", 1..=MAX_CHOICES)?.unwrap_or(1),
            stream,
            stream_options: read_stream_options(&mut params, stream)?,
            max_tokens: match shape {
                Shape::Chat => max_tokens,
                Shape::Text | Shape::Embeddings => Some(max_tokens.unwrap_or(TEXT_TOKENS)),
            },
            temperature: params.number("temperature", 0.0..=2.0)?,
            top_k: params.integer("top_k", 1..=MAX_TOP_K)?.and_then(|k| u8::try_from(k).ok()),
            // All of the probability is what there is without it.
            top_p: params.number("top_p", 0.0..=1.0)?.filter(|share| *share < 1.0),
            seed: params.seed("seed")?,
            stop: read_stops(&mut params)?,
            top_logprobs: match shape {
                Shape::Chat => read_chat_logprobs(&mut params)?,
                Shape::Text | Shape::Embeddings => {
                    params.integer("logprobs", 0..=MAX_LOGPROBS)?.and_then(|k| u8::try_from(k).ok())
                }
            },
            encoding: Encoding::default(),
        };
        params.refuse_unknown()?;
        Ok(request)
    }

    /// Reads the rest of a request for vectors. Nothing is drawn for them: what decides draws is the same
    /// in all such requests.
    fn inputs(model: String, mut params: Params) -> Result<Self, ApiError> {
        let prompt = Prompt::Inputs(read_inputs(&mut params)?);
        let encoding = match params.take("encoding_format") {
            None => Encoding::Float,
            Some(Value::String(name)) if name == "float" => Encoding::Float,
            Some(Value::String(name)) if name == "base64" => Encoding::Base64,
            Some(_) => {
                return Err(ApiError::invalid("encoding_format", "'encoding_format' is float or base64."));
            }
        };
        if params.take("dimensions").is_some() {
            let why = "vectors are as long as their model makes them";
            return Err(ApiError::unsupported("dimensions", why));
        }
        params.refuse_unknown()?;
        Ok(Self {
            model,
            prompt,
            n: 1,
            stream: false,
            stream_options: None,
            // A request has an output of one token at least; it costs nothing here and never comes.
            max_tokens: Some(1),
            temperature: Some(0.0),
            top_k: Some(1),
            top_p: None,
            seed: Some(0),
            stop: Vec::new(),
            top_logprobs: None,
            encoding,
        })
    }

    /// The shape of the request, and of its answer.
    pub const fn shape(&self) -> Shape {
        match self.prompt {
            Prompt::Messages(_) => Shape::Chat,
            Prompt::Text(_) => Shape::Text,
            Prompt::Inputs(_) => Shape::Embeddings,
        }
    }

    /// The body to send on. Equal requests have equal bytes.
    pub fn to_body(&self) -> Vec<u8> {
        if let Prompt::Inputs(input) = &self.prompt {
            return serde_json::to_vec(&WrittenInputs { model: &self.model, input }).unwrap_or_default();
        }
        let logprobs = self.top_logprobs.map(|top| match self.shape() {
            Shape::Chat => Wish::Chat { logprobs: true, top_logprobs: top },
            Shape::Text | Shape::Embeddings => Wish::Text { logprobs: top },
        });
        serde_json::to_vec(&Written { request: self, logprobs }).unwrap_or_default()
    }

    /// Refuses what the engine behind a quote cannot do: log probabilities, where the tokens are another
    /// server's.
    pub fn check_engine(&self, recomputable: bool) -> Result<(), ApiError> {
        if !recomputable && self.top_logprobs.is_some() {
            let why = "this model is another server's, and its tokens are not known here";
            return Err(ApiError::unsupported("logprobs", why));
        }
        Ok(())
    }

    /// Refuses a model that does something else: one that makes vectors and answers no prompts, or the
    /// other way round.
    pub fn check_purpose(&self, embeds: bool) -> Result<(), ApiError> {
        let wrong = match (embeds, self.shape()) {
            (false, Shape::Embeddings) => {
                "This model answers prompts and makes no vectors; ask POST /v1/chat/completions."
            }
            (true, Shape::Chat | Shape::Text) => {
                "This model makes vectors and answers no prompts; ask POST /v1/embeddings."
            }
            (false, Shape::Chat | Shape::Text) | (true, Shape::Embeddings) => return Ok(()),
        };
        Err(ApiError::invalid("model", wrong))
    }

    /// Whether the usage is wanted in a last chunk.
    pub fn include_usage(&self) -> bool {
        self.stream_options.is_some_and(|options| options.include_usage)
    }

    /// The parameters as the sampler takes them, for a prompt of so many tokens, which are counted in this unit.
    ///
    /// The limit of output tokens is the least of what the request asks for, what the quote allows
    /// and what the context has room for: asking for more than fits is not an error, the answer then
    /// ends with `length`. A prompt that leaves no room for one token is.
    pub fn sampling(
        &self,
        prompt_tokens: u32,
        unit: Unit,
        limits: &Limits,
        defaults: &SamplingDefaults,
    ) -> Result<Sampling, ApiError> {
        let room = limits.context_tokens.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(ApiError::context_length(prompt_tokens, limits.context_tokens, unit));
        }
        Ok(Sampling {
            temperature_micros: self.temperature.map_or(defaults.temperature_micros, micros),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            // The likeliest token always takes part.
            top_p_micros: self.top_p.map_or(ALL, micros).max(1),
            max_tokens: self.max_tokens.unwrap_or(u32::MAX).min(limits.output_tokens).min(room),
            stop: self.stop.clone(),
        })
    }
}

/// All of the probability, in millionths.
const ALL: u32 = 1_000_000;

/// Millionths, rounded; both parties round alike, and the receipt commits to the result.
fn micros(number: f64) -> u32 {
    // From 0 to 2 million, checked when it was read; a cast saturates in any case.
    (number * 1e6).round() as u32
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
