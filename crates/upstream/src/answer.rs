//! One answer of an upstream, from the request to its end.

use crate::{
    chunk::{self, Said},
    connection::{Http, MAX_ANSWER_BYTES},
    engine::Patience,
    pieces::Pieces,
};
use futures::{Stream, StreamExt as _};
use gristmill_engine::{Done, Event};
use gristmill_net::{http::read_body, sse};
use gristmill_types::Finish;
use http::{StatusCode, header};
use serde_json::Value;
use std::{pin::Pin, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};

/// The largest event that is read. Some servers send a whole answer as one.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// How long the end of a stream is waited for, when the answer has ended, so that its connection can be
/// used again.
const DRAIN: Duration = Duration::from_secs(1);

/// The names of the limit of output tokens that servers know.
pub(crate) const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

type Events = Pin<Box<dyn Stream<Item = Result<Said, String>> + Send>>;

/// One answer under way.
pub(crate) struct Answer {
    pub(crate) http: Http,
    pub(crate) path: &'static str,
    pub(crate) body: Value,
    pub(crate) patience: Patience,
    /// Whether it says why an answer ends. Then the mark at the end of a stream alone ends none: a server
    /// that breaks an answer off may send it, too.
    pub(crate) explains: bool,
    pub(crate) pieces: Pieces,
    pub(crate) prompt_tokens: u32,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) place: OwnedSemaphorePermit,
}

impl Answer {
    /// Answers. If the reader goes away, the connection is closed at once.
    pub(crate) async fn run(mut self) {
        let reader = self.events.clone();
        let mut events = None;
        let ended = tokio::select! {
            ended = self.answer(&mut events) => ended,
            () = reader.closed() => return,
        };
        let (finish, error) = match ended {
            Ok(finish) => (finish, None),
            Err(reason) => {
                let reason = self.http.words(&reason);
                // Without the server's words, which may repeat the prompt. The client is told them.
                tracing::warn!(path = self.path, upstream = %self.http.address, "an answer failed");
                events = None;
                (Finish::Error, Some(format!("the upstream server failed: {reason}")))
            }
        };
        let Self { prompt_tokens, place, pieces, .. } = self;
        // Its place is free before its reader hears of the end.
        drop(place);
        let done = Done { finish, prompt_tokens, output_tokens: pieces.taken(), error };
        if reader.send(Event::Done(done)).await.is_ok()
            && let Some(mut rest) = events.take()
        {
            drop(tokio::time::timeout(DRAIN, async { while rest.next().await.is_some() {} }).await);
        }
    }

    /// `rest` is what is left of a stream that ended by itself.
    async fn answer(&mut self, rest: &mut Option<Events>) -> Result<Finish, String> {
        let mut deadline = Instant::now() + self.patience.first;
        let late = |what: &str, patience: Duration| format!("{what} within {} s", patience.as_secs_f64());
        let first = late("it says nothing", self.patience.first);
        let answer = tokio::time::timeout_at(deadline, post(&self.http, self.path, &mut self.body));
        let answer = answer.await.map_err(|_| first.clone())??;
        let mut events = said(&self.http, answer);
        let mut begun = false;
        loop {
            let said = match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(said)) => said?,
                Ok(None) => return Err("its answer broke off before the end".to_owned()),
                Err(_) if begun => return Err(late("it says nothing more", self.patience.between)),
                Err(_) => return Err(first),
            };
            if let Some(words) = said.failed {
                return Err(words);
            }
            // Events without words are no life: they could go on for ever.
            if said.reasoned || !said.text.is_empty() {
                begun = true;
                deadline = Instant::now() + self.patience.between;
            }
            let waited = Instant::now();
            let (pieces, ended) = self.pieces.push(&said.text).map_err(|error| error.to_string())?;
            for piece in pieces {
                self.send(piece).await?;
            }
            if let Some(finish) = ended {
                // It would go on: its connection is closed.
                return Ok(finish);
            }
            // The reader's time is not the upstream's.
            deadline += waited.elapsed();
            let finish = match said.finish {
                Some(Finish::Error) => return Err("it ended its answer with an error".to_owned()),
                None if said.done && self.explains => {
                    return Err("it ended its stream without saying why its answer ends".to_owned());
                }
                None if said.done => Finish::Stop,
                None => continue,
                Some(finish) => finish,
            };
            let (piece, finish) = self.pieces.finish(finish).map_err(|error| error.to_string())?;
            if let Some(piece) = piece {
                self.send(piece).await?;
            }
            *rest = (!said.done).then_some(events);
            return Ok(finish);
        }
    }

    async fn send(&self, event: Event) -> Result<(), String> {
        self.events.send(event).await.map_err(|_| "the reader went away".to_owned())
    }
}

/// Sends the request. A server may refuse a limit that goes beyond its context, or know none of its
/// names; without it the answer is cut here all the same.
pub(crate) async fn post(http: &Http, path: &str, body: &mut Value) -> Result<reqwest::Response, String> {
    loop {
        let answer = http.post(path, body).send().await.map_err(|error| http.reason(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refusal = http.refusal(answer).await;
        let about_input =
            matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        let limited =
            LIMITS.iter().any(|name| body.as_object_mut().and_then(|of| of.remove(*name)).is_some());
        if !about_input || !limited {
            return Err(refusal.words);
        }
    }
}

/// What the answer says, whether it comes in events or whole.
pub(crate) fn said(http: &Http, answer: reqwest::Response) -> Events {
    let http = http.clone();
    if sse::is_event_stream(answer.headers().get(header::CONTENT_TYPE)) {
        let events = sse::read(answer.bytes_stream(), MAX_EVENT_BYTES);
        return Box::pin(events.map(move |event| match event {
            Ok(event) => Ok(chunk::read_event(&event.data)),
            Err(sse::ReadError::Transport(error)) => Err(http.reason(error)),
            Err(error) => Err(error.to_string()),
        }));
    }
    Box::pin(futures::stream::once(async move {
        let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await;
        let body = body.map_err(|error| match error {
            gristmill_net::http::BodyError::Transport(error) => http.reason(error),
            error => error.to_string(),
        })?;
        chunk::read_whole(&body)
    }))
}
