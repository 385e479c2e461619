//! The members of requests, each read from JSON with care.

use super::{
    ApiError,
    params::Params,
    request::{
        MAX_INPUTS, MAX_LOGPROBS, MAX_MESSAGES, MAX_MODEL_BYTES, MAX_STOP_BYTES, MAX_STOPS, Message, Role,
        StreamOptions,
    },
};
use serde_json::Value;

pub(super) fn read_model(params: &mut Params) -> Result<String, ApiError> {
    match params.take("model") {
        Some(Value::String(model)) if !model.is_empty() && model.len() <= MAX_MODEL_BYTES => Ok(model),
        Some(_) => {
            Err(ApiError::invalid("model", format!("'model' is text of 1 to {MAX_MODEL_BYTES} bytes.")))
        }
        None => Err(ApiError::missing("model")),
    }
}

pub(super) fn read_messages(params: &mut Params) -> Result<Vec<Message>, ApiError> {
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
pub(super) fn read_text(params: &mut Params) -> Result<String, ApiError> {
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

/// Texts, one or a list.
pub(super) fn read_inputs(params: &mut Params) -> Result<Vec<String>, ApiError> {
    let list = match params.take("input") {
        Some(Value::Array(list)) => list,
        Some(one @ Value::String(_)) => vec![one],
        Some(_) => return Err(ApiError::invalid("input", "'input' is a text, or a list of texts.")),
        None => return Err(ApiError::missing("input")),
    };
    if list.is_empty() || list.len() > MAX_INPUTS {
        return Err(ApiError::invalid("input", format!("'input' holds 1 to {MAX_INPUTS} texts.")));
    }
    let read = |(index, value)| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => {
            let place = format!("input[{index}]");
            Err(ApiError::invalid(&place, format!("The text '{place}' is empty; leave it out.")))
        }
        _ => Err(ApiError::unsupported("input", "inputs are texts; lists of token ids are not read")),
    };
    list.into_iter().enumerate().map(read).collect()
}

pub(super) fn read_chat_logprobs(params: &mut Params) -> Result<Option<u8>, ApiError> {
    let wanted = params.boolean("logprobs")?.unwrap_or(false);
    let top = params.integer("top_logprobs", 0..=MAX_LOGPROBS)?;
    match top {
        Some(1..) if !wanted => {
            Err(ApiError::invalid("top_logprobs", "'top_logprobs' goes with \"logprobs\": true only."))
        }
        _ => Ok(wanted.then(|| top.and_then(|top| u8::try_from(top).ok()).unwrap_or(0))),
    }
}

pub(super) fn read_stream_options(
    params: &mut Params,
    stream: bool,
) -> Result<Option<StreamOptions>, ApiError> {
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

pub(super) fn read_max_tokens(params: &mut Params) -> Result<Option<u32>, ApiError> {
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

pub(super) fn read_stops(params: &mut Params) -> Result<Vec<String>, ApiError> {
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
