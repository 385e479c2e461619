//! Model folders: what a version consists of, checked, and kept in the home under its id.

use crate::{failure::Failure, home::Home};
use anyhow::{Context as _, Result};
use gristmill_engine::{
    CandleEmbedder, CandleEngine, CandleOptions, Embedder as _, EmbedderOptions, Engine as _, Purpose,
};
use gristmill_processor::Compute;
use gristmill_tokenizer::{TextBundle, Tokenizer};
use gristmill_types::{Digest, Manifest, ManifestFile, ModelId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    cell::Cell,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Files of one version at most.
const MAX_FILES: usize = 64;
/// Files that people keep beside a model and that are not part of it.
const LEFT_OUT: [&str; 3] = ["README.md", "LICENSE", "LICENSE.txt"];

/// Told of every part of a folder that is read: its bytes.
type Seen<'a> = &'a dyn Fn(u64);

/// The list of parts of a model of sentence-transformers, each perhaps in a folder of its own.
const MODULES: &str = "modules.json";

/// Loads a model for what it is for.
pub(crate) fn open(folder: &Path) -> Result<(Compute, Arc<Tokenizer>)> {
    Ok(match Purpose::of(folder)? {
        Purpose::Answers => {
            let engine = CandleEngine::open(folder, &CandleOptions::default())?;
            let tokenizer = Arc::clone(engine.tokenizer());
            (Compute::Answers(Arc::new(engine)), tokenizer)
        }
        Purpose::Embeddings => {
            let embedder = CandleEmbedder::open(folder, &EmbedderOptions::default())?;
            let tokenizer = Arc::clone(embedder.tokenizer());
            (Compute::Embeddings(Arc::new(embedder)), tokenizer)
        }
    })
}

/// The settings of parts in subfolders, as paths within the folder.
fn parts(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(MODULES);
    let Ok(text) = std::fs::read(&path) else { return Ok(Vec::new()) };
    let modules: Value =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    let named = modules.as_array().into_iter().flatten().filter_map(|module| module["path"].as_str());
    let plain = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let files = named.filter(plain).take(MAX_FILES).map(|name| format!("{name}/config.json"));
    Ok(files.filter(|file| folder.join(file).is_file()).collect())
}

/// Hashes a folder into the manifest of a version. Hidden files, documents and subfolders are left out, but
/// for settings that [`MODULES`] names.
pub(crate) fn manifest(folder: &Path, seen: Seen<'_>) -> Result<Manifest> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::new(format!("cannot read the model folder {}: {error}", folder.display()))
            .next("give a folder with config.json, tokenizer.json and model.safetensors")
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') || LEFT_OUT.contains(&name) || !entry.path().is_file() {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(Failure::new(format!("{} holds more than {MAX_FILES} files", folder.display()))
                .next("give a folder with the model's own files only")
                .into());
        }
        files.push(hash_file(&entry.path(), name, seen)?);
    }
    for file in parts(folder)? {
        files.push(hash_file(&folder.join(&file), &file, seen)?);
    }
    let bundle = TextBundle::from_hf_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    Ok(Manifest::new(files, bundle.digest()))
}

fn hash_file(path: &Path, name: &str, seen: Seen<'_>) -> Result<ManifestFile> {
    let read = || -> std::io::Result<(u64, Digest)> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes: u64 = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((bytes, Digest::new(hasher.finalize().into())));
            }
            hasher.update(&buffer[..count]);
            bytes += count as u64;
            seen(count as u64);
        }
    };
    let (bytes, sha256) = read().with_context(|| format!("reading {}", path.display()))?;
    Ok(ManifestFile { path: name.to_owned(), bytes, sha256 })
}

/// Where the home keeps a version.
pub(crate) fn folder(home: &Home, id: &ModelId) -> PathBuf {
    home.path("models").join(id.to_string())
}

/// Copies a model folder into the home under its id: whole or not at all.
pub(crate) fn install(home: &Home, source: &Path) -> Result<Manifest> {
    let manifest = manifest(source, &|_| {})?;
    let target = folder(home, &manifest.id());
    if target.exists() {
        check(&target, &manifest.id())?;
        return Ok(manifest);
    }
    let parent = home.folder("models")?;
    // A dot in front: an unfinished copy is no model.
    let staging = tempfile::Builder::new().prefix(".incoming-").tempdir_in(&parent)?;
    for file in manifest.files() {
        let copy = staging.path().join(&file.path);
        if let Some(parent) = copy.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(source.join(&file.path), &copy).with_context(|| {
            format!("copying {} into the home; it needs {} bytes of free space", file.path, manifest.bytes())
        })?;
        File::open(&copy)?.sync_all()?;
        for folder in copy.ancestors().skip(1).take_while(|folder| folder.starts_with(staging.path())) {
            File::open(folder)?.sync_all()?;
        }
    }
    check(staging.path(), &manifest.id())?;
    std::fs::rename(staging.path(), &target).with_context(|| format!("creating {}", target.display()))?;
    File::open(&parent)?.sync_all()?;
    Ok(manifest)
}

/// Whether the folder holds exactly the version of that id.
pub(crate) fn check(folder: &Path, id: &ModelId) -> Result<()> {
    check_watched(folder, id, &|_, _| {})
}

/// The same; `watch` is told how many bytes of how many are read.
pub(crate) fn check_watched(folder: &Path, id: &ModelId, watch: &dyn Fn(u64, u64)) -> Result<()> {
    let sizes = std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|of| of.metadata().ok());
    let total = sizes.filter(std::fs::Metadata::is_file).map(|of| of.len()).sum();
    let done = Cell::new(0);
    let seen = |bytes: u64| {
        done.set(done.get() + bytes);
        watch(done.get(), total);
    };
    let why = match manifest(folder, &seen) {
        Ok(found) if found.id() == *id => return Ok(()),
        Ok(_) => "they changed".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    Err(Failure::new(format!("the files in {} are not the model version {id}: {why}", folder.display()))
        .next("name the folder that was published, as `gristmill model publish` showed it; if that was changed, restore it from a backup")
        .into())
}

/// The versions that the home keeps, sorted by id.
pub(crate) fn installed(home: &Home) -> Result<Vec<ModelId>> {
    let folder = home.path("models");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}
