//! What the workspace consists of: its crates from `cargo metadata`, its files from git.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// The kind of a dependency edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linked into the crate.
    Normal,
    /// For its tests or its build script.
    Other,
}

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The folder under `crates/`: the package's name without the prefix.
    pub(crate) name: String,
    /// The manifest's description, which is also what the crate table says that it owns.
    pub(crate) description: String,
    /// Direct dependencies by package name.
    pub(crate) dependencies: Vec<(String, Kind)>,
    /// Packages that are linked into it, directly or not.
    pub(crate) linked: BTreeSet<String>,
}

/// The repository.
pub(crate) struct Workspace {
    /// Its root folder.
    pub(crate) root: PathBuf,
    /// Its crates, by folder name.
    pub(crate) crates: BTreeMap<String, Crate>,
    /// Every file that git knows or would add, relative to the root.
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    workspace_root: PathBuf,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    description: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Declared>,
}

#[derive(Deserialize)]
struct Declared {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Workspace {
    /// Reads the workspace around this task.
    pub(crate) fn load() -> Result<Self> {
        let json = output(cargo().args(["metadata", "--format-version", "1"]))?;
        let metadata: Metadata = serde_json::from_slice(&json).context("cargo metadata does not read")?;
        let root = metadata.workspace_root.clone();
        let list = output(Command::new("git").current_dir(&root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .context("the files are listed by git, which has to be installed")?;
        let files = String::from_utf8(list).context("a file name is not UTF-8")?;
        let files = files.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file that was removed and not committed yet is still listed.
        let files = files.filter(|file| root.join(file).is_file()).collect();
        Ok(Self { crates: crates(&metadata)?, root, files })
    }

    /// The text of a file, if there is one.
    pub(crate) fn read(&self, file: impl AsRef<Path>) -> Result<String> {
        let path = self.root.join(file.as_ref());
        std::fs::read_to_string(&path).with_context(|| format!("{} does not read", path.display()))
    }

    /// The files with one of these extensions.
    pub(crate) fn files_with<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a Path> {
        self.files.iter().map(PathBuf::as_path).filter(move |file| {
            file.extension().and_then(OsStr::to_str).is_some_and(|extension| extensions.contains(&extension))
        })
    }
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?} did not start"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, error.trim());
    }
    Ok(output.stdout)
}

fn crates(metadata: &Metadata) -> Result<BTreeMap<String, Crate>> {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let linked: BTreeMap<&str, Vec<&str>> = metadata.resolve.nodes.iter().map(linked_from).collect();
    let members = metadata.packages.iter().filter(|package| metadata.workspace_members.contains(&package.id));
    let mut crates = BTreeMap::new();
    for package in members {
        let folder = package.manifest_path.parent().and_then(Path::file_name).and_then(OsStr::to_str);
        let name = folder.with_context(|| format!("{} has no folder", package.name))?;
        let dependencies = package.dependencies.iter().map(|declared| {
            let kind = if declared.kind.is_none() { Kind::Normal } else { Kind::Other };
            (declared.name.clone(), kind)
        });
        let entry = Crate {
            name: name.to_owned(),
            description: package.description.clone().unwrap_or_default(),
            dependencies: dependencies.collect(),
            linked: reach(&package.id, &linked, &names),
        };
        let prefixed = package.name == format!("gristmill-{name}");
        if !prefixed && package.name != name {
            bail!("crate {} lies in folder {name}, which is not its name without the prefix", package.name);
        }
        crates.insert(name.to_owned(), entry);
    }
    Ok(crates)
}

fn linked_from(node: &Node) -> (&str, Vec<&str>) {
    let normal = |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
    (node.id.as_str(), node.deps.iter().filter(normal).map(|edge| edge.pkg.as_str()).collect())
}

/// The names of all packages that are linked into this one.
fn reach(from: &str, linked: &BTreeMap<&str, Vec<&str>>, names: &BTreeMap<&str, &str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<&str> = linked.get(from).cloned().unwrap_or_default();
    while let Some(package) = waiting.pop() {
        if seen.insert(package) {
            waiting.extend(linked.get(package).into_iter().flatten());
        }
    }
    seen.into_iter().filter_map(|id| names.get(id)).map(|name| (*name).to_owned()).collect()
}
