//! The load: clients that take whole answers, read streams to the end, read slowly, or break off, with
//! several keys, some with two choices. Each writes down exactly what arrived.

use crate::exchange::MODEL;
use futures::StreamExt as _;
use gristmill_net::sse;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

/// An answer that stands still for so long fails the test: nothing may hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers of six digits, each asked for once at most.
const FIRST_NUMBER: u32 = 100_000;
const LAST_NUMBER: u32 = 999_999;

/// How a client takes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// All at once.
    Whole,
    /// All at once; the client goes away after a while.
    WholeBroken(Duration),
    /// As a stream, with a pause after each event.
    Stream(Duration),
    /// As a stream that the client leaves after so many characters.
    StreamBroken(usize),
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// With its last word.
    Whole {
        /// The ids of the request's receipts: one for each choice, in no order.
        receipts: Vec<String>,
        /// What this choice cost.
        cost: u128,
        tokens: u64,
    },
    /// The client went away.
    Broken,
    /// The connection broke, or the gateway said that the answer broke off.
    Cut,
    /// Refused before anything was delivered.
    Refused(u16),
}

/// One choice of a request, and what arrived of it. Each choice is bought and paid by itself.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) key: usize,
    pub(crate) prompt: String,
    pub(crate) style: Style,
    pub(crate) text: String,
    pub(crate) ended: Ended,
    /// Whether the gateway said that this choice broke off.
    failed: bool,
}

impl Request {
    /// Output tokens that arrived. The starter model's tokens are characters; the last one ends the
    /// answer and shows in its usage alone.
    pub(crate) fn delivered(&self) -> u64 {
        match &self.ended {
            Ended::Whole { tokens, .. } => *tokens,
            _ => self.text.chars().count() as u64,
        }
    }

    /// Ends it, unless this choice broke off by itself.
    fn end(&mut self, ended: &Ended) {
        if !self.failed {
            self.ended = ended.clone();
        }
    }

    /// The row of the table.
    pub(crate) const fn ended(&self) -> &'static str {
        match (&self.ended, self.style) {
            (Ended::Whole { .. }, Style::Whole | Style::WholeBroken(_)) => "answered at once",
            (Ended::Whole { .. }, Style::Stream(_) | Style::StreamBroken(_)) => "streamed to the end",
            (Ended::Broken, _) => "left by the client",
            (Ended::Cut, _) => "cut off",
            (Ended::Refused(429 | 503), _) => "refused: busy or stopping",
            (Ended::Refused(_), _) => "refused",
        }
    }
}

/// Makes loads; no prompt comes twice.
pub(crate) struct Load {
    random: fastrand::Rng,
    keys: Arc<Vec<String>>,
    next: Arc<AtomicU32>,
}

/// Clients at work.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Request>>>,
}

impl Load {
    pub(crate) fn new(seed: u64, keys: Vec<String>) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ 0x6c6f_6164);
        Self { random, keys: Arc::new(keys), next: Arc::new(AtomicU32::new(FIRST_NUMBER)) }
    }

    /// Starts so many clients of the endpoint.
    pub(crate) fn start(&mut self, base_url: &str, clients: usize) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|_| {
            let mut client = Client {
                // A connection of its own for each client, so that none waits behind another.
                http: gristmill_net::http::client().unwrap(),
                base_url: base_url.to_owned(),
                keys: Arc::clone(&self.keys),
                random: self.random.fork(),
                next: Arc::clone(&self.next),
            };
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut requests = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.request().await {
                        Some(choices) => requests.extend(choices),
                        // Nobody listens; nothing was sent.
                        None => sleep(Duration::from_millis(30)).await,
                    }
                }
                requests
            })
        });
        Running { clients: clients.collect(), stop }
    }
}

impl Running {
    /// No further requests; waits for what is on its way.
    pub(crate) async fn end(self) -> Vec<Request> {
        self.stop.store(true, Ordering::Relaxed);
        let mut requests = Vec::new();
        for client in self.clients {
            requests.extend(client.await.unwrap());
        }
        requests
    }
}

struct Client {
    http: reqwest::Client,
    base_url: String,
    keys: Arc<Vec<String>>,
    random: fastrand::Rng,
    next: Arc<AtomicU32>,
}

impl Client {
    /// Another request; none of its choices was answered yet.
    fn compose(&mut self) -> Vec<Request> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number <= LAST_NUMBER, "all numbers were asked for");
        let language = self.random.choice(["English", "German", "Kazakh"]).unwrap();
        let ms = |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(0..most));
        let style = match self.random.u8(0..10) {
            0 | 1 => Style::Whole,
            2 => Style::WholeBroken(ms(&mut self.random, 400)),
            3 | 4 => Style::StreamBroken(self.random.usize(0..60)),
            5 => Style::Stream(ms(&mut self.random, 40)),
            _ => Style::Stream(Duration::ZERO),
        };
        let choice = Request {
            key: self.random.usize(0..self.keys.len()),
            prompt: format!("Spell {number} in {language}"),
            style,
            text: String::new(),
            ended: Ended::Cut,
            failed: false,
        };
        let choices = if self.random.u8(0..6) == 0 { 2 } else { 1 };
        vec![choice; choices]
    }

    /// One request, by its choices; none where no connection was made.
    async fn request(&mut self) -> Option<Vec<Request>> {
        let mut choices = self.compose();
        let Request { key, prompt, style, .. } = choices.first()?.clone();
        let streamed = matches!(style, Style::Stream(_) | Style::StreamBroken(_));
        // The choices of one prompt are alike: it is answered by the likeliest tokens.
        let body = json!({
            "model": MODEL, "stream": streamed, "temperature": 0, "n": choices.len(),
            "messages": [{"role": "user", "content": prompt}],
        });
        let post = self
            .http
            .post(format!("{}/chat/completions", self.base_url))
            .bearer_auth(&self.keys[key])
            .json(&body)
            .send();
        let ended = match style {
            Style::WholeBroken(after) => tokio::select! {
                ended = whole(post, &mut choices) => ended,
                () = sleep(after) => Some(Ended::Broken),
            },
            Style::Whole => whole(post, &mut choices).await,
            Style::Stream(pause) => stream(post, &mut choices, usize::MAX, pause).await,
            Style::StreamBroken(most) => stream(post, &mut choices, most, Duration::ZERO).await,
        };
        let ended = ended?;
        choices.iter_mut().for_each(|choice| choice.end(&ended));
        Some(choices)
    }
}

type Sent = Result<reqwest::Response, reqwest::Error>;

/// The answer's head: `Err` with how it ended where there is none.
async fn head(post: impl Future<Output = Sent>) -> Result<reqwest::Response, Option<Ended>> {
    let answer = tokio::time::timeout(PATIENCE, post).await.expect("an answer begins in time");
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(answer),
        Ok(answer) => Err(Some(Ended::Refused(answer.status().as_u16()))),
        Err(error) if error.is_connect() => Err(None),
        Err(_) => Err(Some(Ended::Cut)),
    }
}

/// How a request ended that has its receipts, for each of its choices that has one.
fn last_word(value: &Value) -> Option<Ended> {
    let extension = &value["gristmill"];
    let receipts: Vec<String> = match extension["receipts"].as_array() {
        Some(several) if !several.is_empty() => {
            several.iter().map(|of| of.as_str().unwrap().to_owned()).collect()
        }
        _ => vec![extension["receipt"].as_str()?.to_owned()],
    };
    // They were alike, so each has its part of the sum.
    let count = receipts.len();
    let (cost, tokens) = (
        (value["usage"]["cost"].as_f64()? * 1e9).round() as u128,
        value["usage"]["completion_tokens"].as_u64()?,
    );
    assert!(cost % count as u128 == 0 && tokens % count as u64 == 0, "unlike choices: {value}");
    Some(Ended::Whole { receipts, cost: cost / count as u128, tokens: tokens / count as u64 })
}

/// Notes what a chunk or an answer says of each choice.
fn note(value: &Value, message: &str, choices: &mut [Request]) {
    for said in value["choices"].as_array().into_iter().flatten() {
        let choice = &mut choices[said["index"].as_u64().unwrap() as usize];
        choice.text.push_str(said[message]["content"].as_str().unwrap_or_default());
        choice.failed |= said["finish_reason"] == "error";
    }
}

async fn whole(post: impl Future<Output = Sent>, choices: &mut [Request]) -> Option<Ended> {
    let answer = match head(post).await {
        Ok(answer) => answer,
        Err(ended) => return ended,
    };
    let Ok(body) = answer.bytes().await else { return Some(Ended::Cut) };
    let value: Value = serde_json::from_slice(&body).unwrap();
    note(&value, "message", choices);
    Some(last_word(&value).expect("an answer has a receipt"))
}

async fn stream(
    post: impl Future<Output = Sent>,
    choices: &mut [Request],
    most: usize,
    pause: Duration,
) -> Option<Ended> {
    let answer = match head(post).await {
        Ok(answer) => answer,
        Err(ended) => return ended,
    };
    let mut events = Box::pin(sse::read(answer.bytes_stream(), sse::MAX_EVENT_BYTES));
    let mut ended = Ended::Cut;
    loop {
        if choices.iter().any(|choice| choice.text.chars().count() > most) {
            return Some(Ended::Broken);
        }
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("a stream goes on or ends");
        let Some(Ok(event)) = event else { return Some(ended) };
        if event.data == sse::DONE {
            return Some(ended);
        }
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        note(&chunk, "delta", choices);
        ended = last_word(&chunk).unwrap_or(ended);
        sleep(pause).await;
    }
}
