//! Deposits: requests that need more than is in the channel, and ledgers that answer too late.

use crate::way::{Fate, Way};
use anyhow::{Context as _, Result, ensure};
use gristmill_ledger::tx::Transfer;
use gristmill_net::openai::ApiError;
use gristmill_processor::Compute;
use gristmill_sim::{Answers, Consumer, Exchange, InstantEngine, Options, Script};
use gristmill_types::Amount;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What a token costs, in grains.
const TOKEN: u128 = 20_000;

/// An exchange whose channels hold no more than so many tokens, and whose ledger hears nothing of payments.
fn options(deposit: u128) -> Result<Options> {
    let mut options = Options::instant(Script::default())?;
    options.params.min_deposit = Amount::from_grains(1);
    options.processor = Box::new(|config| {
        config.settle_after = Duration::from_secs(3_600);
        config.settle_at_latest = Duration::from_secs(3_600);
    });
    options.gateway = Box::new(move |config| {
        config.deposit = Amount::from_grains(deposit * TOKEN);
        config.ahead = Amount::ZERO;
    });
    Ok(options)
}

/// An answer of so many tokens.
async fn buy(consumer: &Consumer, tokens: u64) -> Result<()> {
    let mut request = consumer.request("Spell 42");
    request["max_tokens"] = json!(tokens);
    let answer = consumer.chat(&request).await?;
    ensure!(answer["usage"]["completion_tokens"] == tokens, "{answer}");
    Ok(())
}

async fn balance(exchange: &Exchange) -> Result<u128> {
    let account = exchange.keys().consumer.account();
    Ok(exchange.ledger().balance(&account, &exchange.issuer()).await?.value.grains())
}

/// The deposit of the only channel.
async fn deposit(consumer: &Consumer) -> Result<u128> {
    let channels = consumer.get("/channels").await?;
    ensure!(channels["channels"].as_array().map(Vec::len) == Some(1), "{channels}");
    amount(&channels["channels"][0]["deposit"])
}

fn amount(value: &Value) -> Result<u128> {
    Ok(value.as_str().context("an amount")?.parse()?)
}

/// All see that the idle lane lacks a little, and one of them gets it: the others find more than that, and need more.
#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_that_need_top_ups_are_all_answered() -> Result<()> {
    let mut options = options(300)?;
    // A short answer leaves its lane much of what was reserved, and is slow enough for all to come meanwhile.
    let answers = Answers::Text("forty-two".to_owned());
    let script = Script { answers, prefill: Duration::from_secs(1), ..Script::default() };
    options.models[0].compute = Compute::Answers(Arc::new(InstantEngine::starter(script)?));
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let ask = |tokens: u64| {
        let consumer = consumer.clone();
        let mut request = consumer.request("Spell 42");
        request["max_tokens"] = json!(tokens);
        tokio::spawn(async move { consumer.chat(&request).await })
    };
    ask(250).await??;
    let calls: Vec<_> = (0..12).map(|_| ask(300)).collect();
    for call in calls {
        assert_eq!(call.await??["choices"][0]["message"]["content"], "forty-two");
    }
    exchange.stop().await
}

/// A channel gets a part of what the account has, and a top-up is of what is missing: what is free in the channel and
/// what the account holds suffice together, and neither does alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_is_of_what_is_missing() -> Result<()> {
    let exchange = Exchange::start(options(300)?).await?;
    let fees = &exchange.genesis().params.fees;
    let fees = (fees.transfer.grains(), fees.open_channel.grains() + fees.top_up.grains());
    let left = (300 + 250) * TOKEN + fees.1;
    let rest = balance(&exchange).await? - fees.0 - left;
    let give = Transfer {
        to: exchange.keys().modeler.account(),
        issuer: exchange.issuer(),
        amount: Amount::from_grains(rest),
    };
    exchange.sender(&exchange.keys().consumer).send(give).await?;
    let consumer = exchange.consumer()?;
    buy(&consumer, 1).await?;
    assert!((1..300 * TOKEN).contains(&deposit(&consumer).await?), "not all that is there");
    // More than is free in it, and more than a part of the rest: what is missing is added, and no more.
    buy(&consumer, 400).await?;
    let channels = consumer.get("/channels").await?;
    assert_eq!(channels["channels"][0]["free"], "0", "{channels}");
    assert!(deposit(&consumer).await? < 550 * TOKEN);
    // What can never be bought, prompt included, brings nothing into the channel, whoever asks for it without a limit.
    let (held, left) = (deposit(&consumer).await?, balance(&exchange).await?);
    let poor = exchange.create_key(Amount::from_grains(TOKEN)).await?;
    for (key, words) in [(exchange.api_key(), 600), (poor.as_str(), 1)] {
        let other = Consumer::new(&exchange.base_url(), key, "sim/instant")?;
        let request = other.request(&"Spell 42 ".repeat(words));
        let error = other.chat(&request).await.err().context("it is refused")?;
        ensure!(error.to_string().contains("credits"), "{error}");
        assert_eq!((deposit(&consumer).await?, balance(&exchange).await?), (held, left), "{error}");
    }
    // More than both together hold.
    let error = buy(&consumer, 500).await.err().context("it is refused")?;
    assert!(error.to_string().contains("are needed"), "{error}");
    exchange.stop().await
}

/// Nor for an account that could not: what it has stays for what it can pay.
#[tokio::test(flavor = "multi_thread")]
async fn no_channel_is_opened_for_what_the_account_cannot_pay() -> Result<()> {
    let exchange = Exchange::start(options(300)?).await?;
    let rest = balance(&exchange).await? - 200 * TOKEN - exchange.genesis().params.fees.open_channel.grains();
    let fee = exchange.genesis().params.fees.transfer.grains();
    let give = Transfer {
        to: exchange.keys().modeler.account(),
        issuer: exchange.issuer(),
        amount: Amount::from_grains(rest - fee),
    };
    exchange.sender(&exchange.keys().consumer).send(give).await?;
    let (consumer, before) = (exchange.consumer()?, balance(&exchange).await?);
    let error = buy(&consumer, 300).await.err().context("it is refused")?;
    assert_eq!(error.downcast::<ApiError>()?.status.as_u16(), 402);
    assert_eq!(consumer.get("/channels").await?["channels"].as_array().map(Vec::len), Some(0));
    assert_eq!(balance(&exchange).await?, before);
    // What it can pay is in the channel at once.
    buy(&consumer, 150).await?;
    exchange.stop().await
}

/// A key that could not pay for what it asks, however often it does, has no channel opened.
#[tokio::test(flavor = "multi_thread")]
async fn no_channel_is_opened_for_a_key_that_cannot_pay() -> Result<()> {
    let exchange = Exchange::start(options(300)?).await?;
    let before = balance(&exchange).await?;
    let key = exchange.create_key(Amount::from_grains(100 * TOKEN)).await?;
    let poor = Consumer::new(&exchange.base_url(), &key, "sim/instant")?;
    let mut dear = poor.request("Go on");
    dear["max_tokens"] = 200.into();
    for request in [dear, poor.request(&"Spell 42 ".repeat(600))] {
        let error = poor.chat(&request).await.err().context("it is refused")?;
        assert_eq!(error.downcast::<ApiError>()?.status.as_u16(), 402);
    }
    assert_eq!(poor.get("/channels").await?["channels"].as_array().map(Vec::len), Some(0));
    assert_eq!(balance(&exchange).await?, before);
    // What it can pay, it gets.
    poor.ask("Go on").await?;
    exchange.stop().await
}

/// A ledger that takes transactions, and then cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_final_unseen_is_not_paid_again() -> Result<()> {
    let mut options = options(300)?;
    let (fails, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let of = (Arc::clone(&fails), Arc::clone(&sent));
    let way = Way::open(move |request| {
        let (fails, sent) = &of;
        if request.method == "POST" {
            sent.store(true, Ordering::SeqCst);
        } else if fails.load(Ordering::SeqCst)
            && sent.load(Ordering::SeqCst)
            && request.path.starts_with("/v1/state")
        {
            return Fate::Lost;
        }
        Fate::Pass
    })
    .await?;
    options.ledger = way.before_ledger();
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let before = balance(&exchange).await?;
    let fees = &exchange.genesis().params.fees;
    // An opening, then a top-up.
    let mut cost = 0;
    for (tokens, held, fee) in [(100, 300, fees.open_channel), (400, 600, fees.top_up)] {
        sent.store(false, Ordering::SeqCst);
        fails.store(true, Ordering::SeqCst);
        assert!(buy(&consumer, tokens).await.is_err(), "what was sent cannot be seen");
        assert!(sent.load(Ordering::SeqCst));
        fails.store(false, Ordering::SeqCst);
        buy(&consumer, tokens).await?;
        cost += fee.grains();
        assert_eq!(deposit(&consumer).await?, held * TOKEN);
        assert_eq!(before - balance(&exchange).await?, held * TOKEN + cost);
    }
    exchange.stop().await
}
