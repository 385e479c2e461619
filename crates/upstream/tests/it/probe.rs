//! What is found out of a server before it is sold.

use crate::peer::{Asked, DONE, Peer, Step, end, events, json, text};
use gristmill_upstream::{ApiKey, Limit, Patience, Report, UpstreamError, list_models, probe};
use std::time::Duration;

const SHORT: Patience = Patience { first: Duration::from_millis(400), between: Duration::from_millis(200) };
const ONE: &str = r#"{"object":"list","data":[{"id":"tiny","max_model_len":2048}]}"#;
const TWO: &str = r#"{"object":"list","data":[{"id":"tiny"},{"id":"large","meta":{"n_ctx":4096}}]}"#;

fn good() -> Step {
    events(&[&text("O"), &text("K"), &end("stop"), DONE])
}

/// A server that lists its models and answers chats.
fn server(models: &'static str, chat: Step) -> impl Fn(&Asked) -> Vec<Step> {
    move |asked| match asked.line.as_str() {
        "GET /v1/models" => vec![json("200 OK", models)],
        "POST /v1/chat/completions" => vec![chat.clone()],
        _ => vec![json("404 Not Found", r#"{"detail":"Not Found"}"#)],
    }
}

async fn of(peer: &Peer, wanted: Option<&str>) -> Result<Report, UpstreamError> {
    let key = ApiKey::new("sk-secret").unwrap();
    probe(&peer.url.parse().unwrap(), Some(&key), wanted, SHORT).await
}

#[tokio::test]
async fn a_usual_server() {
    let report = of(&Peer::start(server(ONE, good())).await, None).await.unwrap();
    assert_eq!((report.model.as_str(), report.context_tokens), ("tiny", Some(2048)));
    assert!(report.explains);
    assert!(report.streams && report.marks_end && !report.counts && !report.reasons && !report.completes);
    assert_eq!((report.limit, report.unlisted), (Limit::MaxTokens, None));
}

#[tokio::test]
async fn one_model_of_several() {
    let peer = Peer::start(server(TWO, good())).await;
    let report = of(&peer, Some("large")).await.unwrap();
    assert_eq!((report.model.as_str(), report.context_tokens), ("large", Some(4096)));
    assert_eq!(report.models, ["tiny", "large"]);
    let error = of(&peer, None).await.unwrap_err();
    assert!(error.to_string().contains("tiny, large"), "{error}");
    let error = of(&peer, Some("huge")).await.unwrap_err();
    assert!(error.to_string().contains("no model 'huge'"), "{error}");
    let empty = Peer::start(server(r#"{"data":[]}"#, good())).await;
    assert!(matches!(of(&empty, None).await, Err(UpstreamError::NoModel { .. })));
}

#[tokio::test]
async fn a_list_may_fail() {
    let script = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/models" => vec![json("500 Internal Server Error", r#"{"detail":"no cache"}"#)],
        "GET /props" => vec![json("200 OK", r#"{"default_generation_settings":{"n_ctx":512}}"#)],
        _ => vec![events(&[&text("OK"), &end("stop")])],
    };
    let peer = Peer::start(script).await;
    let report = of(&peer, Some("any")).await.unwrap();
    assert_eq!((report.model.as_str(), report.context_tokens), ("any", Some(512)));
    assert!(report.unlisted.is_some_and(|why| why.contains("no cache")) && !report.marks_end);
    assert!(report.completes);
    let error = of(&peer, None).await.unwrap_err();
    assert!(error.to_string().contains("has to be named"), "{error}");
}

#[tokio::test]
async fn ways_to_answer() {
    let whole = json("200 OK", r#"{"choices":[{"message":{"content":"OK"}}],"usage":{"total_tokens":3}}"#);
    let report = of(&Peer::start(server(ONE, whole)).await, None).await.unwrap();
    assert!(!report.streams && !report.marks_end && report.counts);
    let silent = events(&[&text("OK"), DONE]);
    let report = of(&Peer::start(server(ONE, silent)).await, None).await.unwrap();
    assert!(report.marks_end && !report.explains);
    let reasoning = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
    let thinks = events(&[reasoning, &end("length"), DONE]);
    let report = of(&Peer::start(server(ONE, thinks)).await, None).await.unwrap();
    assert!(report.streams && report.reasons);
    for (refused, limit) in
        [("max_tokens", Limit::MaxCompletionTokens), ("max_completion_tokens", Limit::Unknown)]
    {
        let script = move |asked: &Asked| match asked.line.as_str() {
            "GET /v1/models" => vec![json("200 OK", ONE)],
            _ if asked.body[refused].is_null() && asked.body["max_tokens"].is_null() => vec![good()],
            _ => vec![json("400 Bad Request", r#"{"error":{"message":"Unsupported parameter"}}"#)],
        };
        assert_eq!(of(&Peer::start(script).await, None).await.unwrap().limit, limit);
    }
}

#[tokio::test]
async fn servers_that_cannot_be_sold() {
    for (name, models, chat, words) in [
        (
            "refuses the chat",
            ONE,
            json("400 Bad Request", r#"{"error":{"message":"no template"}}"#),
            "no template",
        ),
        ("has no chat", ONE, json("404 Not Found", "Not Found"), "404"),
        ("fails", ONE, events(&["data: {\"error\":\"CUDA\"}\n\n"]), "CUDA"),
        ("breaks off", ONE, events(&[&text("O")]), "broke off"),
        ("is no API", ONE, json("200 OK", "{}"), "no choice"),
        ("hangs", ONE, Step::Hang, "within 0.4 s"),
        ("wants a key", ONE, json("401 Unauthorized", r#"{"error":"bad key sk-secret"}"#), "bad key [key]"),
        ("lists nonsense", "[]", good(), "has to be named"),
    ] {
        let error = of(&Peer::start(server(models, chat)).await, None).await.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{name}: {error:?}");
    }
    let denied = Peer::always(vec![json("403 Forbidden", "{}")]).await;
    assert!(matches!(of(&denied, None).await, Err(UpstreamError::Denied { .. })));
    let nobody = probe(&"http://127.0.0.1:1".parse().unwrap(), None, Some("x"), SHORT).await;
    assert!(matches!(nobody, Err(UpstreamError::Unreachable { .. })));
}

#[tokio::test]
async fn lists_alone() {
    let peer = Peer::start(server(TWO, good())).await;
    let soon = Duration::from_millis(300);
    assert_eq!(list_models(&peer.url.parse().unwrap(), soon).await.unwrap(), ["tiny", "large"]);
    for steps in [vec![Step::Hang], vec![json("200 OK", "{}")], vec![json("404 Not Found", "")], Vec::new()] {
        let peer = Peer::always(steps).await;
        assert!(list_models(&peer.url.parse().unwrap(), soon).await.is_err());
    }
}
