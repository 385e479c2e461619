//! The store against crashes, damage and crowds.

mod crash;
mod damage;
mod group;
mod open;

use gristmill_store::{Migration, Store};
use std::path::PathBuf;
use tempfile::TempDir;

/// A small schema of a shell.
pub(crate) const SCHEMA: &[Migration] = &[
    Migration { sql: "CREATE TABLE request (id INTEGER PRIMARY KEY, cost TEXT NOT NULL) STRICT;" },
    Migration { sql: "ALTER TABLE request ADD COLUMN note TEXT;" },
];

pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("records.db")
    }

    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("records.db{suffix}"))
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.path(), SCHEMA).unwrap()
    }
}

/// Opens the file as a stranger would, to damage it.
pub(crate) fn tamper(folder: &Folder, sql: &str) -> usize {
    let connection = gristmill_store::rusqlite::Connection::open(folder.path()).unwrap();
    connection.execute(sql, []).unwrap()
}
