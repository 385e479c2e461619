//! What is wrong is refused with a clear error, and costs nothing.

use crate::exchange::{Exchange, MODEL, program, run};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

fn error_of(output: &std::process::Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let http = gristmill_net::http::client().unwrap();
    let url = format!("{}/chat/completions", exchange.base_url());
    let send = async |key: &str, body: String| -> (u16, Value) {
        let answer = http.post(&url).bearer_auth(key).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    };
    let chat =
        |model: &str, text: &str| json!({"model": model, "messages": [{"role": "user", "content": text}]});
    let good = chat(MODEL, "Spell 1 in English");
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body.to_string()
    };
    let key = exchange.api_key();
    for (key, body, status, about) in [
        ("sk-gristmill-wrong", good.to_string(), 401, "key"),
        (key, "{".to_owned(), 400, "JSON"),
        (key, "[]".to_owned(), 400, "object"),
        (key, chat("acme/unknown", "hello").to_string(), 404, "acme/unknown"),
        (key, with("n", json!(17)), 400, "'n'"),
        (key, with("min_p", json!(0.5)), 400, "recomputed"),
        (key, with("prompt", json!("hello")), 400, "prompt"),
        (key, with("temperature", json!(9)), 400, "temperature"),
        (key, with("max_tokens", json!(0)), 400, "max_tokens"),
        (key, with("tools", json!([{"type": "function"}])), 400, "tools"),
        (key, with("messages", json!([])), 400, "messages"),
        (key, chat(MODEL, &"Spell 1 in English. ".repeat(500)).to_string(), 400, "512"),
    ] {
        let (found, answer) = send(key, body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{about}: {answer}");
        assert!(message.to_lowercase().contains(&about.to_lowercase()), "{about}: {message}");
        assert!(answer["error"]["type"].is_string(), "{answer}");
    }
    assert_eq!(exchange.json(&["receipt", "list"])["total"], 0);
    let spent = exchange.status()["key"]["spent"].clone();
    assert_eq!(spent, "0");
    // And after all of that it still works.
    let (status, answer) = send(key, good.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    exchange.stop();
}

#[test]
fn homes_and_ports() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    for command in [&["receipt", "list"][..], &["market"]] {
        // The hint works as it stands: it names the home.
        let hint = format!("--home {} up", home.display());
        assert!(error_of(&run(&home, command)).contains(&hint), "{command:?}");
    }
    // A folder of something else is not filled with an exchange.
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "Dear").unwrap();
    assert!(error_of(&run(&foreign, &["up"])).contains("letter.txt"));
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
    let exchange = Exchange::start(&home);
    // A second one on the same home.
    let error = error_of(&run(&home, &["up"]));
    let pid = exchange.status()["pid"].to_string();
    for part in ["in use", "next:", &pid, exchange.base_url()] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // A port that is taken: by the first one's gateway.
    let port = exchange.base_url().split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    let other = folder.path().join("other");
    let error = error_of(&run(&other, &["up", "--port", &port]));
    for part in [&port, "another port", "--port", "gateway"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // That was no start: the next one tells all that the first has to.
    let second = Exchange::start(&other);
    assert_eq!(second.ready["first"], true);
    second.stop();
    let second = Exchange::start(&other);
    assert_eq!(second.ready["first"], false);
    second.stop();
    // What does not reach its reader is no success.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let unread = program().arg("--home").arg(&home).args(["wallet", "show"]).stdout(full).output().unwrap();
    assert!(error_of(&unread).contains("cannot be written"));
    // A name that the ledger would refuse is refused before the work, and nothing is copied.
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/numbers");
    let copies = || std::fs::read_dir(home.join("models")).unwrap().count();
    let before = copies();
    let error = error_of(&exchange.run(&["model", "publish", starter, "--name", "Not A Name"]));
    assert!(error.contains("acme/speller") && copies() == before, "{error}");
    // Commands with bad arguments.
    for (arguments, about) in [
        (&["wallet", "send", "1e3", "gm1qqqq"][..], "1e3"),
        (&["wallet", "send", "1", "gm1qqqq"], "gm1"),
        (&["wallet", "send", "-1", "modeler"], "'-1'"),
        (&["wallet", "send", "1", "nobody"], "no wallet of this home"),
        (&["wallet", "send", "1", "consumer"], "to itself"),
        (&["wallet", "send"], "<TO>"),
        (&["walet"], "walet"),
        (&["channel", "close", "00000000"], "channel list"),
        (&["wallet", "show", "nobody"], "nobody"),
        (&["wallet", "create", "../x"], "../x"),
        (&["ledger", "block", "999999"], "no such"),
        (&["ledger", "block", "x"], "neither"),
        (&["receipt", "show", "00000000"], "receipt"),
        (&["model", "show", "no/such"], "no/such"),
        (&["model", "publish", "/nonexistent", "--name", "a/b"], "/nonexistent"),
        (&["ask", "--model", "no/such", "hello"], "no/such"),
    ] {
        assert!(error_of(&exchange.run(arguments)).contains(about), "{arguments:?}");
    }
    // More than there is.
    let before = exchange.balance("consumer");
    let error = error_of(&exchange.run(&["wallet", "send", "1000000", "modeler"]));
    assert!(error.contains("holds 1000 credits"), "{error}");
    assert_eq!(exchange.balance("consumer"), before);
    exchange.stop();
}

#[test]
fn damaged_homes_are_refused_and_not_repaired_silently() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    Exchange::start(&home).stop();
    let genesis = std::fs::read(home.join("genesis.json")).unwrap();
    std::fs::write(home.join("genesis.json"), &genesis[..genesis.len() / 2]).unwrap();
    assert!(error_of(&run(&home, &["up"])).contains("damaged"));
    std::fs::remove_file(home.join("genesis.json")).unwrap();
    assert!(error_of(&run(&home, &["up"])).contains("missing"));
    std::fs::write(home.join("genesis.json"), &genesis).unwrap();

    let wallet = home.join("wallets/consumer.key");
    let key = std::fs::read(&wallet).unwrap();
    std::fs::write(&wallet, b"{}").unwrap();
    assert!(error_of(&run(&home, &["up"])).contains("not a wallet"));
    std::fs::write(&wallet, &key).unwrap();
    std::fs::set_permissions(&wallet, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(error_of(&run(&home, &["up"])).contains("chmod 600"));
    std::fs::set_permissions(&wallet, std::fs::Permissions::from_mode(0o600)).unwrap();

    // The database alone is restored from its write-ahead log; with that damaged too, it is refused.
    let files = ["gateway/gateway.db", "gateway/gateway.db-wal"].map(|name| home.join(name));
    let contents = files.each_ref().map(|file| std::fs::read(file).unwrap_or_default());
    for (file, content) in files.iter().zip(&contents) {
        std::fs::write(file, vec![0x55; content.len()]).unwrap();
    }
    assert!(error_of(&run(&home, &["up"])).contains("gateway.db"));
    for (file, content) in files.iter().zip(&contents) {
        std::fs::write(file, content).unwrap();
    }
    Exchange::start(&home).stop();

    // A part that was lost is not made anew.
    for part in ["wallets/consumer.key", "ledger", "processor", "gateway"] {
        let aside = folder.path().join("aside");
        std::fs::rename(home.join(part), &aside).unwrap();
        let error = error_of(&run(&home, &["up"]));
        assert!(error.contains("missing") && error.contains(part), "{error}");
        std::fs::rename(&aside, home.join(part)).unwrap();
    }
    Exchange::start(&home).stop();

    // A file where the home should be.
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = error_of(&run(&file, &["up"]));
    assert!(error.contains("--home DIR"), "{error}");
}
