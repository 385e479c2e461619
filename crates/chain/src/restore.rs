//! What a node does when it starts: build the view from what is stored, and check the state.
//!
//! Reads the whole state, the whole index and all blocks once. The state must add up and the blocks must
//! follow each other, or the node does not start: whatever went wrong, making more blocks on top would not
//! help. Outcomes that are missing are computed again.

use crate::{
    app::block_hash,
    block::Block,
    catalog::Catalog,
    query::Sources,
    recompute::recompute,
    state::Env,
    view::{Head, View},
};
use commonware_consensus::types::Height;
use commonware_cryptography::Digestible as _;
use futures::{StreamExt as _, pin_mut};
use gristmill_ledger::{Audit, Genesis, Record, scan};
use gristmill_proof::{Key, Value};
use gristmill_types::{BlockHash, decode};
use std::collections::BTreeSet;

/// Builds the view from what is stored, and audits the state on the way. Returns also of how many blocks
/// the outcomes were missing.
///
/// # Panics
///
/// If something that is stored cannot be read, or the state does not add up.
pub(crate) async fn restore<E: Env>(
    sources: &Sources<E>,
    genesis_block: &Block,
    genesis: &Genesis,
) -> (View, Audit, u64) {
    let processed = sources.marshal.get_processed().await.map_or(0, |processed| processed.height().get());
    let header = if processed == 0 {
        genesis_block.header.clone()
    } else {
        let block = sources.marshal.get_block(Height::new(processed)).await;
        block.expect("marshal keeps every block").inner().header.clone()
    };
    sources.headers.push(header.clone());
    let head = Head {
        height: processed,
        hash: block_hash(&header.digest()),
        time_ms: header.time_ms,
        clock_ms: header.clock_ms,
    };
    let view = View::new(head);
    let mut parent = genesis_block.digest();
    let mut missing = BTreeSet::new();
    for height in 1..=processed {
        let block = sources.marshal.get_block(Height::new(height)).await;
        let Some(block) = block else { panic!("block {height} is missing or damaged") };
        assert!(block.inner().header.parent == parent, "block {height} does not follow on the one before");
        parent = block.inner().digest();
        let unknown = BlockHash::new([0; 32]);
        match sources.index.get(height, unknown).await.expect("the index of outcomes is damaged") {
            Some(applied) => view.learn(&applied),
            None => drop(missing.insert(height)),
        }
    }
    for applied in recompute(sources, genesis, &missing).await {
        view.learn(&applied);
    }
    let mut catalog = Catalog::default();
    let mut records = Vec::new();
    {
        let database = sources.databases.read().await;
        let stream = database.stream_range(..);
        pin_mut!(stream);
        while let Some(entry) = stream.next().await {
            let (_, value): (Key, Value) = entry.expect("the state cannot be read");
            let record = decode::<Record>(&value).expect("a state value is not a record");
            catalog.insert(record.clone());
            records.push(record);
        }
    }
    let audit = scan(records);
    assert!(
        audit.adds_up(),
        "the stored state does not add up: {}; restore the data folder from a backup or another node",
        audit.faults.first().map_or("an issuer's parts differ from its total", String::as_str)
    );
    view.restore(head, catalog);
    (view, audit, missing.len() as u64)
}
