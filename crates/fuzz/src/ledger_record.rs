//! What the ledger stores and says: records, events, outcomes, the genesis.

use crate::{canonical, through_json};
use gristmill_ledger::{Event, Genesis, Outcome, Record, scan};

/// The first byte says which kind.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind {
        0 => {
            let Some(record) = canonical::<Record>(bytes) else { return };
            through_json(&record);
            let _ = record.key();
            let _ = scan([record.clone(), record]).adds_up();
        }
        1 => {
            canonical::<Event>(bytes).inspect(through_json);
        }
        2 => {
            canonical::<Outcome>(bytes).inspect(through_json);
        }
        3 => {
            canonical::<Genesis>(bytes).inspect(genesis);
        }
        4 => {
            if let Ok(read) = serde_json::from_slice::<Genesis>(bytes) {
                genesis(&read);
            }
        }
        _ => {}
    }
}

/// A genesis that passes its check makes a state that adds up.
fn genesis(genesis: &Genesis) {
    through_json(genesis);
    let _ = genesis.chain_id();
    if genesis.check().is_ok() {
        let audit = scan(genesis.records());
        assert!(audit.adds_up(), "{audit:#?}");
    }
}
