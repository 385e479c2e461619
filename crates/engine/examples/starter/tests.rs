//! The whole way of a small specialist: data of the documented example, training with a stop, the served folder.

use std::path::Path;
use std::process::Command;

use gristmill_engine::{CandleEngine, CandleOptions, Engine};
use serde_json::Value;

use crate::corpus::{Characters, Line, read_lines};
use crate::evaluate::evaluate;
use crate::{Options, train};

/// Makes the example's data with Python; false where there is none.
fn make_data(model: &Path, data: &Path) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/modelers/roman.py");
    let output = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script)
        .args(["--model".as_ref(), model, "--data".as_ref(), data])
        .output();
    let Ok(output) = output else {
        assert!(std::env::var_os("GRISTMILL_E2E_REQUIRED").is_none(), "Python is required here");
        eprintln!("skipped: python3 is not installed");
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Makes the plan short and the model tiny.
fn shorten(model: &Path) {
    let file = model.join("recipe/training.json");
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    plan["batch"] = 8.into();
    plan["stages"][0]["steps"] = 6.into();
    plan["model"]["num_hidden_layers"] = 1.into();
    std::fs::write(file, plan.to_string()).unwrap();
}

fn options(stop_at: &str) -> Options {
    Options::read(&["--stop-at", stop_at, "--threads", "2"]).unwrap()
}

#[test]
fn the_example_of_the_documents_is_trained_stopped_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (folder.path().join("model"), folder.path().join("data"));
    if !make_data(&model, &data) {
        return;
    }
    let held = read_lines(&data.join("held_out.jsonl")).unwrap();
    let shown = read_lines(&data.join("train.jsonl")).unwrap();
    assert!(shown.iter().all(|line| held.iter().all(|other| other.prompt != line.prompt)));
    let answers: Vec<_> = held.iter().filter_map(|line| line.answer.as_ref()).collect();
    assert_eq!(answers.len(), 400);
    assert!(shown.iter().filter_map(|line| line.answer.as_ref()).all(|answer| !answers.contains(&answer)));

    shorten(&model);
    // In the watch of a checkpoint every ninth line is computed; few are enough here.
    let text = std::fs::read_to_string(data.join("held_out.jsonl")).unwrap();
    let few: String = text.split_inclusive('\n').step_by(60).collect();
    std::fs::write(data.join("held_out.jsonl"), few).unwrap();
    train(&model, &data, &options("2")).unwrap();
    assert!(data.join("checkpoint/000002/optimiser.safetensors").is_file());
    assert!(!model.join("model.safetensors").exists(), "a stopped training writes no model");
    train(&model, &data, &options("100")).unwrap();
    assert!(data.join("checkpoint/000006").is_dir() && !data.join("checkpoint/000002").exists());
    evaluate(&model, &data.join("held_out.jsonl")).unwrap();

    let engine = CandleEngine::open(&model, &CandleOptions::default()).unwrap();
    let ids = engine.tokenizer().encode("MMXXVI").unwrap();
    assert_eq!(ids.len(), 6, "one token a character");

    let characters = Characters::load(&model).unwrap();
    let line = |answer: &str| Line {
        prompt: "é".into(),
        answer: Some(answer.into()),
        kind: "roman".into(),
        digits: 1,
    };
    assert_eq!(characters.example(&line("MV")).unwrap().targets(), 3);
    let error = characters.example(&line("MÁV")).unwrap_err().to_string();
    assert!(error.contains("no token for 'Á' of the answer \"MÁV\""), "{error}");

    let plan = std::fs::read_to_string(model.join("recipe/training.json")).unwrap();
    for (from, to, reason) in [
        ("\"batch\":8", "\"batch\":0", "at least 1"),
        ("\"batch\"", "\"batches\"", "unknown field `batches`"),
        ("\"slope\"", "\"slopes\"", "unknown field `slopes`"),
        ("train.jsonl", "missing.jsonl", "missing.jsonl"),
    ] {
        assert!(plan.contains(from), "{plan}");
        std::fs::write(model.join("recipe/training.json"), plan.replace(from, to)).unwrap();
        let error = train(&model, &data, &options("1")).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
