//! The peers without payment: a plain OpenAI-style server over the very same engine object, and a
//! plain hop in front of it that passes bytes through. The difference between the two is what a
//! second HTTP hop costs; what a paid answer takes beyond that is the payment.

use anyhow::Result;
use axum::{Router, body::Body, extract::State, response::Response, routing::post, serve::ListenerExt as _};
use bytes::Bytes;
use gristmill_audit::{Seed, ids_digest, user_seed_nonce};
use gristmill_engine::{Engine, Event, Generation, Job};
use gristmill_net::{
    http::{RequestId, read_body},
    openai::{ApiError, Chunk, Delta, Prompt, PromptRequest, SamplingDefaults, Shape, Usage},
    sse,
};
use gristmill_tokenizer::ChatMessage;
use gristmill_types::{Limits, ModelId, Unit};
use reqwest::header::CONTENT_TYPE;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

/// Names of the peers' threads.
pub(crate) const SERVER: &str = "plain-server";
pub(crate) const HOP: &str = "plain-hop";
/// As wide as a processor's.
const WINDOW: usize = 64;
const STREAM_BUFFER: usize = 16;
const MAX_BODY: usize = 1 << 20;

/// A running peer.
pub(crate) struct Peer {
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Peer {
    async fn start(name: &'static str, router: Router) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build()?;
        let bind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.spawn(bind).await??;
        let address = listener.local_addr()?;
        // Small events go out at once, as a server of streams has to see to.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap_or_default());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { runtime: Some(runtime), address })
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A server that answers whoever asks.
pub(crate) async fn server(engine: Arc<dyn Engine>, model: ModelId) -> Result<Peer> {
    let state = Arc::new(Served { engine, model });
    Peer::start(SERVER, Router::new().route("/v1/chat/completions", post(chat)).with_state(state)).await
}

/// A hop in front of it.
pub(crate) async fn hop(server: &Peer) -> Result<Peer> {
    let to = Arc::new((gristmill_net::http::client()?, format!("{}/chat/completions", server.base_url())));
    Peer::start(HOP, Router::new().route("/v1/chat/completions", post(pass)).with_state(to)).await
}

struct Served {
    engine: Arc<dyn Engine>,
    model: ModelId,
}

async fn chat(State(served): State<Arc<Served>>, body: Body) -> Result<Response, ApiError> {
    let body = read_body(body.into_data_stream(), MAX_BODY).await?;
    let request = PromptRequest::parse(&body, Shape::Chat)?;
    let Prompt::Messages(messages) = &request.prompt else { return Err(ApiError::missing("messages")) };
    let messages: Vec<ChatMessage> = messages
        .iter()
        .map(|message| ChatMessage {
            role: message.role.as_str().to_owned(),
            content: message.content.clone(),
        })
        .collect();
    let failed = |error: &dyn std::fmt::Display| ApiError::internal(error.to_string());
    let prompt_ids = served.engine.tokenizer().encode_chat(&messages).map_err(|error| failed(&error))?;
    let context = served.engine.info().context_tokens;
    let limits =
        Limits { context_tokens: context, output_tokens: context, window_tokens: 64, window_ms: 1_000 };
    let prompt_tokens = u32::try_from(prompt_ids.len()).unwrap_or(u32::MAX);
    let sampling = request.sampling(prompt_tokens, Unit::Token, &limits, &SamplingDefaults::default())?;
    // The draw of a paid request with the same seed, so that the same is computed.
    let nonce = user_seed_nonce(request.seed.unwrap_or_default());
    let seed = Seed::fixed(&nonce, &ids_digest(&prompt_ids), &served.model);
    let job = Job {
        prompt_ids,
        sampling,
        seed,
        window: WINDOW,
        stop_at_eos: true,
        top_logprobs: None,
        source: None,
    };
    let generation = served.engine.start(job).map_err(|error| failed(&error))?;
    let (events, stream) = mpsc::channel(STREAM_BUFFER);
    tokio::spawn(deliver(generation, request.model, events));
    Ok(sse::response(ReceiverStream::new(stream), sse::KEEP_ALIVE))
}

async fn deliver(mut generation: Generation, model: String, events: mpsc::Sender<Bytes>) {
    let id = RequestId::random().of(Shape::Chat);
    while let Some(event) = generation.next().await {
        let bytes = match event {
            Event::Piece { text, .. } => {
                Chunk::new(Shape::Chat, &id, 0, &model, Delta { content: Some(text), role: None }, None)
                    .to_event()
            }
            Event::Done(done) => {
                let finish = Some(done.finish.into());
                let mut chunk = Chunk::new(Shape::Chat, &id, 0, &model, Delta::default(), finish);
                let (prompt, output) = (u64::from(done.prompt_tokens), u64::from(done.output_tokens));
                chunk.usage = Some(Usage::new(prompt, output, Unit::Token, None));
                chunk.to_event()
            }
        };
        if events.send(bytes).await.is_err() {
            return;
        }
    }
    let _gone = events.send(sse::done()).await;
}

async fn pass(State(to): State<Arc<(reqwest::Client, String)>>, body: Body) -> Result<Response, ApiError> {
    let (http, url) = &*to;
    let body = read_body(body.into_data_stream(), MAX_BODY).await?;
    let request = http.post(url).header(CONTENT_TYPE, "application/json").body(body);
    let answer = request.send().await.map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    if let Some(kind) = answer.headers().get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response.map(|_| Body::from_stream(answer.bytes_stream())))
}
