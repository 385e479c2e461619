//! Wire formats do not change by accident: SHA-256 of the encoding of one fixed value of every kind.
//!
//! If a line differs because a kind was added, add its line to `wire.txt`. A line that is there
//! never changes: stored states and signed transactions of every ledger depend on it.

use crate::{random::Random, world};
use gristmill_types::{encode, sha256};
use std::fmt::Write as _;

/// One line for every kind: its name, the hash of its bytes, for records also of the key.
fn pins() -> String {
    let mut pins = String::new();
    let mut pin = |kind: &str, number: u64, name: String, bytes: Vec<u8>| {
        writeln!(pins, "{kind} {number} {name} {}", sha256(&[&bytes])).unwrap();
    };
    for kind in 0..Random::BODIES {
        let tx = Random(kind).tx(kind);
        pin("tx", kind, tx.body.body.kind().into(), encode(&tx));
        pin("txid", kind, tx.body.body.kind().into(), gristmill_ledger::tx_hash(&tx).as_bytes().into());
    }
    for kind in 0..Random::RECORDS {
        let record = Random(kind).record(kind);
        let json = serde_json::to_value(&record).unwrap();
        let name = json["kind"].as_str().unwrap().to_owned();
        pin("record", kind, name.clone(), encode(&record));
        pin("key", kind, name, record.key().as_bytes().into());
    }
    for kind in 0..Random::EVENTS {
        let event = Random(kind).event(kind);
        let json = serde_json::to_value(&event).unwrap();
        pin("event", kind, json["kind"].as_str().unwrap().into(), encode(&event));
    }
    let genesis = world::genesis();
    pin("genesis", 0, "bytes".into(), encode(&genesis));
    pin("genesis", 0, "chain_id".into(), genesis.chain_id().as_bytes().into());
    for rejection in gristmill_ledger::Rejection::ALL {
        let name = serde_json::to_value(rejection).unwrap().as_str().unwrap().to_owned();
        assert_eq!(encode(rejection), [rejection.code()]);
        writeln!(pins, "rejection {} {name}", rejection.code()).unwrap();
    }
    pins
}

#[test]
fn formats_are_pinned() {
    let (found, pinned) = (pins(), include_str!("wire.txt"));
    assert!(found == pinned, "the wire formats are now:\n{found}");
}

/// The names in JSON are those that `Body::kind` says.
#[test]
fn kinds_by_name() {
    for kind in 0..Random::BODIES {
        let body = Random(kind).body(kind);
        assert_eq!(encode(&body)[0], kind as u8);
        assert_eq!(serde_json::to_value(&body).unwrap()["kind"], body.kind());
    }
}
