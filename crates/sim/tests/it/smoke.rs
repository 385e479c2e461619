//! A prompt is answered, paid and settled to the grain, also after each side was stopped or killed.

use anyhow::{Context as _, Result};
use gristmill_gateway::Event as GatewayEvent;
use gristmill_ledger::{
    keys,
    record::{Debt, Stored},
};
use gristmill_processor::Event as ProcessorEvent;
use gristmill_sim::{Answers, Exchange, Occurrence, Options, Script};
use gristmill_types::{Amount, SecretKey};
use serde_json::json;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn settled(of: &Occurrence) -> Option<(Amount, Amount, Amount)> {
    match of {
        Occurrence::Processor(ProcessorEvent::Settled { earned, royalty, fee, .. }) => {
            Some((*earned, *royalty, *fee))
        }
        _ => None,
    }
}

/// What the gateway says that it spent on its one channel, and what the ledger says is settled.
async fn books(exchange: &Exchange) -> Result<(u128, u128)> {
    let list = exchange.consumer()?.get("/channels").await?;
    let [channel] = list["channels"].as_array().context("a list")?.as_slice() else {
        anyhow::bail!("not one channel: {list}")
    };
    let text = |member: &str| channel[member].as_str().context("text");
    let found = exchange.ledger().channel(&text("id")?.parse()?).await?.value;
    let settled = found.context("the ledger has the channel")?.channel.settled;
    Ok((text("spent")?.parse()?, settled.grains()))
}

/// Waits until everything that the gateway spent is settled, and says how much that is. The ledger is
/// asked: the gateway hears of it later, and a processor that was killed may have settled without a word.
async fn settled_books(exchange: &Exchange) -> Result<u128> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (spent, settled) = books(exchange).await?;
        if settled == spent {
            return Ok(spent);
        }
        anyhow::ensure!(Instant::now() < deadline, "{settled} of {spent} grains are settled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn paid(of: &Occurrence) -> Option<u128> {
    match of {
        Occurrence::Gateway(GatewayEvent::Paid { cost, .. }) => Some(cost.grains()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_answered_paid_and_settled() -> Result<()> {
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let exchange = Exchange::start(Options::instant(script)?).await?;
    let issuer = exchange.issuer();
    let processor = exchange.keys().processor.account();
    let before = exchange.ledger().balance(&processor, &issuer).await?.value;

    let answer = exchange.consumer()?.ask("Spell 42 in English").await?;
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let tokens = |kind: &str| answer["usage"][kind].as_u64().expect("a count");
    // Nine letters and the id that ends the answer, at 10 and 20 credits per million tokens.
    assert_eq!(tokens("completion_tokens"), 10);
    let cost = u128::from(tokens("prompt_tokens")) * 10_000 + 10 * 20_000;
    assert_eq!(exchange.journal().first(PATIENCE, paid).await?, cost);

    let (earned, royalty, fee) = exchange.journal().first(PATIENCE, settled).await?;
    assert_eq!(earned.grains() + royalty.grains(), cost);
    assert_eq!(royalty.grains(), cost / 10);
    let after = exchange.ledger().balance(&processor, &issuer).await?.value;
    assert_eq!(after.grains(), before.grains() + earned.grains() - fee.grains());
    assert_eq!(settled_books(&exchange).await?, cost);
    assert!(exchange.ledger().supply().await?.adds_up);
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_can_be_stopped_killed_and_started_again() -> Result<()> {
    let mut exchange = Exchange::start(Options::instant(Script::default())?).await?;
    let consumer = exchange.consumer()?;
    let mut request = consumer.request("Go on");
    request["max_tokens"] = json!(100);
    let (text, _) = consumer.stream(&request).await?.rest().await?;
    assert_eq!(text.chars().count(), 100);
    let once = settled_books(&exchange).await?;
    for (round, answers) in [("stop both", 2), ("kill the processor", 3), ("kill the gateway", 4)] {
        match round {
            "kill the processor" => exchange.kill_processor().await?,
            "kill the gateway" => exchange.kill_gateway().await?,
            _ => {
                exchange.stop_gateway().await?;
                exchange.stop_processor().await?;
                assert!(consumer.chat(&request).await.is_err(), "nobody listens");
                exchange.start_processor().await?;
                exchange.start_gateway().await?;
            }
        }
        match round {
            "kill the processor" => exchange.start_processor().await?,
            "kill the gateway" => exchange.start_gateway().await?,
            _ => {}
        }
        let answer = consumer.chat(&request).await?;
        assert_eq!(answer["usage"]["completion_tokens"], 100, "{round}");
        // All of it arrives, on the channel of the first answer.
        assert_eq!(settled_books(&exchange).await?, answers * once, "{round}");
    }
    assert!(exchange.ledger().supply().await?.adds_up);
    exchange.stop().await
}

/// A processor with an empty account registers, sells and is paid; its fees come out of what it earns.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_sells_without_credits() -> Result<()> {
    let newcomer = SecretKey::from_seed(&[77; 32]);
    let account = newcomer.account();
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let mut options = Options::instant(script)?;
    options.processor = Box::new(move |config| config.account = newcomer.clone());
    let exchange = Exchange::start(options).await?;
    let (ledger, issuer) = (exchange.ledger(), exchange.issuer());
    let fees = &exchange.genesis().params.fees;
    let owes = async || -> Result<u128> {
        let found = ledger.state(&[keys::debt(&account)]).await?.value;
        Ok(found.iter().flatten().find_map(Debt::of).map_or(0, |debt| debt.amount.grains()))
    };
    let debt = fees.register_processor.grains() + fees.post_offer.grains();
    assert_eq!(owes().await?, debt);

    exchange.consumer()?.ask("Spell 42 in English").await?;
    let (earned, _, fee) = exchange.journal().first(PATIENCE, settled).await?;
    assert!(earned.grains() > debt + fee.grains());
    assert_eq!(owes().await?, 0);
    let balance = ledger.balance(&account, &issuer).await?.value;
    assert_eq!(balance.grains(), earned.grains() - fee.grains() - debt);
    assert!(ledger.supply().await?.adds_up);
    exchange.stop().await
}
