//! A side that is away, or that comes back without its last word: nothing stays locked for long.

use anyhow::{Context as _, Result};
use gristmill_channel::PayeeRecord;
use gristmill_sim::{Answers, Consumer, Exchange, Options, Script};
use gristmill_store::{Batch, Migration, Store};
use gristmill_types::{ChannelId, decode};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn answer() -> Script {
    Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() }
}

async fn channel(consumer: &Consumer) -> Result<Value> {
    let channels = consumer.get("/channels").await?;
    channels["channels"].get(0).cloned().context("there is a channel")
}

/// Waits until the channel looks as it should.
async fn until(consumer: &Consumer, right: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let channel = channel(consumer).await?;
        if right(&channel) {
            return Ok(channel);
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "waited in vain: {channel}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_a_processor_that_is_away_lock_nothing_for_good() -> Result<()> {
    let mut exchange = Exchange::start(Options::instant(answer())?).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let before = until(&consumer, |of| of["settled"] == of["spent"]).await?;
    exchange.kill_processor().await?;
    for _ in 0..5 {
        assert!(consumer.ask("Spell 42").await.is_err(), "nobody answers");
    }
    exchange.start_processor().await?;
    let after = until(&consumer, |of| of["in_doubt"] == 0 && of["spent"] == before["spent"]).await?;
    assert_eq!(after["id"], before["id"]);
    // As many requests as there are lanes, one after the other: each finds one.
    for _ in 0..70 {
        consumer.ask("Spell 42").await?;
    }
    let end = until(&consumer, |of| of["settled"] == of["spent"] && of["in_doubt"] == 0).await?;
    let lanes = end["lanes"].as_u64().context("a count")?;
    assert!(lanes <= 8, "idle lanes are used again: {end}");
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_dies_in_mid_stream_loses_at_most_a_window() -> Result<()> {
    let script = Script { pace: Duration::from_millis(3), ..Script::default() };
    let mut exchange = Exchange::start(Options::instant(script)?).await?;
    let consumer = exchange.consumer()?;
    let mut stream = consumer.stream(&consumer.request("Go on")).await?;
    let mut arrived = 0_u128;
    while arrived < 200 {
        let chunk = stream.next().await?.context("the stream goes on")?;
        let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        arrived += text.chars().count() as u128;
    }
    exchange.kill_processor().await?;
    let rest = stream.rest().await;
    assert!(rest.is_err(), "the client is told that the answer broke off");
    exchange.start_processor().await?;
    let end = until(&consumer, |of| of["settled"] == of["spent"] && of["spent"] != "0").await?;
    assert_eq!(end["in_doubt"], 0);
    // One token is one character here. What arrived between the last look and the kill is not counted.
    let spent: u128 = end["spent"].as_str().context("an amount")?.parse()?;
    let paid = (spent - 7 * 10_000) / 20_000;
    assert!(paid + 64 >= arrived && paid <= arrived + 64, "{paid} tokens are paid of about {arrived}");
    let listed = consumer.get("/receipts").await?;
    assert_eq!(listed["receipts"][0]["cost"], end["spent"]);
    assert!(exchange.ledger().supply().await?.adds_up);
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_the_processor_forgot_is_sent_again() -> Result<()> {
    let mut options = Options::instant(answer())?;
    let settles = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let of = std::sync::Arc::clone(&settles);
    options.processor = Box::new(move |config| {
        if !of.load(std::sync::atomic::Ordering::Relaxed) {
            config.settle_after = Duration::from_secs(3_600);
            config.settle_at_latest = Duration::from_secs(3_600);
        }
        config.approval_patience = Duration::from_secs(3_600);
    });
    let mut exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let id: ChannelId = channel(&consumer).await?["id"].as_str().context("an id")?.parse()?;
    exchange.kill_gateway().await?;
    exchange.kill_processor().await?;
    forget_approvals(&exchange, &id).await?;
    settles.store(true, std::sync::atomic::Ordering::Relaxed);
    // It comes back with another quote, and nobody would ever approve.
    exchange.start_processor().await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let settled = exchange.ledger().channel(&id).await?.value.context("the channel")?.channel.settled;
    assert!(settled.is_zero(), "nothing is approved");
    exchange.start_gateway().await?;
    let end = until(&consumer, |of| of["settled"] == of["spent"]).await?;
    assert_ne!(end["settled"], "0");
    exchange.stop().await
}

/// As if the processor had crashed before the approval was durable.
async fn forget_approvals(exchange: &Exchange, id: &ChannelId) -> Result<()> {
    // The processor's own table is there already, so how it is made does not matter.
    let made = [Migration { sql: "" }];
    let store = Store::open(exchange.folder().join("processor/processor.db"), &made)?;
    let log = format!("channel/{id}");
    let rows = store.load(&log)?;
    let kept: Vec<Vec<u8>> = rows
        .into_iter()
        .map(|row| row.record)
        .filter(|record| !matches!(decode(record), Ok(PayeeRecord::Approval(_))))
        .collect();
    store.write(Batch::new().replace(&log, kept)).await?;
    Ok(())
}
