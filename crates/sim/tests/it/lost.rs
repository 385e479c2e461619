//! A ledger whose answers or events get lost on the way.

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use gristmill_ledger::record::ChannelState;
use gristmill_sim::{Answers, Exchange, Options, Script};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A way to the ledger on which the answers to transactions can be lost, and its events.
#[derive(Default)]
struct Way {
    node: OnceLock<String>,
    loses: AtomicBool,
    silent: bool,
}

/// Opens the way at a URL, and gives what finds it in the place of the node.
async fn open(way: &Arc<Way>) -> Result<Box<dyn Fn(&str) -> String + Send + Sync>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(Way::pass).with_state(Arc::clone(way));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let way = Arc::clone(way);
    Ok(Box::new(move |node| {
        way.node.get_or_init(|| node.to_owned());
        url.clone()
    }))
}

impl Way {
    async fn pass(State(way): State<Arc<Self>>, request: Request) -> Response {
        way.try_pass(request).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
    }

    async fn try_pass(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        if self.silent && parts.uri.path() == "/v1/events" {
            std::future::pending::<()>().await;
        }
        let url = format!("{}{}", self.node.get().context("a node")?, parts.uri);
        let body = axum::body::to_bytes(body, 1 << 20).await?;
        let http = gristmill_net::http::client()?;
        let sent = http.request(parts.method.clone(), url).headers(parts.headers).body(body).send().await?;
        let lost = parts.method == "POST" && self.loses.load(Ordering::SeqCst);
        if lost {
            // The ledger has it; the sender does not hear of it.
            return Ok(StatusCode::BAD_GATEWAY.into_response());
        }
        let mut answer = Response::builder().status(sent.status());
        for (name, value) in sent.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
            answer = answer.header(name, value);
        }
        Ok(answer.body(Body::from_stream(sent.bytes_stream()))?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_whose_answer_was_lost_opens_one_channel() -> Result<()> {
    let way = Arc::new(Way::default());
    let mut options =
        Options::instant(Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() })?;
    options.ledger = open(&way).await?;
    let mut exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let account = exchange.keys().consumer.account();
    let balance = exchange.ledger().balance(&account, &exchange.issuer()).await?.value;
    let nonce = exchange.ledger().nonce(&account).await?.value;
    way.loses.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.ask("Spell 42").await }
    });
    // The channel is open, and the gateway does not know it when it dies.
    let end = tokio::time::Instant::now() + PATIENCE;
    while exchange.ledger().nonce(&account).await?.value == nonce {
        anyhow::ensure!(tokio::time::Instant::now() < end, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    exchange.kill_gateway().await?;
    assert!(asking.await?.is_err());
    way.loses.store(false, Ordering::SeqCst);
    exchange.start_gateway().await?;
    let answer = consumer.ask("Spell 42").await?;
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    let channels = consumer.get("/channels").await?;
    assert_eq!(channels["channels"].as_array().map(Vec::len), Some(1), "{channels}");
    // One deposit and one fee have left the account.
    let deposit: u128 = channels["channels"][0]["deposit"].as_str().context("an amount")?.parse()?;
    let fee = exchange.genesis().params.fees.open_channel.grains();
    let after = exchange.ledger().balance(&account, &exchange.issuer()).await?.value;
    assert_eq!(after.grains() + deposit + fee, balance.grains());
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_the_node_keeps_to_itself_is_found_by_the_processor() -> Result<()> {
    let way = Arc::new(Way { silent: true, ..Way::default() });
    let mut options =
        Options::instant(Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() })?;
    options.processor_ledger = open(&way).await?;
    options.processor = Box::new(|config| config.look_every = Duration::from_millis(300));
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let channels = consumer.get("/channels").await?;
    let id = channels["channels"][0]["id"].as_str().context("an id")?.parse()?;
    let end = tokio::time::Instant::now() + PATIENCE;
    let channel =
        async || anyhow::Ok(exchange.ledger().channel(&id).await?.value.context("it is there")?.channel);
    // When it was settled, and read after that, nothing has the processor read it but for its own look.
    while channel().await?.settled.is_zero() {
        anyhow::ensure!(tokio::time::Instant::now() < end, "it is not settled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let payer = exchange.sender(&exchange.keys().consumer);
    payer.send(gristmill_ledger::tx::RequestClose { terms: channel().await?.terms }).await?;
    while channel().await?.state != ChannelState::Closed {
        anyhow::ensure!(tokio::time::Instant::now() < end, "the processor does not close");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    exchange.stop().await
}
