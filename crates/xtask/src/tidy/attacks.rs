//! The tests that `docs/attacks.md` names exist: a check that nobody tests any more must not look tested.

use crate::workspace::Workspace;
use anyhow::Result;
use std::path::Path;

const FILE: &str = "docs/attacks.md";

/// A test as the document names it.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    line: usize,
    krate: &'a str,
    test: &'a str,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let text = workspace.read(FILE)?;
    let mut findings = Vec::new();
    for Named { line, krate, test } in named(&text) {
        let home = format!("crates/{krate}/");
        let (modules, name) = test.rsplit_once("::").unwrap_or(("", test));
        let mut found = false;
        for file in workspace.files.iter().filter(|file| file.extension().is_some_and(|of| of == "rs")) {
            if file.starts_with(&home) && is_of(file, modules) && is_tested(&workspace.read(file)?, name) {
                found = true;
                break;
            }
        }
        if !found {
            findings.push(format!("{FILE}:{line}: there is no test '{test}' in crate '{krate}'"));
        }
    }
    Ok(findings)
}

/// Whether a file's path names the modules, but for a module `tests` within the file.
fn is_of(file: &Path, modules: &str) -> bool {
    let path: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    modules.split("::").filter(|module| *module != "tests").all(|module| {
        let named = [module.to_owned(), format!("{module}.rs"), format!("{module}_tests.rs")];
        path.iter().any(|part| named.contains(part))
    })
}

/// Whether the text has a test of the name that runs by default.
fn is_tested(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().filter(|(_, line)| line.contains(&function)).any(|(at, _)| {
        let above = lines.get(..at).unwrap_or_default().iter().rev();
        let attributes: Vec<&&str> =
            above.take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
        let is_test = |line: &&&str| {
            let name = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            line.starts_with("#[") && (name == "test" || name.ends_with("::test"))
        };
        attributes.iter().any(is_test) && !attributes.iter().any(|line| line.starts_with("#[ignore"))
    })
}

/// The second column's words: a crate, then its tests.
fn named(text: &str) -> Vec<Named<'_>> {
    let mut named = Vec::new();
    for (index, row) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let cell = row.split('|').nth(2).unwrap_or_default();
        let mut krate = "";
        for word in cell.split('`').skip(1).step_by(2) {
            match word.contains("::") {
                true => named.push(Named { line: index + 1, krate, test: word }),
                false => krate = word,
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_run() {
        for (text, expected) in [
            ("#[test]\nfn a() {", true),
            ("/// What.\n#[tokio::test(flavor = \"multi_thread\")]\n#[cfg(unix)]\nasync fn a() -> R {", true),
            ("fn a() {", false),
            ("// fn a() {", false),
            ("#[test]\n#[ignore = \"slow\"]\nfn a() {", false),
            ("#[test]\nfn b() {}\n\nfn a() {", false),
        ] {
            assert_eq!(is_tested(text, "a"), expected, "{text}");
        }
    }

    #[test]
    fn files() {
        for (file, modules, expected) in [
            ("crates/ledger/src/tx/settle.rs", "tx::settle::tests", true),
            ("crates/ledger/src/tx/top_up.rs", "tx::settle::tests", false),
            ("crates/processor/src/books/tests.rs", "books::tests", true),
            ("crates/gateway/src/metrics_tests.rs", "metrics::tests", true),
            ("crates/channel/tests/it/attacks.rs", "attacks", true),
            ("crates/channel/tests/it/payee.rs", "attacks", false),
        ] {
            assert_eq!(is_of(Path::new(file), modules), expected, "{file} {modules}");
        }
    }

    #[test]
    fn names() {
        let text = "# Attacks\n\n| attack | test | check |\n|---|---|---|\n\
                    | replay | `channel` `a::b`, `a::c`; `net` `d::e` | `Payee::accept` |\n";
        let found = named(text);
        let expected = [("channel", "a::b"), ("channel", "a::c"), ("net", "d::e")]
            .map(|(krate, test)| Named { line: 5, krate, test });
        assert_eq!(found, expected);
    }
}
