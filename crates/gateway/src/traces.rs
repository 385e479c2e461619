//! Traces of requests, in the rows of their receipts.

use crate::{
    error::BuyError,
    receipts::{column, of_key},
};
use gristmill_channel::KeyId;
use gristmill_net::trace::Trace;
use gristmill_store::{
    Migration, Store,
    rusqlite::{OptionalExtension as _, params, types::Value},
};
use gristmill_types::Digest;

/// None where a crash made the gateway forget, and for receipts of earlier versions.
pub(crate) const SCHEMA: Migration = Migration { sql: "ALTER TABLE receipts ADD COLUMN trace TEXT;" };

/// A trace as the receipt's row holds it.
pub(crate) fn written(trace: Option<&Trace>) -> Value {
    trace.and_then(|trace| serde_json::to_string(trace).ok()).map_or(Value::Null, Value::Text)
}

/// The one of a receipt, named by its whole id.
pub(crate) async fn find(
    store: &Store,
    only: Option<KeyId>,
    receipt: Digest,
) -> Result<Option<Trace>, BuyError> {
    let id = receipt.to_string();
    let found = store.read(move |connection| {
        let query = format!("SELECT trace FROM receipts WHERE {} AND id = ?2", of_key(only));
        let mut query = connection.prepare(&query)?;
        query.query_row(params![column(only), id], |row| row.get::<_, Option<String>>(0)).optional()
    });
    let read = |text: String| {
        serde_json::from_str(&text).map_err(|error| BuyError::Damaged(format!("a trace ({error})")))
    };
    found.await?.flatten().map(read).transpose()
}
