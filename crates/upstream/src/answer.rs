//! One answer of an upstream, from the request to its end.

use crate::{
    chunk::{self, Said},
    connection::{Http, MAX_ANSWER_BYTES},
    engine::Patience,
    health::{Health, UNREACHABLE},
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

/// The kinds of failures that are no server's.
const UNREAD: &str = "unread";
const UNCOUNTABLE: &str = "uncountable";

type Events = Pin<Box<dyn Stream<Item = Result<Said, String>> + Send>>;

/// Why an answer failed. The words may be the server's, and repeat the prompt: they are for the client, and
/// no log has more than the kind and the status.
struct Failed {
    kind: &'static str,
    status: Option<StatusCode>,
    words: String,
}

impl Failed {
    fn new(kind: &'static str, words: impl Into<String>) -> Self {
        Self { kind, status: None, words: words.into() }
    }

    /// Whether the server refuses what this request asks.
    fn is_of_request(&self) -> bool {
        let refused =
            [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
        self.status.is_some_and(|status| refused.contains(&status))
    }

    /// Whether another request would have failed, too. A request may be one that the server rightly refuses, and
    /// its reader may have gone away.
    fn is_of_server(&self) -> bool {
        !matches!(self.kind, UNREAD | UNCOUNTABLE) && !self.is_of_request()
    }

    /// What the server did not do in time.
    fn late(what: &str, patience: Duration) -> Self {
        Self::new("late", format!("{what} within {} s", patience.as_secs_f64()))
    }
}

/// One answer under way.
pub(crate) struct Answer {
    pub(crate) http: Http,
    pub(crate) path: &'static str,
    pub(crate) body: Value,
    /// The limit to ask for when that of the body is refused.
    pub(crate) smaller: Option<u32>,
    pub(crate) patience: Patience,
    /// Whether it says why an answer ends. Then the mark at the end of a stream alone ends none: a server
    /// that breaks an answer off may send it, too.
    pub(crate) explains: bool,
    pub(crate) pieces: Pieces,
    pub(crate) prompt_tokens: u32,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) health: Health,
}

impl Answer {
    /// Answers. If the reader goes away, the connection is closed at once.
    pub(crate) async fn run(mut self) {
        let reader = self.events.clone();
        let mut events = None;
        let ended = tokio::select! {
            biased;
            () = reader.closed() => return,
            ended = self.answer(&mut events) => ended,
        };
        let (finish, error, refused) = match ended {
            Ok(finish) => {
                self.health.answered();
                (finish, None, false)
            }
            Err(failed) => {
                if failed.is_of_server() {
                    self.health.failed(failed.kind, &self.http);
                }
                let refused = failed.is_of_request();
                let Failed { kind, status, words } = failed;
                let (upstream, status) = (&self.http.address, status.map(|status| status.as_u16()));
                tracing::warn!(path = self.path, %upstream, kind, status, "an answer failed");
                events = None;
                let words = self.http.words(&words);
                let what = if refused { "refuses the request" } else { "failed" };
                (Finish::Error, Some(format!("the upstream server {what}: {words}")), refused)
            }
        };
        let Self { prompt_tokens, place, pieces, .. } = self;
        // Its place is free before its reader hears of the end.
        drop(place);
        let done = Done { finish, prompt_tokens, output_tokens: pieces.taken(), error, refused };
        if reader.send(Event::Done(done)).await.is_ok()
            && let Some(mut rest) = events.take()
        {
            drop(tokio::time::timeout(DRAIN, async { while rest.next().await.is_some() {} }).await);
        }
    }

    /// `rest` is what is left of a stream that ended by itself.
    async fn answer(&mut self, rest: &mut Option<Events>) -> Result<Finish, Failed> {
        let mut deadline = Instant::now() + self.patience.first;
        let first = || Failed::late("it says nothing", self.patience.first);
        let answer = post(&self.http, self.path, &mut self.body, self.smaller);
        let answer = tokio::time::timeout_at(deadline, answer).await.map_err(|_| first())??;
        let mut events = said(&self.http, answer);
        let mut begun = false;
        loop {
            let said = match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(said)) => said.map_err(|words| Failed::new("unreadable", words))?,
                Ok(None) => return Err(Failed::new("broke off", "its answer broke off before the end")),
                Err(_) if begun => return Err(Failed::late("it says nothing more", self.patience.between)),
                Err(_) => return Err(first()),
            };
            if let Some(words) = said.failed {
                return Err(Failed::new("said so", words));
            }
            // Events without words are no life: they could go on for ever.
            if said.reasoned || !said.text.is_empty() {
                begun = true;
                deadline = Instant::now() + self.patience.between;
            }
            let waited = Instant::now();
            let pushed = self.pieces.push(&said.text);
            let (pieces, ended) = pushed.map_err(|error| Failed::new(UNCOUNTABLE, error.to_string()))?;
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
                Some(Finish::Error) => {
                    return Err(Failed::new("said so", "it ended its answer with an error"));
                }
                None if said.done && self.explains => {
                    return Err(Failed::new(
                        "unexplained",
                        "it ended its stream without saying why its answer ends",
                    ));
                }
                None if said.done => Finish::Stop,
                None => continue,
                Some(finish) => finish,
            };
            let finished = self.pieces.finish(finish);
            let (piece, finish) = finished.map_err(|error| Failed::new(UNCOUNTABLE, error.to_string()))?;
            if let Some(piece) = piece {
                self.send(piece).await?;
            }
            *rest = (!said.done).then_some(events);
            return Ok(finish);
        }
    }

    async fn send(&self, event: Event) -> Result<(), Failed> {
        self.events.send(event).await.map_err(|_| Failed::new(UNREAD, "the reader went away"))
    }
}

/// Sends the request. A server may refuse a limit that goes beyond its context, or know none of its names:
/// a smaller one is asked for, and then none; the answer is cut here all the same.
async fn post(
    http: &Http,
    path: &str,
    body: &mut Value,
    mut smaller: Option<u32>,
) -> Result<reqwest::Response, Failed> {
    loop {
        let answer = http.post(path, body).send().await;
        let answer = answer.map_err(|error| Failed::new(UNREACHABLE, http.reason(error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refusal = http.refusal(answer).await;
        let refused = Failed { kind: "refused", status: Some(refusal.status), words: refusal.words };
        let about_input =
            matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
        let limit = LIMITS.into_iter().find(|name| body.get(*name).is_some());
        let (true, Some(limit), Some(members)) = (about_input, limit, body.as_object_mut()) else {
            return Err(refused);
        };
        match smaller.take() {
            Some(smaller) => drop(members.insert(limit.to_owned(), smaller.into())),
            None => drop(members.remove(limit)),
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
