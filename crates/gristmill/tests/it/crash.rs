//! kill -9 and vanished clients, in the middle of a stream: afterwards the books of gateway,
//! processor and ledger agree to the grain.

use crate::exchange::{Exchange, MODEL, grains};
use futures::StreamExt as _;
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

/// Gateway, processor and ledger agree, and nothing is left in doubt.
fn reconciled(exchange: &Exchange) {
    let spent = exchange.until("the books to agree", |exchange| {
        let channels = exchange.json(&["channel", "list"]);
        let channel = channels["channels"].as_array()?.first()?.clone();
        let (spent, settled) = (grains(&channel["spent"]), grains(&channel["settled"]));
        let in_doubt = channel["in_doubt"].as_u64()?;
        // The smallest settlement that is worth its fee is 100 000 grains.
        (in_doubt == 0 && spent >= settled && spent - settled < 100_000).then_some(spent)
    });
    let supply = exchange.json(&["ledger", "supply"]);
    assert_eq!(supply["adds_up"], true);
    let key = exchange.json(&["status"])["key"].clone();
    assert_eq!(grains(&key["spent"]), spent, "the key's budget and the channel agree");
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
        reconciled(&exchange);
    }
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
    reconciled(&exchange);
    exchange.stop();
}
