//! Tests of the event stream: framing, tolerance, bounds.

use super::*;
use proptest::prelude::*;

fn event(name: &str, data: &str) -> Event {
    Event { name: name.to_owned(), data: data.to_owned() }
}

fn read_all(bytes: &[u8]) -> Vec<Event> {
    let mut reader = Reader::default();
    reader.feed(bytes).unwrap();
    std::iter::from_fn(|| reader.next_event()).collect()
}

#[test]
fn reads_what_servers_send() {
    for (text, expected) in [
        ("data: a\n\n", vec![event("", "a")]),
        ("data:a\r\n\r\n", vec![event("", "a")]),
        ("data: a\r\rdata: b\r\r", vec![event("", "a"), event("", "b")]),
        ("data:  two spaces\n\n", vec![event("", " two spaces")]),
        ("event: x\ndata: a\ndata: b\n\n", vec![event("x", "a\nb")]),
        ("data\n\n", vec![event("", "")]),
        ("data\ndata\n\n", vec![event("", "\n")]),
        (": comment\n\nid: 7\nretry: 3\nweird: x\n\ndata: a\n\n", vec![event("", "a")]),
        ("event: lost\n\ndata: a\n\n", vec![event("", "a")]),
        ("\u{feff}data: a\n\n", vec![event("", "a")]),
        ("\n\n\n", vec![]),
        ("data: cut off", vec![]),
        ("data: cut off\n", vec![]),
    ] {
        assert_eq!(read_all(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    assert_eq!(read_all(b"data: a\xffb\n\n"), vec![event("", "a\u{fffd}b")]);
}

#[test]
fn an_event_over_the_limit_is_refused_however_it_comes() {
    let limit = 32;
    let one_line = [b"data: ".to_vec(), vec![b'x'; 100]].concat();
    let many_lines = b"data: xxxx\n".repeat(10);
    // Each of these bytes is shown as a character of three.
    let no_text = [b"data: ", &[0xff; 20][..], b"\n\n"].concat();
    for bytes in [one_line, many_lines, vec![b'x'; 33], no_text] {
        for step in [1, 7, bytes.len()] {
            let mut reader = Reader::with_limit(limit);
            let result = bytes.chunks(step).try_for_each(|chunk| reader.feed(chunk));
            assert_eq!(result, Err(TooLong { limit }));
        }
    }
    let mut reader = Reader::with_limit(limit);
    for _ in 0..100 {
        reader.feed(b"data: many short events\n\n").unwrap();
        assert!(reader.next_event().is_some());
    }
}

#[test]
fn formats() {
    assert_eq!(format("", "a"), "data: a\n\n");
    assert_eq!(format("x", "a\nb\r\nc\rd"), "event: x\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
    assert_eq!(format("x\nevent: y", ""), "event: xevent: y\ndata: \n\n");
    assert_eq!(read_all(&done()), vec![event("", DONE)]);
}

#[test]
fn content_types() {
    for (value, is) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("text/event-streams", false),
        ("application/json", false),
    ] {
        assert_eq!(is_event_stream(Some(&HeaderValue::from_static(value))), is, "{value}");
    }
    assert!(!is_event_stream(None));
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive() {
    let (sender, events) = futures::channel::mpsc::unbounded();
    let response = response(events, Duration::from_millis(5));
    assert!(is_event_stream(response.headers().get(header::CONTENT_TYPE)));
    let mut body = response.into_body().into_data_stream();
    // Nothing was sent, so the first thing to arrive can only be a sign of life.
    assert_eq!(body.next().await.unwrap().unwrap(), ": keep-alive\n\n");
    sender.unbounded_send(format("", "late")).unwrap();
    drop(sender);
    let rest: Vec<_> = body.map(|part| part.unwrap()).collect().await;
    assert_eq!(rest.last().unwrap(), "data: late\n\n");
}

#[tokio::test]
async fn a_stream_ends_after_its_first_error() {
    let parts = vec![Ok("data: a\n"), Ok("\ndata: b\n\n"), Err("reset"), Ok("data: c\n\n")];
    let read: Vec<_> = read(futures::stream::iter(parts), 64).collect().await;
    assert_eq!(read.len(), 3);
    assert_eq!(read[1].as_ref().unwrap(), &event("", "b"));
    assert!(matches!(read[2], Err(ReadError::Transport("reset"))));
}

proptest! {
    #[test]
    fn cutting_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..512), cuts in 1usize..16) {
        let mut reader = Reader::default();
        for part in bytes.chunks(cuts) {
            reader.feed(part).unwrap();
        }
        let in_parts: Vec<_> = std::iter::from_fn(|| reader.next_event()).collect();
        prop_assert_eq!(in_parts, read_all(&bytes));
    }

    #[test]
    fn what_is_written_is_read(name in "[a-z-]{1,12}", lines in prop::collection::vec("[^\r\n]{0,20}", 1..4)) {
        let data = lines.join("\n");
        prop_assert_eq!(read_all(&format(&name, &data)), vec![event(&name, &data)]);
    }
}
