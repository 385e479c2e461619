//! Clients that read slowly, or not at all, and clients that go away.

use anyhow::{Context as _, Result};
use gristmill_net::peer::ChannelState;
use gristmill_sim::{Consumer, Exchange, Options, Script};
use gristmill_types::{Amount, ChannelId};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3_600);

/// Far more text than all buffers on the way can hold.
const TOKENS: u32 = 400_000;
/// Grains a token.
const PRICE: u128 = 1_000;

fn endless() -> Result<Options> {
    let mut options = Options::instant(Script { context_tokens: TOKENS, ..Script::default() })?;
    for model in &mut options.models {
        model.prices.output_per_mtok = Amount::from_grains(PRICE * 1_000_000);
    }
    Ok(options)
}

async fn channel(consumer: &Consumer) -> Result<Value> {
    consumer.get("/channels").await?["channels"].get(0).cloned().context("there is a channel")
}

fn grains(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no amount: {value}"))
}

/// Waits until all that was spent is settled; how much that is.
async fn settled(consumer: &Consumer) -> Result<u128> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let of = channel(consumer).await?;
        if of["settled"] == of["spent"] && of["spent"] != "0" && of["in_doubt"] == 0 {
            return Ok(grains(&of["spent"]));
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "waited in vain: {of}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_one_that_went_away() -> Result<()> {
    let mut options = endless()?;
    options.gateway = Box::new(|config| config.reader_patience = SHORT);
    options.processor = Box::new(|config| config.reader_patience = LONG);
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let stream = consumer.stream(&consumer.request("Go on")).await?;
    let spent = settled(&consumer).await?;
    assert!(spent < PRICE * u128::from(TOKENS) / 2, "{spent} grains were spent for nobody");
    drop(stream);
    let mut short = consumer.request("Go on");
    short["max_tokens"] = 5.into();
    assert_eq!(consumer.chat(&short).await?["usage"]["completion_tokens"], 5, "the lane is free again");
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_reads_nothing_is_one_that_went_away() -> Result<()> {
    // All of it is paid ahead, so that nothing else than the reader makes the processor wait.
    let mut options = endless()?;
    options.gateway = Box::new(|config| {
        config.reader_patience = LONG;
        config.max_window_tokens = TOKENS;
    });
    options.processor = Box::new(|config| {
        config.reader_patience = SHORT;
        config.voucher_patience = LONG;
        config.window_tokens = TOKENS;
    });
    let mut exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let stream = consumer.stream(&consumer.request("Go on")).await?;
    let id: ChannelId = channel(&consumer).await?["id"].as_str().context("an id")?.parse()?;
    let url = format!("{}/v1/channels/{id}", exchange.processor_url());
    let end = tokio::time::Instant::now() + PATIENCE;
    let receipt = loop {
        let body = gristmill_net::http::client()?.get(&url).send().await?.bytes().await?;
        let lane = ChannelState::parse(&body)?.lanes.into_iter().next().context("a lane")?;
        if let Some(receipt) = lane.receipt {
            break receipt.0.body;
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "the processor still waits for its reader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(receipt.last);
    assert!(receipt.spent.grains() < PRICE * u128::from(TOKENS) / 2, "{}", receipt.spent);
    exchange.kill_gateway().await?;
    drop(stream);
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_pays_for_what_was_on_its_way() -> Result<()> {
    let script = Script { pace: Duration::from_millis(3), ..Script::default() };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    let consumer = exchange.consumer()?;
    let mut stream = consumer.stream(&consumer.request("Go on")).await?;
    for _ in 0..50 {
        stream.next().await?.context("the stream goes on")?;
    }
    drop(stream);
    let spent = settled(&consumer).await?;
    // Seven tokens of prompt; a token of the answer is one character.
    let tokens = (spent - 7 * 10_000) / 20_000;
    assert!((40..1_000).contains(&tokens), "{tokens} tokens are paid");
    assert!(exchange.ledger().supply().await?.adds_up);
    exchange.stop().await
}
