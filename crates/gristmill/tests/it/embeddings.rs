//! A model of embeddings: published like any other, sold by the tokens of the texts, and made again from
//! its receipt.

use crate::{
    clients::{javascript_client, python_client},
    exchange::{Exchange, MODEL, grains},
    sell::post,
};
use gristmill_net::openai::read_vectors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NAME: &str = "me/vectors";

/// A small BERT, and what another implementation makes of some texts with it.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/bert-mean")
}

fn golden() -> Value {
    let file = std::fs::read(folder().join("vectors.json")).unwrap();
    let all: Value = serde_json::from_slice(&file).unwrap();
    let (mut texts, mut vectors, mut tokens) = (Vec::new(), Vec::new(), 0);
    let parts = ["texts", "vectors", "ids"].map(|name| all[name].as_array().unwrap());
    for ((text, vector), ids) in parts[0].iter().zip(parts[1]).zip(parts[2]) {
        // The API takes no empty text.
        if text != "" {
            texts.push(text.clone());
            vectors.push(vector.clone());
            tokens += ids.as_array().unwrap().len();
        }
    }
    json!({"texts": texts, "vectors": vectors, "tokens": tokens})
}

fn publish(exchange: &Exchange) -> String {
    let published = exchange.json(&["model", "publish", folder().to_str().unwrap(), "--name", NAME]);
    assert_eq!(published["new"], true);
    let files: Vec<&str> =
        published["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(files.contains(&"1_Pooling/config.json"), "{files:?}");
    exchange.wait_for("serving");
    published["model"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_sold_and_made_again() {
    let home = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(home.path());
    let version = publish(&exchange);
    let golden = golden();
    let before = grains(&exchange.status()["key"]["spent"]);
    let (status, text) =
        post(&exchange, "/embeddings", json!({"model": NAME, "input": golden["texts"]})).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200, "{text}");
    let first = answer["data"][0]["embedding"].as_array().unwrap();
    let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5;
    assert!(first.iter().zip(golden["vectors"][0].as_array().unwrap()).all(|(a, b)| near(a, b)));

    // Paid by the tokens of the texts alone.
    let cost = u128::from(golden["tokens"].as_u64().unwrap()) * 10_000;
    assert_eq!(grains(&exchange.status()["key"]["spent"]) - before, cost);
    let settled = exchange.wait_for("settled");
    assert_eq!(grains(&settled["earned"]) + grains(&settled["royalty"]), cost);
    assert_eq!(grains(&settled["royalty"]), cost / 10);
    let offers = exchange.json(&["market", NAME])["offers"].clone();
    assert_eq!(offers[0]["prices"]["output_per_mtok"], "0");

    // The receipt commits to the vectors, which can be made again; another model makes others.
    let receipt = exchange.json(&["receipt", "show", answer["gristmill"]["receipt"].as_str().unwrap()]);
    let kept = read_vectors(receipt["answer"].as_str().unwrap()).unwrap();
    assert_eq!(kept.len(), golden["texts"].as_array().unwrap().len());
    let file = home.path().join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let model = home.path().join("models").join(version);
    let verified = exchange.json(&["receipt", "verify", file, "--model", model.to_str().unwrap()]);
    assert_eq!((&verified["holds"], &verified["recomputed"]), (&json!(true), &golden["tokens"]));
    let mut altered = receipt.clone();
    let mut lines: Vec<&str> = receipt["answer"].as_str().unwrap().split_inclusive('\n').collect();
    lines.swap(0, 1);
    altered["answer"] = json!(lines.concat());
    std::fs::write(file, altered.to_string()).unwrap();
    assert!(!exchange.run(&["receipt", "verify", file]).status.success());

    // What is not for it, or too long, costs nothing.
    let spent = exchange.status()["key"]["spent"].clone();
    for (path, body, about) in [
        ("/embeddings", json!({"model": NAME, "input": "mill ".repeat(500)}), "tokens"),
        ("/embeddings", json!({"model": NAME, "input": "a", "dimensions": 3}), "dimensions"),
        ("/embeddings", json!({"model": MODEL, "input": "a"}), "chat/completions"),
        ("/completions", json!({"model": NAME, "prompt": "a"}), "embeddings"),
        (
            "/chat/completions",
            json!({"model": NAME, "messages": [{"role": "user", "content": "a"}]}),
            "embeddings",
        ),
    ] {
        let (status, text) = post(&exchange, path, body).await;
        assert!(status == 400 && text.contains(about), "{path} {about}: {status} {text}");
    }
    assert_eq!(exchange.status()["key"]["spent"], spent);
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}

#[test]
fn official_clients() {
    let home = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(home.path());
    publish(&exchange);
    let with = |command: &mut std::process::Command| {
        command.env("GRISTMILL_MODEL", NAME).env("GRISTMILL_CHAT", MODEL);
        command.env("GRISTMILL_GOLDEN", golden().to_string());
    };
    python_client(&exchange, include_str!("clients/embeddings.py"), with);
    javascript_client(&exchange, include_str!("clients/embeddings.js"), with);
    exchange.stop();
}
