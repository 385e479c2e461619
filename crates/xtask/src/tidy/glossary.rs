//! The glossary has one word for each concept: no term stands twice, and they are in order.

use crate::workspace::Workspace;
use anyhow::Result;
use std::collections::BTreeMap;

const FILE: &str = "docs/glossary.md";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(findings(&workspace.read(FILE)?))
}

fn findings(text: &str) -> Vec<String> {
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with('|')).skip(2);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut previous = String::new();
    let mut findings = Vec::new();
    for (index, line) in rows {
        let number = index + 1;
        let term = line.split('|').nth(1).unwrap_or_default().trim().to_lowercase();
        if let Some(first) = seen.get(&term) {
            findings.push(format!("{FILE}:{number}: '{term}' is explained in line {first} already"));
        } else if term < previous {
            findings.push(format!("{FILE}:{number}: '{term}' stands after '{previous}': keep the order"));
        }
        previous = term.clone();
        seen.insert(term, number);
    }
    if seen.is_empty() {
        findings.push(format!("{FILE} has no table of terms"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        let table = |terms: &[&str]| {
            let rows: String = terms.iter().map(|term| format!("| {term} | meaning |\n")).collect();
            findings(&format!("# Glossary\n\n| term | meaning |\n|---|---|\n{rows}"))
        };
        assert_eq!(table(&["account", "Amount", "lane"]), Vec::<String>::new());
        assert!(table(&["lane", "Lane"])[0].contains("explained in line 5 already"));
        assert!(table(&["lane", "claim"])[0].contains("keep the order"));
        assert!(table(&[])[0].contains("no table"));
    }
}
