//! Sequences of transactions on a small ledger: after each, every credit is accounted for, and a
//! second, naive ledger has come to the same verdict and the same records.

#[path = "../../ledger/tests/it/model/generate.rs"]
mod generate;
#[path = "../../ledger/tests/it/model/naive.rs"]
mod naive;

use crate::{parts, world::World};
use generate::Op;
use gristmill_ledger::{CheckedTx, Genesis, Record, decode_tx};
use gristmill_types::{SecretKey, Signed, decode};
use naive::{Naive, Verdict};
use std::sync::LazyLock;

static GENESIS: LazyLock<Genesis> = LazyLock::new(generate::genesis);
const MAX_STEPS: usize = 64;

/// Each part is a step: eight bytes from which a transaction is made that fits the state, then changes of
/// three bytes each to its encoding, a place and what is added to the byte there.
pub fn run(data: &[u8]) {
    let (mut world, mut naive) = (World::from(&GENESIS), Naive::new(&GENESIS));
    for step in parts(data).take(MAX_STEPS) {
        let Some((seed, changes)) = step.split_first_chunk::<8>() else { continue };
        let op = generate::op(&naive, u64::from_le_bytes(*seed));
        let Some(op) = changed(op, changes, &world) else { continue };
        world.context.clock_ms += op.wait_ms;
        world.context.time_ms += op.wait_ms;
        let expected = naive.step(&op);
        // Scans the whole state, too.
        let found = match world.run(op.tx.clone()) {
            Ok(outcome) => outcome.rejection.map_or(Verdict::Accepted, Verdict::Rejected),
            Err(_) => Verdict::Invalid,
        };
        assert_eq!(found, expected, "{op:#?}");
    }
    naive.compare(world.state.values().map(|bytes| decode::<Record>(bytes).unwrap()));
}

/// The operation with its transaction's bytes changed; none if they are no transaction any more.
fn changed(op: Op, changes: &[u8], world: &World) -> Option<Op> {
    if changes.is_empty() {
        return Some(op);
    }
    let mut bytes = op.tx.to_bytes();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] = bytes[place].wrapping_add(change[2]);
    }
    let tx = decode_tx(&bytes).ok()?;
    assert_eq!(tx.to_bytes(), bytes);
    // Who sends it signs it; a block's transactions come with good signatures.
    let tx = Signed { signature: SecretKey::from_seed(&[1; 32]).sign_bytes(b""), ..tx };
    let malformed = CheckedTx::new(tx.clone(), &world.rules).is_err();
    Some(Op { tx, malformed, ..op })
}
