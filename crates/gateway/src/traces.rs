//! Traces of requests, in the rows of their receipts.

use crate::error::BuyError;
use gristmill_net::trace::Trace;
use gristmill_store::{
    Migration, Store,
    rusqlite::{OptionalExtension as _, types::Value},
};
use gristmill_types::Digest;

/// None where a crash made the gateway forget, and for receipts of earlier versions.
pub(crate) const SCHEMA: Migration = Migration { sql: "ALTER TABLE receipts ADD COLUMN trace TEXT;" };

/// A trace as the receipt's row holds it.
pub(crate) fn column(trace: Option<&Trace>) -> Value {
    trace.and_then(|trace| serde_json::to_string(trace).ok()).map_or(Value::Null, Value::Text)
}

/// The one of a receipt, named by its whole id.
pub(crate) async fn find(store: &Store, receipt: Digest) -> Result<Option<Trace>, BuyError> {
    let id = receipt.to_string();
    let found = store.read(move |connection| {
        let mut query = connection.prepare("SELECT trace FROM receipts WHERE id = ?1")?;
        query.query_row([id], |row| row.get::<_, Option<String>>(0)).optional()
    });
    let read = |text: String| {
        serde_json::from_str(&text).map_err(|error| BuyError::Damaged(format!("a trace ({error})")))
    };
    found.await?.flatten().map(read).transpose()
}
