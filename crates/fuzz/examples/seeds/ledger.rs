//! Values of every type of the ledger, operations, and the proofs of a ledger that was run once.

use crate::{Seed, of_kind};
use gristmill_fuzz::{join, parts};
use gristmill_types::encode;
use random::Random;

#[path = "../../../ledger/tests/it/random.rs"]
#[allow(dead_code, reason = "only values are needed")]
mod random;

const DATA: [&[u8]; 2] = [include_bytes!("../../data/finalities"), include_bytes!("../../data/state_proofs")];

pub(crate) fn add(seeds: &mut Vec<Seed>) {
    for kind in 0..Random::BODIES {
        seeds.push(("ledger_tx", encode(&Random(kind).tx(kind))));
    }
    for kind in 0..Random::RECORDS {
        seeds.push(("ledger_record", of_kind(0, encode(&Random(kind).record(kind)))));
    }
    for kind in 0..Random::EVENTS {
        seeds.push(("ledger_record", of_kind(1, encode(&Random(kind).event(kind)))));
    }
    let genesis = Random(1).genesis();
    seeds.push(("ledger_record", of_kind(3, encode(&genesis))));
    seeds.push(("ledger_record", of_kind(4, serde_json::to_vec(&genesis).unwrap())));
    seeds.push(("ledger_record", of_kind(4, include_bytes!("../../data/genesis.json"))));

    for seed in 0..24_u64 {
        let steps = (0..seed).map(|step| {
            let change: &[u8] = if step % 5 == 4 { &[step as u8, 0, 1] } else { &[] };
            [&(seed * 1_000 + step).to_le_bytes(), change].concat()
        });
        seeds.push(("ledger_run", join(steps)));
    }

    let header = |bytes: &[u8]| gristmill_proof::Finality::from_bytes(bytes).unwrap().header.to_bytes();
    for finality in parts(DATA[0]) {
        seeds.push(("proof", of_kind(1, finality)));
        seeds.push(("proof", of_kind(0, header(finality))));
        let body = [header(finality), include_bytes!("../../data/transaction").to_vec()];
        seeds.push(("block", join(body)));
    }
    for proof in parts(DATA[1]) {
        seeds.push(("proof", of_kind(2, proof)));
    }
    let hashes = || (0..5).map(|number| gristmill_types::TxHash::new([number; 32]));
    for position in 0..5 {
        let proof = gristmill_proof::BodyProof::new(hashes(), position).unwrap();
        seeds.push(("proof", of_kind(3, proof.to_bytes())));
    }
    let tx = |kind: u64| gristmill_chain::Tx::decode(encode(&Random(kind).tx(kind)).into()).unwrap();
    for count in 0..4 {
        let body: Vec<_> = (0..count).map(tx).collect();
        let mut header =
            gristmill_proof::Finality::from_bytes(parts(DATA[0]).next().unwrap()).unwrap().header;
        header.body_root = gristmill_chain::Block::body_root(&body);
        seeds.push(("block", gristmill_chain::Block { header, body: body.into() }.to_bytes()));
    }
}
