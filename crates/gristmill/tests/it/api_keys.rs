//! API keys: made, used, changed, revoked; and what each of them sees.

use crate::exchange::{Exchange, MODEL, grains};
use serde_json::{Value, json};
use std::path::Path;

async fn call(method: &str, url: &str, key: &str, body: Option<Value>) -> (u16, Value) {
    let http = gristmill_net::http::client().unwrap();
    let mut request = http.request(method.parse().unwrap(), url).bearer_auth(key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn buy(exchange: &Exchange, key: &str) -> (u16, Value) {
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Spell 42 in English"}]});
    call("POST", &format!("{}/chat/completions", exchange.base_url()), key, Some(body)).await
}

async fn receipts(exchange: &Exchange, key: &str) -> u64 {
    let (status, value) = call("GET", &format!("{}/receipts", exchange.base_url()), key, None).await;
    assert_eq!(status, 200, "{value}");
    assert_eq!(value["receipts"].as_array().unwrap().len() as u64, value["total"].as_u64().unwrap());
    value["total"].as_u64().unwrap()
}

fn named(exchange: &Exchange, name: &str) -> Vec<Value> {
    let keys = exchange.json(&["api-key", "list"])["keys"].clone();
    keys.as_array().unwrap().iter().filter(|key| key["name"] == name).cloned().collect()
}

fn stored(home: &Path, file: &str) -> String {
    std::fs::read_to_string(home.join(file)).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_department_buys_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let make = |name: &str, budget: &str| exchange.json(&["api-key", "create", name, "--budget", budget]);
    let (library, physics) = (make("library", "1"), make("physics / lab 2", "0.0000001"));
    let (library, physics) = (library["key"].as_str().unwrap(), physics["key"].as_str().unwrap());

    let (status, answer) = buy(&exchange, library).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("forty-two")), "{answer}");
    let (status, error) = buy(&exchange, physics).await;
    assert_eq!((status, &error["error"]["code"]), (402, &json!("insufficient_credits")), "{error}");
    exchange.json(&["ask", "Spell 43 in English"]);
    let of_library = named(&exchange, "library").remove(0);
    let listed = exchange.json(&["receipt", "list"]);
    assert_eq!(listed["total"], 2, "the operator sees all");
    assert_eq!(of_library["spent"], listed["receipts"][1]["cost"]);
    assert_eq!(exchange.json(&["receipt", "list", "--skip", "1"])["receipts"][0], listed["receipts"][1]);

    // Each sees its own receipts, and no others.
    assert_eq!(receipts(&exchange, library).await, 1);
    assert_eq!(receipts(&exchange, physics).await, 0);
    assert_eq!(receipts(&exchange, exchange.api_key()).await, 1);
    let id = listed["receipts"][0]["id"].as_str().unwrap();
    for (path, key, expected) in [
        ("", exchange.api_key(), 200),
        ("/trace", exchange.api_key(), 200),
        ("", library, 404),
        ("/trace", library, 404),
    ] {
        let url = format!("{}/receipts/{id}{path}", exchange.base_url());
        assert_eq!(call("GET", &url, key, None).await.0, expected, "{path}");
    }

    // Nor does it manage any.
    let keys = format!("{}/keys", exchange.base_url());
    let one = format!("{keys}/{}", of_library["id"].as_str().unwrap());
    let limit = json!({"limit": "9000000000"});
    for (method, url, body) in [
        ("GET", &keys, None),
        ("POST", &keys, Some(json!({"name": "mine", "limit": "1"}))),
        ("PATCH", &one, Some(limit.clone())),
        ("DELETE", &one, None),
    ] {
        assert_eq!(call(method, url, library, body.clone()).await.0, 403, "{method}");
        assert_eq!(call(method, url, "sk-gristmill-0000", body).await.0, 401, "{method}");
    }
    // The operator's key manages, and buys nothing.
    let operator = stored(folder.path(), "operator-key");
    assert_eq!(call("PATCH", &one, &operator, Some(limit)).await.1["limit"], "9000000000");
    assert_eq!(buy(&exchange, &operator).await.0, 401);

    exchange.json(&["api-key", "budget", "physics / lab 2", "1"]);
    assert_eq!(buy(&exchange, physics).await.0, 200);
    // What cannot be is refused, with the way out.
    for (arguments, about) in [
        (&["create", "library", "--budget", "1"][..], "another name"),
        (&["create", "two\nlines", "--budget", "1"], "letters"),
        (&["create", "more", "--budget", "0"], "limit of 0"),
        (&["create", "up", "--budget", "1"], "choose another"),
        (&["budget", "library", "0"], "cannot be lower"),
        (&["budget", "nobody", "1"], "no API key in use"),
        (&["revoke", "nobody"], "no API key in use"),
    ] {
        let output = exchange.run(&[&["api-key"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(about) && error.contains("next:"), "{error}");
    }
    // Revoked: refused at once, and after a start; its name is free.
    let ended = exchange.json(&["api-key", "revoke", "library"]);
    assert!(ended["revoked_ms"].is_u64() && grains(&ended["spent"]) > 0, "{ended}");
    assert_eq!(buy(&exchange, library).await.0, 401);
    let again = make("library", "1");
    exchange.stop();
    let exchange = Exchange::start(folder.path());
    assert_eq!(buy(&exchange, library).await.0, 401);
    assert_eq!(buy(&exchange, again["key"].as_str().unwrap()).await.0, 200);
    assert_eq!(named(&exchange, "library").len(), 2);

    // What lanes hold for requests to come keeps no budget up.
    let of = named(&exchange, "library").into_iter().find(|of| of["revoked_ms"].is_null()).unwrap();
    assert!(grains(&of["held"]) > 0, "{of}");
    let spent = gristmill_types::Amount::from_grains(grains(&of["spent"])).to_string();
    assert_eq!(exchange.json(&["api-key", "budget", "library", &spent])["remaining"], "0");
    assert_eq!(receipts(&exchange, physics).await, 1);
    exchange.stop();
}

/// The key of the home: whoever revokes it, or removes its file, gets another, and the one before is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_homes_own_key_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = Vec::new();
    for revokes in [true, false] {
        let exchange = Exchange::start(folder.path());
        before.push(exchange.api_key().to_owned());
        exchange.json(&["ask", "Spell 42 in English"]);
        if revokes {
            exchange.json(&["api-key", "revoke", "up"]);
            let refused = exchange.run(&["ask", "Spell 42 in English"]);
            assert!(!refused.status.success());
            assert!(String::from_utf8_lossy(&refused.stderr).contains("start the exchange again"));
        }
        exchange.stop();
        if !revokes {
            std::fs::remove_file(folder.path().join("api-key")).unwrap();
        }
    }
    let exchange = Exchange::start(folder.path());
    for key in &before {
        assert_eq!(buy(&exchange, key).await.0, 401);
    }
    assert_eq!(buy(&exchange, exchange.api_key()).await.0, 200);
    let all = named(&exchange, "up");
    assert_eq!(all.iter().filter(|key| key["revoked_ms"].is_null()).count(), 1, "{all:?}");
    assert_eq!(all.len(), 3);
    exchange.stop();
}
