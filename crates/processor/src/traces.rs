//! Traces of requests, kept beside their receipts: written in the receipt's commit, and completed when
//! the receipt is approved and settled.

use crate::books::Statement;
use gristmill_client::schema::Inclusion;
use gristmill_ledger::Event as LedgerEvent;
use gristmill_net::trace::{KEPT, Place, Served, Settled, Trace};
use gristmill_store::{
    Batch, Migration, Store, StoreError,
    rusqlite::{OptionalExtension as _, params, types::Value},
};
use gristmill_types::{Claim, Digest, Receipt, Signable as _, Signed};

/// The last [`KEPT`] of them.
pub(crate) const SCHEMA: Migration = Migration {
    sql: "CREATE TABLE traces (
        number INTEGER PRIMARY KEY,
        receipt BLOB NOT NULL,
        channel BLOB NOT NULL,
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
    let id = body.digest();
    let text = serde_json::to_string(trace).unwrap_or_default();
    let row = vec![
        Value::Blob(id.as_bytes().to_vec()),
        Value::Blob(body.channel.as_bytes().to_vec()),
        number(body.lane.into()),
        number(body.seq),
        Value::Text(text),
    ];
    let mut statements =
        vec![("INSERT INTO traces (receipt, channel, lane, seq, trace) VALUES (?1, ?2, ?3, ?4, ?5)", row)];
    // Once in a while; which receipts that falls to does not matter.
    if id.as_bytes().first() == Some(&0) {
        statements.push((
            "DELETE FROM traces WHERE number <= (SELECT max(number) FROM traces) - ?1",
            vec![number(KEPT.into())],
        ));
    }
    statements
}

/// Notes an approval.
pub(crate) fn approved(claim: &Claim, now_us: u64) -> Statement {
    (
        "UPDATE traces SET approved_us = ?1 WHERE channel = ?2 AND lane = ?3 AND seq = ?4",
        vec![
            number(now_us),
            Value::Blob(claim.channel.as_bytes().to_vec()),
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
                Value::Blob(channel.as_bytes().to_vec()),
                number((*lane).into()),
                number(*seq),
            ],
        );
    }
    if batch.is_empty() { Ok(()) } else { store.write(batch).await }
}

/// The one of a receipt.
pub(crate) async fn find(store: &Store, receipt: Digest, at: Place) -> Result<Option<Served>, StoreError> {
    let found = store.read(move |connection| {
        let mut query = connection.prepare(
            "SELECT trace, approved_us, settled FROM traces
             WHERE channel = ?1 AND lane = ?2 AND seq = ?3 AND receipt = ?4",
        )?;
        let (lane, seq) = (number(at.lane.into()), number(at.seq));
        let named = params![at.channel.as_bytes(), lane, seq, receipt.as_bytes()];
        let row = query.query_row(named, |row| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_ledger::Outcome;
    use gristmill_net::trace::Stages;
    use gristmill_types::{
        AccountId, Amount, BlockHash, ChainId, ChannelId, ModelId, QuoteHash, SecretKey, TxHash, Usage,
        VoucherHash,
    };

    fn receipt(seq: u64) -> Signed<Receipt> {
        let body = Receipt {
            chain: ChainId::new([0; 32]),
            channel: ChannelId::new([1; 32]),
            lane: 3,
            seq,
            voucher: VoucherHash::new([0; 32]),
            model: ModelId::new([0; 32]),
            quote: QuoteHash::new([0; 32]),
            usage: Usage::default(),
            spent: Amount::ZERO,
            request: Digest::new([0; 32]),
            response: Digest::new([0; 32]),
            last: true,
            audit: None,
        };
        Signed::sign(body, &SecretKey::from_seed(&[1; 32]))
    }

    fn claim(seq: u64) -> Claim {
        let Receipt { chain, channel, lane, model, quote, usage, .. } = receipt(seq).body;
        Claim { chain, channel, lane, seq, model, quote, usage, amount: Amount::ZERO }
    }

    fn inclusion(seq: u64, byte: u8) -> Inclusion {
        let account: AccountId = SecretKey::from_seed(&[2; 32]).account();
        let paid = LedgerEvent::ClaimPaid {
            channel: ChannelId::new([1; 32]),
            payer: account,
            payee: account,
            issuer: account,
            lane: 3,
            seq,
            model: ModelId::new([0; 32]),
            usage: Usage::default(),
            paid: Amount::ZERO,
            earned: Amount::ZERO,
            owed: Amount::ZERO,
            bonded: Amount::ZERO,
            royalties: Vec::new(),
        };
        let outcome = Outcome {
            hash: TxHash::new([byte; 32]),
            fee: Amount::from_grains(5),
            owed: false,
            rejection: None,
            events: vec![paid],
        };
        let block = BlockHash::new([0; 32]);
        Inclusion { height: 9, block, position: 0, outcome, tx: None, proof: None }
    }

    #[tokio::test]
    async fn a_trace_learns_of_its_approval_and_its_settlement_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("processor.db"), &[SCHEMA]).unwrap();
        let run = async |statements: Vec<Statement>| {
            let batch = statements.into_iter().fold(Batch::new(), |batch, (sql, row)| batch.sql(sql, row));
            store.write(batch).await.unwrap();
        };
        let find = async |asked: &Signed<Receipt>, seq| {
            let at = Place { channel: asked.body.channel, lane: asked.body.lane, seq };
            find(&store, asked.body.digest(), at).await.unwrap()
        };
        let trace = Stages::begin("arrived").trace("a".into(), None, ChannelId::new([1; 32]), 3);
        for seq in [2, 4] {
            run(insert(&receipt(seq), &trace)).await;
        }
        run(vec![approved(&claim(4), 77)]).await;
        let found = find(&receipt(4), 4).await.unwrap();
        assert_eq!((found.trace, found.approved_us, found.settled), (trace, Some(77), None));
        assert_eq!(find(&receipt(2), 2).await.unwrap().approved_us, None);
        // What pays number 3 pays 2 as well, and not 4. A later payment does not take its place.
        settled(&store, &inclusion(3, 7)).await.unwrap();
        settled(&store, &inclusion(5, 8)).await.unwrap();
        let by = async |seq| find(&receipt(seq), seq).await.unwrap().settled.unwrap().transaction;
        assert_eq!((by(2).await, by(4).await), (TxHash::new([7; 32]), TxHash::new([8; 32])));
        // Only who knows the receipt's id is told.
        assert_eq!(find(&receipt(4), 2).await, None);
    }
}
