//! What blocks did, computed again from the genesis.
//!
//! Outcomes are stored beside the state, and a crash or damage to their files can lose some. The state
//! before an old block is gone, but every block is kept: running all of them in memory gives each
//! block's outcomes back. It takes as long as the ledger is, and is needed almost never.

use crate::{index::Applied, query::Sources, state::Env};
use commonware_consensus::types::Height;
use gristmill_ledger::{Context, Executor, Genesis};
use gristmill_types::{StateKey, encode};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Computes the outcomes of these blocks again and stores them.
///
/// # Panics
///
/// If a block cannot be read or does not run, or the outcomes cannot be stored.
pub(crate) async fn recompute<E: Env>(
    sources: &Sources<E>,
    genesis: &Genesis,
    heights: &BTreeSet<u64>,
) -> Vec<Applied> {
    let (rules, mut found) = (Arc::new(genesis.rules()), Vec::new());
    let mut state: BTreeMap<StateKey, Vec<u8>> = BTreeMap::new();
    for height in 1..=heights.last().copied().unwrap_or(0) {
        let block = sources.marshal.get_block(Height::new(height)).await;
        let Some(block) = block else { panic!("block {height} is missing or damaged") };
        let block = block.inner();
        let outcomes = if height == 1 {
            state.extend(genesis.records().iter().map(|record| (record.key(), encode(record))));
            Vec::new()
        } else {
            let header = &block.header;
            let mut executor = Executor::new(
                rules.clone(),
                Context {
                    chain: rules.chain,
                    height,
                    time_ms: header.time_ms,
                    clock_ms: header.clock_ms,
                    epoch: header.context.round.epoch().get(),
                },
            );
            let run = |tx: &crate::Tx| {
                let checked = tx.checked(&rules).ok()?;
                executor.load(checked.reads().iter().map(|key| (*key, state.get(key).cloned())));
                executor.apply(checked).ok()
            };
            let outcomes: Option<Vec<_>> = block.body.iter().map(run).collect();
            let Some(outcomes) = outcomes else { panic!("block {height} does not run") };
            for (key, value) in executor.finish() {
                match value {
                    Some(value) => drop(state.insert(key, value)),
                    None => drop(state.remove(&key)),
                }
            }
            outcomes
        };
        if heights.contains(&height) {
            let applied = Applied::new(block, outcomes, Vec::new());
            let durable = sources.index.put(&applied).await.expect("outcomes were not written");
            durable.await.expect("outcomes were not written");
            found.push(applied);
        }
    }
    found
}
