//! Tests of reading requests: what is accepted, what is refused and how.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn with(extra: Value) -> Vec<u8> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::to_vec(&request).unwrap()
}

fn parse(extra: Value) -> Result<PromptRequest, ApiError> {
    PromptRequest::parse(&with(extra), Shape::Chat)
}

fn limits(context_tokens: u32, output_tokens: u32) -> Limits {
    Limits { context_tokens, output_tokens, window_tokens: 64, window_ms: 1_000 }
}

#[test]
fn a_plain_request() {
    let request = parse(json!({})).unwrap();
    assert_eq!(request.model, "m");
    assert_eq!(request.prompt, Prompt::Messages(vec![Message { role: Role::User, content: "hi".into() }]));
    assert!(!request.stream && request.stop.is_empty() && request.seed.is_none());
    assert_eq!(request.to_body(), br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
}

#[test]
fn lenient_where_openai_is() {
    let messages = json!([
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "name": "x", "tool_calls": [], "refusal": null},
        {"role": "user", "content": ""},
    ]);
    let request =
        parse(json!({"messages": messages, "user": "u", "metadata": {"deep": [1]}, "made_up": null}))
            .unwrap();
    let Prompt::Messages(messages) = request.prompt else { panic!("a chat") };
    let said: Vec<_> = messages.iter().map(|m| (m.role, m.content.as_str())).collect();
    assert_eq!(said, [(Role::System, "ab"), (Role::Assistant, "c"), (Role::User, "")]);

    for (extra, stops) in [
        (json!({"stop": "x"}), vec!["x"]),
        (json!({"stop": ["a", "b", "c", "d"]}), vec!["a", "b", "c", "d"]),
        (json!({"stop": []}), vec![]),
        (json!({"stop": null}), vec![]),
    ] {
        assert_eq!(parse(extra).unwrap().stop, stops);
    }
    for extra in [
        json!({"max_tokens": 5}),
        json!({"max_completion_tokens": 5}),
        json!({"max_tokens": 5, "max_completion_tokens": 5}),
    ] {
        assert_eq!(parse(extra).unwrap().max_tokens, Some(5));
    }
    let request = parse(json!({"stream": true, "stream_options": {"include_usage": true}})).unwrap();
    assert!(request.stream && request.include_usage());
    assert_eq!(parse(json!({"seed": -5})).unwrap().seed, Some(-5));
}

#[test]
fn values_that_change_nothing_are_accepted() {
    let neutral = json!({
        "n": 1, "best_of": 1, "logprobs": false, "top_logprobs": 0, "tools": [], "tool_choice": "auto",
        "functions": [], "function_call": "none", "response_format": {"type": "text"}, "top_p": 1.0,
        "min_p": 0, "top_a": 0, "presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1,
        "logit_bias": {}, "ignore_eos": false, "min_tokens": 0, "modalities": ["text"],
        "reasoning_effort": "none", "web_search_options": null, "audio": null, "prediction": null,
        "temperature": null, "top_k": null, "seed": null, "max_tokens": null, "stream": null,
    });
    assert_eq!(parse(neutral).unwrap(), parse(json!({})).unwrap());
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    for (name, value) in [
        ("best_of", json!(3)),
        ("echo", json!(true)),
        ("suffix", json!("end")),
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("required")),
        ("functions", json!([{}])),
        ("function_call", json!({"name": "f"})),
        ("web_search_options", json!({})),
        ("response_format", json!({"type": "json_object"})),
        ("min_p", json!(0.1)),
        ("top_a", json!(0.1)),
        ("presence_penalty", json!(0.5)),
        ("frequency_penalty", json!(-0.5)),
        ("repetition_penalty", json!(1.1)),
        ("logit_bias", json!({"5": 1})),
        ("ignore_eos", json!(true)),
        ("min_tokens", json!(1)),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({})),
        ("prediction", json!({})),
        ("reasoning_effort", json!("high")),
        ("temperture", json!(0.5)),
        ("made_up", json!({"deep": [1]})),
    ] {
        let error = parse(json!({name: value})).unwrap_err();
        assert_eq!(error.code.as_deref(), Some("unsupported_parameter"), "{name}");
        assert_eq!(error.param.as_deref(), Some(name));
        assert!(error.message.contains(name), "{error}");
    }
}

#[test]
fn top_p_is_a_share() {
    for (given, expected) in [
        (json!({}), 1_000_000),
        (json!({"top_p": 1}), 1_000_000),
        (json!({"top_p": 0.9}), 900_000),
        (json!({"top_p": 1e-9}), 1),
        (json!({"top_p": 0}), 1),
    ] {
        let sampling = parse(given.clone())
            .unwrap()
            .sampling(1, Unit::Token, &limits(100, 50), &SamplingDefaults::default())
            .unwrap();
        assert_eq!(sampling.top_p_micros, expected, "{given}");
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
    let many_stops = json!(["a", "b", "c", "d", "e"]);
    for (extra, param) in [
        (json!({"model": null}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"model": "x".repeat(257)}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": vec![json!({"role": "user", "content": ""}); 1_025]}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"role": "wizard", "content": ""}]}), "messages[0].role"),
        (json!({"messages": [{"role": "tool", "content": ""}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]}), "messages[0].content[0].type"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
        (json!({"messages": image}), "messages[0].content[0].type"),
        (
            json!({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}),
            "messages[0].tool_calls",
        ),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_k": 0}), "top_k"),
        (json!({"top_k": 65}), "top_k"),
        (json!({"top_k": 1.5}), "top_k"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_p": 1.1}), "top_p"),
        (json!({"top_p": "half"}), "top_p"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"n": "1"}), "n"),
        (json!({"logprobs": 3}), "logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"top_logprobs": 5}), "top_logprobs"),
        (json!({"logprobs": false, "top_logprobs": 5}), "top_logprobs"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_completion_tokens"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"seed": u64::MAX}), "seed"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": 7}), "stop"),
        (json!({"stop": many_stops}), "stop"),
        (json!({"stop": "x".repeat(257)}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": {}}), "stream_options"),
        (json!({"stream": true, "stream_options": 7}), "stream_options"),
        (json!({"stream": true, "stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
    ] {
        let error = parse(extra.clone()).unwrap_err();
        assert_eq!(error.status.as_u16(), 400, "{extra}");
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
    }
}

fn text(extra: Value) -> Result<PromptRequest, ApiError> {
    let mut request = json!({"model": "m", "prompt": "once"});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    PromptRequest::parse(&serde_json::to_vec(&request).unwrap(), Shape::Text)
}

#[test]
fn texts() {
    let request = text(json!({})).unwrap();
    assert_eq!((&request.prompt, request.max_tokens), (&Prompt::Text("once".into()), Some(16)));
    assert_eq!(request.to_body(), br#"{"model":"m","prompt":"once","max_tokens":16}"#);
    for (extra, prompt) in [
        (json!({"prompt": ["upon"], "echo": false, "suffix": null, "best_of": 1}), "upon"),
        (json!({"prompt": ""}), ""),
        (json!({"prompt": "\u{0}<s>"}), "\u{0}<s>"),
    ] {
        assert_eq!(text(extra).unwrap().prompt, Prompt::Text(prompt.into()));
    }
    for (extra, param, about) in [
        (json!({"prompt": null}), "prompt", "prompt"),
        (json!({"prompt": 7}), "prompt", "text"),
        (json!({"prompt": [1, 2]}), "prompt", "one prompt"),
        (json!({"prompt": [[1, 2]]}), "prompt", "token ids"),
        (json!({"prompt": ["a", "b"]}), "prompt", "one prompt"),
        (json!({"prompt": []}), "prompt", "one prompt"),
        (json!({"echo": true}), "echo", "alone"),
        (json!({"suffix": "end"}), "suffix", "end"),
        (json!({"best_of": 2}), "best_of", "'n'"),
        (json!({"logprobs": true}), "logprobs", "whole number"),
        (json!({"logprobs": 21}), "logprobs", "20"),
        (json!({"messages": []}), "messages", "not known"),
    ] {
        let error = text(extra).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
        assert!(error.message.contains(about), "{error}");
    }
    assert!(parse(json!({"prompt": "once"})).is_err());
}

#[test]
fn inputs_of_vectors() {
    let read = |extra: Value| {
        let mut request = json!({"model": "m", "input": "once"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        PromptRequest::parse(&serde_json::to_vec(&request).unwrap(), Shape::Embeddings)
    };
    let request = read(json!({"user": "u", "encoding_format": "base64", "dimensions": null})).unwrap();
    assert_eq!((&request.prompt, request.encoding), (&Prompt::Inputs(vec!["once".into()]), Encoding::Base64));
    assert_eq!(request.to_body(), br#"{"model":"m","input":["once"]}"#);
    assert!(request.check_purpose(true).is_ok() && request.check_purpose(false).is_err());
    assert!(parse(json!({})).unwrap().check_purpose(false).is_ok());
    assert!(parse(json!({})).unwrap().check_purpose(true).unwrap_err().message.contains("embeddings"));
    let several = read(json!({"input": ["a", " "], "encoding_format": "float"})).unwrap();
    assert_eq!(PromptRequest::parse(&several.to_body(), Shape::Embeddings).unwrap(), several);
    for (extra, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": [[1, 2]]}), "input"),
        (json!({"input": ["a", ""]}), "input[1]"),
        (json!({"input": vec!["a"; 2_049]}), "input"),
        (json!({"encoding_format": "int8"}), "encoding_format"),
        (json!({"dimensions": 64}), "dimensions"),
        (json!({"n": 1}), "n"),
        (json!({"stream": true}), "stream"),
    ] {
        let error = read(extra.clone()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{extra}: {error}");
    }
}

#[test]
fn log_probabilities() {
    for (extra, top) in [
        (json!({}), None),
        (json!({"logprobs": false, "top_logprobs": 0}), None),
        (json!({"logprobs": true}), Some(0)),
        (json!({"logprobs": true, "top_logprobs": 20}), Some(20)),
    ] {
        let request = parse(extra).unwrap();
        assert_eq!(request.top_logprobs, top);
        assert!(request.check_engine(true).is_ok());
        let refused = request.check_engine(false).err().and_then(|error| error.param);
        assert_eq!(refused.as_deref(), top.map(|_| "logprobs"));
    }
    assert_eq!(text(json!({"logprobs": 0})).unwrap().top_logprobs, Some(0));
    assert_eq!(
        text(json!({"logprobs": 5})).unwrap().to_body(),
        br#"{"model":"m","prompt":"once","max_tokens":16,"logprobs":5}"#
    );
}

#[test]
fn bodies_that_are_no_request() {
    for body in ["", "{", "[]", "7", "null", "{\"model\":\"m\"} x", &"[".repeat(1_000)] {
        let error = PromptRequest::parse(body.as_bytes(), Shape::Chat).unwrap_err();
        assert_eq!(error.code.as_deref(), Some("malformed_body"), "{body}");
    }
    let error = PromptRequest::parse(&vec![b' '; MAX_REQUEST_BYTES + 1], Shape::Text).unwrap_err();
    assert_eq!(error.status.as_u16(), 413);
}

#[test]
fn sampling_parameters() {
    let request = parse(json!({"temperature": 0.7, "top_k": 5, "max_tokens": 10, "stop": "x"})).unwrap();
    let sampling = request.sampling(20, Unit::Token, &limits(100, 50), &SamplingDefaults::default()).unwrap();
    let expected = Sampling {
        temperature_micros: 700_000,
        top_k: 5,
        top_p_micros: 1_000_000,
        max_tokens: 10,
        stop: vec!["x".to_owned()],
    };
    assert_eq!(sampling, expected);

    let request = parse(json!({})).unwrap();
    let sampling = request.sampling(20, Unit::Token, &limits(100, 50), &SamplingDefaults::default()).unwrap();
    assert_eq!((sampling.temperature_micros, sampling.top_k, sampling.max_tokens), (1_000_000, 64, 50));
}

#[test]
fn the_answer_is_limited_by_request_quote_and_context() {
    for (asked, prompt, context, output, expected) in [
        (json!({}), 10, 100, 50, 50),
        (json!({}), 70, 100, 50, 30),
        (json!({"max_tokens": 7}), 70, 100, 50, 7),
        (json!({"max_tokens": 4_000_000_000_u32}), 99, 100, 50, 1),
    ] {
        let request = parse(asked).unwrap();
        let sampling = request
            .sampling(prompt, Unit::Token, &limits(context, output), &SamplingDefaults::default())
            .unwrap();
        assert_eq!(sampling.max_tokens, expected);
    }
    for prompt in [100, 101, u32::MAX] {
        let error = parse(json!({}))
            .unwrap()
            .sampling(prompt, Unit::Token, &limits(100, 50), &SamplingDefaults::default())
            .unwrap_err();
        assert_eq!(error.code.as_deref(), Some("context_length_exceeded"));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..256)) {
        for shape in [Shape::Chat, Shape::Text, Shape::Embeddings] {
            let _ = PromptRequest::parse(&body, shape);
        }
    }

    #[test]
    fn arbitrary_members_never_panic(name in "[a-z_]{1,20}", text in "\\PC{0,20}", number: f64) {
        for value in [json!(text), json!(number), json!([text]), json!({ &name: number })] {
            let _ = parse(json!({ &name: value }));
        }
    }

    #[test]
    fn what_is_written_is_read(
        temperature in prop::option::of(0.0f64..=2.0),
        top_k in prop::option::of(1u8..=64),
        top_p in prop::option::of(0.0f64..1.0),
        seed: Option<i64>,
        max_tokens in prop::option::of(1u32..),
        stop in prop::collection::vec("\\PC{1,20}", 0..4),
        top_logprobs in prop::option::of(0u8..=20),
        n in 1u32..=16,
        is_chat: bool,
        content in "\\PC{0,40}",
    ) {
        let prompt = match is_chat {
            true => Prompt::Messages(vec![Message { role: Role::System, content }]),
            false => Prompt::Text(content),
        };
        let max_tokens = if is_chat { max_tokens } else { Some(max_tokens.unwrap_or(16)) };
        let request = PromptRequest {
            temperature, top_k, top_p, seed, max_tokens, stop, top_logprobs, n, prompt,
            stream: true,
            stream_options: Some(StreamOptions { include_usage: true }),
            model: "m".into(),
            encoding: Encoding::Float,
        };
        prop_assert_eq!(PromptRequest::parse(&request.to_body(), request.shape()).unwrap(), request);
    }
}
