//! What a light client reads of a node that it does not trust: headers, certificates, proofs of the
//! state and of a block's body. One encoding each; and whatever the bytes, no verdict about a ledger
//! whose truth is known is false.

use gristmill_ledger::Genesis;
use gristmill_proof::{BodyProof, Finality, Header, ProofError, StateProof, Trust};
use gristmill_types::{BlockHash, StateKey, TxHash};
use std::{collections::BTreeMap, sync::LazyLock};

/// A ledger of one validator that was run once, and what it said of itself.
struct Truth {
    trust: Trust,
    /// Its blocks.
    blocks: Vec<Header>,
    /// In the last of them.
    state: BTreeMap<StateKey, Option<Vec<u8>>>,
    /// The one transaction of the last.
    transaction: TxHash,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(|| {
    let genesis: Genesis = serde_json::from_slice(include_bytes!("../data/genesis.json")).unwrap();
    let trust = Trust::from_genesis(&genesis).unwrap();
    let blocks: Vec<Header> = crate::parts(include_bytes!("../data/finalities"))
        .map(|bytes| Finality::from_bytes(bytes).unwrap().verify(&trust).unwrap().clone())
        .collect();
    let last = blocks.last().unwrap();
    let state = crate::parts(include_bytes!("../data/state_proofs")).map(|bytes| {
        let proof = StateProof::from_bytes(bytes).unwrap();
        (proof.key, proof.verify(last).unwrap().map(<[u8]>::to_vec))
    });
    let transaction = gristmill_ledger::tx_hash(
        &gristmill_ledger::decode_tx(include_bytes!("../data/transaction")).unwrap(),
    );
    Truth { state: state.collect(), trust, blocks, transaction }
});

/// The first byte says which kind.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let last = TRUTH.blocks.last().unwrap();
    match kind {
        0 => {
            let read = Header::from_bytes(bytes);
            one_encoding(bytes, &read, Header::to_bytes);
            let _ = read.map(|header| header.hash());
        }
        1 => {
            let read = Finality::from_bytes(bytes);
            one_encoding(bytes, &read, Finality::to_bytes);
            let Ok(finality) = read else { return };
            if let Ok(header) = finality.verify(&TRUTH.trust) {
                let known: Vec<BlockHash> = TRUTH.blocks.iter().map(Header::hash).collect();
                assert!(known.contains(&header.hash()), "a forged block is final: {header:?}");
            }
        }
        2 => {
            let read = StateProof::from_bytes(bytes);
            one_encoding(bytes, &read, StateProof::to_bytes);
            let Ok(proof) = read else { return };
            if let Ok(value) = proof.verify(last) {
                match TRUTH.state.get(&proof.key) {
                    Some(known) => assert_eq!(value, known.as_deref(), "a forged value"),
                    None => assert_eq!(value, None, "a forged record under {}", proof.key),
                }
            }
        }
        3 => {
            let read = BodyProof::from_bytes(bytes);
            one_encoding(bytes, &read, BodyProof::to_bytes);
            let Ok(proof) = read else { return };
            let other = TxHash::new([7; 32]);
            assert!(proof.verify(&other, last).is_err(), "a forged transaction");
            let _ = proof.verify(&TRUTH.transaction, last);
        }
        _ => {}
    }
}

fn one_encoding<T>(bytes: &[u8], read: &Result<T, ProofError>, write: impl Fn(&T) -> Vec<u8>) {
    if let Ok(value) = read {
        assert!(write(value) == bytes, "these bytes are a second encoding of a proof");
    }
}
