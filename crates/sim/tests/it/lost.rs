//! A ledger whose answers or events get lost on the way.

use crate::way::{Fate, Way};
use anyhow::{Context as _, Result};
use gristmill_ledger::record::ChannelState;
use gristmill_sim::{Answers, Exchange, Options, Script};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_open_whose_answer_was_lost_opens_one_channel() -> Result<()> {
    let loses = Arc::new(AtomicBool::new(false));
    let of = Arc::clone(&loses);
    let way = Way::open(move |seen| {
        // The ledger has it; the sender does not hear of it.
        if seen.method == "POST" && of.load(Ordering::SeqCst) { Fate::Lost } else { Fate::Pass }
    })
    .await?;
    let mut options =
        Options::instant(Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() })?;
    options.ledger = way.before_ledger();
    let mut exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let account = exchange.keys().consumer.account();
    let balance = exchange.ledger().balance(&account, &exchange.issuer()).await?.value;
    let nonce = exchange.ledger().nonce(&account).await?.value;
    loses.store(true, Ordering::SeqCst);
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
    loses.store(false, Ordering::SeqCst);
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
    let way =
        Way::open(|seen| if seen.path.starts_with("/v1/events") { Fate::Silent } else { Fate::Pass }).await?;
    let mut options =
        Options::instant(Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() })?;
    options.processor_ledger = way.before_ledger();
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
