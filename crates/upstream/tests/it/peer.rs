//! A scripted HTTP server: says exactly the bytes of its script, as badly as wanted.

use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// One step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Says the same again and again, until the other side closes.
    Repeat(Vec<u8>, Duration),
    /// Says nothing more, and keeps the connection.
    Hang,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// For example `POST /v1/chat/completions`.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// How the server answers a request.
pub(crate) type Script = Arc<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;

/// A running server.
pub(crate) struct Peer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    closed: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::on(0, script).await
    }

    /// Listens on this port.
    pub(crate) async fn on(port: u16, script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (close, closed) = mpsc::unbounded_channel();
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, close) = (Arc::clone(&script), Arc::clone(&log), close.clone());
                tokio::spawn(async move {
                    serve(stream, &script, &log).await;
                    let _ = close.send(());
                });
            }
        });
        Self { url, asked, closed: closed.into(), task }
    }

    /// Always answers with these steps.
    pub(crate) async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone()).await
    }

    /// Listens no more: whoever connects is refused.
    pub(crate) async fn end(self) {
        self.task.abort();
        drop(self.task.await);
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until a connection has ended.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.lock().await;
        tokio::time::timeout(Duration::from_secs(5), closed.recv())
            .await
            .expect("a connection ends")
            .unwrap();
    }
}

async fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let Some(asked) = read(&mut stream).await else { return };
    log.lock().unwrap().push(asked.clone());
    for step in script(&asked) {
        let done = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
            Step::Pause(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Step::Repeat(bytes, pause) => {
                while stream.write_all(&bytes).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
                false
            }
            Step::Hang => {
                let mut rest = Vec::new();
                drop(stream.read_to_end(&mut rest).await);
                false
            }
        };
        if !done {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while bytes.len() < end + 4 + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, head, body: serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default() })
}

/// The head of an answer in events, and these events.
pub(crate) fn events(parts: &[&str]) -> Step {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    Step::Send([head, &parts.concat()].concat().into_bytes())
}

/// More events.
pub(crate) fn more(parts: &[&str]) -> Step {
    Step::Send(parts.concat().into_bytes())
}

/// An event with so much of an answer.
pub(crate) fn text(text: &str) -> String {
    format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The event that ends an answer.
pub(crate) fn end(reason: &str) -> String {
    format!(
        "data: {}\n\n",
        serde_json::json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    )
}

pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// An answer of JSON.
pub(crate) fn json(status: &str, body: &str) -> Step {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    Step::Send([head.as_str(), body].concat().into_bytes())
}
