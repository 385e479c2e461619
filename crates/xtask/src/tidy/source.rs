//! Source files: every module opens with its documentation, no file outgrows its reader, no marker of
//! unfinished work, and the payment crate is known to one module.

use crate::workspace::Workspace;
use anyhow::Result;
use std::path::Path;

/// A file over 600 lines asks for a reason; one over this is split, or stands below with its reason.
const MAX_LINES: usize = 900;
/// Longer files, and why.
const LONG_FILES: &[(&str, &str)] = &[];
/// What people read and write. Data and pinned forms are not.
const READ_BY_PEOPLE: &[&str] =
    &["rs", "md", "toml", "py", "js", "mjs", "ts", "sh", "css", "html", "yml", "yaml"];

/// Written in two parts, so that this file is not a finding.
const UNFINISHED: &[&str] =
    &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!("), concat!("FIX", "ME")];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in workspace.files_with(READ_BY_PEOPLE) {
        let text = workspace.read(file)?;
        findings.extend(length(file, text.lines().count(), LONG_FILES));
        if file.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(module(file, &text));
        }
    }
    for (name, _) in LONG_FILES {
        if !workspace.files.iter().any(|file| file == Path::new(name)) {
            findings.push(format!("source.rs excuses {name}, which does not exist: remove the excuse"));
        }
    }
    Ok(findings)
}

fn length(file: &Path, lines: usize, long_files: &[(&str, &str)]) -> Option<String> {
    let excused = long_files.iter().any(|(name, _)| Path::new(name) == file);
    match (lines > MAX_LINES, excused) {
        (true, false) => Some(format!("{} has {lines} lines, at most {MAX_LINES}: split it", file.display())),
        (false, true) => Some(format!(
            "{} has {lines} lines and needs no excuse any more: remove it from source.rs",
            file.display()
        )),
        _ => None,
    }
}

fn module(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let shown = file.display();
    // A shebang-like first line of attributes is not allowed either: the first words are for people.
    if !text.starts_with("//! ") {
        findings.push(format!("{shown} does not open with '//!': say what it is and what it must not know"));
    }
    for (number, line) in text.lines().enumerate() {
        for marker in UNFINISHED.iter().filter(|marker| line.contains(**marker)) {
            findings.push(format!("{shown}:{}: '{marker}' marks unfinished work: finish it", number + 1));
        }
        let pay = Path::new("crates/net/src/pay");
        let knows_mpp = line.trim_start().starts_with("use mpp") || line.contains(concat!(" mpp", "::"));
        if knows_mpp && !file.starts_with(pay) && file != pay.with_extension("rs") && !is_this(file) {
            findings.push(format!("{shown}:{}: only crates/net/src/pay knows the crate 'mpp'", number + 1));
        }
    }
    findings
}

/// This file names what it looks for.
fn is_this(file: &Path) -> bool {
    file.starts_with("crates/xtask")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules() {
        let file = Path::new("crates/net/src/sse.rs");
        let marker = UNFINISHED[0];
        for (text, count) in [
            ("//! Events.\n\nuse std::fmt;\n", 0),
            ("use std::fmt;\n", 1),
            ("", 1),
            ("\n//! Late.\n", 1),
            (&format!("//! Events.\nfn f() {{ {marker}) }}\n"), 1),
            ("//! Events.\nuse mpp::Receipt;\n", 1),
            ("//! Events.\nlet x = mpp::parse(y);\n", 1),
        ] {
            assert_eq!(module(file, text).len(), count, "{text:?}");
        }
        for file in ["crates/net/src/pay.rs", "crates/net/src/pay/receipt.rs"] {
            assert_eq!(module(Path::new(file), "//! Pay.\nuse mpp::Receipt;\n"), Vec::<String>::new());
        }
    }

    #[test]
    fn lengths() {
        let excuses = &[("long.rs", "a table of constants")];
        for (file, lines, fine) in [
            ("short.rs", 900, true),
            ("short.rs", 901, false),
            ("long.rs", 901, true),
            ("long.rs", 900, false),
        ] {
            assert_eq!(length(Path::new(file), lines, excuses).is_none(), fine, "{file} {lines}");
        }
    }
}
