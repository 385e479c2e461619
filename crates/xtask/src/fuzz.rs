//! Runs the fuzzer: `cargo xtask fuzz [--minutes N] [TARGET...]`, all targets one after the other, each
//! for its share of the time. It needs `cargo-fuzz` and a C++ compiler, and no nightly toolchain.
//!
//! What is found beyond the committed corpus grows in `fuzz/target/corpus`, so that a later run goes on
//! from there. An input that breaks a rule is kept in `fuzz/artifacts`.

use crate::workspace::cargo;
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

const DEFAULT_MINUTES: u64 = 60;
/// No input is worth more time or memory than this.
const LIMITS: [&str; 4] = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1"];

/// Runs the targets, all of them even if one fails.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let metadata = cargo().args(["locate-project", "--workspace", "--message-format", "plain"]).output()?;
    let manifest = PathBuf::from(String::from_utf8(metadata.stdout)?.trim());
    let fuzz = manifest.parent().context("the workspace has no folder")?.join("fuzz");
    let known = targets(&fuzz)?;
    let (minutes, chosen) = read(arguments, &known)?;
    let seconds = (minutes * 60 / chosen.len() as u64).max(1);
    let mut failed = Vec::new();
    for target in chosen {
        eprintln!("\nxtask: {target}, for {seconds} s");
        let grown = fuzz.join("target/corpus").join(target);
        fs::create_dir_all(&grown)?;
        let mut command = cargo();
        command.current_dir(&fuzz).args(["fuzz", "run", "--sanitizer", "none", target]);
        // New inputs go to the first folder.
        command.arg(grown).arg(fuzz.join("corpus").join(target)).arg("--").args(LIMITS);
        command.arg(format!("-max_total_time={seconds}"));
        let dictionary = fuzz.join("dictionaries").join(target);
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let status = command.status().with_context(|| format!("{command:?} did not start"))?;
        if !status.success() {
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "these targets failed: {}; see fuzz/artifacts, and `cargo install cargo-fuzz`",
            failed.join(", ")
        );
    }
    Ok(())
}

/// The names of all targets, in order.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(fuzz.join("fuzz_targets")).context("there is no fuzz/fuzz_targets")? {
        let path = file?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// How long, and which targets.
fn read<'a>(arguments: &[String], known: &'a [String]) -> Result<(u64, Vec<&'a String>)> {
    let (mut minutes, mut chosen) = (DEFAULT_MINUTES, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--minutes" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            minutes = number.context("--minutes takes a whole number")?;
        } else {
            let target = known.iter().find(|name| *name == argument);
            chosen.push(
                target.with_context(|| {
                    format!("there is no target {argument}; there are {}", known.join(", "))
                })?,
            );
        }
    }
    if chosen.is_empty() {
        chosen.extend(known);
    }
    Ok((minutes, chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let known = ["a".to_owned(), "b".to_owned()];
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, expected) in [
            ("", Some((60, "a b"))),
            ("b", Some((60, "b"))),
            ("--minutes 5 b", Some((5, "b"))),
            ("b --minutes", None),
            ("--minutes many", None),
            ("c", None),
        ] {
            let found = read(&words(line), &known).ok();
            let expected = expected.map(|(minutes, names)| (minutes, words(names)));
            let found =
                found.map(|(minutes, names)| (minutes, names.into_iter().cloned().collect::<Vec<_>>()));
            assert_eq!(found, expected, "{line}");
        }
    }
}
