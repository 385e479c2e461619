//! The official OpenAI clients, unchanged. Where one is not installed the test says so and passes,
//! unless GRISTMILL_E2E_REQUIRED is set, as continuous integration does.

use crate::exchange::{Exchange, MODEL};
use std::process::Command;

fn client(name: &str, probe: &mut Command, script: &mut Command) {
    let installed = probe.output().is_ok_and(|output| output.status.success());
    if !installed {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "the {name} client is required here");
        eprintln!("skipped: the official {name} client is not installed; see .ci/tools.sh");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(folder.path());
    let output = script
        .env("OPENAI_BASE_URL", exchange.base_url())
        .env("OPENAI_API_KEY", exchange.api_key())
        .env("GRISTMILL_MODEL", MODEL)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.trim(), "ok");
    exchange.stop();
}

#[test]
fn python() {
    client(
        "Python",
        Command::new("python3").args(["-c", "import openai"]),
        Command::new("python3").args(["-c", include_str!("clients/client.py")]),
    );
}

#[test]
fn javascript() {
    client(
        "JavaScript",
        Command::new("node").args(["-e", "require('openai')"]),
        Command::new("node").args(["-e", include_str!("clients/client.js")]),
    );
}
