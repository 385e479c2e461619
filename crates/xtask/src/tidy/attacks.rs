//! The tests that `docs/attacks.md` names exist: a check that nobody tests any more must not look tested.

use crate::workspace::Workspace;
use anyhow::Result;

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
        let function = format!("fn {}(", test.rsplit("::").next().unwrap_or(test));
        let mut found = false;
        for file in workspace.files.iter().filter(|file| file.extension().is_some_and(|of| of == "rs")) {
            if file.starts_with(&home) && workspace.read(file)?.contains(&function) {
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
    fn names() {
        let text = "# Attacks\n\n| attack | test | check |\n|---|---|---|\n\
                    | replay | `channel` `a::b`, `a::c`; `net` `d::e` | `Payee::accept` |\n";
        let found = named(text);
        let expected = [("channel", "a::b"), ("channel", "a::c"), ("net", "d::e")]
            .map(|(krate, test)| Named { line: 5, krate, test });
        assert_eq!(found, expected);
    }
}
