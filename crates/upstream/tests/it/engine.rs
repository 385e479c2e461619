//! Answers, good ones and bad ones.

use crate::peer::{Asked, DONE, Peer, Step, end, events, json, more, text};
use gristmill_audit::Seed;
use gristmill_engine::{Condition, Done, Engine as _, Event, Job, Prompt, Replay, Source, StartError};
use gristmill_tokenizer::ChatMessage;
use gristmill_types::{Finish, Sampling};
use gristmill_upstream::{ApiKey, Limit, Options, Patience, Upstream};
use serde_json::{Value, json as value};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt as _;

const SHORT: Patience = Patience { first: Duration::from_millis(400), between: Duration::from_millis(200) };

fn options() -> Options {
    Options {
        model: "tiny".into(),
        context_bytes: 1_000,
        context_tokens: None,
        explains: true,
        completes: true,
        limit: Limit::MaxTokens,
        max_running: 2,
        patience: SHORT,
    }
}

fn engine_with(peer: &Peer, key: Option<&str>, options: Options) -> Upstream {
    let key = key.map(|key| ApiKey::new(key).unwrap());
    Upstream::new(peer.url.parse().unwrap(), key, options).unwrap()
}

fn engine(peer: &Peer) -> Upstream {
    engine_with(peer, None, options())
}

fn sampling(max_tokens: u32, stop: &[&str]) -> Sampling {
    let stop = stop.iter().map(|text| (*text).to_owned()).collect();
    Sampling { temperature_micros: 700_000, top_k: 64, top_p_micros: 1_000_000, max_tokens, stop }
}

fn job(engine: &Upstream, sampling: Sampling) -> Job {
    let messages = vec![ChatMessage { role: "user".into(), content: "hello".into() }];
    Job {
        prompt_ids: engine.tokenizer().encode_chat(&messages).unwrap(),
        sampling,
        seed: Seed::new([7; 32]),
        window: 64,
        stop_at_eos: true,
        top_logprobs: None,
        source: Some(Source { prompt: Prompt::Chat(messages), top_p: None, top_k: None, seed: None }),
    }
}

/// The whole answer: its text, and its end. Ids are the bytes that were counted.
async fn answer(engine: &Upstream, job: Job) -> (String, Done) {
    let mut generation = engine.start(job).unwrap();
    let (mut all, mut bytes) = (String::new(), Vec::new());
    loop {
        match generation.next().await.unwrap() {
            Event::Piece { ids, text, .. } => {
                assert!(ids.len() <= 16, "a piece is a part of a window");
                bytes.extend(ids.iter().map(|id| u8::try_from(*id).unwrap()));
                all.push_str(&text);
            }
            Event::Done(done) => {
                assert_eq!(done.output_tokens as usize, bytes.len());
                assert!(String::from_utf8(bytes).unwrap().starts_with(&all));
                return (all, done);
            }
        }
    }
}

async fn of(steps: Vec<Step>) -> (String, Done) {
    let peer = Peer::always(steps).await;
    let engine = engine(&peer);
    answer(&engine, job(&engine, sampling(100, &[]))).await
}

#[tokio::test]
async fn answers_in_all_the_ways_of_servers() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":999,\"completion_tokens\":999}}\n\n";
    let reasoning = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"I wonder\"}}]}\n\n";
    let crlf = text("hello").replace('\n', "\r\n") + &end("stop").replace('\n', "\r\n");
    let one = text("hello").replace("data: ", "data:");
    for (name, steps) in [
        ("plain", vec![events(&[role, &text("hel"), &text("lo"), &end("stop"), DONE])]),
        ("without [DONE]", vec![events(&[&text("hello"), &end("stop")])]),
        ("with usage", vec![events(&[&text("hello"), &end("stop"), usage, DONE])]),
        (
            "comments",
            vec![events(&[": keep-alive\n\n", &text("hel"), ": ping\n\n", &text("lo"), &end("stop")])],
        ),
        ("CR LF", vec![events(&[&crlf])]),
        ("no space", vec![events(&[&one, &end("stop")])]),
        (
            "other events",
            vec![events(&["event: ping\ndata: {}\n\nid: 7\nretry: 1\n\n", &text("hello"), &end("stop")])],
        ),
        ("reasoning", vec![events(&[reasoning, reasoning, &text("hello"), &end("stop"), DONE])]),
        (
            "end with text",
            vec![events(&[
                "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"},\"finish_reason\":\"stop\"}]}\n\n",
            ])],
        ),
        ("cut anywhere", {
            let all = [text("hel"), text("lo"), end("stop")].concat();
            let mut steps = vec![events(&[])];
            for part in all.as_bytes().chunks(7) {
                steps.extend([Step::Send(part.to_vec()), Step::Pause(Duration::from_millis(1))]);
            }
            steps
        }),
        (
            "whole",
            vec![json("200 OK", r#"{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}"#)],
        ),
        ("whole, no reason", vec![json("200 OK", r#"{"choices":[{"message":{"content":"hello"}}]}"#)]),
        (
            "goes on after the end",
            vec![
                events(&[&text("hello"), &end("stop"), &text(" and more")]),
                Step::Repeat(text("more").into_bytes(), Duration::from_millis(1)),
            ],
        ),
        (
            "breaks off after the end",
            vec![
                Step::Send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
                        .to_vec(),
                ),
                more(&[&text("hello"), &end("stop")]),
            ],
        ),
    ] {
        let (text, done) = of(steps).await;
        assert_eq!((text.as_str(), done.error), ("hello", None), "{name}");
        assert_eq!((done.finish, done.output_tokens, done.prompt_tokens), (Finish::Stop, 5, 12), "{name}");
    }
}

#[tokio::test]
async fn failures_are_told_and_what_came_before_stands() {
    let huge = format!("data: {}\n\n", "x".repeat(2 << 20));
    let reset = Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nfff\r\n"
            .to_vec(),
    );
    let hello = text("hello");
    for (name, steps, text, words) in [
        (
            "an error in its midst",
            vec![events(&[&hello, "data: {\"error\":{\"message\":\"CUDA\"}}\n\n"])],
            "hello",
            "CUDA",
        ),
        ("dies", vec![events(&[&hello])], "hello", "broke off"),
        ("dies in an event", vec![events(&[&hello, &hello[..9]])], "hello", "broke off"),
        ("dies in a chunk", vec![reset, more(&[&hello])], "hello", "body"),
        ("says nothing", vec![events(&[])], "", "broke off"),
        ("huge line", vec![events(&[&hello, &huge])], "hello", "more than 1048576 bytes"),
        ("[DONE] alone", vec![events(&[&hello, DONE])], "hello", "without saying why"),
        ("no JSON", vec![events(&[&hello, "data: oops\n\n"])], "hello", "no JSON"),
        ("abort", vec![events(&[&hello, &end("abort")])], "hello", "error"),
        ("hangs", vec![Step::Hang], "", "within 0.4 s"),
        (
            "hangs with comments",
            vec![events(&[]), Step::Repeat(b": ping\n\n".to_vec(), Duration::from_millis(20))],
            "",
            "within 0.4 s",
        ),
        (
            "hangs with events",
            vec![events(&[]), Step::Repeat(b"data: {}\n\n".to_vec(), Duration::from_millis(20))],
            "",
            "within 0.4 s",
        ),
        ("hangs in its midst", vec![events(&[&hello]), Step::Hang], "hello", "nothing more within 0.2 s"),
        (
            "hangs in its midst with comments",
            vec![events(&[&hello]), Step::Repeat(b": ping\n\n".to_vec(), Duration::from_millis(20))],
            "hello",
            "nothing more",
        ),
        (
            "busy",
            vec![json("503 Service Unavailable", r#"{"error":"loading model"}"#)],
            "",
            "503 Service Unavailable: loading model",
        ),
        ("refuses", vec![json("400 Bad Request", r#"{"error":{"message":"too long"}}"#)], "", "too long"),
        ("is no API", vec![json("200 OK", r#"{"hello":"world"}"#)], "", "no choice"),
        ("is no JSON", vec![json("200 OK", "<html>")], "", "neither events nor JSON"),
        (
            "moves",
            vec![Step::Send(
                b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            )],
            "",
            "302",
        ),
        ("is no HTTP", vec![more(&["SSH-2.0\r\n\r\n"])], "", "upstream"),
    ] {
        let (found, done) = of(steps).await;
        let error = done.error.unwrap_or_default();
        assert_eq!((found.as_str(), done.finish), (text, Finish::Error), "{name}: {error}");
        assert!(error.contains(words), "{name}: {error}");
        assert_eq!(done.output_tokens as usize, text.len(), "{name}");
    }
    // Nobody there.
    let peer = Peer::always(Vec::new()).await;
    let gone = Upstream::new("http://127.0.0.1:1".parse().unwrap(), None, options()).unwrap();
    let (_, done) = answer(&gone, job(&gone, sampling(100, &[]))).await;
    assert!(done.error.is_some_and(|error| error.contains("refused")));
    drop(peer);
}

/// By its last answer; one that could not be reached is found again without a request.
#[tokio::test]
async fn a_server_that_fails_is_known_until_it_answers() {
    let refused = vec![json("400 Bad Request", r#"{"error":{"message":"too long"}}"#)];
    let peer = Peer::start(move |asked| match asked.body["seed"].as_u64() {
        Some(1) => vec![events(&[&text("hello")])],
        Some(2) => refused.clone(),
        _ => vec![events(&[&text("hello"), &end("stop"), DONE])],
    })
    .await;
    let engine = engine(&peer);
    let ask = async |seed| {
        let mut job = job(&engine, sampling(100, &[]));
        job.source.as_mut().unwrap().seed = Some(seed);
        answer(&engine, job).await.1.finish
    };
    let mut health = engine.health();
    assert_eq!((ask(2).await, *health.borrow()), (Finish::Error, None), "it may be right to refuse");
    assert_eq!((ask(1).await, *health.borrow_and_update()), (Finish::Error, Some("broke off")));
    assert_eq!(engine.condition(), Condition::Failing, "only the next request can tell");
    assert_eq!((ask(2).await, *health.borrow()), (Finish::Error, Some("broke off")));
    assert_eq!((ask(3).await, *health.borrow()), (Finish::Stop, None));
    assert_eq!(engine.condition(), Condition::Well);

    // One that is killed in the middle of an answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{head}{}", text("hello")).as_bytes()).await.unwrap();
    });
    let gone = Upstream::new(format!("http://127.0.0.1:{port}").parse().unwrap(), None, options()).unwrap();
    let mut health = gone.health();
    for kind in ["broke off", "unreachable"] {
        answer(&gone, job(&gone, sampling(100, &[]))).await;
        assert_eq!(*health.borrow_and_update(), Some(kind));
    }
    assert_eq!(gone.condition(), Condition::Down, "it is looked for");
    let back = Peer::on(port, |_| vec![json("200 OK", "{}")]).await;
    tokio::time::timeout(Duration::from_secs(60), health.changed()).await.unwrap().unwrap();
    assert_eq!((*health.borrow(), back.asked()[0].line.as_str()), (None, "GET /v1/models"));
    assert_eq!(gone.condition(), Condition::Well);
    back.end().await;
    answer(&gone, job(&gone, sampling(100, &[]))).await;
    assert_eq!(gone.condition(), Condition::Down);
}

#[tokio::test]
async fn a_reader_that_goes_away_says_nothing_of_the_server() {
    let long = text("on and ").repeat(120);
    let peer = Peer::always(vec![events(&[&long]), Step::Hang]).await;
    let engine = engine(&peer);
    for _ in 0..50 {
        let mut generation = engine.start(job(&engine, sampling(900, &[]))).unwrap();
        assert!(matches!(generation.next().await, Some(Event::Piece { .. })));
        // Until the server's words wait for their reader.
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(generation);
        while engine.load().running > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*engine.health().borrow(), None);
    }
}

#[tokio::test]
async fn what_is_no_text_is_replaced() {
    let mut bytes = text("hallo").into_bytes();
    let at = bytes.windows(5).position(|five| five == b"hallo").unwrap();
    bytes[at + 1] = 0xff;
    let (found, done) = of(vec![events(&[]), Step::Send(bytes), more(&[&end("stop")])]).await;
    assert_eq!((found.as_str(), done.output_tokens, done.error), ("h\u{fffd}llo", 7, None));
}

#[tokio::test]
async fn answers_end_at_limits_and_stops() {
    for (limit, stop, text_found, finish, bytes) in [
        (3, &[][..], "жж"[..2].to_owned(), Finish::Length, 2),
        (8, &[], "жжжж".to_owned(), Finish::Length, 8),
        (100, &["end"], "жжжжж ".to_owned(), Finish::Stop, 14),
    ] {
        let peer = Peer::always(vec![
            events(&[&text("жжжжж en"), &text("d of it")]),
            Step::Repeat(text(" and on").into_bytes(), Duration::from_millis(1)),
        ])
        .await;
        let engine = engine(&peer);
        let (found, done) = answer(&engine, job(&engine, sampling(limit, stop))).await;
        assert_eq!((found, done.finish, done.output_tokens), (text_found, finish, bytes));
        // It goes on, but nobody listens any more.
        peer.closed().await;
        assert_eq!(engine.load().running, 0);
    }
}

#[tokio::test]
async fn a_dropped_answer_closes_the_connection() {
    for steps in [
        vec![Step::Hang],
        vec![events(&[&text("a")]), Step::Hang],
        vec![events(&[]), Step::Repeat(text("a").into_bytes(), Duration::from_millis(1))],
    ] {
        let peer = Peer::always(steps).await;
        let patient = Patience { first: Duration::from_secs(60), between: Duration::from_secs(60) };
        let engine = engine_with(&peer, None, Options { patience: patient, ..options() });
        let mut generation = engine.start(job(&engine, sampling(100, &[]))).unwrap();
        drop(tokio::time::timeout(Duration::from_millis(100), generation.next()).await);
        assert_eq!(engine.load().running, 1);
        drop(generation);
        peer.closed().await;
        assert_eq!(engine.load().running, 0);
    }
}

/// A reader that pays late does not make a lively upstream late.
#[tokio::test]
async fn a_slow_reader_is_waited_for() {
    let mut parts: Vec<String> = (0..200).map(|n| text(&format!("{n:04}"))).collect();
    parts.push(end("stop"));
    let all: Vec<&str> = parts.iter().map(String::as_str).collect();
    let peer = Peer::always(vec![events(&all)]).await;
    let engine = engine(&peer);
    let mut generation = engine.start(job(&engine, sampling(900, &[]))).unwrap();
    tokio::time::sleep(SHORT.first * 2).await;
    let mut count = 0;
    loop {
        match generation.next().await.unwrap() {
            Event::Piece { ids, .. } => count += ids.len(),
            Event::Done(done) => {
                assert_eq!((done.error, count), (None, 800));
                return;
            }
        }
    }
}

async fn body_of(options: Options, change: impl FnOnce(&mut Job)) -> Asked {
    let peer = Peer::always(vec![events(&[&text("x"), &end("stop")])]).await;
    let engine = engine_with(&peer, Some("sk-secret"), options);
    let mut job = job(&engine, sampling(50, &[]));
    change(&mut job);
    answer(&engine, job).await;
    peer.asked().remove(0)
}

#[tokio::test]
async fn parameters_are_passed_on() {
    let asked = body_of(options(), |_| {}).await;
    assert_eq!(asked.line, "POST /v1/chat/completions");
    assert!(asked.head.contains("authorization: Bearer sk-secret"), "{}", asked.head);
    let expected = value!({
        "model": "tiny", "stream": true, "temperature": 0.7, "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
    });
    assert_eq!(asked.body, expected);
    let asked = body_of(options(), |job| {
        job.sampling.stop = vec!["end".into()];
        let source = job.source.as_mut().unwrap();
        (source.top_p, source.top_k, source.seed) = (Some(0.5), Some(40), Some(-7));
    })
    .await;
    for (name, expected) in
        [("top_p", value!(0.5)), ("top_k", value!(40)), ("seed", value!(-7)), ("stop", value!(["end"]))]
    {
        assert_eq!(asked.body[name], expected);
    }
    let asked = body_of(options(), |job| {
        job.source.as_mut().unwrap().prompt = Prompt::Text("once upon".into());
    })
    .await;
    assert_eq!((asked.line.as_str(), &asked.body["prompt"]), ("POST /v1/completions", &value!("once upon")));
    assert_eq!(asked.body["messages"], Value::Null);
    assert_eq!(asked.body["max_tokens"], 50);

    // A limit beyond the context says nothing; other servers call it otherwise, or know none.
    for (context_tokens, limit, name, said) in [
        (Some(51), Limit::MaxTokens, "max_tokens", value!(50)),
        (Some(50), Limit::MaxTokens, "max_tokens", Value::Null),
        (None, Limit::MaxCompletionTokens, "max_completion_tokens", value!(50)),
        (None, Limit::MaxCompletionTokens, "max_tokens", Value::Null),
        (None, Limit::Unknown, "max_tokens", Value::Null),
    ] {
        let asked = body_of(Options { context_tokens, limit, ..options() }, |_| {}).await;
        assert_eq!(asked.body[name], said, "{context_tokens:?} {limit:?}");
    }
}

/// Where a server never says why, the mark at the end of the stream has to do.
#[tokio::test]
async fn the_mark_is_the_end_where_nothing_else_is() {
    let peer = Peer::always(vec![events(&[&text("hello"), DONE])]).await;
    let engine = engine_with(&peer, None, Options { explains: false, ..options() });
    let (found, done) = answer(&engine, job(&engine, sampling(100, &[]))).await;
    assert_eq!((found.as_str(), done.finish, done.error), ("hello", Finish::Stop, None));
}

#[tokio::test]
async fn a_limit_that_is_refused_is_left_out() {
    let peer = Peer::start(|asked| {
        if asked.body["max_tokens"].is_null() {
            vec![events(&[&text("hello"), &end("stop")])]
        } else {
            vec![json("400 Bad Request", r#"{"error":{"message":"max_tokens is too large"}}"#)]
        }
    })
    .await;
    let engine = engine(&peer);
    let (found, done) = answer(&engine, job(&engine, sampling(3, &[]))).await;
    assert_eq!((found.as_str(), done.finish, done.error), ("hel", Finish::Length, None));
    assert_eq!(peer.asked().len(), 2);
}

/// A text's limit is asked for whole, as its tokens are fewer than its bytes; where that is refused, what surely
/// has room after the twelve bytes of the job's prompt; and at the end none.
#[tokio::test]
async fn limits_of_texts() {
    for (context_tokens, taken, asked) in [
        (None, 50, vec![value!(50)]),
        (Some(30), 50, vec![value!(50)]),
        (Some(30), 49, vec![value!(50), value!(18)]),
        (Some(30), 17, vec![value!(50), value!(18), Value::Null]),
        // Nothing is left, or more than is wanted: there is no smaller one.
        (Some(12), 17, vec![value!(50), Value::Null]),
        (Some(62), 17, vec![value!(50), Value::Null]),
        (None, 17, vec![value!(50), Value::Null]),
    ] {
        let peer = Peer::start(move |asked| {
            if asked.body["max_tokens"].as_u64().is_none_or(|limit| limit <= taken) {
                vec![events(&["data: {\"choices\":[{\"text\":\"hello\",\"finish_reason\":\"stop\"}]}\n\n"])]
            } else {
                vec![json("422 Unprocessable Entity", r#"{"detail":"max_tokens is too large"}"#)]
            }
        })
        .await;
        let engine = engine_with(&peer, None, Options { context_tokens, ..options() });
        let mut job = job(&engine, sampling(50, &[]));
        job.source.as_mut().unwrap().prompt = Prompt::Text("hello".into());
        let (found, done) = answer(&engine, job).await;
        assert_eq!((found.as_str(), done.error), ("hello", None), "{context_tokens:?} {taken}");
        let limits: Vec<Value> = peer.asked().iter().map(|asked| asked.body["max_tokens"].clone()).collect();
        assert_eq!(limits, asked, "{context_tokens:?} {taken}");
    }
}

#[tokio::test]
async fn the_key_is_never_shown() {
    let peer =
        Peer::always(vec![json("401 Unauthorized", r#"{"error":{"message":"Incorrect key: sk-secret"}}"#)])
            .await;
    let engine = engine_with(&peer, Some("sk-secret"), options());
    let (_, done) = answer(&engine, job(&engine, sampling(3, &[]))).await;
    let shown = format!("{engine:?} {done:?}");
    assert!(!shown.contains("secret") && shown.contains("Incorrect key: [key]"), "{shown}");
}

#[tokio::test]
async fn jobs_are_checked_and_bounded() {
    let peer = Peer::always(vec![Step::Hang]).await;
    let engine = engine(&peer);
    let refused = |job: Job| engine.start(job).map(drop).unwrap_err().code();
    let good = || job(&engine, sampling(9, &[]));
    assert_eq!(refused(Job { prompt_ids: Vec::new(), ..good() }), "empty_prompt");
    assert_eq!(refused(Job { prompt_ids: vec![7; 1_000], ..good() }), "context_length_exceeded");
    assert_eq!(refused(Job { sampling: sampling(0, &[]), ..good() }), "no_output");
    assert_eq!(refused(Job { sampling: sampling(9, &[""]), ..good() }), "bad_stop");
    assert_eq!(refused(Job { source: None, ..good() }), "unsupported");
    let chats = engine_with(&peer, None, Options { completes: false, ..options() });
    let mut text = good();
    text.source.as_mut().unwrap().prompt = Prompt::Text("once".into());
    assert_eq!(chats.start(text).map(drop).unwrap_err().code(), "unsupported");
    assert_eq!(refused(Job { top_logprobs: Some(0), ..good() }), "unsupported");
    let (first, _second) = (engine.start(good()).unwrap(), engine.start(good()).unwrap());
    assert!(matches!(engine.start(good()), Err(StartError::Busy { running: 2, queued: 0 })));
    drop(first);
    while engine.load().running == 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(engine.start(good()).is_ok());
    let replay = Replay {
        prompt_ids: vec![1],
        output_ids: vec![2],
        sampling: sampling(9, &[]),
        seed: Seed::new([7; 32]),
    };
    assert_eq!(engine.recompute(replay).map(drop).unwrap_err().code(), "unsupported");
    let info = Arc::new(engine.info().clone());
    assert!(!info.exact && info.class.starts_with("upstream/") && info.vocab == 256);
}
