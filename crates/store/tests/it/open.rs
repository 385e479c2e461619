//! Opening: schema, permissions, the lock, and files that are not ours.

use crate::{Folder, SCHEMA, tamper};
use gristmill_store::{Batch, Migration, Options, Store, StoreError, rusqlite::types::Value};
use std::{fs, os::unix::fs::PermissionsExt as _};

#[tokio::test]
async fn logs_and_tables_come_back() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(store.load("channel/a").unwrap(), []);
    let batch = Batch::new()
        .append("channel/a", b"one".to_vec())
        .append("channel/b", b"other".to_vec())
        .append("channel/a", b"two".to_vec())
        .sql("INSERT INTO request VALUES (?1, ?2, NULL)", [Value::Integer(7), Value::Text("1.5".into())]);
    store.write(batch).await.unwrap();
    drop(store);
    let store = folder.open();
    let rows = store.load("channel/a").unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.row, &row.record[..])).collect::<Vec<_>>(),
        [(1, &b"one"[..]), (2, b"two")]
    );
    assert_eq!(store.logs("channel/").unwrap(), ["channel/a", "channel/b"]);
    assert_eq!(store.logs("other").unwrap(), [] as [String; 0]);
    let cost: String = store
        .read(|c| c.query_row("SELECT cost FROM request WHERE id = 7", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(cost, "1.5");
}

#[tokio::test]
async fn a_replaced_log_goes_on() {
    let folder = Folder::new();
    let store = folder.open();
    for n in 0..10 {
        store.append("log", vec![n]).await.unwrap();
    }
    store.write(Batch::new().replace("log", vec![vec![99]])).await.unwrap();
    store.append("log", vec![100]).await.unwrap();
    let rows: Vec<_> = store.load("log").unwrap().into_iter().map(|row| (row.row, row.record)).collect();
    assert_eq!(rows, [(11, vec![99]), (12, vec![100])]);
    store.write(Batch::new().replace("log", vec![])).await.unwrap();
    assert_eq!(store.load("log").unwrap(), []);
    drop(store);
    let store = folder.open();
    store.append("log", vec![101]).await.unwrap();
    assert_eq!(store.load("log").unwrap()[0].row, 13);
}

#[tokio::test]
async fn a_removed_log_is_gone_and_its_name_is_free() {
    let folder = Folder::new();
    let store = folder.open();
    store.append("log/a", vec![1]).await.unwrap();
    store.append("log/b", vec![2]).await.unwrap();
    store.write(Batch::new().append("log/a", vec![3]).remove("log/a")).await.unwrap();
    assert_eq!(store.logs("log/").unwrap(), ["log/b"]);
    assert!(store.load("log/a").unwrap().is_empty());
    let again = Batch::new().append("log/a", vec![4]).remove("log/a").append("log/a", vec![5]);
    store.write(again).await.unwrap();
    store.append("log/a", vec![6]).await.unwrap();
    drop(store);
    let rows = folder.open().load("log/a").unwrap();
    let found: Vec<_> = rows.into_iter().map(|row| (row.row, row.record)).collect();
    assert_eq!(found, [(1, vec![5]), (2, vec![6])]);
}

#[test]
fn the_schema_moves_forward_only() {
    let folder = Folder::new();
    drop(Store::open(folder.path(), &SCHEMA[..1]).unwrap());
    drop(Store::open(folder.path(), SCHEMA).unwrap());
    let error = Store::open(folder.path(), &SCHEMA[..1]).unwrap_err();
    assert_eq!(error, StoreError::Newer { path: folder.path(), found: 3, known: 2 });
    let broken = [SCHEMA, &[Migration { sql: "CREATE TABLE x (y); SELECT nonsense;" }]].concat();
    assert!(Store::open(folder.path(), &broken).is_err());
    let store = folder.open();
    let tables: i64 = store
        .read_blocking(|c| {
            c.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'x'", [], |r| r.get(0))
        })
        .unwrap();
    assert_eq!(tables, 0, "a step that fails leaves nothing");
}

#[test]
fn only_the_owner_reads_it() {
    let folder = Folder::new();
    drop(folder.open());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let _store = folder.open();
    for suffix in ["", "-wal", "-shm", "-mark", "-lock"] {
        let mode = fs::metadata(folder.beside(suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[test]
fn a_second_opener_is_refused_with_the_reason() {
    let folder = Folder::new();
    let store = folder.open();
    let by = format!(" by process {}", std::process::id());
    let error = Store::open(folder.path(), SCHEMA).unwrap_err();
    assert_eq!(error, StoreError::InUse { path: folder.path(), by });
    let clone = store.clone();
    drop(store);
    assert!(Store::open(folder.path(), SCHEMA).is_err(), "a clone holds it");
    drop(clone);
    let _again = folder.open();
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = Folder::new();
    fs::write(folder.path(), b"these are not the bytes of a database at all").unwrap();
    assert_eq!(Store::open(folder.path(), SCHEMA).unwrap_err(), StoreError::Foreign { path: folder.path() });
    assert!(fs::read(folder.path()).unwrap().starts_with(b"these are not"));
    fs::remove_file(folder.path()).unwrap();
    tamper(&folder, "CREATE TABLE theirs (x)");
    assert_eq!(Store::open(folder.path(), SCHEMA).unwrap_err(), StoreError::Foreign { path: folder.path() });
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = Folder::new();
    fs::write(folder.path(), b"").unwrap();
    let below = folder.path().join("records.db");
    let error = Store::open(&below, SCHEMA).unwrap_err();
    assert!(matches!(&error, StoreError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("the folder's permissions"), "{error}");
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_stops() {
    let folder = Folder::new();
    let options = Options { max_bytes: 200 << 10, ..Options::default() };
    let store = Store::open_with(folder.path(), SCHEMA, options).unwrap();
    let full = StoreError::Full { path: folder.path() };
    let mut acknowledged = 0u64;
    let error = loop {
        match store.append("log", vec![7; 9_000]).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the limit holds");
    };
    assert!(acknowledged > 5, "{acknowledged}");
    assert_eq!(error, full);
    assert_eq!(store.append("log", vec![1]).await, Err(full.clone()), "a small one is refused as well");
    assert_eq!(store.slot().await.err(), Some(full), "with the reason");
    assert_eq!(store.load("log").unwrap().len() as u64, acknowledged, "reading goes on");
    drop(store);
    let store = folder.open();
    assert_eq!(store.load("log").unwrap().len() as u64, acknowledged);
    store.append("log", vec![1]).await.unwrap();
}

#[tokio::test]
async fn batches_are_bounded() {
    let folder = Folder::new();
    let long = "x".repeat(129);
    let many = (0..4_097).fold(Batch::new(), |batch, _| batch.append("log", vec![]));
    for batch in
        [Batch::new().append(&long, vec![]), many, Batch::new().append("log", vec![0; (64 << 20) + 1])]
    {
        let store = folder.open();
        assert!(matches!(store.write(batch).await, Err(StoreError::TooLarge { .. })));
        assert_eq!(store.load("log").unwrap(), []);
    }
    let store = folder.open();
    let many = (0..4_097).fold(Batch::new(), |batch, _| batch.sql("DELETE FROM request", []));
    assert!(matches!(store.write(many).await, Err(StoreError::TooLarge { .. })));
    store.append("log", vec![]).await.unwrap();
}
