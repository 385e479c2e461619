//! Dependencies between crates point down, and few crates know the large libraries.

use crate::workspace::{Crate, Kind, Workspace};
use anyhow::Result;

/// The layers, from the bottom. A crate may depend on lower layers; on its own layer only where the
/// layer says so.
const LAYERS: &[Layer] = &[
    Layer { name: "types", crates: &["types"], siblings: false },
    Layer { name: "core", crates: &["ledger", "channel", "audit"], siblings: false },
    Layer {
        name: "library",
        crates: &["proof", "tokenizer", "store", "metrics", "net", "client", "engine", "upstream"],
        siblings: true,
    },
    Layer { name: "shell", crates: &["chain", "processor", "gateway"], siblings: false },
    Layer { name: "binary", crates: &["gristmill"], siblings: false },
    Layer { name: "task", crates: &["xtask", "sim", "fuzz"], siblings: false },
];

struct Layer {
    name: &'static str,
    crates: &'static [&'static str],
    siblings: bool,
}

/// Libraries by the start of their name, and the only crates that may know them.
const KNOWN_BY: &[(&str, &[&str])] =
    &[("commonware-", &["chain", "proof"]), ("candle-", &["engine"]), ("mpp", &["net"])];

/// What a pure crate has no use for: it has no clock, no randomness, no input and no output.
const IMPURE: &[&str] = &[
    "axum",
    "futures",
    "getrandom",
    "rand",
    "reqwest",
    "rusqlite",
    "time",
    "tokio",
    "tokio-stream",
    "tracing",
];

/// What must not even be linked into a pure crate by way of another.
const NEVER_LINKED: &str = "tokio";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for krate in workspace.crates.values() {
        match layer_of(&krate.name) {
            Some(layer) => check_crate(krate, layer, &mut findings),
            None => findings.push(format!(
                "crate '{}' is in no layer: add it to crates/xtask/src/tidy/layers.rs, and say why it exists in \
                 docs/decisions",
                krate.name
            )),
        }
    }
    for name in LAYERS.iter().flat_map(|layer| layer.crates) {
        if !workspace.crates.contains_key(*name) {
            findings.push(format!("layers.rs names crate '{name}', which does not exist: remove it"));
        }
    }
    Ok(findings)
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.crates.contains(&name))
}

/// The folder name of a dependency that is one of our crates.
pub(super) fn ours(package: &str) -> Option<&str> {
    let name = package.strip_prefix("gristmill-").unwrap_or(package);
    (name != package || package == "gristmill" || package == "xtask").then_some(name)
}

fn check_crate(krate: &Crate, level: usize, findings: &mut Vec<String>) {
    let layer = &LAYERS[level];
    let pure = level < 2;
    for (package, kind) in &krate.dependencies {
        if let Some(name) = ours(package) {
            let lower =
                layer_of(name).is_some_and(|other| other < level || (other == level && layer.siblings));
            if !lower {
                findings.push(format!(
                    "crate '{}' ({}) must not depend on '{name}': dependencies point down, and siblings of this \
                     layer stay apart; move what both need into a lower crate",
                    krate.name, layer.name
                ));
            }
        }
        for (library, knowers) in KNOWN_BY {
            if knows(package, library) && !knowers.contains(&krate.name.as_str()) {
                findings.push(format!(
                    "crate '{}' must not depend on '{package}': only {} may know it",
                    krate.name,
                    knowers.join(" and ")
                ));
            }
        }
        if pure && *kind == Kind::Normal && IMPURE.contains(&package.as_str()) {
            findings.push(format!(
                "crate '{}' is pure and must not depend on '{package}': let the caller bring clocks, randomness \
                 and data",
                krate.name
            ));
        }
    }
    if pure && krate.linked.contains(NEVER_LINKED) {
        findings.push(format!(
            "crate '{}' is pure, and {NEVER_LINKED} is linked into it by way of another crate: see `cargo tree -e \
             normal -i {NEVER_LINKED}`",
            krate.name
        ));
    }
}

fn knows(package: &str, library: &str) -> bool {
    if library.ends_with('-') { package.starts_with(library) } else { package == library }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::fixtures::{krate, workspace};

    fn findings(name: &str, dependencies: &[&str]) -> Vec<String> {
        let mut crates: Vec<_> =
            LAYERS.iter().flat_map(|layer| layer.crates).map(|name| krate(name, &[])).collect();
        crates.retain(|krate| krate.name != name);
        crates.push(krate(name, dependencies));
        check(&workspace(crates)).unwrap()
    }

    #[test]
    fn what_is_allowed() {
        for (name, dependencies) in [
            ("types", &["borsh"][..]),
            ("ledger", &["gristmill-types"]),
            ("client", &["gristmill-proof", "gristmill-ledger", "tokio"]),
            ("engine", &["gristmill-tokenizer", "candle-core"]),
            ("chain", &["gristmill-client", "commonware-glue"]),
            ("proof", &["commonware-codec"]),
            ("net", &["mpp"]),
            ("gristmill", &["gristmill-chain", "gristmill-gateway"]),
            ("xtask", &["gristmill-gateway"]),
        ] {
            assert_eq!(findings(name, dependencies), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn what_is_not() {
        for (name, dependency) in [
            ("types", "gristmill-ledger"),
            ("ledger", "gristmill-channel"),
            ("ledger", "gristmill-net"),
            ("ledger", "rand"),
            ("gateway", "gristmill-processor"),
            ("gateway", "mpp"),
            ("gateway", "commonware-cryptography"),
            ("processor", "candle-core"),
            ("net", "gristmill-gateway"),
            ("gristmill", "xtask"),
            ("client", "gristmill"),
        ] {
            assert_eq!(findings(name, &[dependency]).len(), 1, "{name} on {dependency}");
        }
        // Directly, and linked.
        assert_eq!(findings("channel", &["tokio"]).len(), 2);
    }

    #[test]
    fn every_crate_has_its_layer() {
        let mut crates = vec![krate("novel", &[])];
        crates.extend(LAYERS.iter().flat_map(|layer| layer.crates).map(|name| krate(name, &[])));
        assert!(check(&workspace(crates)).unwrap()[0].contains("'novel' is in no layer"));
        let missing = check(&workspace(vec![])).unwrap();
        assert_eq!(missing.len(), LAYERS.iter().map(|layer| layer.crates.len()).sum::<usize>());
    }
}
