//! The main job: a prompt goes in, an answer comes out, everyone is paid.

use crate::exchange::{Exchange, MODEL, grains, unwell};

#[test]
fn a_prompt_is_answered_and_everyone_is_paid() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    assert_eq!(exchange.ready["model"], MODEL);
    let processor_before = exchange.balance("processor");
    let consumer_before = exchange.balance("consumer");
    assert_eq!(exchange.royalties(), 0);

    let answer = exchange.json(&["ask", "Spell 42 in English"]);
    assert_eq!(answer["answer"], "forty-two");
    assert_eq!(answer["model"], MODEL);
    let cost = (answer["usage"]["cost"].as_f64().unwrap() * 1e9).round() as u128;
    assert!(cost > 0);

    // The exact amounts, from the event, the receipt and the ledger.
    let paid = exchange.wait_for("settled");
    let (earned, royalty, fee) = (grains(&paid["earned"]), grains(&paid["royalty"]), grains(&paid["fee"]));
    assert_eq!(earned + royalty, cost);
    assert_eq!(royalty, cost / 10);
    assert_eq!(exchange.balance("processor"), processor_before + earned - fee);
    assert_eq!(exchange.royalties(), royalty);
    let channels = exchange.json(&["channel", "list"]);
    let channel = &channels["channels"][0];
    assert_eq!(grains(&channel["spent"]), cost);
    let parts: u128 = ["spent", "held", "free"].iter().map(|part| grains(&channel[*part])).sum();
    assert_eq!(parts, grains(&channel["deposit"]));
    assert!(exchange.balance("consumer") < consumer_before);

    // The receipt holds by itself, and the answer can be computed again.
    let id = answer["receipt"].as_str().unwrap();
    let receipt = exchange.json(&["receipt", "show", id]);
    assert_eq!(grains(&receipt["cost"]), cost);
    let file = folder.path().join("receipt.json");
    std::fs::write(&file, receipt.to_string()).unwrap();
    let file_name = file.to_str().unwrap();
    let model = folder.path().join("models").join(receipt["quote"]["body"]["model"].as_str().unwrap());
    let verified = exchange.json(&["receipt", "verify", file_name, "--model", model.to_str().unwrap()]);
    assert_eq!(verified["holds"], true);
    assert_eq!(verified["recomputed"], receipt["output_ids"].as_array().unwrap().len());
    assert_eq!(verified["receipt"]["cost_proven"], true);
    // A cost that is raised with what was spent before is noticed as well.
    let mut altered = receipt.clone();
    altered["cost"] = serde_json::json!((cost - 1).to_string());
    altered["spent_before"] = serde_json::json!("1");
    std::fs::write(&file, altered.to_string()).unwrap();
    assert!(!exchange.run(&["receipt", "verify", file_name]).status.success());
    // Whatever is changed in it is noticed.
    for (member, value, kept) in [
        ("answer", serde_json::json!("forty-three"), "whole"),
        ("answer", serde_json::json!("forty-three"), "broken"),
        ("answer", serde_json::json!("forty-three"), "nothing"),
        ("cost", serde_json::json!("1"), "whole"),
        ("salt", receipt["id"].clone(), "whole"),
    ] {
        let mut altered = receipt.clone();
        altered[member] = value;
        altered["kept"] = serde_json::json!(kept);
        std::fs::write(&file, altered.to_string()).unwrap();
        assert!(!exchange.run(&["receipt", "verify", file_name]).status.success(), "{member}");
    }

    let supply = exchange.json(&["ledger", "supply"]);
    assert_eq!(supply["adds_up"], true);
    let parts: u128 =
        ["balances", "channels", "royalties"].iter().map(|part| grains(&supply["parts"][part])).sum();
    assert_eq!(parts, grains(&supply["total"]));

    let transaction = exchange.json(&["ledger", "tx", paid["transaction"].as_str().unwrap()]);
    assert_eq!(transaction["verified"], true);
    let height = transaction["height"].as_u64().unwrap().to_string();
    assert_eq!(exchange.json(&["ledger", "block", &height])["verified"], true);
    assert_eq!(unwell(&exchange.status()), []);
    exchange.stop();
}

#[test]
fn a_stop_and_a_start_keep_every_balance() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    exchange.json(&["ask", "Spell 7 in German"]);
    exchange.wait_for("settled");
    exchange.json(&["wallet", "create", "alice"]);
    let alice = exchange.json(&["wallet", "show", "alice"])["address"].as_str().unwrap().to_owned();
    exchange.json(&["wallet", "send", "2.5", &alice]);
    assert_eq!(exchange.balance("alice"), 2_500_000_000);
    let wallets = ["consumer", "processor", "alice"];
    let before: Vec<u128> = wallets.iter().map(|wallet| exchange.balance(wallet)).collect();
    let (key, chain) = (exchange.api_key().to_owned(), exchange.ready["chain"].clone());
    exchange.stop();

    let exchange = Exchange::start(folder.path());
    assert_eq!(exchange.api_key(), key);
    assert_eq!(exchange.ready["chain"], chain);
    let after: Vec<u128> = wallets.iter().map(|wallet| exchange.balance(wallet)).collect();
    assert_eq!(after, before);
    // The channel of the first run is used again: no second deposit.
    exchange.json(&["ask", "Spell 8 in German"]);
    assert_eq!(exchange.json(&["channel", "list"])["channels"].as_array().unwrap().len(), 1);
    assert_eq!(exchange.balance("consumer"), before[0]);
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}

#[test]
fn credits_are_issued_once_for_a_deposit_and_models_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let before = exchange.balance("consumer");
    exchange.json(&["credits", "issue", "100", "--deposit", "bank-1"]);
    assert_eq!(exchange.balance("consumer"), before + 100_000_000_000);
    let again = exchange.run(&["credits", "issue", "100", "--deposit", "bank-1"]);
    assert!(!again.status.success());
    assert_eq!(exchange.balance("consumer"), before + 100_000_000_000);

    // A second model: the starter's folder with another file in it is another version.
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/numbers");
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(models.join(name), copy.join(name)).unwrap();
    }
    std::fs::write(copy.join("notes.txt"), "a version of my own").unwrap();
    let published = exchange.json(&[
        "model",
        "publish",
        copy.to_str().unwrap(),
        "--name",
        "me/mine",
        "--royalty-bps",
        "2500",
    ]);
    assert_eq!(published["new"], true);
    exchange.wait_for("serving");
    let answer = exchange.json(&["ask", "--model", "me/mine", "Spell 3 in English"]);
    assert_eq!(answer["answer"], "three");
    let listed = exchange.json(&["market"]);
    assert_eq!(listed["offers"].as_array().unwrap().len(), 2);
    exchange.stop();
}

#[test]
fn an_answer_without_a_limit_is_cut_to_what_the_account_has() {
    let folder = tempfile::tempdir().unwrap();
    // A token costs a hundredth of a credit.
    let exchange = Exchange::start_with(folder.path(), &["--input-price", "1000", "--output-price", "10000"]);
    let processor = exchange.json(&["wallet", "show", "processor"])["address"].as_str().unwrap().to_owned();
    exchange.json(&["wallet", "send", "999.9", &processor]);
    let answer = exchange.json(&["ask", "Spell 777777 in English"]);
    assert_eq!(answer["finish_reason"], "length", "{answer}");
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((1..10).contains(&tokens), "{answer}");
    // What was asked for in so many words is not cut.
    let refused = exchange.run(&["ask", "Spell 777777 in English", "--max-tokens", "60"]);
    assert!(!refused.status.success());
    exchange.stop();
}
