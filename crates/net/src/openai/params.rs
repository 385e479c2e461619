//! Reading parameters one by one, so that each refusal names its parameter.
//!
//! Deriving the reader would be shorter, but its errors name a line and a column where the person
//! who wrote the request needs the parameter.

use super::ApiError;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The members of a request that were not read yet. Null counts as absent, as with OpenAI.
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(ApiError::malformed("it is JSON, but not an object")),
            Err(error) => Err(ApiError::malformed(error)),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let expected = || format!("'{name}' is a number from {} to {}.", range.start(), range.end());
        number.map(Some).ok_or_else(|| ApiError::invalid(name, expected()))
    }

    pub(super) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let expected = || format!("'{name}' is a whole number from {} to {}.", range.start(), range.end());
        number
            .filter(|number| range.contains(number))
            .map(Some)
            .ok_or_else(|| ApiError::invalid(name, expected()))
    }

    pub(super) fn seed(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || ApiError::invalid(name, format!("'{name}' is a whole number of at most 64 bits."));
        value.as_i64().map(Some).ok_or_else(wrong)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || ApiError::invalid(name, format!("'{name}' is true or false."));
        value.as_bool().map(Some).ok_or_else(wrong)
    }

    /// Refuses every parameter of [`UNSUPPORTED`] that would change the answer.
    pub(super) fn refuse_unsupported(&mut self) -> Result<(), ApiError> {
        for (name, neutral, why) in UNSUPPORTED {
            if let Some(value) = self.take(name)
                && !neutral(&value)
            {
                return Err(ApiError::unsupported(*name, why));
            }
        }
        Ok(())
    }

    /// Refuses what was not read: a misspelt parameter must not pass as heeded. To be called last.
    pub(super) fn refuse_unknown(self) -> Result<(), ApiError> {
        let unknown = self.0.iter().find(|(name, value)| !value.is_null() && !NOTES.contains(&name.as_str()));
        match unknown {
            Some((name, _)) => Err(ApiError::unsupported(
                name.chars().take(64).collect::<String>(),
                "it is not known here; leave it out, or check its spelling",
            )),
            None => Ok(()),
        }
    }
}

/// Members that say nothing about the answer, and are not needed here.
const NOTES: &[&str] = &[
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
];

type Neutral = fn(&Value) -> bool;

fn is(value: &Value, number: f64) -> bool {
    value.as_f64() == Some(number)
}

fn one(value: &Value) -> bool {
    is(value, 1.0)
}

fn zero(value: &Value) -> bool {
    is(value, 0.0)
}

fn no(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn no_choice(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto"))
}

fn text_format(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("text")
}

fn text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|all| all.iter().all(|one| one.as_str() == Some("text")))
}

fn none(value: &Value) -> bool {
    value.as_str() == Some("none")
}

fn never(_: &Value) -> bool {
    false
}

const EVERY_ANSWER: &str = "every answer is paid for and returned; ask for several with 'n'";
const ANSWER_ALONE: &str = "the answer is returned alone; put the prompt in front of it yourself";
const NO_END: &str = "the models here go on from a prompt, and do not write towards a given end";
const NO_TOOLS: &str = "the models here do not call tools; leave them out";
const ONE_SAMPLER: &str = "every paid answer can be recomputed, and its sampler knows 'temperature', 'top_k', 'top_p' and 'seed' only";
const TEXT_ONLY: &str = "prompts and answers are text";

/// Parameter, the values of it that change nothing, and why others are refused. A null is always
/// accepted.
const UNSUPPORTED: &[(&str, Neutral, &str)] = &[
    ("best_of", one, EVERY_ANSWER),
    ("echo", no, ANSWER_ALONE),
    ("suffix", never, NO_END),
    ("tools", empty, NO_TOOLS),
    ("tool_choice", no_choice, NO_TOOLS),
    ("functions", empty, NO_TOOLS),
    ("function_call", no_choice, NO_TOOLS),
    ("web_search_options", never, NO_TOOLS),
    ("response_format", text_format, "answers are free text; ask for JSON in the prompt and check it"),
    ("min_p", zero, ONE_SAMPLER),
    ("top_a", zero, ONE_SAMPLER),
    ("presence_penalty", zero, ONE_SAMPLER),
    ("frequency_penalty", zero, ONE_SAMPLER),
    ("repetition_penalty", one, ONE_SAMPLER),
    ("logit_bias", empty, ONE_SAMPLER),
    ("ignore_eos", no, ONE_SAMPLER),
    ("min_tokens", zero, ONE_SAMPLER),
    ("modalities", text_only, TEXT_ONLY),
    ("audio", never, TEXT_ONLY),
    ("prediction", never, "answers are not steered by a predicted text"),
    ("reasoning_effort", none, "the models here do not reason apart from their answer"),
];
