//! Event streams: however the bytes are cut, the same events; what a plain reading of the whole gives;
//! and no event over the limit.

use gristmill_net::sse::{Event, Reader, format};

const LIMIT: usize = 256;

/// The first byte says how the rest is cut.
pub fn run(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = read(std::iter::once(bytes));
    let cut = usize::from(*cut).max(1);
    assert_eq!(read(bytes.chunks(cut)), whole, "cut into parts of {cut}");
    let (events, complete) = whole;
    for event in &events {
        assert!(event.data.len() <= LIMIT && event.name.len() <= LIMIT, "an event over the limit");
    }
    if complete {
        assert_eq!(events, plainly(bytes));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (name, data) = text.split_at(text.floor_char_boundary(text.len() / 4));
        let (found, complete) = read(std::iter::once(&*format(name, data)));
        let expected = Event {
            name: name.replace(['\r', '\n'], ""),
            data: data.replace("\r\n", "\n").replace('\r', "\n"),
        };
        assert!(!complete || found == [expected], "{found:?}");
    }
}

/// The events, and whether that was all.
fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, bool) {
    let mut reader = Reader::with_limit(LIMIT);
    let mut complete = true;
    for part in parts {
        if reader.feed(part).is_err() {
            complete = false;
            break;
        }
    }
    (std::iter::from_fn(|| reader.next_event()).collect(), complete)
}

/// The same from the whole text, without a bound.
fn plainly(bytes: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What no line break ends is not there yet.
    lines.pop();
    let (mut events, mut name, mut data) = (Vec::new(), "", Vec::new());
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if !data.is_empty() {
                    events.push(Event { name: name.to_owned(), data: data.join("\n") });
                }
                (name, data) = ("", Vec::new());
            }
            "event" => name = value,
            "data" => data.push(value),
            _ => {}
        }
    }
    events
}
