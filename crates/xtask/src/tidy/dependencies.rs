//! Each dependency is declared once, in the root manifest; is used; and is explained by one line in
//! `docs/decisions/0001-dependencies.md`.

use crate::workspace::Workspace;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};

const FILE: &str = "docs/decisions/0001-dependencies.md";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let root: toml::Table =
        toml::from_str(&workspace.read("Cargo.toml")?).context("Cargo.toml does not read")?;
    let declared = root
        .get("workspace")
        .and_then(|table| table.get("dependencies"))
        .and_then(toml::Value::as_table)
        .context("Cargo.toml has no [workspace.dependencies]")?;
    let declared: BTreeSet<&str> = declared
        .iter()
        .filter(|(_, value)| value.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect();

    let mut findings = undeclared(workspace)?;
    let used: BTreeSet<&str> = workspace
        .crates
        .values()
        .flat_map(|krate| krate.dependencies.iter().map(|(name, _)| name.as_str()))
        .collect();
    for name in declared.difference(&used) {
        findings.push(format!("Cargo.toml declares '{name}', which no crate uses: remove it"));
    }
    findings.extend(explained(&workspace.read(FILE)?, &declared));
    Ok(findings)
}

/// Dependencies that a crate declares for itself instead of taking the workspace's.
fn undeclared(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for name in workspace.crates.keys() {
        let file = format!("crates/{name}/Cargo.toml");
        let manifest: toml::Table =
            toml::from_str(&workspace.read(&file)?).with_context(|| format!("{file} does not read"))?;
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (dependency, value) in table {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    findings.push(format!(
                        "{file} gives '{dependency}' a version of its own: declare it in the root manifest and \
                         write '{dependency}.workspace = true'"
                    ));
                }
            }
        }
    }
    Ok(findings)
}

/// Lines of the form "- `name`: why", where a name may end in `*` for a family.
fn explained(text: &str, declared: &BTreeSet<&str>) -> Vec<String> {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for line in text.lines() {
        let Some((name, why)) = line.strip_prefix("- `").and_then(|rest| rest.split_once("`:")) else {
            continue;
        };
        if why.trim().is_empty() {
            findings.push(format!("{FILE} does not say why '{name}'"));
        }
        if lines.insert(name, 0).is_some() {
            findings.push(format!("{FILE} has two lines for '{name}'"));
        }
    }
    for name in declared {
        let line = lines.iter_mut().find(|(pattern, _)| matches(pattern, name));
        match line {
            Some((_, count)) => *count += 1,
            None => {
                findings.push(format!("{FILE} has no line for '{name}': add \"- `{name}`: why this one\""))
            }
        }
    }
    for (name, _) in lines.into_iter().filter(|(_, count)| *count == 0) {
        findings.push(format!("{FILE} explains '{name}', which is no dependency: remove the line"));
    }
    findings
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each() {
        let declared = BTreeSet::from(["axum", "candle-core", "candle-nn"]);
        for (text, expected) in [
            ("# x\n\n- `axum`: because\n- `candle-*`: because\n", vec![]),
            ("- `axum`: because\n", vec!["no line for 'candle-core'", "no line for 'candle-nn'"]),
            ("- `axum`: a\n- `axum`: b\n- `candle-*`: c\n", vec!["two lines for 'axum'"]),
            ("- `axum`:\n- `candle-*`: c\n", vec!["does not say why 'axum'"]),
            ("- `axum`: a\n- `candle-*`: c\n- `gone`: d\n", vec!["explains 'gone'"]),
        ] {
            let findings = explained(text, &declared);
            assert_eq!(findings.len(), expected.len(), "{findings:?}");
            for (finding, expected) in findings.iter().zip(expected) {
                assert!(finding.contains(expected), "{finding}");
            }
        }
    }
}
