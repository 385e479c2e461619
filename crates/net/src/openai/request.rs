//! Requests for answers: chats and texts, read with care, written for a processor.

use super::{
    ApiError,
    params::{ONE_SAMPLER, Params},
};
use gristmill_types::{Limits, Sampling};
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

/// How long an answer to a text is unless the request says: as long as with OpenAI.
const TEXT_TOKENS: u32 = 16;
/// The most log probabilities beside that of the token itself, as with OpenAI's chats.
const MAX_LOGPROBS: u32 = 20;
const MAX_MODEL_BYTES: usize = 256;
const MAX_STOP_BYTES: usize = 256;
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
}

/// In which of OpenAI's two shapes a request and its answer are: those of `/v1/chat/completions` or of
/// the older `/v1/completions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Messages.
    Chat,
    /// Text.
    Text,
}

impl Shape {
    /// The route of such requests.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Text => "/v1/completions",
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
    /// The share of probability of which the likeliest tokens take part, below 1. Only servers that draw
    /// by themselves heed it: see [`check_engine`](Self::check_engine).
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
                Shape::Text => Some(max_tokens.unwrap_or(TEXT_TOKENS)),
            },
            temperature: params.number("temperature", 0.0..=2.0)?,
            top_k: params.integer("top_k", 1..=MAX_TOP_K)?.and_then(|k| u8::try_from(k).ok()),
            // All of the probability is what there is without it.
            top_p: params.number("top_p", 0.0..=1.0)?.filter(|share| *share < 1.0),
            seed: params.seed("seed")?,
            stop: read_stops(&mut params)?,
            top_logprobs: match shape {
                Shape::Chat => read_chat_logprobs(&mut params)?,
                Shape::Text => {
                    params.integer("logprobs", 0..=MAX_LOGPROBS)?.and_then(|k| u8::try_from(k).ok())
                }
            },
        };
        params.refuse_unknown()?;
        Ok(request)
    }

    /// The shape of the request, and of its answer.
    pub const fn shape(&self) -> Shape {
        match self.prompt {
            Prompt::Messages(_) => Shape::Chat,
            Prompt::Text(_) => Shape::Text,
        }
    }

    /// The body to send on. Equal requests have equal bytes.
    pub fn to_body(&self) -> Vec<u8> {
        let logprobs = self.top_logprobs.map(|top| match self.shape() {
            Shape::Chat => Wish::Chat { logprobs: true, top_logprobs: top },
            Shape::Text => Wish::Text { logprobs: top },
        });
        serde_json::to_vec(&Written { request: self, logprobs }).unwrap_or_default()
    }

    /// Refuses what the engine behind a quote cannot do: `top_p`, where answers are drawn by the
    /// canonical sampler, and log probabilities, where they are not.
    pub fn check_engine(&self, recomputable: bool) -> Result<(), ApiError> {
        if recomputable && self.top_p.is_some() {
            return Err(ApiError::unsupported("top_p", ONE_SAMPLER));
        }
        if !recomputable && self.top_logprobs.is_some() {
            let why = "this model is another server's, and its tokens are not known here";
            return Err(ApiError::unsupported("logprobs", why));
        }
        Ok(())
    }

    /// Whether the usage is wanted in a last chunk.
    pub fn include_usage(&self) -> bool {
        self.stream_options.is_some_and(|options| options.include_usage)
    }

    /// The parameters as the sampler takes them, for a prompt of so many tokens.
    ///
    /// The limit of output tokens is the least of what the request asks for, what the quote allows
    /// and what the context has room for: asking for more than fits is not an error, the answer then
    /// ends with `length`. A prompt that leaves no room for one token is.
    pub fn sampling(
        &self,
        prompt_tokens: u32,
        limits: &Limits,
        defaults: &SamplingDefaults,
    ) -> Result<Sampling, ApiError> {
        let room = limits.context_tokens.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(ApiError::context_length(prompt_tokens, limits.context_tokens));
        }
        Ok(Sampling {
            temperature_micros: self.temperature.map_or(defaults.temperature_micros, micros),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            max_tokens: self.max_tokens.unwrap_or(u32::MAX).min(limits.output_tokens).min(room),
            stop: self.stop.clone(),
        })
    }
}

/// Millionths, rounded; both parties round alike, and the receipt commits to the result.
fn micros(temperature: f64) -> u32 {
    // From 0 to 2 million, checked when it was read; a cast saturates in any case.
    (temperature * 1e6).round() as u32
}

fn read_model(params: &mut Params) -> Result<String, ApiError> {
    match params.take("model") {
        Some(Value::String(model)) if !model.is_empty() && model.len() <= MAX_MODEL_BYTES => Ok(model),
        Some(_) => {
            Err(ApiError::invalid("model", format!("'model' is text of 1 to {MAX_MODEL_BYTES} bytes.")))
        }
        None => Err(ApiError::missing("model")),
    }
}

fn read_messages(params: &mut Params) -> Result<Vec<Message>, ApiError> {
    let messages = match params.take("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(ApiError::invalid("messages", "'messages' is a list of messages.")),
        None => return Err(ApiError::missing("messages")),
    };
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let expected = format!("'messages' holds 1 to {MAX_MESSAGES} messages.");
        return Err(ApiError::invalid("messages", expected));
    }
    messages.into_iter().enumerate().map(|(index, message)| read_message(index, message)).collect()
}

fn read_message(index: usize, message: Value) -> Result<Message, ApiError> {
    let at = |member: &str| format!("messages[{index}].{member}");
    let Value::Object(mut message) = message else {
        let place = format!("messages[{index}]");
        return Err(ApiError::invalid(place, "A message is an object with 'role' and 'content'."));
    };
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => {
            return Err(ApiError::unsupported(at("role"), "the models here do not call tools"));
        }
        _ => {
            let expected = "'role' is one of system, developer, user, assistant.";
            return Err(ApiError::invalid(at("role"), expected));
        }
    };
    for member in ["tool_calls", "function_call", "audio"] {
        if message.get(member).is_some_and(|value| !value.is_null() && value.as_array() != Some(&Vec::new()))
        {
            return Err(ApiError::unsupported(at(member), "messages are text, without calls of tools"));
        }
    }
    let content = match message.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => read_parts(index, &parts)?,
        _ => {
            let expected = "'content' is text or a list of text parts.";
            return Err(ApiError::invalid(at("content"), expected));
        }
    };
    Ok(Message { role, content })
}

fn read_parts(index: usize, parts: &[Value]) -> Result<String, ApiError> {
    let mut content = String::new();
    for (part_index, part) in parts.iter().enumerate() {
        let at = |member: &str| format!("messages[{index}].content[{part_index}].{member}");
        match part.get("type").and_then(Value::as_str) {
            Some("text") => {}
            Some(_) => return Err(ApiError::unsupported(at("type"), "only parts of type 'text' are read")),
            None => return Err(ApiError::invalid(at("type"), "A part is {\"type\":\"text\",\"text\":…}.")),
        }
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            return Err(ApiError::invalid(at("text"), "'text' is text."));
        };
        content.push_str(text);
    }
    Ok(content)
}

/// A text, alone or in a list.
fn read_text(params: &mut Params) -> Result<String, ApiError> {
    match params.take("prompt") {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(list)) => match <[Value; 1]>::try_from(list) {
            Ok([Value::String(text)]) => Ok(text),
            Ok(_) => {
                Err(ApiError::unsupported("prompt", "prompts are text; lists of token ids are not read"))
            }
            Err(_) => Err(ApiError::unsupported("prompt", "each request has one prompt; send one for each")),
        },
        Some(_) => Err(ApiError::invalid("prompt", "'prompt' is text.")),
        None => Err(ApiError::missing("prompt")),
    }
}

fn read_chat_logprobs(params: &mut Params) -> Result<Option<u8>, ApiError> {
    let wanted = params.boolean("logprobs")?.unwrap_or(false);
    let top = params.integer("top_logprobs", 0..=MAX_LOGPROBS)?;
    match top {
        Some(1..) if !wanted => {
            Err(ApiError::invalid("top_logprobs", "'top_logprobs' goes with \"logprobs\": true only."))
        }
        _ => Ok(wanted.then(|| top.and_then(|top| u8::try_from(top).ok()).unwrap_or(0))),
    }
}

fn read_stream_options(params: &mut Params, stream: bool) -> Result<Option<StreamOptions>, ApiError> {
    let Some(options) = params.take("stream_options") else { return Ok(None) };
    if !stream {
        let expected = "'stream_options' goes with \"stream\": true only.";
        return Err(ApiError::invalid("stream_options", expected));
    }
    match options.get("include_usage") {
        _ if !options.is_object() => {
            Err(ApiError::invalid("stream_options", "'stream_options' is an object."))
        }
        None | Some(Value::Null) => Ok(Some(StreamOptions::default())),
        Some(Value::Bool(include_usage)) => Ok(Some(StreamOptions { include_usage: *include_usage })),
        Some(_) => {
            Err(ApiError::invalid("stream_options.include_usage", "'include_usage' is true or false."))
        }
    }
}

fn read_max_tokens(params: &mut Params) -> Result<Option<u32>, ApiError> {
    let old = params.integer("max_tokens", 1..=u32::MAX)?;
    let new = params.integer("max_completion_tokens", 1..=u32::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(ApiError::invalid(
            "max_completion_tokens",
            "'max_tokens' and 'max_completion_tokens' mean the same and differ; send one of them.",
        )),
        _ => Ok(new.or(old)),
    }
}

fn read_stops(params: &mut Params) -> Result<Vec<String>, ApiError> {
    let wrong = || {
        let expected =
            format!("'stop' is one text or at most {MAX_STOPS}, each of 1 to {MAX_STOP_BYTES} bytes.");
        ApiError::invalid("stop", expected)
    };
    let stops = match params.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(stops)) => stops,
        Some(one) => vec![one],
    };
    if stops.len() > MAX_STOPS {
        return Err(wrong());
    }
    let read = |stop| match stop {
        Value::String(text) if !text.is_empty() && text.len() <= MAX_STOP_BYTES => Ok(text),
        _ => Err(wrong()),
    };
    stops.into_iter().map(read).collect()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
