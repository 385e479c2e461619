//! Transactions as anybody may send them, up to the executor's door.

use crate::{through_json, world};
use gristmill_ledger::{CheckedTx, Rules, decode_tx, params, tx_hash};
use std::sync::LazyLock;

static RULES: LazyLock<Rules> = LazyLock::new(|| world::genesis().rules());
/// A settlement of 16 claims with 8 royalties each comes to less.
const MAX_READS: usize = 1_024;

/// Reads a transaction and checks what needs no state.
pub fn run(data: &[u8]) {
    let Ok(mut tx) = decode_tx(data) else { return };
    assert!(data.len() <= params::MAX_TX_BYTES);
    assert!(tx.to_bytes() == data, "a second encoding of a transaction");
    through_json(&tx);
    // Few inputs would name this ledger by themselves.
    tx.body.chain = RULES.chain;
    let Ok(checked) = CheckedTx::new(tx.clone(), &RULES) else { return };
    assert_eq!(checked.hash(), tx_hash(&tx));
    let reads = checked.reads();
    assert!(reads.is_sorted_by(|a, b| a < b) && reads.len() <= MAX_READS, "{} reads", reads.len());
    let _ = RULES.params.fees.of(&tx.body.body);
    assert_eq!(CheckedTx::new(tx, &RULES), Ok(checked));
}
