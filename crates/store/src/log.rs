//! Logs: their tables, their checksum chain, and how they are loaded.
//!
//! A row's checksum covers the checksum before it, the row's number, and the record. The log's own
//! row holds where the chain begins (`base`, before the oldest row that is kept) and where it ends
//! (`head`), so that rows missing at either end are found too.

use crate::error::StoreError;
use rusqlite::{Connection, OptionalExtension as _};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The tables that every store has.
pub(crate) const TABLES: &str = "
    CREATE TABLE gristmill_commit (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
    INSERT INTO gristmill_commit VALUES (1, 0);
    CREATE TABLE gristmill_log (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        base_row INTEGER NOT NULL, base_chain BLOB NOT NULL,
        head_row INTEGER NOT NULL, head_chain BLOB NOT NULL
    );
    CREATE TABLE gristmill_record (
        log INTEGER NOT NULL REFERENCES gristmill_log (id), row INTEGER NOT NULL,
        record BLOB NOT NULL, chain BLOB NOT NULL,
        PRIMARY KEY (log, row)
    ) WITHOUT ROWID;
";

/// One checksum of the chain.
pub(crate) type Chain = [u8; 16];

/// Where the chain of a log begins.
pub(crate) fn root(name: &str) -> Chain {
    truncate(Sha256::new().chain_update(b"gristmill/log/v1").chain_update(name.as_bytes()))
}

/// The checksum of a row.
pub(crate) fn next(before: &Chain, row: u64, record: &[u8]) -> Chain {
    truncate(Sha256::new().chain_update(before).chain_update(row.to_le_bytes()).chain_update(record))
}

fn truncate(hasher: Sha256) -> Chain {
    let mut chain = [0; 16];
    chain.copy_from_slice(&hasher.finalize()[..16]);
    chain
}

/// One verified record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number; numbers rise by one, and go on when the log is replaced.
    pub row: u64,
    /// The record.
    pub record: Vec<u8>,
}

impl AsRef<[u8]> for Row {
    fn as_ref(&self) -> &[u8] {
        &self.record
    }
}

/// Where a log stands.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) id: i64,
    pub(crate) base_row: u64,
    pub(crate) base_chain: Chain,
    pub(crate) head_row: u64,
    pub(crate) head_chain: Chain,
}

/// Reads where a log stands; none if it was never written.
pub(crate) fn find(path: &Path, connection: &Connection, name: &str) -> Result<Option<Log>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT id, base_row, base_chain, head_row, head_chain FROM gristmill_log WHERE name = ?1",
        )
        .map_err(|error| StoreError::sqlite(path, &error))?;
    let found = statement
        .query_row([name], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get::<_, i64>(3)?, row.get(4)?))
        })
        .optional();
    let corrupt = |reason| StoreError::Corrupt { path: path.into(), log: name.into(), row: 0, reason };
    let log = match found {
        Ok(None) => return Ok(None),
        Ok(Some((id, base_row, base_chain, head_row, head_chain))) => {
            match (u64::try_from(base_row), u64::try_from(head_row)) {
                (Ok(base_row), Ok(head_row)) if base_row <= head_row => {
                    Log { id, base_row, base_chain, head_row, head_chain }
                }
                _ => return Err(corrupt("the log's own entry is not valid")),
            }
        }
        Err(rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)) => {
            return Err(corrupt("the log's own entry is not valid"));
        }
        Err(error) => return Err(StoreError::sqlite(path, &error)),
    };
    Ok(Some(log))
}

/// Reads and verifies a whole log.
pub(crate) fn load(path: &Path, connection: &Connection, name: &str) -> Result<Vec<Row>, StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let corrupt = |row, reason| StoreError::Corrupt { path: path.into(), log: name.into(), row, reason };
    // One snapshot for the log's entry and its rows.
    let snapshot = connection.unchecked_transaction().map_err(sqlite)?;
    let Some(log) = find(path, &snapshot, name)? else { return Ok(Vec::new()) };
    if log.base_row == 0 && log.base_chain != root(name) {
        return Err(corrupt(0, "the chain does not begin at this log's root"));
    }
    let mut statement = snapshot
        .prepare_cached("SELECT row, record, chain FROM gristmill_record WHERE log = ?1 ORDER BY row")
        .map_err(sqlite)?;
    let mut found = statement.query([log.id]).map_err(sqlite)?;
    let (mut rows, mut last, mut chain) = (Vec::new(), log.base_row, log.base_chain);
    while let Some(row) = found.next().map_err(sqlite)? {
        let expected = last.saturating_add(1);
        let valid = |_| corrupt(expected, "the row is not valid");
        let number: i64 = row.get(0).map_err(valid)?;
        let record: Vec<u8> = row.get(1).map_err(valid)?;
        let stored: Chain = row.get(2).map_err(valid)?;
        if u64::try_from(number) != Ok(expected) {
            return Err(corrupt(expected, "the row is missing"));
        }
        if expected > log.head_row {
            return Err(corrupt(expected, "the row is beyond the log's head"));
        }
        chain = next(&chain, expected, &record);
        if stored != chain {
            return Err(corrupt(expected, "the checksum does not match: the row or one before it changed"));
        }
        last = expected;
        rows.push(Row { row: expected, record });
    }
    if last != log.head_row {
        return Err(corrupt(last.saturating_add(1), "the row is missing at the end"));
    }
    if chain != log.head_chain {
        return Err(corrupt(last, "the checksum does not match the log's head"));
    }
    Ok(rows)
}

/// The names of all logs that begin so.
pub(crate) fn names(path: &Path, connection: &Connection, prefix: &str) -> Result<Vec<String>, StoreError> {
    let all = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare_cached("SELECT name FROM gristmill_log ORDER BY name")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let names = all().map_err(|error| StoreError::sqlite(path, &error))?;
    Ok(names.into_iter().filter(|name| name.starts_with(prefix)).collect())
}
