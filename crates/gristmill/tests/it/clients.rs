//! The official OpenAI clients, unchanged. Where one is not installed the test says so and passes,
//! unless GRISTMILL_E2E_REQUIRED is set, as continuous integration does.

use crate::exchange::{Exchange, MODEL};
use std::process::Command;

fn client(name: &str, exchange: &Exchange, probe: &mut Command, script: &mut Command) {
    let installed = probe.output().is_ok_and(|output| output.status.success());
    if !installed {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "the {name} client is required here");
        eprintln!("skipped: the official {name} client is not installed; see .ci/tools.sh");
        return;
    }
    let output = script
        .env("OPENAI_BASE_URL", exchange.base_url())
        .env("OPENAI_API_KEY", exchange.api_key())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.trim(), "ok");
}

/// Runs a script with the official Python client.
pub(crate) fn python_client(exchange: &Exchange, script: &str, with: impl FnOnce(&mut Command)) {
    let mut command = Command::new("python3");
    with(command.args(["-c", script]));
    client("Python", exchange, Command::new("python3").args(["-c", "import openai"]), &mut command);
}

/// Runs a script with the official JavaScript client.
pub(crate) fn javascript_client(exchange: &Exchange, script: &str, with: impl FnOnce(&mut Command)) {
    let mut command = Command::new("node");
    with(command.args(["-e", script]));
    client("JavaScript", exchange, Command::new("node").args(["-e", "require('openai')"]), &mut command);
}

fn with_model(command: &mut Command) {
    command.env("GRISTMILL_MODEL", MODEL);
}

#[test]
fn python() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    python_client(&exchange, include_str!("clients/client.py"), with_model);
    exchange.stop();
}

#[test]
fn javascript() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    javascript_client(&exchange, include_str!("clients/client.js"), with_model);
    exchange.stop();
}
