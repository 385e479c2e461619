//! The rules of this repository that neither the compiler nor clippy know. All findings are printed,
//! each with its place and what to do.
//!
//! - [`layers`]: which crate may depend on which, and who may know which library.
//! - [`table`]: the crate table of `ARCHITECTURE.md` is true.
//! - [`dependencies`]: each dependency is declared once, used, and explained.
//! - [`source`]: every module opens with its documentation, no file outgrows its reader.
//! - [`links`]: links between documents lead somewhere.
//! - [`glossary`]: one word for each concept.
//! - [`attacks`]: the tests that `docs/attacks.md` names exist.

mod attacks;
mod dependencies;
mod glossary;
mod layers;
mod links;
mod source;
mod table;

use crate::workspace::Workspace;
use anyhow::{Result, bail};

type Rule = fn(&Workspace) -> Result<Vec<String>>;

const RULES: &[Rule] = &[
    layers::check,
    table::check,
    dependencies::check,
    source::check,
    links::check,
    glossary::check,
    attacks::check,
];

/// Checks every rule.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let mut findings = Vec::new();
    for rule in RULES {
        match rule(&workspace) {
            Ok(found) => findings.extend(found),
            // A document that does not exist is a finding like others.
            Err(error) => findings.push(format!("{error:#}")),
        }
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy found one thing to mend, listed above"),
        count => bail!("tidy found {count} things to mend, listed above"),
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Small workspaces for the rules' tests.

    use crate::workspace::{Crate, Kind, Workspace};
    use std::path::PathBuf;

    /// A crate that depends on these packages.
    pub(crate) fn krate(name: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.to_owned(),
            description: format!("Owns {name}"),
            dependencies: dependencies.iter().map(|name| ((*name).to_owned(), Kind::Normal)).collect(),
            linked: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// A workspace without files.
    pub(crate) fn workspace(crates: Vec<Crate>) -> Workspace {
        let crates = crates.into_iter().map(|krate| (krate.name.clone(), krate)).collect();
        Workspace { root: PathBuf::new(), crates, files: Vec::new() }
    }
}
