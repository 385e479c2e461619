//! The crate table of `ARCHITECTURE.md` says what `cargo metadata` says.
//!
//! Maps that are kept by hand rot. This one has three columns: the crate, what it owns (its manifest's
//! description) and which of our crates it depends on. When it differs, the right one is printed, to be
//! pasted.

use super::layers::ours;
use crate::workspace::{Crate, Kind, Workspace};
use anyhow::Result;
use std::{collections::BTreeMap, fmt::Write as _};

const FILE: &str = "ARCHITECTURE.md";
const HEADER: &str = "| crate | owns | depends on |";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for krate in workspace.crates.values().filter(|krate| krate.description.trim().is_empty()) {
        findings.push(format!(
            "crate '{}' has no description: say in crates/{}/Cargo.toml what it owns",
            krate.name, krate.name
        ));
    }
    findings.extend(compare(&workspace.read(FILE)?, &expected(workspace)));
    Ok(findings)
}

/// The right rows, by crate.
fn expected(workspace: &Workspace) -> BTreeMap<String, String> {
    workspace.crates.values().map(|krate| (krate.name.clone(), row(krate))).collect()
}

fn row(krate: &Crate) -> String {
    let mut depends: Vec<_> = krate
        .dependencies
        .iter()
        .filter(|(_, kind)| *kind == Kind::Normal)
        .filter_map(|(package, _)| ours(package))
        .collect();
    depends.sort_unstable();
    depends.dedup();
    let depends = if depends.is_empty() { "none of ours".to_owned() } else { depends.join(", ") };
    format!("| `{}` | {} | {depends} |", krate.name, krate.description)
}

fn compare(text: &str, expected: &BTreeMap<String, String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut missing = expected.clone();
    let rows = text.lines().skip_while(|line| line.trim() != HEADER).skip(2);
    for line in rows.take_while(|line| line.starts_with('|')) {
        let name = line.split('|').nth(1).unwrap_or_default().trim().trim_matches('`');
        match missing.remove(name) {
            Some(right) if right == line.trim() => {}
            Some(right) => findings.push(format!("{FILE}: the row of '{name}' should read: {right}")),
            None => findings.push(format!("{FILE}: the table lists '{name}' twice, or it is no crate")),
        }
    }
    if missing.len() == expected.len() && !expected.is_empty() {
        let mut table = format!("{HEADER}\n|---|---|---|\n");
        for row in expected.values() {
            let _ = writeln!(table, "{row}");
        }
        findings.push(format!("{FILE} has no crate table with the header '{HEADER}'; it is:\n{table}"));
    } else {
        findings.extend(missing.into_values().map(|row| format!("{FILE}: the table lacks the row: {row}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::fixtures::{krate, workspace};

    fn example() -> BTreeMap<String, String> {
        let ledger = krate("ledger", &["gristmill-types", "borsh", "gristmill-audit"]);
        expected(&workspace(vec![krate("types", &["borsh"]), ledger]))
    }

    #[test]
    fn a_true_table_in_any_order() {
        let text = "# Map\n\n| crate | owns | depends on |\n|---|---|---|\n\
                    | `types` | Owns types | none of ours |\n| `ledger` | Owns ledger | audit, types |\n\nMore.";
        assert_eq!(compare(text, &example()), Vec::<String>::new());
    }

    #[test]
    fn what_a_table_can_have_wrong() {
        let table = |rows: &str| format!("{HEADER}\n|---|---|---|\n{rows}");
        let types = "| `types` | Owns types | none of ours |\n";
        for (text, finding) in [
            (String::new(), "has no crate table"),
            (table(types), "lacks the row: | `ledger` | Owns ledger | audit, types |"),
            (
                table(&format!("{types}| `ledger` | Owns it | audit, types |")),
                "the row of 'ledger' should read",
            ),
            (table(&format!("{types}| `ledger` | Owns ledger | types |")), "the row of 'ledger' should read"),
            (table(&format!("{types}{types}| `ledger` | Owns ledger | audit, types |")), "'types' twice"),
            (
                table(&format!("{types}| `ledger` | Owns ledger | audit, types |\n| `old` | x | y |")),
                "'old' twice, or it is no crate",
            ),
        ] {
            let findings = compare(&text, &example());
            assert!(findings.len() == 1 && findings[0].contains(finding), "{findings:?}");
        }
    }
}
