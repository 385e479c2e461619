//! Answers, to chats and to texts: plain, in chunks; and the list of models.

use super::Shape;
use gristmill_types::{AccountId, Amount, Digest, Finish, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// An amount as a JSON number of credits, for `usage.cost`.
///
/// A JSON number is read as a double by most clients. Up to four million credits every grain survives;
/// the exact figure is in the receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = f64)]
pub struct Credits(pub Amount);

const GRAINS_PER_CREDIT: f64 = 1e9;

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.grains() as f64 / GRAINS_PER_CREDIT)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let grains = (f64::deserialize(deserializer)? * GRAINS_PER_CREDIT).round();
        if !(0.0..1e38).contains(&grains) {
            return Err(serde::de::Error::custom("a cost is a number of credits, zero or more"));
        }
        Ok(Self(Amount::from_grains(grains as u128)))
    }
}

/// Why an answer ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended, or a stop text was met.
    Stop,
    /// A limit of tokens was reached.
    Length,
    /// The processor failed; what was delivered is what was paid.
    Error,
}

impl From<Finish> for FinishReason {
    fn from(finish: Finish) -> Self {
        match finish {
            Finish::Stop => Self::Stop,
            Finish::Length => Self::Length,
            // Nobody is there to read it when the consumer has gone away.
            Finish::Cancelled | Finish::Error => Self::Error,
        }
    }
}

/// What a request used, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// What these tokens are; said where they are bytes.
    #[serde(default, skip_serializing_if = "Unit::is_token")]
    #[schema(value_type = String)]
    pub unit: Unit,
    /// What it cost, in credits. Absent between processor and gateway, where the receipt counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Credits>,
}

impl Usage {
    /// The usage with its total.
    pub fn new(prompt_tokens: u64, completion_tokens: u64, unit: Unit, cost: Option<Amount>) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            unit,
            cost: cost.map(Credits),
        }
    }
}

/// How likely the model found one of the likeliest tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogprob {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

/// How likely the model found a token that was drawn, and its rivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Logprob {
    /// Of the token itself.
    pub logprob: f32,
    /// Of the likeliest, as many as were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopLogprob>,
}

/// What we add to OpenAI's answers. Stock clients keep or ignore it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Extension {
    /// The token ids of this delta; from a processor to a gateway, never further.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u32>,
    /// Their log probabilities, where they were asked for; from a processor to a gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
    /// The receipt of this answer; from a gateway to its client, with the last of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub receipt: Option<Digest>,
    /// All receipts, where several answers were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub receipts: Vec<Digest>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub processor: Option<AccountId>,
    /// What cut the answer, where that was not a limit that the request set, nor the model's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<LimitedBy>,
    /// Why a choice among several ended with `error`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ChoiceError>,
}

/// What an answer's limit of tokens comes from, where the request sets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// The most that the gateway pays for one request.
    Request,
    /// What is left of the API key's budget.
    Key,
    /// What the paying account has left for channels, or its spending key; or a part of that, if it is enough for a
    /// window.
    Account,
}

/// A choice that failed where others did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChoiceError {
    /// Which.
    pub index: u32,
    /// Why.
    pub message: String,
}

/// The message of a plain answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplyMessage {
    /// Always `assistant`.
    pub role: String,
    /// The text.
    pub content: Option<String>,
    /// Always null; the official clients declare it.
    #[serde(default)]
    pub refusal: Option<String>,
}

/// One choice of a plain answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// Which of the answers that were asked for.
    pub index: u32,
    /// What was said, in a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<ReplyMessage>,
    /// What was said, to a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Log probabilities in the shape's form, where they were asked for.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<serde_json::Value>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
}

impl Choice {
    /// A whole answer.
    pub fn new(shape: Shape, index: u32, content: String, finish: FinishReason) -> Self {
        let (message, text) = match shape {
            Shape::Chat => {
                let role = "assistant".to_owned();
                (Some(ReplyMessage { role, content: Some(content), refusal: None }), None)
            }
            Shape::Text | Shape::Embeddings => (None, Some(content)),
        };
        Self { index, message, text, logprobs: None, finish_reason: Some(finish) }
    }

    /// What was said.
    pub fn content(&self) -> Option<&str> {
        let message = self.message.as_ref();
        message.and_then(|message| message.content.as_deref()).or(self.text.as_deref())
    }
}

/// A plain answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// The request's id.
    pub id: String,
    /// `chat.completion` or `text_completion`.
    pub object: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model as it was asked for.
    pub model: String,
    /// As many as were asked for.
    pub choices: Vec<Choice>,
    /// What was used.
    pub usage: Option<Usage>,
    /// What we add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gristmill: Option<Extension>,
}

impl Answer {
    /// An answer in this shape.
    pub fn new(shape: Shape, id: String, created: u64, model: String, choices: Vec<Choice>) -> Self {
        let object = match shape {
            Shape::Chat => "chat.completion",
            Shape::Text | Shape::Embeddings => "text_completion",
        };
        Self { id, object: object.to_owned(), created, model, choices, usage: None, gristmill: None }
    }
}

/// What a chunk adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// `assistant` in the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// The one choice of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkChoice {
    /// Which of the answers that were asked for.
    pub index: u32,
    /// What this chunk adds to a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// What it adds to a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Log probabilities in the shape's form, where they were asked for.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub logprobs: Option<serde_json::Value>,
    /// Why the answer ended; null until then.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
}

/// One chunk of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Chunk {
    /// The request's id.
    pub id: String,
    /// `chat.completion.chunk` or `text_completion`.
    pub object: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model as it was asked for.
    pub model: String,
    /// One choice; none in the chunk that carries the usage.
    pub choices: Vec<ChunkChoice>,
    /// What was used, in the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What we add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gristmill: Option<Extension>,
}

impl Chunk {
    /// A chunk that adds this to one choice. The role goes with chats only.
    pub fn new(
        shape: Shape,
        id: &str,
        created: u64,
        model: &str,
        delta: Delta,
        finish: Option<FinishReason>,
    ) -> Self {
        let (delta, text) = match shape {
            Shape::Chat => (Some(delta), None),
            Shape::Text | Shape::Embeddings => (None, Some(delta.content.unwrap_or_default())),
        };
        let choice = ChunkChoice { index: 0, delta, text, logprobs: None, finish_reason: finish };
        Self { choices: vec![choice], ..Self::without_choice(shape, id, created, model) }
    }

    /// The last chunk, which carries the usage and no choice.
    pub fn of_usage(shape: Shape, id: &str, created: u64, model: &str, usage: Usage) -> Self {
        Self { usage: Some(usage), ..Self::without_choice(shape, id, created, model) }
    }

    fn without_choice(shape: Shape, id: &str, created: u64, model: &str) -> Self {
        let object = match shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text | Shape::Embeddings => "text_completion",
        };
        Self {
            id: id.to_owned(),
            object: object.to_owned(),
            created,
            model: model.to_owned(),
            choices: Vec::new(),
            usage: None,
            gristmill: None,
        }
    }

    /// The text that this chunk adds.
    pub fn text(&self) -> &str {
        let Some(choice) = self.choices.first() else { return "" };
        let delta = choice.delta.as_ref().and_then(|delta| delta.content.as_deref());
        delta.or(choice.text.as_deref()).unwrap_or_default()
    }

    /// The chunk as an event of a stream.
    pub fn to_event(&self) -> bytes::Bytes {
        crate::sse::format("", &serde_json::to_string(self).unwrap_or_default())
    }
}

/// Prices in OpenRouter's form: credits per token, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pricing {
    /// Credits per input token.
    pub prompt: String,
    /// Credits per output token.
    pub completion: String,
    /// Credits per request.
    pub request: String,
}

impl From<&gristmill_types::Prices> for Pricing {
    fn from(prices: &gristmill_types::Prices) -> Self {
        Self {
            prompt: millionth(prices.input_per_mtok),
            completion: millionth(prices.output_per_mtok),
            request: millionth(prices.per_mreq),
        }
    }
}

/// A millionth of an amount, exactly, in credits: up to fifteen digits after the point.
fn millionth(amount: Amount) -> String {
    const SCALE: u128 = 1_000_000 * Amount::GRAINS_PER_CREDIT;
    let (whole, rest) = (amount.grains() / SCALE, amount.grains() % SCALE);
    let text = format!("{whole}.{rest:015}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One model of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The name to ask for.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Unix time in seconds.
    pub created: u64,
    /// Its modeler.
    pub owned_by: String,
    /// Tokens of prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// What prices and counts of tokens are for; said where it is bytes.
    #[serde(default, skip_serializing_if = "Unit::is_token")]
    #[schema(value_type = String)]
    pub unit: Unit,
    /// What it costs at the best offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
}

/// The list of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of these models.
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list".to_owned(), data }
    }
}

impl axum::response::IntoResponse for ModelList {
    fn into_response(self) -> axum::response::Response {
        super::error::json(&self)
    }
}

impl axum::response::IntoResponse for Answer {
    fn into_response(self) -> axum::response::Response {
        super::error::json(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn costs_are_numbers_exact_to_the_grain() {
        for (grains, text) in [
            (0, "0.0"),
            (1, "1e-9"),
            (12_300_000, "0.0123"),
            (1_000_000_000, "1.0"),
            (4_000_000_123_456_789, "4000000.123456789"),
        ] {
            let credits = Credits(Amount::from_grains(grains));
            assert_eq!(serde_json::to_string(&credits).unwrap(), text);
            assert_eq!(serde_json::from_str::<Credits>(text).unwrap(), credits);
        }
        for bad in ["-1", "1e300", "\"1\"", "null"] {
            assert!(serde_json::from_str::<Credits>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prices_per_token_are_exact() {
        for (grains, text) in
            [(0, "0"), (1, "0.000000000000001"), (1_000_000_000, "0.000001"), (3 * 10_u128.pow(15), "3")]
        {
            assert_eq!(millionth(Amount::from_grains(grains)), text);
        }
    }

    #[test]
    fn a_plain_answer() {
        let choice = Choice::new(Shape::Chat, 0, "hi".into(), FinishReason::Stop);
        let mut answer = Answer::new(Shape::Chat, "c-1".into(), 7, "m".into(), vec![choice]);
        answer.usage = Some(Usage::new(3, 2, Unit::Token, Some(Amount::from_grains(12_300_000))));
        answer.gristmill = Some(Extension { receipt: Some(Digest::new([1; 32])), ..Extension::default() });
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(
            json,
            json!({
                "id": "c-1", "object": "chat.completion", "created": 7, "model": "m",
                "choices": [{
                    "index": 0,
                    "message": {"role": "assistant", "content": "hi", "refusal": null},
                    "logprobs": null,
                    "finish_reason": "stop",
                }],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.0123},
                "gristmill": {"receipt": "01".repeat(32)},
            })
        );
        assert_eq!(serde_json::from_value::<Answer>(json).unwrap(), answer);
    }

    #[test]
    fn answers_to_texts() {
        let choice = Choice::new(Shape::Text, 1, "hi".into(), FinishReason::Length);
        let answer = Answer::new(Shape::Text, "c-1".into(), 7, "m".into(), vec![choice]);
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(
            json,
            json!({
                "id": "c-1", "object": "text_completion", "created": 7, "model": "m",
                "choices": [{"index": 1, "text": "hi", "logprobs": null, "finish_reason": "length"}],
                "usage": null,
            })
        );
        let delta = Delta { role: Some("assistant".into()), content: Some("hi".into()) };
        let chunk = Chunk::new(Shape::Text, "c-1", 7, "m", delta, None);
        let json = serde_json::to_value(&chunk).unwrap();
        assert_eq!(
            json["choices"],
            json!([{"index": 0, "text": "hi", "logprobs": null, "finish_reason": null}])
        );
        assert_eq!((chunk.text(), serde_json::from_value::<Chunk>(json).unwrap()), ("hi", chunk.clone()));
    }

    #[test]
    fn chunks() {
        let delta = Delta { role: None, content: Some("hi".into()) };
        let mut chunk = Chunk::new(Shape::Chat, "c-1", 7, "m", delta, None);
        let top = vec![TopLogprob { id: 9, logprob: -0.25 }];
        let logprobs = vec![Logprob { logprob: -1.5, top }, Logprob { logprob: 0.0, top: Vec::new() }];
        chunk.gristmill = Some(Extension { ids: vec![5, 6], logprobs, ..Extension::default() });
        let json = serde_json::to_value(&chunk).unwrap();
        assert_eq!(
            json,
            json!({
                "id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m",
                "choices": [
                    {"index": 0, "delta": {"content": "hi"}, "logprobs": null, "finish_reason": null}
                ],
                "gristmill": {
                    "ids": [5, 6],
                    "logprobs": [{"logprob": -1.5, "top": [{"id": 9, "logprob": -0.25}]}, {"logprob": 0.0}],
                },
            })
        );
        assert_eq!(chunk.text(), "hi");
        let last = Chunk::of_usage(Shape::Chat, "c-1", 7, "m", Usage::new(1, 2, Unit::Byte, None));
        let json = serde_json::to_value(&last).unwrap();
        assert_eq!((&json["choices"], &json["usage"]["unit"]), (&json!([]), &json!("byte")));
        assert!(last.to_event().starts_with(b"data: {\"id\":\"c-1\""));
    }
}
