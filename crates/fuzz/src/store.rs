//! The records' files, damaged: what a log gives is what was written to it, or an error that says so.

use crate::parts;
use gristmill_store::{Batch, Migration, Store};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

const SCHEMA: &[Migration] =
    &[Migration { sql: "CREATE TABLE request (id INTEGER PRIMARY KEY, cost TEXT NOT NULL) STRICT;" }];
const SUFFIXES: [&str; 3] = ["", "-wal", "-mark"];
const LOGS: [&str; 3] = ["alpha", "beta", "gamma"];
const MARK: u8 = 2;

/// What the logs hold, one after the other.
type Contents = Vec<Vec<Vec<u8>>>;

/// The files of a store, and what its logs held after each commit.
struct Good {
    files: [Vec<u8>; 3],
    states: Vec<Contents>,
}

/// The files while the store is open, then after it was closed.
static GOOD: LazyLock<[Good; 2]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let store = Store::open(&path, SCHEMA).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let contents = |store: &Store| -> Contents {
        LOGS.map(|log| store.load(log).unwrap().into_iter().map(|row| row.record).collect()).into()
    };
    let mut states = vec![contents(&store)];
    let mut commit = |batch: Batch| {
        runtime.block_on(store.write(batch)).unwrap();
        states.push(contents(&store));
    };
    for n in 0..6 {
        commit(Batch::new().append("alpha", vec![n; 40]).append("beta", vec![n; 3]));
    }
    commit(Batch::new().replace("alpha", vec![vec![7; 20]]));
    commit(Batch::new().append("gamma", b"only".to_vec()).append("alpha", vec![8; 300]));
    let files = |path: &Path| SUFFIXES.map(|suffix| fs::read(beside(path, suffix)).unwrap_or_default());
    let open = Good { files: files(&path), states: states.clone() };
    drop(store);
    [open, Good { files: files(&path), states }]
});

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// The first byte says whether the store was closed; each part changes a file: which one, what is done,
/// where.
pub fn run(data: &[u8]) {
    let Some((closed, changes)) = data.split_first() else { return };
    let Some(good) = GOOD.get(usize::from(*closed)) else { return };
    let mut files = good.files.clone();
    let mut mark_changed = false;
    for change in parts(changes).take(16) {
        let [file, how, low, high, with @ ..] = change else { continue };
        let Some(bytes) = files.get_mut(usize::from(*file)) else { continue };
        mark_changed |= *file == MARK;
        let place = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len().max(1);
        match how {
            0 => bytes.truncate(place),
            1 => bytes.iter_mut().skip(place).zip(with).for_each(|(byte, with)| *byte ^= with),
            2 => bytes.iter_mut().skip(place).zip(with).for_each(|(byte, with)| *byte = *with),
            _ => {}
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    for (suffix, bytes) in SUFFIXES.iter().zip(&files).filter(|(_, bytes)| !bytes.is_empty()) {
        fs::write(beside(&path, suffix), bytes).unwrap();
    }
    let Ok(store) = Store::open(&path, SCHEMA) else { return };
    let found = LOGS.map(|log| store.load(log).ok());
    // Without its mark, a store may go back to an earlier commit unnoticed, as a whole.
    let allowed = if mark_changed { &good.states[..] } else { &good.states[good.states.len() - 1..] };
    let agrees = |state: &Contents| {
        state.iter().zip(&found).all(|(expected, found)| {
            found.as_ref().is_none_or(|rows| rows.iter().map(|row| &row.record).eq(expected))
        })
    };
    assert!(allowed.iter().any(agrees), "what was read was never written: {found:?}");
}
