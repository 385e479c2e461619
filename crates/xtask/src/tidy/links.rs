//! Relative links of documents lead to files and headings that exist.

use crate::workspace::Workspace;
use anyhow::Result;
use std::path::{Component, Path, PathBuf};

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in workspace.files_with(&["md"]) {
        for (line, target) in targets(&workspace.read(file)?) {
            if let Some(problem) = follow(workspace, file, &target) {
                findings.push(format!("{}:{line}: the link '{target}' {problem}", file.display()));
            }
        }
    }
    Ok(findings)
}

fn follow(workspace: &Workspace, file: &Path, target: &str) -> Option<String> {
    let external = target.contains("://") || target.starts_with("mailto:");
    if external {
        return None;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let place = if path.is_empty() { file.to_owned() } else { resolve(file, path)? };
    let full = workspace.root.join(&place);
    if !full.exists() {
        return Some(format!("leads to {}, which does not exist", place.display()));
    }
    if heading.is_empty() || place.extension().is_none_or(|extension| extension != "md") {
        return None;
    }
    let text = workspace.read(&place).ok()?;
    let found = prose(&text).any(|(_, line)| slug(line).as_deref() == Some(heading));
    (!found).then(|| format!("leads to no heading of {}", place.display()))
}

/// The path from the root; a link out of the repository stays as it is and is not found.
fn resolve(file: &Path, path: &str) -> Option<PathBuf> {
    let mut place = file.parent()?.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                if !place.pop() {
                    return Some(PathBuf::from(path));
                }
            }
            Component::CurDir => {}
            part => place.push(part),
        }
    }
    Some(place)
}

/// The lines outside of code blocks, numbered from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            code = !code;
            return None;
        }
        (!code).then_some((index + 1, line))
    })
}

/// The targets of inline links and of link definitions.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // What stands between backticks is code.
        let line: String = line.split('`').step_by(2).collect();
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = definition {
            found.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The anchor that GitHub gives a heading.
fn slug(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#');
    if title.len() == line.len() || !title.starts_with(' ') {
        return None;
    }
    let kept = title.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    Some(kept.flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_outside_of_code() {
        let text = "See [a](docs/a.md) and [b](b.md#top \"Title\"), not `[c](c.md)`.\n\
                    ```\n[d](d.md)\n```\n[e]: e.md\n![picture](p.svg)";
        let found: Vec<_> =
            targets(text).into_iter().map(|(line, target)| format!("{line}:{target}")).collect();
        assert_eq!(found, ["1:docs/a.md", "1:b.md#top", "5:e.md", "6:p.svg"]);
    }

    #[test]
    fn paths() {
        for (file, path, place) in [
            ("README.md", "docs/a.md", "docs/a.md"),
            ("docs/a.md", "b.md", "docs/b.md"),
            ("docs/a.md", "../README.md", "README.md"),
            ("docs/decisions/1.md", "../../crates/x", "crates/x"),
            ("README.md", "../out.md", "../out.md"),
        ] {
            assert_eq!(resolve(Path::new(file), path).unwrap(), Path::new(place));
        }
    }

    #[test]
    fn slugs() {
        for (line, anchor) in [
            ("## The two commands", Some("the-two-commands")),
            ("# What's `up` for?", Some("whats-up-for")),
            ("#hashtag", None),
            ("text", None),
        ] {
            assert_eq!(slug(line).as_deref(), anchor);
        }
    }
}
