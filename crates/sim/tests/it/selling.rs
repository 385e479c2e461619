//! What a processor earns while it is busy, is stopped, or is not told everything.

use anyhow::{Context as _, Result};
use gristmill_client::ChannelRecords;
use gristmill_sim::{Consumer, Exchange, Options, Script};
use gristmill_types::ChannelId;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(3_600);

fn slowly() -> Script {
    Script { pace: Duration::from_millis(4), ..Script::default() }
}

fn short(consumer: &Consumer, tokens: u64) -> Value {
    let mut request = consumer.request("Go on");
    request["max_tokens"] = json!(tokens);
    request
}

async fn channel(consumer: &Consumer) -> Result<Value> {
    let list = consumer.get("/channels").await?;
    list["channels"].get(0).cloned().context("there is a channel")
}

async fn channel_id(consumer: &Consumer) -> Result<ChannelId> {
    Ok(channel(consumer).await?["id"].as_str().context("an id")?.parse()?)
}

async fn records(exchange: &Exchange, id: &ChannelId) -> Result<ChannelRecords> {
    exchange.ledger().channel(id).await?.value.context("the ledger has the channel")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_in_steady_use_is_settled() -> Result<()> {
    let mut options = Options::instant(slowly())?;
    options.processor = Box::new(|config| {
        config.settle_after = LONG;
        config.settle_at_latest = Duration::from_secs(1);
        config.approval_patience = LONG;
    });
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let (mut seen, end) = (BTreeSet::new(), Instant::now() + PATIENCE);
    // One request after the other, without a pause, until the ledger has paid twice.
    while seen.len() < 3 {
        anyhow::ensure!(Instant::now() < end, "settled so far: {seen:?}");
        consumer.chat(&short(&consumer, 40)).await?;
        let id = channel_id(&consumer).await?;
        seen.insert(records(&exchange, &id).await?.channel.settled);
    }
    let channel = channel(&consumer).await?;
    assert_eq!(channel["lanes"], 1, "{channel}");
    exchange.stop().await
}

/// The leaves that the processor's receipts name.
async fn nonces(exchange: &Exchange, id: &ChannelId) -> Result<Vec<u32>> {
    let url = format!("{}/v1/channels/{id}", exchange.processor_url());
    let body = gristmill_net::http::client()?.get(url).send().await?.bytes().await?;
    let lanes = gristmill_net::peer::ChannelState::parse(&body)?.lanes;
    let audits = lanes.into_iter().filter_map(|lane| lane.receipt?.0.body.audit);
    let mut found: Vec<u32> = audits.filter_map(|audit| Some(audit.processor_nonce?.index)).collect();
    found.sort_unstable();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_finds_no_place_uses_up_no_nonce() -> Result<()> {
    let exchange = Exchange::start(Options::instant(Script { max_running: 1, ..slowly() })?).await?;
    let consumer = exchange.consumer()?;
    let mut running = consumer.stream(&short(&consumer, 500)).await?;
    running.next().await?.context("it began")?;
    for _ in 0..3 {
        let error = consumer.ask("Go on").await.err().context("the place is taken")?;
        assert!(format!("{error:#}").contains("places are taken"), "{error:#}");
    }
    drop(running);
    let end = Instant::now() + PATIENCE;
    while consumer.chat(&short(&consumer, 5)).await.is_err() {
        anyhow::ensure!(Instant::now() < end, "no place comes free");
    }
    // One for the answer that ran, one for the last: none of a lane that was refused.
    let found = nonces(&exchange, &channel_id(&consumer).await?).await?;
    assert!(found.contains(&1) && found.iter().all(|leaf| *leaf < 2), "{found:?}");
    while channel(&consumer).await?["in_doubt"] != 0 {
        anyhow::ensure!(Instant::now() < end, "the refused lanes stay in doubt");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_running_answers_with_a_receipt_that_is_paid() -> Result<()> {
    let mut options = Options::instant(slowly())?;
    options.processor = Box::new(|config| {
        config.settle_after = LONG;
        config.settle_at_latest = LONG;
        config.stop_patience = Duration::from_millis(200);
    });
    let mut exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let mut stream = consumer.stream(&consumer.request("Go on")).await?;
    for _ in 0..100 {
        stream.next().await?.context("the stream goes on")?;
    }
    let id = channel_id(&consumer).await?;
    let reading = tokio::spawn(async move { stream.rest().await });
    let began = Instant::now();
    exchange.stop_processor().await?;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let error = reading.await?.err().context("the answer broke off")?;
    assert!(format!("{error:#}").contains("The processor stops"), "{error:#}");
    // All that was delivered was receipted, approved and settled before it was gone.
    let listed = consumer.get("/receipts").await?;
    let entry = &listed["receipts"][0];
    assert_eq!(entry["kept"], "whole", "{entry}");
    assert!(entry["completion_tokens"].as_u64().is_some_and(|tokens| tokens >= 100), "{entry}");
    let settled = records(&exchange, &id).await?.channel.settled;
    assert_eq!(entry["cost"], settled.grains().to_string());
    exchange.stop().await
}
