//! Every HTTP server against its own OpenAPI document: schemathesis asks whatever the document allows,
//! and what it forbids. No answer is a failure of the server, and each is one that the document
//! declares. Where schemathesis is not installed the test says so and passes, unless
//! GRISTMILL_E2E_REQUIRED is set, as continuous integration does.

use crate::exchange::Exchange;
use std::process::Command;

#[test]
fn answers_are_those_of_the_document() {
    let installed = Command::new("schemathesis").arg("--version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "schemathesis is required here");
        eprintln!("skipped: schemathesis is not installed; see .ci/tools.sh");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, include_str!("http_surface/schemathesis.toml")).unwrap();
    let key = format!("Authorization: Bearer {}", exchange.api_key());
    let gateway = exchange.base_url().trim_end_matches("/v1");
    let at = |name: &str| exchange.ready[name].as_str().expect("ready says where each server is");
    for (name, url, headers) in [
        ("ledger", at("ledger"), vec![]),
        ("processor", at("processor"), vec![]),
        ("gateway", gateway, vec!["--header", &key]),
    ] {
        let output = Command::new("schemathesis")
            .current_dir(folder.path())
            .arg("--config-file")
            .arg(&config)
            .args(["--no-color", "run", &format!("{url}/openapi.json")])
            .args(headers)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("Unresolvable references"), "{name}: {text}");
    }
    // Some of it was bought; whatever was asked, the books are in order.
    let receipts = exchange.json(&["receipt", "list"]);
    assert!(receipts["total"].as_u64().is_some_and(|count| count > 0), "{receipts}");
    assert_eq!(exchange.json(&["ledger", "supply"])["adds_up"], true);
    exchange.stop();
}
