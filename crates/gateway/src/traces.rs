//! Traces of requests, kept beside their receipts and written in the same commit.

use crate::{accounts::State, error::BuyError};
use gristmill_net::trace::{KEPT, Trace};
use gristmill_store::{
    Migration, Store,
    rusqlite::{OptionalExtension as _, types::Value},
};
use gristmill_types::Digest;

/// The last [`KEPT`] of them.
pub(crate) const SCHEMA: Migration = Migration {
    sql: "CREATE TABLE traces (number INTEGER PRIMARY KEY, receipt TEXT NOT NULL UNIQUE, trace TEXT NOT NULL) STRICT;",
};

/// Writes one in the commit under way.
pub(crate) fn insert(state: &mut State, receipt: &Digest, trace: &Trace) {
    let text = serde_json::to_string(trace).unwrap_or_default();
    state.sql(
        "INSERT OR IGNORE INTO traces (receipt, trace) VALUES (?1, ?2)",
        vec![Value::Text(receipt.to_string()), Value::Text(text)],
    );
    state.sql(
        "DELETE FROM traces WHERE number <= (SELECT max(number) FROM traces) - ?1",
        vec![Value::Integer(i64::from(KEPT))],
    );
}

/// The one of a receipt, named by its whole id.
pub(crate) async fn find(store: &Store, receipt: Digest) -> Result<Option<Trace>, BuyError> {
    let id = receipt.to_string();
    let found = store.read(move |connection| {
        let mut query = connection.prepare("SELECT trace FROM traces WHERE receipt = ?1")?;
        query.query_row([id], |row| row.get::<_, String>(0)).optional()
    });
    let read = |text: String| {
        serde_json::from_str(&text).map_err(|error| BuyError::Damaged(format!("a trace ({error})")))
    };
    found.await?.map(read).transpose()
}
