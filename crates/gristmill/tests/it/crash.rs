//! kill -9 and vanished clients, in the middle of a stream: afterwards the books of gateway,
//! processor and ledger agree to the grain.

use crate::exchange::{Exchange, MODEL, grains};
use futures::StreamExt as _;
use gristmill_net::peer::ChannelState;
use serde_json::json;
use std::time::Duration;

/// Asks for a stream and reads so many bytes of it.
async fn begin(exchange: &Exchange, text: &str, bytes: usize) {
    let http = gristmill_net::http::client().unwrap();
    let body = json!({
        "model": MODEL, "stream": true, "temperature": 0,
        "messages": [{"role": "user", "content": text}],
    });
    let request =
        http.post(format!("{}/chat/completions", exchange.base_url())).bearer_auth(exchange.api_key());
    let Ok(answer) = request.json(&body).send().await else { return };
    let mut stream = answer.bytes_stream();
    let mut read = 0;
    while read < bytes {
        match stream.next().await {
            Some(Ok(part)) => read += part.len(),
            _ => return,
        }
    }
}

/// What the processor's receipts say was spent on a channel.
async fn receipts(exchange: &Exchange, channel: &str) -> u128 {
    let url = format!("{}/v1/channels/{channel}", exchange.ready["processor"].as_str().unwrap());
    let body = gristmill_net::http::client().unwrap().get(url).send().await.unwrap().bytes().await.unwrap();
    let lanes = ChannelState::parse(&body).unwrap().lanes;
    lanes.iter().filter_map(|lane| lane.receipt.as_ref()).map(|receipt| receipt.0.body.spent.grains()).sum()
}

/// Gateway, processor and ledger agree to the grain, and nothing is left in doubt or unsettled but
/// what waits for the ledger's grace.
async fn reconciled(exchange: &Exchange) {
    let mut tries = 0;
    loop {
        let channels = exchange.json(&["channel", "list"]);
        let channel = &channels["channels"][0];
        let (spent, settled) = (grains(&channel["spent"]), grains(&channel["settled"]));
        let key = grains(&exchange.status()["key"]["spent"]);
        let said = receipts(exchange, channel["id"].as_str().unwrap()).await;
        let listed = exchange.json(&["receipt", "list", "--limit", "1000"])["receipts"].clone();
        let bought: u128 = listed.as_array().unwrap().iter().map(|of| grains(&of["cost"])).sum();
        // The processor's earnings and the modeler's royalties are what the ledger paid out.
        let in_order =
            channel["in_doubt"] == 0 && spent == said && spent == key && (1..=spent).contains(&settled);
        if in_order && bought == spent {
            break;
        }
        tries += 1;
        assert!(
            tries < 150,
            "gateway {spent}, key {key}, receipts {bought}, processor {said}, settled {settled}: {channel}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_streams() {
    let folder = tempfile::tempdir().unwrap();
    let mut exchange = Exchange::start(folder.path());
    exchange.json(&["ask", "Spell 1 in English"]);
    for round in 0..3_u64 {
        let streams = (0..3).map(|n| {
            let text = format!("Spell {} in German", 777_777 - n * 1_111);
            let exchange = &exchange;
            async move { begin(exchange, &text, 300).await }
        });
        let pause = tokio::time::sleep(Duration::from_millis(150 + round * 170));
        tokio::select! {
            _ = futures::future::join_all(streams) => {}
            () = pause => {}
        }
        exchange.kill();
        exchange = Exchange::start(folder.path());
        let answer = exchange.json(&["ask", "Spell 2 in English"]);
        assert_eq!(answer["answer"], "two");
        reconciled(&exchange).await;
    }
    let listed = exchange.json(&["receipt", "list"])["receipts"].clone();
    let crashed = listed.as_array().unwrap().iter().filter(|of| of["kept"] == "nothing").count();
    assert!(crashed > 0 && listed.as_array().unwrap().iter().all(|of| of["model"] == MODEL), "{listed}");
    exchange.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    for bytes in [1, 200, 600] {
        begin(&exchange, "Spell 777777 in German", bytes).await;
    }
    let answer = exchange.json(&["ask", "Spell 2 in English"]);
    assert_eq!(answer["answer"], "two");
    reconciled(&exchange).await;
    // What broke off has a receipt that holds, too.
    let listed = exchange.json(&["receipt", "list"])["receipts"].clone();
    assert!(listed.as_array().unwrap().len() > 1, "{listed}");
    for of in listed.as_array().unwrap() {
        let receipt = exchange.json(&["receipt", "show", of["id"].as_str().unwrap()]);
        let file = folder.path().join("receipt.json");
        std::fs::write(&file, receipt.to_string()).unwrap();
        let verified = exchange.json(&["receipt", "verify", file.to_str().unwrap()]);
        assert_eq!(verified["receipt"]["kept"], of["kept"]);
    }
    exchange.stop();
}

/// A crash under full load leaves every lane with a receipt that nobody approved. None of them may be out
/// of use for the ledger's grace, a quarter of an hour.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_free_soon_after_a_kill_under_full_load() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let streams = (0..64).map(|_| begin(&exchange, "Spell 777777 in English", 600));
    futures::future::join_all(streams).await;
    exchange.kill();
    let exchange = Exchange::start(folder.path());
    let mut tries = 0;
    while !exchange.run(&["ask", "Spell 1 in English"]).status.success() {
        tries += 1;
        assert!(tries < 4, "{}", exchange.json(&["channel", "list"]));
    }
    let settled = || {
        let channel = exchange.json(&["channel", "list"])["channels"][0].clone();
        (grains(&channel["spent"]), grains(&channel["settled"]))
    };
    let mut tries = 0;
    while settled().0 != settled().1 {
        tries += 1;
        assert!(tries < 100, "{:?}", settled());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}
