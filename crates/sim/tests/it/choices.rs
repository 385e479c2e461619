//! Several answers to one request: reserved together, paid each, and told apart.

use crate::disputes::eventually;
use anyhow::{Context as _, Result, ensure};
use gristmill_net::openai::ApiError;
use gristmill_sim::{Answers, Consumer, Exchange, Options, Script};
use gristmill_types::Amount;
use serde_json::{Value, json};
use std::time::Duration;

const MODEL: &str = "sim/instant";

fn answers(text: &str, max_running: usize) -> Script {
    Script { answers: Answers::Text(text.to_owned()), max_running, ..Script::default() }
}

fn contents(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap_or_default()).collect()
}

/// What the key has spent, and holds for requests under way beyond what channels hold for it.
async fn spent(consumer: &Consumer) -> Result<u128> {
    let key = consumer.get("/key").await?;
    Ok(key["spent"].as_str().context("spent")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_is_paid() -> Result<()> {
    let exchange = Exchange::start(Options::instant(answers("forty-two", 8))?).await?;
    let consumer = exchange.consumer()?;
    let one = consumer.ask("Spell 42 in English").await?;
    let alone = spent(&consumer).await?;
    let mut request = consumer.request("Spell 42 in English");
    request["n"] = json!(3);
    let answer = consumer.chat(&request).await?;
    assert_eq!(contents(&answer), ["forty-two"; 3]);
    assert_eq!(answer["choices"][2]["index"], 2);
    for member in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(answer["usage"][member].as_u64(), one["usage"][member].as_u64().map(|count| 3 * count));
    }
    let receipts = answer["gristmill"]["receipts"].as_array().context("receipts")?;
    assert_eq!((receipts.len(), &answer["gristmill"]["receipt"]), (3, &receipts[0]));
    assert!(receipts[0] != receipts[1] && receipts[1] != receipts[2]);
    assert_eq!(spent(&consumer).await?, 4 * alone);

    // In a stream, each chunk says whose it is; the usage comes once, at the end.
    let mut stream = consumer.stream(&request).await?;
    let (mut texts, mut ends, mut usages) = (vec![String::new(); 3], vec![0; 3], 0);
    while let Some(chunk) = stream.next().await? {
        assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1), "{chunk}");
        let choice = &chunk["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().context("index")?)?;
        assert_eq!(ends[index], 0, "nothing comes behind the end: {chunk}");
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        ends[index] += usize::from(choice["finish_reason"] == "stop");
        if chunk["usage"].is_object() {
            usages += 1;
            assert_eq!(chunk["usage"], answer["usage"]);
            assert_eq!(chunk["gristmill"]["receipts"].as_array().map(Vec::len), Some(3));
        }
    }
    assert_eq!((texts, ends, usages), (vec!["forty-two".to_owned(); 3], vec![1; 3], 1));
    assert_eq!(spent(&consumer).await?, 7 * alone);
    exchange.stop().await
}

/// All answers are reserved before any is ordered: a budget for some of them pays for none.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_for_some_pays_for_none() -> Result<()> {
    let script = Script { max_running: 8, ..Script::default() };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    // An answer of a hundred tokens costs 0.002 credits, and its prompt a fifth of that at most.
    let key = exchange.create_key(Amount::from_grains(6_000_000)).await?;
    let consumer = Consumer::new(&exchange.base_url(), &key, MODEL)?;
    let mut request = consumer.request("Spell 42 in English");
    request["max_tokens"] = json!(100);
    request["n"] = json!(4);
    let error = consumer.chat(&request).await.err().context("four are too many")?;
    let error = error.downcast_ref::<ApiError>().context("a refusal")?;
    assert_eq!(error.status.as_u16(), 402, "{error}");
    assert_eq!(spent(&consumer).await?, 0);
    // The lanes that were taken are free again: two fit, as if nothing had been.
    request["n"] = json!(2);
    let answer = consumer.chat(&request).await?;
    assert_eq!(contents(&answer).len(), 2);
    assert!(spent(&consumer).await? > 4_000_000);

    // Without a limit each is cut to its share.
    let key = exchange.create_key(Amount::from_grains(6_000_000)).await?;
    let consumer = Consumer::new(&exchange.base_url(), &key, MODEL)?;
    let mut request = consumer.request("Spell 42 in English");
    request["n"] = json!(4);
    let answer = consumer.chat(&request).await?;
    let lengths: Vec<usize> = contents(&answer).iter().map(|text| text.chars().count()).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0] && (20..100).contains(length)), "{lengths:?}");
    assert_eq!(answer["choices"][3]["finish_reason"], "length");
    let channels = consumer.get("/channels").await?;
    assert_eq!(channels["channels"][0]["in_doubt"], 0);
    exchange.stop().await
}

/// What another request of the key holds is waited for, also by several answers.
#[tokio::test(flavor = "multi_thread")]
async fn several_answers_wait_for_what_others_hold() -> Result<()> {
    let script = Script { max_running: 8, pace: Duration::from_millis(2), ..Script::default() };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    let key = exchange.create_key(Amount::from_grains(6_000_000)).await?;
    let consumer = Consumer::new(&exchange.base_url(), &key, MODEL)?;
    // Without a limit: it may cost all that the key has.
    let mut first = consumer.stream(&consumer.request("Go on")).await?;
    first.next().await?.context("it begins")?;
    let mut request = consumer.request("Spell 42 in English");
    request["n"] = json!(2);
    for limit in [None, Some(20)] {
        if let Some(limit) = limit {
            request["max_tokens"] = json!(limit);
        }
        let error = consumer.chat(&request).await.err().context("all is held")?;
        let error = error.downcast_ref::<ApiError>().context("a refusal")?;
        assert_eq!(error.status.as_u16(), 429, "{error}");
    }
    drop(first);
    eventually(|| async {
        ensure!(contents(&consumer.chat(&request).await?).len() == 2, "two");
        Ok(())
    })
    .await?;
    exchange.stop().await
}

/// One choice fails where others do not: it says so, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_choice_that_fails_is_told() -> Result<()> {
    let script = Script { pace: Duration::from_millis(2), ..answers("forty-two", 1) };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42 in English").await?;
    let alone = spent(&consumer).await?;
    let mut request = consumer.request("Spell 42 in English");
    request["n"] = json!(2);
    let answer = consumer.chat(&request).await?;
    let errors = answer["gristmill"]["errors"].as_array().context("errors")?;
    assert_eq!(errors.len(), 1, "{answer}");
    let failed = usize::try_from(errors[0]["index"].as_u64().context("index")?)?;
    assert!(errors[0]["message"].as_str().context("message")?.contains("places are taken"), "{answer}");
    assert_eq!(answer["choices"][failed]["finish_reason"], "error");
    assert_eq!(contents(&answer)[1 - failed], "forty-two");
    assert_eq!(spent(&consumer).await?, 2 * alone);

    let mut stream = consumer.stream(&request).await?;
    let mut ends = Vec::new();
    while let Some(chunk) = stream.next().await? {
        ends.extend(chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned));
    }
    ends.sort();
    assert_eq!(ends, ["error", "stop"]);
    assert_eq!(spent(&consumer).await?, 3 * alone);
    exchange.stop().await
}

/// Together they want more lanes than a channel has.
#[tokio::test(flavor = "multi_thread")]
async fn requests_for_several_do_not_wait_for_each_others_lanes() -> Result<()> {
    let exchange = Exchange::start(Options::instant(answers("forty-two", 128))?).await?;
    let consumer = exchange.consumer()?;
    let mut request = consumer.request("Spell 42 in English");
    request["n"] = json!(16);
    request["max_tokens"] = json!(32);
    let asked: Vec<_> = (0..6).map(|_| consumer.chat(&request)).collect();
    for answer in futures::future::join_all(asked).await {
        assert_eq!(contents(&answer?), ["forty-two"; 16]);
    }
    exchange.stop().await
}

/// One that waits for lanes leaves with its client.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_waits_for_no_lanes() -> Result<()> {
    let script = Script { pace: Duration::from_millis(20), max_running: 128, ..Script::default() };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    let consumer = exchange.consumer()?;
    let mut request = consumer.request("Go on");
    request["max_tokens"] = json!(1_000);
    request["n"] = json!(16);
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut stream = consumer.stream(&request).await?;
        stream.next().await?.context("it begins")?;
        all.push(stream);
    }
    request["n"] = json!(2);
    let waits = tokio::time::timeout(Duration::from_millis(500), consumer.chat(&request)).await;
    assert!(waits.is_err(), "no lane is free");
    let http = gristmill_net::http::client()?;
    let url = format!("{}/metrics", exchange.base_url().trim_end_matches("/v1"));
    eventually(|| async {
        let metrics = http.get(&url).send().await?.text().await?;
        ensure!(metrics.contains("gristmill_gateway_requests_total{outcome=\"gone\"} 1\n"), "{metrics}");
        Ok(())
    })
    .await?;
    drop(all);
    exchange.stop().await
}
