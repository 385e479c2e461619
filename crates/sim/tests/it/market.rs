//! Finding a model: on a ledger full of others, and through a node that says what is not.

use crate::way::{Fate, Way};
use anyhow::{Context as _, Result, ensure};
use gristmill_ledger::{keys, tx::RegisterForeign};
use gristmill_sim::{Answers, Consumer, Exchange, InstantEngine, ModelOptions, Options, Script};
use gristmill_types::{Digest, sha256};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

const MODEL: &str = "sim/instant";

fn says(text: &str) -> Script {
    Script { answers: Answers::Text(text.to_owned()), ..Script::default() }
}

async fn names(consumer: &Consumer) -> Result<Vec<Value>> {
    let models = consumer.get("/models").await?;
    Ok(models["data"].as_array().context("a list")?.iter().map(|of| of["id"].clone()).collect())
}

/// A number of the question.
fn number(query: &str, name: &str) -> u64 {
    let mut parts = query.split('&').filter_map(|part| part.split_once('='));
    parts.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

/// The page of a listing, on a ledger where so many others come before the real ones.
fn crowded(mut real: Value, list: &str, others: u64, query: &str) -> Value {
    let items = real[list].as_array().cloned().unwrap_or_default();
    let all = others + items.len() as u64;
    let from = number(query, "skip").min(all);
    let page = (from..all).take(usize::try_from(number(query, "limit")).unwrap()).map(|index| {
        if index >= others {
            return items[usize::try_from(index - others).unwrap()].clone();
        }
        let mut other = items[0].clone();
        let id = json!(format!("{index:064x}"));
        if list == "models" {
            other["model"]["model"] = id.clone();
            other["model"]["name"] = json!(format!("other/{index}"));
            other["line"]["latest"] = id;
        } else {
            other["model"] = id;
        }
        other
    });
    let page: Vec<Value> = page.collect();
    real[list] = json!(page);
    real["total"] = json!(all);
    real
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_full_of_other_models_hides_none() -> Result<()> {
    let others = Arc::new(AtomicU64::new(1_500));
    let of = Arc::clone(&others);
    let mut options = Options::instant(says("forty-two"))?;
    let way = Way::open(move |request| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let query = query.to_owned();
        let list = path.trim_start_matches("/v1/").to_owned();
        if !["models", "offers"].contains(&list.as_str()) || query.contains("model=") {
            return Fate::Pass;
        }
        let others = of.load(Ordering::SeqCst);
        let change = move |real| crowded(real, &list, others, &query);
        Fate::Instead(path.to_owned(), Arc::new(change))
    })
    .await?;
    options.ledger = way.before_ledger();
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    // On the second page, and therefore on the list.
    assert_eq!(consumer.ask("Spell 42").await?["choices"][0]["message"]["content"], "forty-two");
    let listed = names(&consumer).await?;
    assert_eq!((listed.len(), listed.last()), (1_501, Some(&json!(MODEL))));
    // Beyond all that is looked at: it is not listed, and there all the same.
    others.store(1_000_000, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(consumer.ask("Spell 42").await?["choices"][0]["message"]["content"], "forty-two");
    assert_eq!(consumer.get(&format!("/models/{MODEL}")).await?["id"], MODEL);
    let listed = names(&consumer).await?;
    assert!(listed.len() == 10_000 && !listed.contains(&json!(MODEL)), "{}", listed.len());
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_sell_one_model_under_the_name_of_another() -> Result<()> {
    let (mine, other) = ("sim/mine", "sim/other");
    let models = [(mine, "forty-two"), (other, "seventeen")].map(|(name, text)| {
        anyhow::Ok(ModelOptions::new(name, Arc::new(InstantEngine::starter(says(text))?)))
    });
    let mut options = Options::new(models.into_iter().collect::<Result<_>>()?);
    let lines = [mine, other].map(|name| keys::line(&keys::line_id(name)).to_string());
    let proves_other = Arc::new(AtomicBool::new(false));
    let of = Arc::clone(&proves_other);
    let way = Way::open(move |request| {
        let path = request.path.clone();
        if path.starts_with("/v1/models") {
            let renamed = move |mut real: Value| {
                for info in real["models"].as_array_mut().into_iter().flatten() {
                    let name = if info["model"]["name"] == mine { other } else { mine };
                    info["model"]["name"] = json!(name);
                }
                real
            };
            return Fate::Instead(path, Arc::new(renamed));
        }
        if path.starts_with("/v1/state") && of.load(Ordering::SeqCst) {
            return Fate::Instead(path.replace(&lines[0], &lines[1]), Arc::new(|real| real));
        }
        Fate::Pass
    })
    .await?;
    options.ledger = way.before_ledger();
    let exchange = Exchange::start(options).await?;
    let consumer = exchange.consumer()?;
    let answer = consumer.ask("Spell 42").await?;
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two", "{answer}");
    let receipts = consumer.get("/receipts").await?;
    assert_eq!(receipts["receipts"][0]["model"], mine);
    // The proof of another line is none.
    proves_other.store(true, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let error = consumer.ask("Spell 42").await.err().context("it is refused")?.to_string();
    ensure!(error.contains("proved something else"), "{error}");
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_called_by_the_id_of_a_model_gets_none_of_its_requests() -> Result<()> {
    let exchange = Exchange::start(Options::instant(says("forty-two"))?).await?;
    let id = exchange.model(0).to_string();
    let register = |salt| RegisterForeign {
        model: sha256(&[b"another"]).into(),
        name: id.clone(),
        licence: "MIT".to_owned(),
        tokenizer: Digest::new([1; 32]),
        engine: "any".to_owned(),
        size_bytes: 1,
        salt,
    };
    exchange.sender(&exchange.keys().modeler).publish(register).await?;
    let consumer = Consumer::new(&exchange.base_url(), exchange.api_key(), &id)?;
    let answer = consumer.ask("Spell 42").await?;
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    exchange.stop().await
}
