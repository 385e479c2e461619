//! Answers to OpenAI clients: whole, or in chunks.

use crate::{
    app::App,
    buy::{Bought, Purchase, Step},
    error::BuyError,
};
use bytes::Bytes;
use gristmill_net::{
    http::RequestId,
    openai::{ApiError, ChatAnswer, ChatChunk, ChatRequest, Delta, Extension, Usage},
    sse,
};
use gristmill_types::AccountId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;

/// Chunks that wait for a slow client at most. While they wait, nothing more is read from the
/// processor, and nothing more is paid.
const STREAM_BUFFER: usize = 16;

/// How long a client may take to read what is on its way to it.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// What an answer is headed with.
pub(crate) struct Heading {
    pub(crate) id: RequestId,
    pub(crate) created: u64,
    /// As the client asked for it.
    pub(crate) model: String,
    pub(crate) processor: AccountId,
    pub(crate) include_usage: bool,
}

impl Heading {
    pub(crate) fn new(app: &App, id: RequestId, request: &ChatRequest, processor: AccountId) -> Self {
        Self {
            id,
            created: app.now_ms() / 1_000,
            model: request.model.clone(),
            processor,
            include_usage: request.include_usage(),
        }
    }

    fn usage(bought: &Bought) -> Usage {
        Usage::new(bought.prompt_tokens, bought.completion_tokens, bought.unit, Some(bought.cost))
    }

    fn extension(&self, bought: &Bought) -> Extension {
        Extension { receipt: Some(bought.receipt), processor: Some(self.processor), ids: Vec::new() }
    }

    fn chunk(&self, delta: Delta) -> ChatChunk {
        ChatChunk::new(&self.id.for_chat(), self.created, &self.model, delta, None)
    }
}

/// The whole answer. `gone` resolves when the client goes away.
pub(crate) async fn whole(
    mut purchase: Purchase,
    heading: Heading,
    gone: impl Future<Output = ()>,
) -> Result<ChatAnswer, BuyError> {
    let mut gone = std::pin::pin!(gone);
    let mut text = String::new();
    loop {
        match purchase.next(&mut gone).await? {
            Step::Text(piece) => text.push_str(&piece),
            Step::End(bought) => {
                let id = heading.id.for_chat();
                let mut answer =
                    ChatAnswer::new(id, heading.created, heading.model.clone(), text, bought.finish);
                answer.usage = Some(Heading::usage(&bought));
                answer.gristmill = Some(heading.extension(&bought));
                return Ok(answer);
            }
        }
    }
}

/// The answer as a stream.
pub(crate) fn stream(purchase: Purchase, heading: Heading) -> axum::response::Response {
    let (events, stream) = mpsc::channel(STREAM_BUFFER);
    tokio::spawn(pump(purchase, heading, events).in_current_span());
    sse::response(ReceiverStream::new(stream), sse::KEEP_ALIVE)
}

async fn pump(mut purchase: Purchase, heading: Heading, events: mpsc::Sender<Bytes>) {
    let role = Delta { role: Some("assistant".to_owned()), content: Some(String::new()) };
    if events.send(heading.chunk(role).to_event()).await.is_err() {
        return;
    }
    loop {
        let last = match purchase.next(events.closed()).await {
            // The purchase is dropped, and with it the processor's stream.
            Err(BuyError::Gone) => return,
            Ok(Step::Text(text)) => {
                let chunk = heading.chunk(Delta { content: Some(text), role: None });
                // A client that stands still is one that went away.
                let sent = tokio::time::timeout(READER_PATIENCE, events.send(chunk.to_event())).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
                continue;
            }
            Ok(Step::End(bought)) => end(&heading, &bought),
            Err(error) => vec![sse::format("", &ApiError::from(error).body())],
        };
        for event in last.into_iter().chain([sse::done()]) {
            if events.send(event).await.is_err() {
                return;
            }
        }
        return;
    }
}

/// The last chunks. With `include_usage` the usage comes in a chunk of its own without choices, as
/// OpenAI does it; without, in the chunk that ends the choice, since many clients fail at a chunk
/// without choices that they did not ask for.
fn end(heading: &Heading, bought: &Bought) -> Vec<Bytes> {
    let id = heading.id.for_chat();
    let finish = Some(bought.finish);
    let mut chunk = ChatChunk::new(&id, heading.created, &heading.model, Delta::default(), finish);
    let usage = Heading::usage(bought);
    if !heading.include_usage {
        chunk.usage = Some(usage);
        chunk.gristmill = Some(heading.extension(bought));
        return vec![chunk.to_event()];
    }
    let mut last = ChatChunk::of_usage(&id, heading.created, &heading.model, usage);
    last.gristmill = Some(heading.extension(bought));
    vec![chunk.to_event(), last.to_event()]
}
