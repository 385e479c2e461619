//! Sellers that fail, and accounts that cannot pay the cheapest: who answers then, what is paid, and what the client gets.

use crate::{
    exchange::{Exchange, grains},
    peer::{Step, events, json, text},
    sell::{ANSWER, CHAT, NAME, chat, good, post, probes, server, settled},
};
use serde_json::{Value, json as value};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Where the cheapest seller's server fails before its first word, the next one answers; what could be paid was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_whose_server_fails_is_left_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let breaks = Arc::new(AtomicBool::new(false));
    let of = Arc::clone(&breaks);
    let cheap = server(move |asked| match of.load(Ordering::SeqCst) && !probes(asked) {
        true => vec![json("500 Internal Server Error", r#"{"error":{"message":"CUDA error"}}"#)],
        false if asked.body["messages"][0]["content"] == "no" => {
            vec![json("422 Unprocessable Entity", r#"{"error":{"message":"not that"}}"#)]
        }
        false => good(asked),
    })
    .await;
    let dear = server(good).await;
    let exchange = Exchange::start(folder.path());
    let first = Exchange::sell(folder.path(), &["--upstream", &cheap.url, "--output-price", "1"]);
    let second = Exchange::sell(folder.path(), &["--upstream", &dear.url, "--wallet", "second"]);
    let ask = || exchange.json(&["ask", "--model", NAME, "Salem"]);
    let receipts = || exchange.json(&["receipt", "list"])["receipts"].clone();
    assert_eq!(ask()["processor"], first.ready["processor"], "the cheaper one is asked");
    // A request that its server refuses goes to no other, and says nothing of the seller.
    let (status, text) = post(&exchange, CHAT, chat(NAME, "no")).await;
    assert!(status == 400 && text.contains("not that"), "{status} {text}");
    // Nor does a stream begin for it.
    let mut body = chat(NAME, "no");
    body["stream"] = value!(true);
    let (status, text) = post(&exchange, CHAT, body).await;
    assert!(status == 400 && text.contains("not that"), "{status} {text}");
    assert_eq!(ask()["processor"], first.ready["processor"]);

    breaks.store(true, Ordering::SeqCst);
    let answer = ask();
    assert_eq!((&answer["answer"], &answer["processor"]), (&value!(ANSWER), &second.ready["processor"]));
    // The attempt is on record, and was free.
    let listed = receipts();
    assert_eq!(
        (&listed[0]["processor"], &listed[1]["processor"]),
        (&answer["processor"], &first.ready["processor"])
    );
    assert_eq!(grains(&listed[1]["cost"]), 0);
    // It is avoided now.
    let asked = cheap.asked().len();
    assert_eq!(ask()["processor"], second.ready["processor"]);
    assert_eq!(cheap.asked().len(), asked);

    // Whole answers, several of them, and a server that cannot be reached: as soon as it is asked again.
    cheap.end().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut body = chat(NAME, "Salem");
    body["n"] = value!(2);
    let (status, text) = post(&exchange, CHAT, body).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["choices"][1]["message"]["content"]), (200, &value!(ANSWER)), "{text}");
    assert_eq!(answer["gristmill"]["processor"], second.ready["processor"]);
    // From then on it takes no orders: whoever comes is told before a channel is opened.
    let http = gristmill_net::http::client().unwrap();
    let url = format!("{}/v1{CHAT}", first.ready["endpoint"].as_str().unwrap());
    let body = chat(first.ready["model"].as_str().unwrap(), "Salem").to_string();
    assert_eq!(http.post(url).body(body).send().await.unwrap().status(), 503);
    settled(&exchange, &second.ready["processor"]).await;
    let channels = exchange.json(&["channel", "list"])["channels"].clone();
    assert!(channels.as_array().unwrap().iter().all(|channel| channel["in_doubt"] == 0), "{channels}");
    // Nobody else sells it: the client is told what happened.
    second.stop();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (status, text) = post(&exchange, CHAT, chat(NAME, "Salem")).await;
    assert_eq!(status, 503, "{text}");
    first.stop();
    exchange.stop();
}

/// The sum of a metric's lines with this label.
fn counted(metrics: &str, name: &str, label: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// How often the gateway found that the seller failed.
fn errors(metrics: &str, seller: &Exchange) -> f64 {
    let account = seller.ready["processor"].as_str().unwrap();
    counted(metrics, "gristmill_gateway_upstream_errors_total", account)
}

/// A key that cannot pay the next seller is told why the first one failed, and not that it has too little.
#[tokio::test(flavor = "multi_thread")]
async fn want_of_credits_for_the_next_hides_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let cheap = server(|asked| match probes(asked) {
        true => good(asked),
        false => vec![json("500 Internal Server Error", r#"{"error":{"message":"CUDA error"}}"#)],
    })
    .await;
    let dear = server(|asked| match asked.body["messages"][0]["content"] == "no" {
        true => vec![json("422 Unprocessable Entity", r#"{"error":{"message":"not that"}}"#)],
        false => good(asked),
    })
    .await;
    let exchange = Exchange::start(folder.path());
    let first = Exchange::sell(folder.path(), &["--upstream", &cheap.url, "--output-price", "1"]);
    let second = Exchange::sell(
        folder.path(),
        &["--upstream", &dear.url, "--wallet", "second", "--output-price", "1000"],
    );
    let key = exchange.json(&["api-key", "create", "small", "--budget", "0.01"]);
    let mut body = chat(NAME, "Salem");
    body["max_tokens"] = value!(500);
    let http = gristmill_net::http::client().unwrap();
    let url = format!("{}{CHAT}", exchange.base_url());
    let answer = http.post(url).bearer_auth(key["key"].as_str().unwrap()).json(&body).send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert!(status >= 500 && text.contains("CUDA error"), "{status} {text}");
    // It is counted once, for the one that failed, and as one request.
    let metrics = http.get(format!("{}/metrics", exchange.base_url().trim_end_matches("/v1")));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert_eq!((errors(&metrics, &first), errors(&metrics, &second)), (1.0, 0.0), "{metrics}");
    assert_eq!(counted(&metrics, "gristmill_gateway_requests_total", "outcome"), 1.0, "{metrics}");
    // What the second one says of the request is worth more than that the first one failed.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let (status, text) = post(&exchange, CHAT, chat(NAME, "no")).await;
    assert!(status == 400 && text.contains("not that"), "{status} {text}");
    let metrics = http.get(format!("{}/metrics", exchange.base_url().trim_end_matches("/v1")));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert_eq!(errors(&metrics, &first), 2.0, "the first was asked again: {metrics}");
    second.stop();
    first.stop();
    exchange.stop();
}

/// An account that cannot open a channel to the cheapest buys where it has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_to_another_is_used_where_nothing_is_left_for_one_to_the_cheapest() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(good).await;
    let exchange = Exchange::start(folder.path());
    let first = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    let ask = || exchange.json(&["ask", "--model", NAME, "Salem"]);
    assert_eq!(ask()["processor"], first.ready["processor"]);
    let rest = gristmill_types::Amount::from_grains(exchange.balance("consumer") - 10_000);
    exchange.json(&["wallet", "send", &rest.to_string(), "modeler"]);
    let cheaper = Exchange::sell(
        folder.path(),
        &["--upstream", &peer.url, "--wallet", "second", "--output-price", "1"],
    );
    assert_eq!(exchange.json(&["market", NAME])["offers"].as_array().unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask()["processor"], first.ready["processor"]);
    assert_eq!(exchange.json(&["channel", "list"])["channels"].as_array().unwrap().len(), 1);
    // Nobody is blamed for that: with credits the cheapest is asked.
    exchange.json(&["wallet", "send", "10", "consumer", "--from", "modeler"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask()["processor"], cheaper.ready["processor"]);
    cheaper.stop();
    first.stop();
    exchange.stop();
}

/// Whoever ends in mid-answer, the client gets what had come, and is not made to pay for it again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_had_come_is_given_when_a_side_ends() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(|asked| {
        if probes(asked) {
            return good(asked);
        }
        vec![events(&[]), Step::Repeat(text("on and on ").into_bytes(), Duration::from_millis(50))]
    })
    .await;
    let mut exchange = Exchange::start(folder.path());
    let mut seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    let account = seller.ready["processor"].clone();
    for (stops_exchange, stream) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut body = chat(NAME, "on");
        body["stream"] = value!(stream);
        let url = format!("{}{CHAT}", exchange.base_url());
        let http = gristmill_net::http::client().unwrap();
        let request = http.post(url).bearer_auth(exchange.api_key()).json(&body);
        let answer = tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            let retry = answer.headers().get("x-should-retry").cloned();
            (answer.status().as_u16(), retry, answer.text().await.unwrap())
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        if stops_exchange {
            exchange.stop();
            exchange = Exchange::start(folder.path());
        } else {
            seller.signal("-KILL");
            seller.ended(Duration::from_secs(10));
        }
        let (status, retry, text) = answer.await.unwrap();
        let error = match stream {
            true => text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("data: {"))
                .map(|rest| format!("{{{rest}")),
            false => Some(text.clone()),
        };
        let error: Value = serde_json::from_str(&error.unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "answer_cut", "{text}");
        let partial = &error["partial"];
        assert!(partial["usage"]["completion_tokens"].as_u64().unwrap() > 20, "{text}");
        assert_eq!(partial["gristmill"]["processor"], account);
        if stream {
            assert!(status == 200 && text.contains("on and on"), "{text}");
        } else {
            assert_eq!((status, retry.unwrap().to_str().unwrap()), (503, "false"), "{text}");
            assert!(partial["choices"][0]["message"]["content"].as_str().unwrap().starts_with("on and on"));
        }
        if stops_exchange {
            // Its receipt came before the end, with the words.
            let newest = exchange.json(&["receipt", "list"])["receipts"][0].clone();
            assert!(newest["kept"] != "nothing" && newest["model"] == NAME, "{newest}");
        } else {
            seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
        }
        settled(&exchange, &account).await;
    }
    seller.stop();
    exchange.stop();
}
