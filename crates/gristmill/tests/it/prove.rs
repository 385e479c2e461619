//! Files that prove a payment, and the verifier that shares no code with us. Where Python is not
//! installed the tests say so and pass, unless GRISTMILL_E2E_REQUIRED is set.

use crate::exchange::{Exchange, MODEL, grains};
use gristmill_client::{Client, Sender};
use gristmill_ledger::tx::{ClaimProof, MaturedLane, Settle, SettleClaim, Withdraw};
use gristmill_types::{PublicKey, SecretKey, Signature, sha256};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

/// Prices at which a settlement would cost more than an answer brings.
const CHEAP: [&str; 4] = ["--input-price", "0.01", "--output-price", "0.01"];
const VERIFIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/verify_proof.py");
const MUTATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/prove/mutate.py");
const AGREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/prove/signatures.py");

fn python(arguments: &[&str]) -> Output {
    Command::new("python3").arg("-B").args(arguments).output().expect("python3 runs")
}

fn python_is_missing() -> bool {
    let installed =
        Command::new("python3").arg("--version").output().is_ok_and(|found| found.status.success());
    if !installed {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "python3 is required here");
        eprintln!("skipped: python3 is not installed");
    }
    !installed
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asks, and reads the answer.
async fn ask(exchange: &Exchange, question: &str) {
    let body = json!({
        "model": MODEL, "temperature": 0.7, "messages": [{"role": "user", "content": question}],
    });
    let http = gristmill_net::http::client().unwrap();
    let url = format!("{}/chat/completions", exchange.base_url());
    let answer = http.post(url).bearer_auth(exchange.api_key()).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
    answer.bytes().await.unwrap();
}

/// Waits until so many receipts are there and all that was spent is settled; the receipts' ids.
async fn settled(exchange: &Exchange, count: usize) -> Vec<(String, Value)> {
    for _ in 0..500 {
        let channel = exchange.json(&["channel", "list"])["channels"][0].clone();
        let listed = exchange.json(&["receipt", "list", "--limit", "100"])["receipts"].clone();
        let listed = listed.as_array().unwrap();
        if listed.len() == count && grains(&channel["spent"]) == grains(&channel["settled"]) {
            return listed
                .iter()
                .map(|of| (of["id"].as_str().unwrap().to_owned(), of["kept"].clone()))
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not settled: {}", exchange.json(&["channel", "list"]));
}

/// A home whose ledger lets a claim without approval wait for a second only.
fn hasty_home(folder: &Path) {
    Exchange::start(folder).stop();
    let path = folder.join("genesis.json");
    let mut genesis: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for grace in ["min_grace_ms", "default_grace_ms"] {
        genesis["params"][grace] = json!(1_000);
    }
    std::fs::write(&path, genesis.to_string()).unwrap();
    for file in ["ports.json", "api-key"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    for part in ["ledger", "processor", "gateway"] {
        std::fs::remove_dir_all(folder.join(part)).unwrap();
    }
}

/// Where in the log of operations the lane's record stands, and how long the log is.
fn place(file: &str) -> (u64, u64) {
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let bytes = hex::decode(file["lane"]["state"].as_str().unwrap()).unwrap();
    let mut at = 33; // after the key, and that it has a value
    let mut number = |skip: usize| {
        let start = at + skip;
        at = start + bytes[start..].iter().position(|byte| *byte < 128).unwrap() + 1;
        bytes[start..at].iter().rev().fold(0, |sum, byte| (sum << 7) | u64::from(byte & 127))
    };
    let record = usize::try_from(number(0)).unwrap();
    (number(record), number(32))
}

fn prove(exchange: &Exchange, folder: &Path, id: &str) -> (Value, String) {
    let file = folder.join(format!("{id}.proof.json")).to_str().unwrap().to_owned();
    (exchange.json(&["prove", id, "--out", &file]), file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_leads_from_every_prompt_to_the_ledgers_root() {
    if python_is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let chain = exchange.ready["chain"].as_str().unwrap().to_owned();
    // The first answer is proven in a state of few records, and again in one of many.
    ask(&exchange, "Spell 4217 in Kazakh").await;
    let first = settled(&exchange, 1).await[0].0.clone();
    let (told, file) = prove(&exchange, folder.path(), &first);
    assert_eq!((&told["receipt"], &told["payment_proven"]), (&json!(first), &json!(true)));
    let before = place(&file);
    let checked = python(&[VERIFIER, &file, "--chain", &chain]);
    assert!(checked.status.success(), "{}", text(&checked));
    for step in ["Spell 4217 in Kazakh", "төрт мың екі жүз он жеті", "had paid", "as you asked", "is proven"]
    {
        assert!(text(&checked).contains(step), "{step}: {}", text(&checked));
    }
    // Another ledger, no ledger, no file, and a file that is there already.
    for (arguments, about) in [
        (vec![&*file, "--chain", &first], "is about the ledger"),
        (vec![&*file, "--chain"], "--chain LEDGER_ID"),
        (vec![&*file, "--unknown"], "--chain LEDGER_ID"),
        (vec!["nothing.json"], "No such file"),
    ] {
        let output = python(&[&[VERIFIER], &arguments[..]].concat());
        let code = if about.starts_with("--") { 2 } else { 1 };
        assert!(output.status.code() == Some(code) && text(&output).contains(about), "{}", text(&output));
    }
    let again = exchange.run(&["prove", &first, "--out", &file]);
    assert!(!again.status.success() && text(&again).contains("exists already"), "{}", text(&again));

    // Several lanes at once, and requests one after the other on each.
    let mut requests = 1;
    for round in 0..4 {
        let questions: Vec<String> = (0..4).map(|n| format!("Spell {} in German", 100 * round + n)).collect();
        futures::future::join_all(questions.iter().map(|question| ask(&exchange, question))).await;
        requests += questions.len();
    }
    let receipts = settled(&exchange, requests).await;
    let account = exchange.json(&["wallet", "show", "processor"])["address"].as_str().unwrap().to_owned();
    for number in 0..30 {
        exchange.json(&["wallet", "send", &format!("0.{:03}", number + 1), &account]);
    }
    let (mut transactions, mut places) = (BTreeSet::new(), vec![before]);
    for (id, how) in &receipts {
        if *id == first {
            std::fs::remove_file(&file).unwrap();
        }
        let (found, file) = prove(&exchange, folder.path(), id);
        let checked = python(&[VERIFIER, &file, "--chain", &chain]);
        assert!(checked.status.success(), "{how}: {}", text(&checked));
        assert!(grains(&found["paid"]) >= grains(&found["spent"]), "{found}");
        places.push(place(&file));
        transactions.insert(found["transaction"].to_string());
        assert_eq!(found["claim"], "approval");
        // A later settlement covers the receipt as well; the first is the one that is shown.
        assert!(*id != first || found["transaction"] == told["transaction"], "{found} {told}");
    }
    // The bitmap of what is in force is cut into 256 bits. Records are in the last piece or near it, so
    // the log grows until the lane's record is in one that is full.
    let full = |(at, of): (u64, u64)| at / 256 < of / 256;
    assert!(before.1 < 256, "{places:?}");
    let mut tries = 0;
    while !places.last().copied().is_some_and(full) {
        tries += 1;
        assert!(tries < 200, "{places:?}");
        exchange.json(&["wallet", "send", "0.001", &account]);
        std::fs::remove_file(&file).unwrap();
        prove(&exchange, folder.path(), &first);
        places.push(place(&file));
    }
    let checked = python(&[VERIFIER, &file, "--chain", &chain]);
    assert!(checked.status.success(), "{places:?}: {}", text(&checked));
    assert!(transactions.len() < receipts.len(), "every request was settled alone");
    exchange.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_in_the_file_is_noticed() {
    if python_is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let chain = exchange.ready["chain"].as_str().unwrap().to_owned();
    ask(&exchange, "Spell 42 in Japanese").await;
    let id = settled(&exchange, 1).await[0].0.clone();
    let (_, file) = prove(&exchange, folder.path(), &id);
    exchange.stop();
    no_change_passes(&file);

    // As where the lane was given up: what remains is that the claim is final.
    let whole = std::fs::read_to_string(&file).unwrap();
    let at = whole.find("\"lane\":{").unwrap();
    let end = at + whole[at..].find('}').unwrap() + 1;
    std::fs::write(&file, format!("{}\"lane\":null{}", &whole[..at], &whole[end..])).unwrap();
    let refused = python(&[VERIFIER, &file]);
    assert!(!refused.status.success() && text(&refused).contains("--claim-only"), "{}", text(&refused));
    let enough = text(&python(&[VERIFIER, &file, "--claim-only", "--chain", &chain]));
    assert!(
        enough.contains("not proven: that the ledger paid") && enough.ends_with("the claim is proven\n"),
        "{enough}"
    );
    // Whoever names no ledger has nothing proven.
    let any = python(&[VERIFIER, &file, "--claim-only"]);
    assert!(any.status.code() == Some(3) && text(&any).contains("only if that ledger"), "{}", text(&any));
}

fn no_change_passes(file: &str) {
    let seed = std::env::var("GRISTMILL_SEED").unwrap_or_else(|_| std::process::id().to_string());
    let output = python(&[MUTATE, VERIFIER, file, &seed]);
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

/// So little is owed that the processor settles nothing by itself. Here it claims with the voucher, as if
/// no approval had come, and is paid when the payer's time to contest is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_approved_is_proven_by_its_voucher() {
    if python_is_missing() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    hasty_home(folder.path());
    let exchange = Exchange::start_with(folder.path(), &CHEAP);
    let id = exchange.json(&["ask", "Spell 777777 in German"])["receipt"].as_str().unwrap().to_owned();
    let file = folder.path().join("early.json");
    let early = exchange.run(&["prove", &id, "--out", file.to_str().unwrap()]);
    assert!(!early.status.success() && text(&early).contains("not settled yet"), "{}", text(&early));
    claim_by_voucher(&exchange, folder.path(), &id).await;
    let (told, file) = prove(&exchange, folder.path(), &id);
    assert_eq!((&told["claim"], &told["payment_proven"]), (&json!("voucher"), &json!(true)));
    let chain = exchange.ready["chain"].as_str().unwrap();
    let checked = python(&[VERIFIER, &file, "--chain", chain]);
    assert!(checked.status.success(), "{}", text(&checked));
    for step in ["the payer promised", "had paid", "as you asked"] {
        assert!(text(&checked).contains(step), "{step}: {}", text(&checked));
    }
    no_change_passes(&file);
    exchange.stop();
}

/// Brings voucher and receipt of a request to the ledger with the processor's key, and withdraws.
async fn claim_by_voucher(exchange: &Exchange, home: &Path, id: &str) {
    let entry: gristmill_gateway::ReceiptEntry =
        serde_json::from_value(exchange.json(&["receipt", "show", id])).unwrap();
    let wallet: Value =
        serde_json::from_slice(&std::fs::read(home.join("wallets/processor.key")).unwrap()).unwrap();
    let seed: [u8; 32] = hex::decode(wallet["secret"].as_str().unwrap()).unwrap().try_into().unwrap();
    let chain = exchange.ready["chain"].as_str().unwrap().parse().unwrap();
    let ledger = Client::connect(exchange.ready["ledger"].as_str().unwrap(), chain).await.unwrap();
    let sender = Sender::new(ledger, SecretKey::from_seed(&seed), entry.terms.issuer);
    let line = exchange.json(&["model", "show", MODEL])["line"].as_str().unwrap().parse().unwrap();
    let (terms, lane) = (entry.terms, entry.receipt.body.lane);
    let receipt = Some(Box::new(entry.receipt));
    let claim = SettleClaim { lines: vec![line], proof: ClaimProof::Voucher(entry.voucher), receipt };
    sender.send(Settle { terms, claims: vec![claim], floor: None }).await.unwrap();
    let mut tries = 0;
    let lanes = vec![MaturedLane { lane, lines: vec![line] }];
    while let Err(error) = sender.send(Withdraw { terms, lanes: lanes.clone() }).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn what_is_not_settled_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    // So little is owed that a settlement would cost more than it brings.
    let exchange = Exchange::start_with(folder.path(), &CHEAP);
    let answer = exchange.json(&["ask", "Spell 42 in English"]);
    let file = folder.path().join("proof.json");
    let out = file.to_str().unwrap();
    let output = exchange.run(&["prove", answer["receipt"].as_str().unwrap(), "--out", out]);
    let said = text(&output);
    assert!(!output.status.success() && !file.exists(), "{said}");
    assert!(said.contains("not settled yet") && said.contains(" prove "), "{said}");
    let unknown = exchange.run(&["prove", &"0".repeat(64), "--out", out]);
    assert!(!unknown.status.success() && text(&unknown).contains("no receipt"), "{}", text(&unknown));
    exchange.stop();
}

/// What a forger writes into the answer must not hide what the verifier says of the file.
#[test]
fn an_answer_cannot_repaint_the_verifiers_output() {
    if python_is_missing() {
        return;
    }
    let show = "import importlib.util, sys\n\
                specification = importlib.util.spec_from_file_location('verify_proof', sys.argv[1])\n\
                module = importlib.util.module_from_spec(specification)\n\
                specification.loader.exec_module(module)\n\
                print(module.quoted('бір \\x9b8m\\u202e\\x1b[8m\\n'))";
    let shown = text(&python(&["-c", show, VERIFIER]));
    assert_eq!(shown, "\"бір \\u{9b}8m\\u{202e}\\u001b[8m\\n\"\n");
}

/// The verifier's own ed25519 says what ours says, of good signatures, of changed ones, and of those
/// that only a strict verification refuses.
#[test]
fn python_and_rust_agree_on_signatures() {
    if python_is_missing() {
        return;
    }
    let mut vectors: Vec<([u8; 32], Vec<u8>, [u8; 64])> = Vec::new();
    for number in 0..24_u8 {
        let secret = SecretKey::from_seed(&[number; 32]);
        let message = vec![number; usize::from(number)];
        let (key, signature) = (*secret.account().as_bytes(), *secret.sign_bytes(&message).as_bytes());
        let digest = *sha256(&[&[number]]).as_bytes();
        let (at, bit) = (usize::from(digest[0]), 1 << (digest[1] % 8));
        let (mut other_key, mut other_signature) = (key, signature);
        other_key[at % 32] ^= bit;
        other_signature[at % 64] ^= bit;
        // s + L names the same number, and L = 2²⁵² + 27742317777372353535851937790883648493.
        let mut large = signature;
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0_u16;
        for (byte, add) in large[32..].iter_mut().zip(&order) {
            let sum = u16::from(*byte) + u16::from(*add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        vectors.push((key, [&message[..], &[1]].concat(), signature));
        vectors.extend(
            [(key, other_signature), (other_key, signature), (key, large), (key, signature)]
                .map(|(key, signature)| (key, message.clone(), signature)),
        );
    }
    // Points of small order and second spellings of points, as keys and within signatures.
    let secret = SecretKey::from_seed(&[1; 32]);
    for odd in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let odd: [u8; 32] = hex::decode(odd).unwrap().try_into().unwrap();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&odd);
        vectors.push((odd, b"any".to_vec(), signature));
        vectors.push((*secret.account().as_bytes(), b"any".to_vec(), signature));
        let mut honest = *secret.sign_bytes(b"any").as_bytes();
        vectors.push((odd, b"any".to_vec(), honest));
        honest[..32].copy_from_slice(&odd);
        vectors.push((*secret.account().as_bytes(), b"any".to_vec(), honest));
    }
    let ours: Vec<bool> = vectors
        .iter()
        .map(|(key, message, signature)| {
            let signature = Signature::new(*signature);
            PublicKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
        })
        .collect();
    assert_eq!(ours.iter().filter(|good| **good).count(), 24);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vectors.json");
    let spelled: Vec<[String; 3]> = vectors
        .iter()
        .map(|(key, message, signature)| [hex::encode(key), hex::encode(message), hex::encode(signature)])
        .collect();
    std::fs::write(&file, json!(spelled).to_string()).unwrap();
    let output = python(&[AGREE, VERIFIER, file.to_str().unwrap()]);
    let theirs: Vec<bool> =
        serde_json::from_str(&text(&output)).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(theirs, ours);
}
