//! Requests as OpenAPI documents describe them.
//!
//! [`PromptRequest`](super::PromptRequest) is what was understood; this is what may be sent. It is read by
//! hand, so that refusals name their parameter; the test below holds both together.

use serde::Serialize;
use utoipa::ToSchema;

/// The body of a chat request. A member that is not listed is refused, unless it says nothing about the
/// answer (`user`, `metadata`, `store`) or carries the value that changes nothing (`tools: []`, `min_p: 0`).
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "gristmill/numbers",
    "messages": [{"role": "user", "content": "Spell 7 in German."}],
    "n": 2,
    "stream": true,
    "stream_options": {"include_usage": true},
    "max_tokens": 16,
    "max_completion_tokens": 16,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 1.0,
    "seed": 7,
    "stop": ["\n"],
    "logprobs": true,
    "top_logprobs": 3,
}))]
pub struct ChatBody {
    /// The model's name, as `GET /v1/models` lists it.
    #[schema(min_length = 1, max_length = 256)]
    model: String,
    /// The conversation.
    #[schema(min_items = 1, max_items = 1024)]
    messages: Vec<BodyMessage>,
    /// How many answers.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<u32>,
    /// Whether the answer comes in chunks, as server-sent events.
    stream: Option<bool>,
    /// How chunks are sent; with `stream` only.
    stream_options: Option<BodyStream>,
    /// The most output tokens.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// The same by its newer name.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u32>,
    /// 0 takes the likeliest token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// How many of the likeliest tokens take part.
    #[schema(minimum = 1, maximum = 64)]
    top_k: Option<u32>,
    /// The share of probability of which the likeliest tokens take part.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Fixes the draw: the same request gives the same answer.
    seed: Option<i64>,
    /// What ends the answer.
    stop: Option<BodyStop>,
    /// Whether each token comes with its log probability.
    logprobs: Option<bool>,
    /// With those of how many of the likeliest; with `logprobs` only.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u32>,
}

/// The body of a request that goes on from a text. Members that are not listed are as with chats.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "gristmill/numbers",
    "prompt": "Seven in German is",
    "n": 2,
    "stream": true,
    "stream_options": {"include_usage": true},
    "max_tokens": 16,
    "max_completion_tokens": 16,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 1.0,
    "seed": 7,
    "stop": ["\n"],
    "logprobs": 3,
}))]
pub struct TextBody {
    /// The model's name, as `GET /v1/models` lists it.
    #[schema(min_length = 1, max_length = 256)]
    model: String,
    /// The text to go on from.
    prompt: BodyPrompt,
    /// How many answers.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<u32>,
    /// Whether the answer comes in chunks, as server-sent events.
    stream: Option<bool>,
    /// How chunks are sent; with `stream` only.
    stream_options: Option<BodyStream>,
    /// The most output tokens; 16 without it.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// The same by its newer name.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u32>,
    /// 0 takes the likeliest token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// How many of the likeliest tokens take part.
    #[schema(minimum = 1, maximum = 64)]
    top_k: Option<u32>,
    /// As with chats.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Fixes the draw: the same request gives the same answer.
    seed: Option<i64>,
    /// What ends the answer.
    stop: Option<BodyStop>,
    /// Whether each token comes with its log probability, and with those of how many of the likeliest.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<u32>,
}

/// The body of a request for vectors.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"model": "a/embedder", "input": ["seven", "sieben"], "encoding_format": "base64"}))]
pub struct EmbeddingsBody {
    /// The model's name, as `GET /v1/models` lists it.
    #[schema(min_length = 1, max_length = 256)]
    model: String,
    /// Of what vectors are made.
    input: BodyInput,
    /// How the numbers of vectors are sent; `float` without it.
    encoding_format: Option<BodyEncoding>,
}

/// One message of the conversation.
#[derive(Serialize, ToSchema)]
struct BodyMessage {
    /// Who speaks.
    role: BodyRole,
    /// What is said.
    content: BodyContent,
}

/// Who speaks.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "described, never made")]
enum BodyRole {
    /// Instructions to the model.
    System,
    /// The same by its newer name.
    Developer,
    /// The person.
    User,
    /// The model, earlier.
    Assistant,
}

/// Text, whole or in parts.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "described, never made")]
enum BodyContent {
    /// Whole.
    Text(String),
    /// Parts, which are joined.
    Parts(Vec<BodyPart>),
}

/// A part of a message.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[allow(dead_code, reason = "described, never made")]
enum BodyPart {
    /// Text, the one kind of part that is read.
    Text {
        /// The text.
        text: String,
    },
}

/// How chunks are sent.
#[derive(Serialize, ToSchema)]
struct BodyStream {
    /// Whether a last chunk carries the usage.
    include_usage: Option<bool>,
}

/// One text or at most four, each of 1 to 256 bytes.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "described, never made")]
enum BodyStop {
    /// One text.
    One(BodyStopText),
    /// At most four.
    Several(Vec<BodyStopText>),
}

/// A text that ends the answer.
#[derive(Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 256)]
struct BodyStopText(String);

/// A text, alone or in a list of one.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "described, never made")]
enum BodyPrompt {
    /// Alone.
    Text(String),
    /// In a list.
    List([String; 1]),
}

/// A text, or at most 2048.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "described, never made")]
enum BodyInput {
    /// One.
    One(BodyInputText),
    /// Several.
    Several(Vec<BodyInputText>),
}

/// A text, not empty.
#[derive(Serialize, ToSchema)]
#[schema(min_length = 1)]
struct BodyInputText(String);

/// How numbers are sent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "described, never made")]
enum BodyEncoding {
    /// As numbers.
    Float,
    /// As base64 of their bytes.
    Base64,
}

/// An event of a streamed answer.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described, written as lines of text")]
pub struct StreamEvent {
    /// A `Chunk` in JSON, an `Error` if the answer breaks off, and last `[DONE]`.
    data: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::{Encoding, PromptRequest, Shape};
    use std::collections::BTreeSet;
    use utoipa::PartialSchema as _;

    #[test]
    fn what_is_described_is_read() {
        // The second name of the limit, the share that changes nothing, and what is between gateway and client.
        for (shape, schema, not_sent_on) in [
            (Shape::Chat, ChatBody::schema(), &["max_completion_tokens", "top_p"][..]),
            (Shape::Text, TextBody::schema(), &["max_completion_tokens", "top_p"]),
            (Shape::Embeddings, EmbeddingsBody::schema(), &["encoding_format"]),
        ] {
            let schema = serde_json::to_value(schema).unwrap();
            let example = &schema["example"];
            let names =
                |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(example), names(&schema["properties"]), "the example has every member");
            let request = PromptRequest::parse(example.to_string().as_bytes(), shape).unwrap();
            assert_eq!(request.encoding == Encoding::Base64, shape == Shape::Embeddings);
            let understood: serde_json::Value = serde_json::from_slice(&request.to_body()).unwrap();
            let mut expected = example.clone();
            expected.as_object_mut().unwrap().retain(|name, _| !not_sent_on.contains(&name.as_str()));
            assert_eq!(understood, expected, "{shape:?}");
        }
    }
}
