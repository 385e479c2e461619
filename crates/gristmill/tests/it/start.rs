//! What a person and a program see of a start: the first explains itself, later ones are short.

use crate::exchange::{Exchange, program, run};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

/// `gristmill up` as a person starts it, but into a pipe.
struct Up {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Up {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut child = program()
            .arg("--home")
            .arg(home)
            .arg("up")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Its lines up to the one that holds the text.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "no `{text}` in {lines:#?}");
            lines.push(line.trim_end().to_owned());
            if line.contains(text) {
                return lines;
            }
        }
    }

    /// What it still says when it is stopped.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_first_start_explains_itself_and_later_ones_are_short() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut up = Up::start(&home, &[]);
    let first = up.until("docs/start.md");
    let text = first.join("\n");
    for (about, word) in [
        ("what it is doing", "starting the ledger"),
        ("that it is ready", "ready after"),
        ("where to send requests", "http://127.0.0.1:"),
        ("with which key", "sk-gristmill-"),
        ("where it all is", home.to_str().unwrap()),
        ("what the credits are", "play money"),
        ("what to type next", "ask \"Spell 4217 in Kazakh\""),
        ("how to stop and go on", "Ctrl-C"),
        ("how it is", "status"),
    ] {
        assert!(text.contains(word), "{about}: {text}");
    }
    // Nothing moves where nobody watches.
    assert!(!text.contains(['\x1b', '\r']), "{text}");
    assert!(run(&home, &["ask", "Spell 5 in English"]).status.success());
    up.until("paid ");
    up.until("settled ");
    assert!(up.stop().contains("goes on"));

    let mut up = Up::start(&home, &["--quiet"]);
    let later = up.until("Ctrl-C");
    let text = later.join("\n");
    assert!(text.contains("goes on at block") && text.contains("sk-gristmill-"), "{text}");
    assert!(!text.contains("play money") && later.len() < first.len(), "{text}");
    assert!(run(&home, &["ask", "Spell 6 in English"]).status.success());
    let rest = up.stop();
    assert!(!rest.contains("paid ") && !rest.contains("settled "), "{rest}");
}

#[test]
fn programs_learn_of_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(["--json", "--home"])
        .arg(folder.path())
        .arg("up")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut steps = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        match event["event"].as_str().unwrap() {
            "step" => {
                assert!(event["ms"].is_u64(), "{event}");
                steps.push(event["step"].as_str().unwrap().to_owned());
            }
            "ready" => {
                assert_eq!(event["first"], true);
                break;
            }
            other => panic!("{other}"),
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(steps, ["ledger", "model", "processor", "engine", "gateway"]);
    let exchange = Exchange::start(folder.path());
    assert_eq!(exchange.ready["first"], false);
    exchange.stop();
}

/// The words are what is left of a key when its machine is gone: as they were shown, or as somebody typed them.
#[test]
fn a_wallet_comes_back_from_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["--json", "wallet", "create", "first"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let words = made["recovery_phrase"].as_str().unwrap();
    let restore = |name: &str, words: &str| {
        let mut child = program()
            .args(["--json", "--home"])
            .arg(folder.path())
            .args(["wallet", "create", name, "--restore"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for (name, words) in [("second", words.to_owned()), ("third", format!("  {}\n", words.to_uppercase()))] {
        let output = restore(name, &words);
        let restored: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(restored["address"], made["address"], "{name}");
    }
    let rest = words.rsplit_once(' ').unwrap().0;
    for words in [rest.to_owned(), format!("{rest} notaword"), String::new()] {
        let output = restore("fourth", &words);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("24 words"));
    }
}
