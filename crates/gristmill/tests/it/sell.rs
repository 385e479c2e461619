//! A server that somebody runs already, sold on the exchange: found, probed, paid by the byte, and in
//! order after all that can happen to it.

use crate::{
    exchange::{Exchange, MODEL, grains, program, run, unwell},
    peer::{Asked, DONE, Peer, Step, end, events, json, text},
};
use serde_json::{Value, json as value};
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

pub(crate) const NAME: &str = "upstream/tiny";
pub(crate) const CHAT: &str = "/chat/completions";
pub(crate) const ANSWER: &str = "Жақсы, thank you.";
const LIST: &str = r#"{"object":"list","data":[{"id":"tiny","max_model_len":512}]}"#;

/// A server with one model; `chat` gives its answers.
pub(crate) async fn server(chat: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Peer {
    Peer::start(move |asked| match asked.line.as_str() {
        "GET /v1/models" => vec![json("200 OK", LIST)],
        "POST /v1/chat/completions" => chat(asked),
        _ => vec![json("404 Not Found", r#"{"detail":"Not Found"}"#)],
    })
    .await
}

pub(crate) fn good(_: &Asked) -> Vec<Step> {
    let (one, two) = ANSWER.split_at(11);
    vec![events(&[": hello\n\n", &text(one), &text(two), &end("stop"), DONE])]
}

/// Whether this is the question of the probe.
pub(crate) fn probes(asked: &Asked) -> bool {
    asked.body["messages"][0]["content"] == "Say OK."
}

pub(crate) async fn post(exchange: &Exchange, path: &str, body: Value) -> (u16, String) {
    let url = format!("{}{path}", exchange.base_url());
    let http = gristmill_net::http::client().unwrap();
    let answer = http.post(url).bearer_auth(exchange.api_key()).body(body.to_string()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.text().await.unwrap())
}

pub(crate) fn chat(model: &str, text: &str) -> Value {
    value!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// Waits until the seller's channel is paid out to the grain, and nothing is in doubt. Gives what was
/// spent on it.
pub(crate) async fn settled(exchange: &Exchange, seller: &Value) -> u128 {
    let mut tries = 0;
    loop {
        let channels = exchange.json(&["channel", "list"]);
        let list = channels["channels"].as_array().unwrap();
        let channel = list.iter().find(|of| of["processor"] == *seller).unwrap();
        let (spent, settled) = (grains(&channel["spent"]), grains(&channel["settled"]));
        let listed = exchange.json(&["receipt", "list", "--limit", "1000"])["receipts"].clone();
        let sold = listed.as_array().unwrap().iter().filter(|of| of["processor"] == *seller);
        let bought: u128 = sold.map(|of| grains(&of["cost"])).sum();
        if channel["in_doubt"] == 0 && spent == settled && spent == bought {
            return spent;
        }
        tries += 1;
        assert!(tries < 150, "spent {spent}, settled {settled}, receipts {bought}: {channel}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_sold_and_paid_by_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let peer = server(good).await;
    let exchange = Exchange::start(&home);
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-upstream-secret\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let arguments = ["--upstream", &peer.url, "--key-file", key.to_str().unwrap()];
    let prices = ["--input-price", "10", "--output-price", "100"];
    let mut logging = program();
    logging.env("RUST_LOG", "trace");
    let seller = Exchange::start_command(&home, "sell", &[&arguments[..], &prices].concat(), &mut logging);
    assert_eq!(seller.ready["name"], NAME);
    let account = seller.ready["processor"].clone();
    let before = exchange.balance("seller");

    let answer = exchange.json(&["ask", "--model", NAME, "Salem"]);
    assert_eq!((&answer["answer"], &answer["finish_reason"]), (&value!(ANSWER), &value!("stop")));
    let usage = &answer["usage"];
    // The prompt as it is counted, and the answer.
    let (input, output) = ("user: Salem\n".len(), ANSWER.len());
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&value!(input), &value!(output)));
    assert_eq!((&usage["unit"], &answer["processor"]), (&value!("byte"), &account));
    let cost = (input * 10_000 + output * 100_000) as u128;
    let receipt = exchange.json(&["receipt", "show", answer["receipt"].as_str().unwrap()]);
    assert_eq!(grains(&receipt["cost"]), cost);
    let listed = exchange.json(&["receipt", "list"])["receipts"][0].clone();
    assert_eq!(listed["unit"], "byte");

    // All of it is the seller's: a foreign model has no royalty.
    let paid = seller.wait_for("settled");
    assert_eq!((grains(&paid["earned"]), grains(&paid["royalty"])), (cost, 0));
    assert_eq!(exchange.balance("seller"), before + cost - grains(&paid["fee"]));
    assert_eq!(settled(&exchange, &account).await, cost);

    // What the receipt proves, and what it does not.
    let file = folder.path().join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let verified = exchange.json(&["receipt", "verify", file]);
    assert_eq!((&verified["holds"], &verified["receipt"]["recomputable"]), (&value!(true), &value!(false)));
    assert_eq!(
        (&verified["receipt"]["cost_proven"], &verified["receipt"]["unit"]),
        (&value!(true), &value!("byte"))
    );
    let recomputed = exchange.run(&["receipt", "verify", file, "--model", home.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&recomputed.stderr).into_owned();
    assert!(!recomputed.status.success() && error.contains("cannot be computed again"), "{error}");

    // Shown with its unit and its trust.
    let offers = exchange.json(&["market", NAME])["offers"].clone();
    assert_eq!((&offers[0]["unit"], &offers[0]["trust"]), (&value!("byte"), &value!("claimed")));
    let own = exchange.json(&["market", MODEL])["offers"].clone();
    assert_eq!((&own[0]["unit"], &own[0]["trust"]), (&value!("token"), &value!("recomputable")));
    let shown = exchange.json(&["model", "show", NAME]);
    assert_eq!((&shown["unit"], &shown["foreign"]), (&value!("byte"), &value!(true)));

    // Parameters that an upstream draws by reach it.
    let mut body = chat(NAME, "Salem");
    for (name, given) in
        [("top_p", value!(0.5)), ("seed", value!(7)), ("stop", value!(["\n"])), ("max_tokens", value!(9))]
    {
        body[name] = given;
    }
    let (status, text) = post(&exchange, CHAT, body.clone()).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["choices"][0]["finish_reason"]), (200, &value!("length")), "{text}");
    // Nine bytes end within the fifth character.
    assert_eq!(answer["choices"][0]["message"]["content"], "Жақс");
    let asked = peer.asked().pop().unwrap();
    for (name, said) in
        [("top_p", value!(0.5)), ("seed", value!(7)), ("stop", value!(["\n"])), ("max_tokens", value!(9))]
    {
        assert_eq!(asked.body[name], said, "{name}");
    }
    assert!(asked.head.contains("Bearer sk-upstream-secret"));
    // With an engine of our own the draw is made again from the receipt.
    body["model"] = value!(MODEL);
    body["temperature"] = value!(1.5);
    let (status, text) = post(&exchange, CHAT, body).await;
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let receipt = exchange.json(&["receipt", "show", answer["gristmill"]["receipt"].as_str().unwrap()]);
    assert_eq!(receipt["receipt"]["body"]["audit"]["sampling"]["top_p_micros"], 500_000, "{receipt}");
    let file = home.join("drawn.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let model = home.join("models").join(receipt["quote"]["body"]["model"].as_str().unwrap());
    let arguments = ["receipt", "verify", file.to_str().unwrap(), "--model", model.to_str().unwrap()];
    assert_eq!(exchange.json(&arguments)["recomputed"], receipt["output_ids"].as_array().unwrap().len());

    // The key is nowhere: not in the log at its most talkative, and in no file of the home but its own.
    let log = seller.stderr();
    assert!(!log.is_empty() && !log.contains("upstream-secret"));
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    seller.stop();
    let refused = exchange.run(&["ask", "--model", NAME, "Salem"]);
    assert!(!refused.status.success());
    assert!(exchange.json(&["market"])["offers"].as_array().unwrap().len() == 1, "the offer is withdrawn");
    exchange.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_that_fail_cost_what_they_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(|asked| match asked.body["messages"][0]["content"].as_str() {
        Some("die") => vec![events(&[&text("some "), &text("words")])],
        Some("fail") => vec![events(&[&text("some "), "data: {\"error\":{\"message\":\"CUDA error\"}}\n\n"])],
        Some("refuse") => vec![json("400 Bad Request", r#"{"error":{"message":"too long for me"}}"#)],
        // Servers in Python repeat what they refuse.
        Some("a secret of mine") => {
            let detail = value!([{"msg": "too secret", "input": asked.body}]);
            vec![json("422 Unprocessable Entity", &value!({"detail": detail}).to_string())]
        }
        _ => good(asked),
    })
    .await;
    let exchange = Exchange::start(folder.path());
    let mut logging = program();
    logging.env("RUST_LOG", "debug");
    let seller = Exchange::start_command(folder.path(), "sell", &["--upstream", &peer.url], &mut logging);
    let account = seller.ready["processor"].clone();
    let mut cost = 0;
    for (question, delivered, words) in [
        ("die", 10, "broke off"),
        ("fail", 5, "CUDA error"),
        ("refuse", 0, "refuses the request: 400 Bad Request: too long for me"),
        ("a secret of mine", 0, "too secret"),
    ] {
        let http = gristmill_net::http::client().unwrap();
        let url = format!("{}{CHAT}", exchange.base_url());
        let asked = http.post(url).bearer_auth(exchange.api_key()).json(&chat(NAME, question));
        let answer = asked.send().await.unwrap();
        // What the server refuses is the client's to mend.
        let refused = delivered == 0;
        assert_eq!(answer.status(), if refused { 400 } else { 502 }, "{question}");
        let retry = answer.headers().get("x-should-retry").map(|of| of.to_str().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        assert!(text.contains(words), "{question}: {text}");
        // What is paid for is there, and stock clients do not pay again by themselves.
        let error: Value = serde_json::from_str(&text).unwrap();
        let (partial, code) = (&error["partial"], &error["error"]["code"]);
        if refused {
            assert_eq!((retry, partial, code), (None, &Value::Null, &value!("invalid_value")), "{text}");
        } else {
            assert_eq!((retry.as_deref(), code), (Some("false"), &value!("answer_cut")), "{text}");
            assert_eq!(partial["usage"]["completion_tokens"], delivered, "{text}");
            let said = &partial["choices"][0];
            assert_eq!(said["message"]["content"].as_str().unwrap().len(), delivered, "{text}");
            assert_eq!(said["finish_reason"], "error");
            let id = partial["gristmill"]["receipt"].as_str().unwrap();
            assert_eq!(exchange.json(&["receipt", "show", id])["kept"], "whole");
        }
        // The prompt is paid for with the first delivery.
        let prompt = format!("user: {question}\n").len();
        cost += if delivered == 0 { 0 } else { (prompt * 2_500 + delivered * 5_000) as u128 };
    }
    // A request that the server refuses says nothing of the server; one that it breaks off does.
    let sold =
        |exchange: &Exchange| unwell(&exchange.status()).into_iter().find(|(name, _)| name == "seller");
    assert_eq!(sold(&exchange), Some(("seller".to_owned(), "warn".to_owned())));
    assert!(seller.wait_for("warning")["message"].as_str().unwrap().contains("broke off"));
    let answer = exchange.json(&["ask", "--model", NAME, "Salem"]);
    assert_eq!(answer["answer"], ANSWER);
    seller.wait_for("recovered");
    assert_eq!(sold(&exchange), None);
    let spent = settled(&exchange, &account).await;
    assert_eq!(spent, cost + ("user: Salem\n".len() * 2_500 + ANSWER.len() * 5_000) as u128);
    // All receipts hold, those of requests that came to nothing too.
    let listed = exchange.json(&["receipt", "list"])["receipts"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 5);
    for of in listed.as_array().unwrap() {
        let file = folder.path().join("receipt-of-one.json");
        std::fs::write(&file, exchange.json(&["receipt", "show", of["id"].as_str().unwrap()]).to_string())
            .unwrap();
        assert_eq!(exchange.json(&["receipt", "verify", file.to_str().unwrap()])["holds"], true, "{of}");
    }
    // The log says what happened, in words of our own.
    let log = seller.stderr();
    for words in ["broke off", "said so", "refused", "422"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("secret"), "{log}");
    seller.stop();
    exchange.stop();
}

/// A seller that is gone for good: the screen says so, and its channel can be got out of.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_that_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(good).await;
    let exchange = Exchange::start(folder.path());
    let seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    exchange.json(&["ask", "--model", NAME, "Salem"]);
    settled(&exchange, &seller.ready["processor"]).await;
    assert_eq!(unwell(&exchange.status()), []);
    seller.kill();
    let status = exchange.status();
    assert_eq!(unwell(&status), [("seller".to_owned(), "down".to_owned())], "{status}");
    let id = exchange.json(&["channel", "list"])["channels"][0]["id"].clone();
    let close = || exchange.json(&["channel", "close", id.as_str().unwrap()]);
    let first = close();
    assert_eq!((&first["state"], first["transaction"].is_string()), (&value!("closing"), true));
    // Nobody ends it for the payer before its time, and asking again costs nothing.
    let again = close();
    assert_eq!((&again["state"], &again["transaction"]), (&value!("closing"), &Value::Null));
    let (of_first, of_again) = (first["left_ms"].as_u64().unwrap(), again["left_ms"].as_u64().unwrap());
    assert!(0 < of_again && of_again <= of_first, "{of_again} of {of_first}");
    // Another start goes on, takes what it is owed and ends the channel.
    let seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    let mut tries = 0;
    while close()["state"] != "closed" {
        tries += 1;
        assert!(tries < 300, "the seller does not end a channel that its payer closes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(unwell(&exchange.status()), []);
    seller.stop();
    exchange.stop();
}

/// What a killed run left on offer is withdrawn by the next one with its wallet, whatever that sells, and by command.
#[tokio::test(flavor = "multi_thread")]
async fn offers_that_nobody_serves_are_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(good).await;
    let exchange = Exchange::start(folder.path());
    let offered = || -> Vec<Value> {
        let offers = exchange.json(&["market"])["offers"].clone();
        let names = offers.as_array().unwrap().iter().map(|offer| offer["model"].clone());
        names.filter(|name| *name != MODEL).collect()
    };
    let never = exchange.run(&["sell", "--withdraw"]);
    assert!(!never.status.success() && String::from_utf8_lossy(&never.stderr).contains("has sold nothing"));
    Exchange::sell(folder.path(), &["--upstream", &peer.url]).kill();
    assert_eq!(offered(), [NAME]);
    let other = Exchange::sell(folder.path(), &["--upstream", &peer.url, "--name", "upstream/other"]);
    assert_eq!(offered(), ["upstream/other"]);
    exchange.json(&["ask", "--model", "upstream/other", "Salem"]);
    other.kill();
    let status = exchange.status();
    assert_eq!(unwell(&status), [("seller".to_owned(), "down".to_owned())], "{status}");
    assert!(status.to_string().contains("sell --withdraw --wallet seller"), "{status}");
    let output = exchange.run(&["--json", "sell", "--withdraw"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains(r#"{"event":"withdrawn","offers":1}"#), "{text}");
    assert_eq!(offered(), Vec::<Value>::new());
    assert_eq!(unwell(&exchange.status()), []);
    exchange.stop();
}

/// kill -9 of the seller, and of the exchange, in the middle of streams: afterwards all books agree.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_streams() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(|asked| {
        if probes(asked) || asked.body["messages"][0]["content"] == "Salem" {
            return good(asked);
        }
        vec![events(&[]), Step::Repeat(text("on and on ").into_bytes(), Duration::from_millis(3))]
    })
    .await;
    let mut exchange = Exchange::start(folder.path());
    let mut seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    let (account, endpoint) = (seller.ready["processor"].clone(), seller.ready["endpoint"].clone());
    for round in 0..3 {
        let stream = {
            let mut body = chat(NAME, "on");
            body["stream"] = value!(true);
            let url = format!("{}{CHAT}", exchange.base_url());
            let http = gristmill_net::http::client().unwrap();
            http.post(url).bearer_auth(exchange.api_key()).body(body.to_string())
        };
        let answer = tokio::spawn(async move { stream.send().await.unwrap().text().await });
        tokio::time::sleep(Duration::from_millis(400)).await;
        if round == 1 {
            exchange.kill();
            exchange = Exchange::start(folder.path());
        } else {
            seller.kill();
            seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
        }
        drop(tokio::time::timeout(Duration::from_secs(30), answer).await.expect("the stream ends"));
        assert_eq!((&seller.ready["processor"], &seller.ready["endpoint"]), (&account, &endpoint));
        let answer = exchange.json(&["ask", "--model", NAME, "Salem"]);
        assert_eq!(answer["answer"], ANSWER);
        assert!(settled(&exchange, &account).await > 0);
        assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    }
    // Two processes do not share books; another wallet has its own.
    let twice = run(folder.path(), &["sell", "--upstream", &peer.url]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("another `gristmill sell`"));
    let other = Exchange::sell(
        folder.path(),
        &["--upstream", &peer.url, "--wallet", "second", "--output-price", "1"],
    );
    assert_eq!(exchange.json(&["market", NAME])["offers"].as_array().unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answer = exchange.json(&["ask", "--model", NAME, "Salem"]);
    assert_eq!(answer["processor"], other.ready["processor"], "the cheaper one is asked");
    // Its offer stands though nobody answers there any more: the next cheapest is asked.
    other.kill();
    let answer = exchange.json(&["ask", "--model", NAME, "Salem"]);
    assert_eq!((&answer["processor"], &answer["answer"]), (&account, &value!(ANSWER)));
    seller.stop();
    exchange.stop();
}

/// An exchange that hangs holds no seller up: it ends, says what is left, and the next run goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_ends_though_its_exchange_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(good).await;
    let exchange = Exchange::start(folder.path());
    let mut seller = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    exchange.signal("-STOP");
    seller.signal("-TERM");
    let status = seller.ended(Duration::from_secs(60));
    exchange.signal("-CONT");
    assert!(status.success(), "{status}: {}", seller.stderr());
    let told = seller.events();
    let warned =
        |of: &Value| of["event"] == "warning" && of["message"].as_str().unwrap().contains("the next run");
    assert!(told.iter().any(warned), "{told:?}");
    let again = Exchange::sell(folder.path(), &["--upstream", &peer.url]);
    assert_eq!(exchange.json(&["ask", "--model", NAME, "Salem"])["answer"], ANSWER);
    again.stop();
    exchange.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let peer = server(good).await;
    let home = folder.path().join("home");
    let error_of = |arguments: &[&str]| {
        let output = run(&home, &[&["sell"], arguments].concat());
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let hint = format!("--home {} up", home.display());
    assert!(error_of(&["--upstream", &peer.url]).contains(&hint));
    let exchange = Exchange::start(&home);
    let open = folder.path().join("open");
    std::fs::write(&open, "sk-upstream-secret").unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (arguments, about) in [
        (&["--upstream", &peer.url, "--wallet", "consumer"][..], "exchange's own"),
        (&["--upstream", "127.0.0.1:8080"], "no URL"),
        (&["--upstream", "http://127.0.0.1:1"], "does not answer"),
        (&["--upstream", "http://user:secret@127.0.0.1:1"], "key-file"),
        (&["--upstream", &peer.url, "--model", "huge"], "it has tiny"),
        (&["--upstream", &peer.url, "--name", "Not A Name"], "name"),
        (&["--upstream", &peer.url, "--name", MODEL], "another model"),
        (&["--upstream", &peer.url, "--key-file", open.to_str().unwrap()], "chmod 600"),
        (&["--upstream", &peer.url, "--key-env", "GRISTMILL_NO_SUCH_KEY"], "not set"),
        (&["--upstream", &peer.url, "--wallet", "../x"], "cannot name a wallet"),
        (&["--upstream", &peer.url, "--input-price", "cheap"], "cheap"),
    ] {
        let error = error_of(arguments);
        assert!(error.contains(about), "{arguments:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    exchange.stop();
}

/// `up` looks at the usual ports, and tells; it offers nothing by itself.
#[tokio::test(flavor = "multi_thread")]
async fn up_finds_servers() {
    // Whichever of them is free on this machine.
    let ports = [8080, 8000, 1234, 11434];
    let Some(port) = ports.into_iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
    else {
        eprintln!("skipped: all of the ports {ports:?} are taken on this machine");
        return;
    };
    let peer = Peer::on(port, |_| vec![json("200 OK", LIST)]).await;
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let found = loop {
        let found = exchange.wait_for("upstream_found");
        if found["url"] == peer.url {
            break found;
        }
    };
    assert_eq!(found["models"], value!(["tiny"]));
    let command = found["command"].as_str().unwrap();
    assert!(command.contains(&format!("sell --upstream http://127.0.0.1:{port}")), "{command}");
    assert!(peer.asked().iter().all(|asked| asked.line == "GET /v1/models"));
    assert_eq!(exchange.json(&["market"])["offers"].as_array().unwrap().len(), 1);
    exchange.stop();
}
