//! Every target over every file of its corpus, as an ordinary test; and that the fuzzer's workspace has
//! all targets.

#![allow(missing_docs, reason = "a test binary")]

use gristmill_fuzz::TARGETS;
use std::{fs, path::PathBuf};

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn the_corpus_holds() {
    for (name, run) in TARGETS {
        let mut files: Vec<PathBuf> = fs::read_dir(fuzz().join("corpus").join(name))
            .unwrap_or_else(|error| panic!("target {name} has no corpus: {error}"))
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= 2, "target {name} has hardly any corpus");
        for file in files {
            // What stands last in the output is the file that failed.
            println!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn the_fuzzer_has_every_target() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let listed: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(listed, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, _) in TARGETS {
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("{name}::run")), "{name}.rs runs another target");
    }
}
