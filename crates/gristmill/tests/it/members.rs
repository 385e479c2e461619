//! What members do with the ledger besides paying: shares and royalties, spending keys, redemption.

use crate::exchange::{Exchange, MODEL, grains, run, unwell};
use serde_json::Value;

/// Pays for an answer, and waits until it is settled.
fn earn(exchange: &Exchange) {
    exchange.json(&["ask", "Spell 4217 in Kazakh"]);
    exchange.wait_for("settled");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn address(exchange: &Exchange, wallet: &str) -> String {
    text(&exchange.json(&["wallet", "show", wallet])["address"])
}

#[test]
fn holders_of_shares_claim_what_the_model_earned() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let nothing = exchange.json(&["model", "claim", MODEL]);
    assert_eq!(nothing["claimed"], Value::Array(vec![]));
    earn(&exchange);
    let earned = exchange.royalties();
    let before = exchange.balance("modeler");
    let shares = exchange.json(&["model", "shares", MODEL]);
    assert_eq!(shares["holders"].as_array().unwrap().len(), 1);
    // What is less than a grain for each share stays in the pool for later.
    let due = grains(&shares["holders"][0]["due"][0]["amount"]);
    assert!(due <= earned && earned <= due + 1, "{due} of {earned}");
    // Half of the shares, and with them half of what comes from now on.
    exchange.json(&["wallet", "create", "friend"]);
    let friend = address(&exchange, "friend");
    let given = exchange.json(&["model", "transfer", MODEL, "500000", &friend]);
    assert_eq!(exchange.balance("modeler"), before + due - grains(&given["fee"]));
    assert_eq!(exchange.royalties(), earned - due);
    earn(&exchange);
    let shares = exchange.json(&["model", "shares", MODEL]);
    for holder in shares["holders"].as_array().unwrap() {
        assert_eq!(holder["shares"], 500_000);
        let half = grains(&holder["due"][0]["amount"]);
        assert!(half <= earned / 2 && earned / 2 <= half + 1, "{half} of {earned}");
    }
    let modeler = address(&exchange, "modeler");
    let holders = shares["holders"].as_array().unwrap();
    let own = holders.iter().find(|holder| holder["holder"] == modeler.as_str()).unwrap();
    let half = grains(&own["due"][0]["amount"]);
    let before = exchange.balance("modeler");
    let claimed = exchange.json(&["model", "claim", MODEL]);
    let (amount, fee) = (grains(&claimed["claimed"][0]["amount"]), grains(&claimed["claimed"][0]["fee"]));
    assert_eq!((amount, exchange.balance("modeler")), (half, before + half - fee));
    // Whose only credits are those to be drawn has none for the fee, and is told what to do.
    let refused = exchange.run(&["--json", "model", "claim", MODEL, "--wallet", "friend"]);
    assert!(!refused.status.success());
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    let next = text(&error["error"]["next"]);
    let next: Vec<&str> = next.split(' ').skip_while(|word| *word != "wallet").collect();
    exchange.json(&next);
    let claimed = exchange.json(&["model", "claim", MODEL, "--wallet", "friend"]);
    let drawn = grains(&claimed["claimed"][0]["amount"]);
    assert!(drawn.abs_diff(half) <= 1, "{drawn} and {half}");
    assert_eq!(exchange.balance("friend"), drawn);
    // More than it holds, and somebody who holds none.
    assert!(!exchange.run(&["model", "transfer", MODEL, "500001", &friend]).status.success());
    assert!(!exchange.run(&["model", "claim", MODEL, "--wallet", "consumer"]).status.success());
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
}

#[test]
fn a_gateway_with_a_spending_key_spends_no_more_than_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let none = exchange.json(&["wallet", "key", "list"]);
    assert_eq!(none["keys"], Value::Array(vec![]));
    exchange.json(&["wallet", "key", "create", "gateway-vouchers", "--limit", "2"]);
    let other = ["wallet", "key", "create", "gateway-vouchers", "--limit", "2", "--owner", "modeler"];
    assert!(!exchange.run(&other).status.success(), "the gateway pays from no other wallet");
    exchange.stop();
    let exchange = Exchange::start(folder.path());
    let before = exchange.balance("consumer");
    earn(&exchange);
    let keys = exchange.json(&["wallet", "key", "list"]);
    let (limit, spent) = (grains(&keys["keys"][0]["limit"]), grains(&keys["keys"][0]["spent"]));
    assert_eq!(keys["keys"][0]["name"], "gateway-vouchers");
    assert_eq!(limit, 2_000_000_000);
    // The first request opened a channel with a part of what the key may spend.
    assert_eq!(exchange.balance("consumer"), before - spent);
    assert!((limit / 5..limit / 3).contains(&spent), "{spent} of {limit}");
    assert_eq!(unwell(&exchange.status()), []);
    let revoked = exchange.json(&["wallet", "key", "revoke", "gateway-vouchers"]);
    assert_eq!(revoked["closing"].as_array().unwrap().len(), 1);
    assert_eq!(exchange.json(&["wallet", "key", "list"])["keys"], Value::Array(vec![]));
    let again = exchange.run(&["wallet", "key", "revoke", "gateway-vouchers"]);
    assert!(!again.status.success());
    // The channel is closing and the key can open no other.
    let refused = exchange.run(&["--json", "ask", "Spell 7 in English"]);
    assert!(!refused.status.success(), "{refused:?}");
    // Nor does the next start go back to the wallet's own key.
    exchange.stop();
    let exchange = Exchange::start(folder.path());
    let before = exchange.balance("consumer");
    let refused = exchange.run(&["ask", "Spell 7 in English"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is revoked"), "{refused:?}");
    assert_eq!(exchange.balance("consumer"), before);
    // The account is full, and the screen says why nothing can be bought with it.
    assert_eq!(unwell(&exchange.status()), [("consumer".to_owned(), "down".to_owned())]);
    // Unless it is told to.
    assert!(!exchange.run(&["wallet", "key", "revoke", "modeler", "--unlimited"]).status.success());
    exchange.json(&["wallet", "key", "revoke", "gateway-vouchers", "--unlimited"]);
    exchange.stop();
    let exchange = Exchange::start(folder.path());
    earn(&exchange);
    assert!(exchange.balance("consumer") < before);
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}

/// Whoever is told that a payment is final was not told of another's.
#[test]
fn commands_at_the_same_moment_are_as_many_payments() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let before = exchange.balance("modeler");
    let home = folder.path();
    let send = || {
        let sent = run(home, &["--json", "wallet", "send", "0.5", "modeler"]);
        text(&serde_json::from_slice::<Value>(&sent.stdout).unwrap()["transaction"])
    };
    let sent: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((sent.len(), exchange.balance("modeler")), (6, before + 6 * 500_000_000));
    exchange.stop();
}

#[test]
fn a_channel_is_closed_and_its_rest_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    earn(&exchange);
    let open = exchange.json(&["channel", "list"])["channels"][0].clone();
    let before = exchange.balance("consumer");
    let closing = exchange.json(&["channel", "close", &text(&open["id"])[..8], "--wallet", "consumer"]);
    assert_eq!((&closing["channel"], &closing["state"]), (&open["id"], &Value::from("closing")));
    // Its processor has all that it is owed, and ends it.
    let rest = grains(&open["deposit"]) - grains(&open["spent"]);
    let expected = before + rest - grains(&closing["fee"]);
    let mut tries = 0;
    while exchange.balance("consumer") != expected {
        tries += 1;
        assert!(tries < 300, "{} and not {expected}", exchange.balance("consumer"));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // A closed one stays closed, somebody else's is refused, and the next request opens another.
    let id = text(&open["id"]);
    assert_eq!(exchange.json(&["channel", "close", &id])["state"], "closed");
    assert!(!exchange.run(&["channel", "close", &id, "--wallet", "modeler"]).status.success());
    earn(&exchange);
    let other = exchange.json(&["channel", "list"])["channels"][0].clone();
    assert_ne!(other["id"], open["id"]);
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}

#[test]
fn credits_are_redeemed_by_their_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let before = exchange.balance("consumer");
    let locked = exchange.json(&["credits", "redeem", "100", "--reference", "order-7"]);
    let number = locked["number"].to_string();
    assert_eq!(exchange.balance("consumer"), before - 100_000_000_000 - grains(&locked["fee"]));
    for wallet in ["consumer", "issuer"] {
        let waiting = exchange.json(&["credits", "redemptions", "--wallet", wallet]);
        assert_eq!(waiting["redemptions"][0]["reference"], "order-7");
    }
    // The issuer has time to pay; until it is over the holder waits.
    assert!(!exchange.run(&["credits", "cancel", &number]).status.success());
    let supply = |exchange: &Exchange| {
        let value = exchange.json(&["ledger", "supply"]);
        assert_eq!(value["adds_up"], true);
        (grains(&value["total"]), grains(&value["parts"]["redemptions"]))
    };
    let (total, redemptions) = supply(&exchange);
    assert_eq!(redemptions, 100_000_000_000);
    let stranger = address(&exchange, "modeler");
    assert!(!exchange.run(&["credits", "pay", &number, "--holder", &stranger]).status.success());
    exchange.json(&["credits", "pay", &number]);
    assert_eq!(supply(&exchange), (total - 100_000_000_000, 0));
    assert!(!exchange.run(&["credits", "pay", &number]).status.success());
    let document = folder.path().join("statement.txt");
    std::fs::write(&document, "there is much").unwrap();
    let stated = exchange.json(&["credits", "reserve", "900", "--document", document.to_str().unwrap()]);
    assert_eq!(grains(&stated["amount"]), 900_000_000_000);
}
