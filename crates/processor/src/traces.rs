//! Traces of requests, kept beside their receipts: written in the receipt's commit, and completed when
//! the receipt is approved and settled.

use crate::books::Statement;
use gristmill_client::schema::Inclusion;
use gristmill_ledger::Event as LedgerEvent;
use gristmill_net::trace::{KEPT, Served, Settled, Trace};
use gristmill_store::{
    Batch, Migration, Store, StoreError,
    rusqlite::{OptionalExtension as _, types::Value},
};
use gristmill_types::{Claim, Digest, Receipt, Signable as _, Signed};

/// The last [`KEPT`] of them.
pub(crate) const SCHEMA: Migration = Migration {
    sql: "CREATE TABLE traces (
        number INTEGER PRIMARY KEY,
        receipt TEXT NOT NULL UNIQUE,
        channel TEXT NOT NULL,
        lane INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        trace TEXT NOT NULL,
        approved_us INTEGER,
        settled TEXT
    ) STRICT;
    CREATE INDEX traces_by_lane ON traces (channel, lane, seq);",
};

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Writes the trace of a receipt.
pub(crate) fn insert(receipt: &Signed<Receipt>, trace: &Trace) -> Vec<Statement> {
    let body = &receipt.body;
    let text = serde_json::to_string(trace).unwrap_or_default();
    let row = vec![
        Value::Text(body.digest().to_string()),
        Value::Text(body.channel.to_string()),
        number(body.lane.into()),
        number(body.seq),
        Value::Text(text),
    ];
    vec![
        (
            "INSERT OR IGNORE INTO traces (receipt, channel, lane, seq, trace) VALUES (?1, ?2, ?3, ?4, ?5)",
            row,
        ),
        (
            "DELETE FROM traces WHERE number <= (SELECT max(number) FROM traces) - ?1",
            vec![number(KEPT.into())],
        ),
    ]
}

/// Notes an approval.
pub(crate) fn approved(claim: &Claim, now_us: u64) -> Statement {
    (
        "UPDATE traces SET approved_us = ?1 WHERE channel = ?2 AND lane = ?3 AND seq = ?4",
        vec![
            number(now_us),
            Value::Text(claim.channel.to_string()),
            number(claim.lane.into()),
            number(claim.seq),
        ],
    )
}

/// Notes what a transaction paid.
pub(crate) async fn settled(store: &Store, inclusion: &Inclusion) -> Result<(), StoreError> {
    let outcome = &inclusion.outcome;
    let by = Settled { transaction: outcome.hash, height: inclusion.height, fee: outcome.fee };
    let text = serde_json::to_string(&by).unwrap_or_default();
    let mut batch = Batch::new();
    for event in &outcome.events {
        let LedgerEvent::ClaimPaid { channel, lane, seq, .. } = event else { continue };
        batch = batch.sql(
            "UPDATE traces SET settled = ?1 WHERE channel = ?2 AND lane = ?3 AND seq <= ?4 AND settled IS NULL",
            [
                Value::Text(text.clone()),
                Value::Text(channel.to_string()),
                number((*lane).into()),
                number(*seq),
            ],
        );
    }
    if batch.is_empty() { Ok(()) } else { store.write(batch).await }
}

/// The one of a receipt.
pub(crate) async fn find(store: &Store, receipt: Digest) -> Result<Option<Served>, StoreError> {
    let id = receipt.to_string();
    let found = store.read(move |connection| {
        let mut query =
            connection.prepare("SELECT trace, approved_us, settled FROM traces WHERE receipt = ?1")?;
        let row = query.query_row([id], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<String>>(2)?))
        });
        row.optional()
    });
    Ok(found.await?.and_then(|(trace, approved_us, settled)| {
        Some(Served {
            trace: serde_json::from_str(&trace).ok()?,
            approved_us: approved_us.and_then(|us| u64::try_from(us).ok()),
            settled: settled.and_then(|text| serde_json::from_str(&text).ok()),
        })
    }))
}
