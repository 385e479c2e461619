//! What an upstream says in one event, or in one whole answer.
//!
//! Read leniently: servers leave out members, add others, and disagree on the rest. What is not
//! understood says nothing; what is an error is one, wherever it stands.

use crate::connection::error_words;
use gristmill_net::sse::DONE;
use gristmill_types::Finish;
use serde_json::Value;

/// One thing said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// More of the answer.
    pub text: String,
    /// Whether it thought aloud, apart from the answer.
    pub reasoned: bool,
    /// Whether it counted tokens.
    pub usage: bool,
    /// Why the answer ends here.
    pub finish: Option<Finish>,
    /// The stream's own mark of its end.
    pub done: bool,
    /// The error that it is.
    pub failed: Option<String>,
}

/// Reads the data of an event.
pub fn read_event(data: &str) -> Said {
    let data = data.trim();
    if data == DONE {
        return Said { done: true, ..Said::default() };
    }
    match serde_json::from_str(data) {
        Ok(value) => read(&value),
        Err(error) => Said { failed: Some(format!("an event that is no JSON: {error}")), ..Said::default() },
    }
}

/// Reads an answer that came whole.
pub fn read_whole(body: &[u8]) -> Result<Said, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|_| "its answer is neither events nor JSON".to_owned())?;
    let mut whole = read(&value);
    if whole.failed.is_none() && !value["choices"][0].is_object() {
        return Err("its answer holds no choice".to_owned());
    }
    // It is all there is.
    whole.done = true;
    whole.finish = whole.finish.or(Some(Finish::Stop));
    Ok(whole)
}

/// Reads a chunk, or an answer that came whole.
fn read(value: &Value) -> Said {
    if let Some(words) = error_words(value) {
        return Said { failed: Some(words), ..Said::default() };
    }
    let choice = &value["choices"][0];
    let part = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let reasoning =
        ["reasoning_content", "reasoning", "thinking"].iter().any(|name| text(&part[name]).is_some());
    Said {
        // Text completions have the text in the choice itself.
        text: text(&part["content"]).or_else(|| text(&choice["text"])).unwrap_or_default(),
        reasoned: reasoning,
        usage: value["usage"].is_object(),
        // Some say nothing with an empty word.
        finish: choice["finish_reason"].as_str().filter(|word| !word.is_empty()).map(finish),
        done: false,
        failed: None,
    }
}

fn finish(word: &str) -> Finish {
    match word {
        "length" | "max_tokens" => Finish::Length,
        "error" | "abort" => Finish::Error,
        // It ended by itself, by a stop text, a filter or a call of a tool: nothing more comes.
        _ => Finish::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Said {
        Said { text: text.into(), ..Said::default() }
    }

    fn end(finish: Finish) -> Said {
        Said { finish: Some(finish), ..Said::default() }
    }

    #[test]
    fn what_servers_say() {
        for (data, said) in [
            (r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#, Said::default()),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, Said::default()),
            (r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#, text("hi")),
            (
                r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}"#,
                Said { finish: Some(Finish::Stop), ..text("hi") },
            ),
            (r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":""}]}"#, text("hi")),
            (r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#, end(Finish::Length)),
            (r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#, end(Finish::Stop)),
            (r#"{"choices":[{"delta":{},"finish_reason":"abort"}]}"#, end(Finish::Error)),
            (r#"{"choices":[],"usage":{"total_tokens":3}}"#, Said { usage: true, ..Said::default() }),
            (r#"{"choices":[],"usage":null}"#, Said::default()),
            (
                r#"{"choices":[{"delta":{"reasoning_content":"hm","content":""}}]}"#,
                Said { reasoned: true, ..Said::default() },
            ),
            (r#"{"choices":[{"delta":{"reasoning":"hm"}}]}"#, Said { reasoned: true, ..Said::default() }),
            (r#"{"choices":[{"text":"hi","finish_reason":null}]}"#, text("hi")),
            (
                r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"error":null}"#,
                Said { finish: Some(Finish::Stop), ..text("hi") },
            ),
            ("[DONE]", Said { done: true, ..Said::default() }),
            (" [DONE] ", Said { done: true, ..Said::default() }),
            ("{}", Said::default()),
            ("[]", Said::default()),
            ("7", Said::default()),
        ] {
            assert_eq!(read_event(data), said, "{data}");
        }
    }

    #[test]
    fn errors_are_heard_wherever_they_stand() {
        for (data, words) in [
            (r#"{"error":{"message":"out of memory","code":500}}"#, "out of memory"),
            (r#"{"error":"out of memory"}"#, "out of memory"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"msg":"bad"}]}"#, "bad"),
            (r#"{"object":"error","message":"too long"}"#, "too long"),
            (r#"{"error":{"code":7},"choices":[{"delta":{"content":"hi"}}]}"#, "7"),
            ("{", "no JSON"),
            ("hello", "no JSON"),
        ] {
            let said = read_event(data);
            assert!(said.failed.as_ref().is_some_and(|found| found.contains(words)), "{data}: {said:?}");
            assert_eq!(said.text, "");
        }
    }
}
