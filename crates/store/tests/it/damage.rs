//! Changed, missing and reordered rows, lost commits, flipped bytes: found, named, never used.

use crate::{Folder, SCHEMA, tamper};
use gristmill_store::{Batch, Options, Store, StoreError};
use std::fs;

async fn filled() -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    for n in 0u8..20 {
        store.write(Batch::new().append("a", vec![n; 40]).append("b", vec![n; 40])).await.unwrap();
    }
    drop(store);
    folder
}

fn load(folder: &Folder, log: &str) -> Result<usize, StoreError> {
    folder.open().load(log).map(|rows| rows.len())
}

#[tokio::test]
async fn damaged_rows_are_named() {
    for (damage, row) in [
        ("UPDATE gristmill_record SET record = x'00' WHERE log = 1 AND row = 7", 7),
        ("UPDATE gristmill_record SET chain = zeroblob(16) WHERE log = 1 AND row = 7", 7),
        ("UPDATE gristmill_record SET chain = x'00' WHERE log = 1 AND row = 7", 7),
        ("UPDATE gristmill_record SET record = 5 WHERE log = 1 AND row = 7", 7),
        ("DELETE FROM gristmill_record WHERE log = 1 AND row = 1", 1),
        ("DELETE FROM gristmill_record WHERE log = 1 AND row = 7", 7),
        ("DELETE FROM gristmill_record WHERE log = 1 AND row = 20", 20),
        ("DELETE FROM gristmill_record WHERE log = 1 AND row > 15", 16),
        ("DELETE FROM gristmill_record WHERE log = 1", 1),
        ("UPDATE gristmill_record SET row = row + 100 WHERE log = 1 AND row = 7", 7),
        ("UPDATE gristmill_log SET head_row = 19 WHERE id = 1", 20),
        ("UPDATE gristmill_log SET head_row = 21 WHERE id = 1", 21),
        ("UPDATE gristmill_log SET head_chain = zeroblob(16) WHERE id = 1", 20),
        ("UPDATE gristmill_log SET base_chain = zeroblob(16) WHERE id = 1", 0),
        ("UPDATE gristmill_log SET base_row = 3 WHERE id = 1", 4),
        ("UPDATE gristmill_log SET head_row = -1 WHERE id = 1", 0),
        ("UPDATE gristmill_log SET head_chain = 'text' WHERE id = 1", 0),
        // Another log's row in this place: its checksum belongs to the other chain.
        (
            "UPDATE gristmill_record SET (record, chain) = (SELECT record, chain FROM gristmill_record AS o
             WHERE o.log = 2 AND o.row = 7) WHERE log = 1 AND row = 7",
            7,
        ),
    ] {
        let folder = filled().await;
        assert_eq!(tamper(&folder, damage).min(1), 1, "{damage}");
        match load(&folder, "a") {
            Err(StoreError::Corrupt { path, log, row: found, .. }) => {
                assert_eq!((path, log.as_str(), found), (folder.path(), "a", row), "{damage}");
            }
            other => panic!("{damage}: {other:?}"),
        }
        assert_eq!(load(&folder, "b"), Ok(20), "{damage}");
    }
}

#[tokio::test]
async fn two_rows_that_change_places_are_noticed() {
    let folder = filled().await;
    tamper(&folder, "UPDATE gristmill_record SET row = 1000 WHERE log = 1 AND row = 7");
    tamper(&folder, "UPDATE gristmill_record SET row = 7 WHERE log = 1 AND row = 8");
    tamper(&folder, "UPDATE gristmill_record SET row = 8 WHERE log = 1 AND row = 1000");
    assert!(matches!(load(&folder, "a"), Err(StoreError::Corrupt { row: 7, .. })));
}

#[tokio::test]
async fn every_flipped_byte_of_a_record_is_noticed() {
    let folder = filled().await;
    let original = fs::read(folder.path()).unwrap();
    let good = {
        let store = folder.open();
        (store.load("a").unwrap(), store.load("b").unwrap())
    };
    // The records' own bytes within the file: 40 times the same. SQLite may have left copies in free
    // space; changing those changes nothing.
    let places: Vec<usize> = (1..20u8)
        .flat_map(|n| (0..original.len() - 40).map(move |at| (n, at)))
        .filter(|(n, at)| original[*at..*at + 40] == [*n; 40])
        .map(|(_, at)| at)
        .collect();
    assert!(places.len() >= 38, "{places:?}");
    let mut noticed = 0;
    for (turn, place) in places.iter().enumerate() {
        let mut damaged = original.clone();
        damaged[place + turn % 40] ^= 1 << (turn % 8);
        fs::write(folder.path(), &damaged).unwrap();
        let store = folder.open();
        match (store.load("a"), store.load("b")) {
            (Ok(a), Ok(b)) => assert_eq!((a, b), good, "a flipped byte at {place} passed"),
            _ => noticed += 1,
        }
    }
    assert!(noticed >= 38, "{noticed} of {}", places.len());
}

#[tokio::test]
async fn flipped_bytes_anywhere_are_never_used_silently() {
    let folder = filled().await;
    let good = {
        let store = folder.open();
        (store.load("a").unwrap(), store.load("b").unwrap())
    };
    let original = fs::read(folder.path()).unwrap();
    for place in (0..original.len()).step_by(211) {
        let mut damaged = original.clone();
        damaged[place] ^= 0x41;
        fs::write(folder.path(), &damaged).unwrap();
        for suffix in ["-wal", "-shm"] {
            drop(fs::remove_file(folder.beside(suffix)));
        }
        let Ok(store) = Store::open(folder.path(), SCHEMA) else { continue };
        // Either an error, or exactly what was written: free space and the like do not matter.
        for (log, good) in [("a", &good.0), ("b", &good.1)] {
            if let Ok(rows) = store.load(log) {
                assert_eq!(&rows, good, "a flipped byte at {place} changed log {log}");
            }
        }
    }
}

#[tokio::test]
async fn a_log_whose_name_changed_in_one_place_is_noticed() {
    const NAME: &str = "a log with a name";
    let folder = Folder::new();
    let store = folder.open();
    store.write(Batch::new().append(NAME, b"record".to_vec())).await.unwrap();
    drop(store);
    let original = fs::read(folder.path()).unwrap();
    let places = original.windows(NAME.len()).enumerate().filter(|(_, bytes)| *bytes == NAME.as_bytes());
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(places.len() >= 2, "in the table and in its index: {places:?}");
    for place in places {
        let mut damaged = original.clone();
        damaged[place] = b'b';
        fs::write(folder.path(), &damaged).unwrap();
        let found = Store::open(folder.path(), SCHEMA).and_then(|store| store.load(NAME));
        assert!(found.is_err(), "a name changed at {place} gives {found:?}");
    }
}

/// Copies the files of a store that is running, as a crash leaves them.
fn crashed_copy(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for suffix in ["", "-wal", "-mark"] {
        fs::copy(folder.beside(suffix), copy.beside(suffix)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_truncated_or_damaged_write_ahead_log_is_noticed() {
    let folder = Folder::new();
    let store = folder.open();
    for n in 0u8..30 {
        store.append("log", vec![n; 100]).await.unwrap();
    }
    let intact = crashed_copy(&folder);
    assert_eq!(load(&intact, "log"), Ok(30));
    let wal = fs::metadata(folder.beside("-wal")).unwrap().len();
    for (name, damage) in [
        ("cut", &(|wal: &mut Vec<u8>| wal.truncate(wal.len() - 5_000)) as &dyn Fn(&mut Vec<u8>)),
        ("cut by one byte", &|wal: &mut Vec<u8>| wal.truncate(wal.len() - 1)),
        ("flipped", &|wal: &mut Vec<u8>| {
            let middle = wal.len() / 2;
            wal[middle] ^= 1;
        }),
        ("gone", &|wal: &mut Vec<u8>| wal.clear()),
    ] {
        let copy = crashed_copy(&folder);
        let mut bytes = fs::read(copy.beside("-wal")).unwrap();
        assert_eq!(bytes.len() as u64, wal);
        damage(&mut bytes);
        fs::write(copy.beside("-wal"), bytes).unwrap();
        match Store::open(copy.path(), SCHEMA) {
            Err(StoreError::RolledBack { acknowledged: 30, found, .. }) => assert!(found < 30, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        // The refusal changed nothing: with the right log beside it, all is there again.
        let damaged = fs::read(copy.beside("-wal")).unwrap();
        fs::copy(folder.beside("-wal"), copy.beside("-wal")).unwrap();
        drop(fs::remove_file(copy.beside("-shm")));
        let repaired = crashed_copy(&copy);
        assert_eq!(load(&repaired, "log"), Ok(30), "{name}");
        fs::write(copy.beside("-wal"), damaged).unwrap();
        // A person may accept it; what is left is used, and the next start is quiet.
        let options = Options { accept_rollback: true, ..Options::default() };
        let store = Store::open_with(copy.path(), SCHEMA, options).unwrap();
        let left = store.load("log").unwrap().len();
        assert!(left < 30, "{name}: {left}");
        store.append("log", vec![0]).await.unwrap();
        drop(store);
        assert_eq!(load(&copy, "log"), Ok(left + 1));
    }
}

#[tokio::test]
async fn an_older_database_beside_a_newer_mark_is_noticed() {
    let folder = Folder::new();
    folder.open().append("log", vec![1]).await.unwrap();
    let backup = fs::read(folder.path()).unwrap();
    folder.open().append("log", vec![2]).await.unwrap();
    fs::write(folder.path(), backup).unwrap();
    let error = Store::open(folder.path(), SCHEMA).unwrap_err();
    assert_eq!(error, StoreError::RolledBack { path: folder.path(), acknowledged: 2, found: 1 });
    assert!(error.to_string().contains("from a backup"), "{error}");
    // Without the mark nothing here can tell: only the counterparty's copy.
    fs::remove_file(folder.beside("-mark")).unwrap();
    assert_eq!(load(&folder, "log"), Ok(1));
}
