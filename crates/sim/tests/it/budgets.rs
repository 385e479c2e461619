//! API keys whose requests come all at once.

use anyhow::{Context as _, Result};
use gristmill_net::openai::ApiError;
use gristmill_sim::{Consumer, Exchange, Options, Script};
use gristmill_types::Amount;
use serde_json::{Value, json};

const MODEL: &str = "sim/instant";
/// Requests of each key at a time.
const AT_ONCE: usize = 16;

fn grains(value: &Value) -> Result<u128> {
    Ok(value.as_str().context("an amount")?.parse()?)
}

/// A hundred tokens, and what they cost; none where the budget is too small for them, or others hold it.
async fn buy(consumer: Consumer) -> Result<Option<u128>> {
    let mut request = consumer.request("Spell 42 in English");
    request["max_tokens"] = json!(100);
    match consumer.chat(&request).await {
        Ok(answer) => {
            assert_eq!(answer["usage"]["completion_tokens"], 100, "{answer}");
            let credits = answer["usage"]["cost"].to_string();
            Ok(Some(credits.trim_matches('"').parse::<Amount>()?.grains()))
        }
        Err(error) => {
            let error = error.downcast::<ApiError>()?;
            assert!([402, 429].contains(&error.status.as_u16()), "{error}");
            Ok(None)
        }
    }
}

/// Two keys race for lanes of the same channel, and each asks for more at once than it may spend. What a
/// key spends stays within its budget, and no grain of the budget gets lost.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_stay_within_a_keys_budget() -> Result<()> {
    let exchange = Exchange::start(Options::instant(Script::default())?).await?;
    let price = buy(exchange.consumer()?).await?.context("one is bought")?;
    // Enough for five of them, and for two.
    let mut keys = Vec::new();
    for many in [5, 2] {
        let limit = many * price + price / 2;
        let key = exchange.create_key(Amount::from_grains(limit)).await?;
        keys.push((Consumer::new(&exchange.base_url(), &key, MODEL)?, limit, many));
    }
    let calls = (0..AT_ONCE).flat_map(|_| keys.iter().enumerate());
    let calls: Vec<_> = calls.map(|(of, (consumer, ..))| (of, tokio::spawn(buy(consumer.clone())))).collect();
    let mut costs = [0, 0];
    for (of, call) in calls {
        costs[of] += call.await??.unwrap_or_default();
    }
    for ((consumer, limit, many), mut cost) in keys.into_iter().zip(costs) {
        assert!((price..=limit).contains(&cost), "{cost} of {limit} grains were spent at once");
        // One after the other, the rest of the budget is spent too.
        while let Some(more) = buy(consumer.clone()).await? {
            cost += more;
        }
        let key = consumer.get("/key").await?;
        assert_eq!((cost, grains(&key["spent"])?), (many * price, many * price), "{key}");
    }
    exchange.stop().await
}

/// What a key holds for requests to come is freed for others of its own, also on a lane that is in use again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_ahead_serves_whoever_comes() -> Result<()> {
    let exchange = Exchange::start(Options::instant(Script::default())?).await?;
    let price = buy(exchange.consumer()?).await?.context("one is bought")?;
    let key = exchange.create_key(Amount::from_grains(12 * price)).await?;
    let consumer = Consumer::new(&exchange.base_url(), &key, MODEL)?;
    // Without a limit it holds all there is; what it costs is set by its text.
    let mut whole = consumer.request("Spell 42 in English");
    whole["stop"] = json!("d");
    consumer.chat(&whole).await?;
    let mut several = consumer.request("Spell 42 in English");
    (several["max_tokens"], several["n"]) = (json!(100), json!(4));
    let answer = consumer.chat(&several).await?;
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(4));
    exchange.stop().await
}
