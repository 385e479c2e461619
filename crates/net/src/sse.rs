//! Server-sent events: written, kept alive, and read with a bound.
//!
//! The reader is our own, about a hundred lines: `eventsource-stream`, the well-kept crate for this,
//! holds an event of any length in memory and copies its buffer for each line, and a stream that we
//! pay for must not be able to exhaust us. It follows the WHATWG rules: lines end in LF, CR LF or CR,
//! comments and unknown fields are skipped, a blank line dispatches, and an event that the stream's
//! end cuts off is dropped, because half of an event must never be believed.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderValue, header};
use std::{collections::VecDeque, fmt::Write as _, time::Duration};

/// The last event of an OpenAI stream.
pub const DONE: &str = "[DONE]";
/// The largest event that is read, in bytes. A chunk of a chat answer is below one kibibyte.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// How often a silent stream says that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty where the stream names none, which means `message`.
    pub name: String,
    /// Its data; lines are joined with LF.
    pub data: String,
}

/// Formats an event. Line breaks in the data become several `data:` lines, so that no data can end
/// the event or start another; line breaks in the name are left out.
pub fn format(name: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len().saturating_add(name.len()).saturating_add(24));
    if !name.is_empty() {
        let name: String = name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let _ = writeln!(text, "event: {name}");
    }
    for line in data.split("\r\n").flat_map(|part| part.split(['\r', '\n'])) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
    Bytes::from(text)
}

/// The last event of an OpenAI stream, formatted.
pub fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// An answer that is a stream of events, each formatted by [`format`](fn@format). A comment goes out
/// whenever nothing else did for `keep_alive`, so that neither side takes a slow prompt for a dead
/// connection.
pub fn response<S>(events: S, keep_alive: Duration) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let events = Box::pin(events);
    let body = futures::stream::unfold(events, move |mut events| async move {
        match tokio::time::timeout(keep_alive, events.next()).await {
            Ok(Some(event)) => Some((Ok::<_, std::convert::Infallible>(event), events)),
            Ok(None) => None,
            Err(_) => Some((Ok(Bytes::from_static(b": keep-alive\n\n")), events)),
        }
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store, no-transform"));
    // Proxies of the nginx family would otherwise collect the stream before they pass it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Whether a content type says that the body is a stream of events.
pub fn is_event_stream(content_type: Option<&HeaderValue>) -> bool {
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// An event that is longer than the reader's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream holds an event of more than {limit} bytes")]
pub struct TooLong {
    /// The limit.
    pub limit: usize,
}

/// A reader of events, fed with bytes as they come.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
    first_line: bool,
    ready: VecDeque<Event>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::with_limit(MAX_EVENT_BYTES)
    }
}

impl Reader {
    /// A reader that refuses an event of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_cr: false,
            first_line: true,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes. At most the events that these bytes complete become ready, so what is
    /// held is bounded by one event and one read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, tail) = rest.split_at(end);
            let Some((&terminator, tail)) = tail.split_first() else { break };
            rest = tail;
            // The LF of a CR LF pair ends no line of its own.
            let paired = terminator == b'\n' && line.is_empty() && std::mem::take(&mut self.after_cr);
            if paired {
                continue;
            }
            self.push(line)?;
            self.after_cr = terminator == b'\r';
            self.end_line()?;
        }
        if !rest.is_empty() {
            self.push(rest)?;
        }
        Ok(())
    }

    /// The next complete event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let held = self.line.len().saturating_add(self.event.data.len());
        if held.saturating_add(bytes.len()) > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if !bytes.is_empty() {
            self.after_cr = false;
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), TooLong> {
        let bytes = std::mem::take(&mut self.line);
        let first = std::mem::replace(&mut self.first_line, false);
        let bytes = if first { bytes.strip_prefix(BOM).unwrap_or(&bytes) } else { &bytes };
        if bytes.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let line = String::from_utf8_lossy(bytes);
        // What stands for a byte that is no text is longer than the byte.
        if self.event.data.len().saturating_add(line.len()) > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments, ids and retry times have no use here: a paid stream is never resumed blindly.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(event);
        }
    }
}

/// Why a stream of events ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// An event was too long.
    #[error(transparent)]
    TooLong(TooLong),
    /// The connection failed.
    #[error("the stream broke off: {0}")]
    Transport(E),
}

/// The events of a stream of bytes. It ends after the first error.
pub fn read<S, B, E>(bytes: S, limit: usize) -> impl Stream<Item = Result<Event, ReadError<E>>>
where
    S: Stream<Item = Result<B, E>>,
    B: AsRef<[u8]>,
{
    let start = (Some(Box::pin(bytes)), Reader::with_limit(limit));
    futures::stream::unfold(start, |(mut source, mut reader)| async move {
        loop {
            if let Some(event) = reader.next_event() {
                return Some((Ok(event), (source, reader)));
            }
            let failure = match source.as_mut()?.next().await? {
                Err(error) => ReadError::Transport(error),
                Ok(bytes) => match reader.feed(bytes.as_ref()) {
                    Ok(()) => continue,
                    Err(error) => ReadError::TooLong(error),
                },
            };
            // Without a source the next turn ends the stream.
            return Some((Err(failure), (None, Reader::default())));
        }
    })
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
