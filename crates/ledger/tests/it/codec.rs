//! Every value has one encoding, and bytes from anywhere are harmless.

use crate::{random::Random, world};
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_ledger::{CheckedTx, Event, Genesis, Malformed, Outcome, Record, decode_tx, params, tx_hash};
use gristmill_types::{Amount, TxHash, decode, encode};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Binary and JSON forms give the value back, and nothing else decodes from longer bytes.
fn round_trips<T>(value: &T)
where
    T: BorshSerialize + BorshDeserialize + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = encode(value);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    let mut longer = bytes;
    longer.push(0);
    assert!(decode::<T>(&longer).is_err());
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
}

/// If bytes decode at all, they are the value's one encoding.
fn canonical<T: BorshSerialize + BorshDeserialize>(bytes: &[u8]) -> bool {
    match decode::<T>(bytes) {
        Ok(value) => {
            assert_eq!(encode(&value), bytes);
            true
        }
        Err(_) => false,
    }
}

fn outcome(random: &mut Random, kind: u64) -> Outcome {
    Outcome {
        hash: TxHash::new([7; 32]),
        fee: Amount::from_grains(random.u128()),
        owed: random.chance(2),
        rejection: random.chance(2).then(|| random.rejection()),
        events: vec![random.event(kind)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_value_round_trips(seed in any::<u64>()) {
        let mut random = Random(seed);
        for kind in 0..Random::BODIES {
            let tx = random.tx(kind);
            round_trips(&tx);
            let bytes = tx.to_bytes();
            let decoded = decode_tx(&bytes).unwrap();
            prop_assert_eq!(&decoded, &tx);
            prop_assert_eq!(tx_hash(&tx), tx_hash(&decoded));
        }
        for kind in 0..Random::RECORDS {
            round_trips(&random.record(kind));
        }
        for kind in 0..Random::EVENTS {
            round_trips(&random.event(kind));
            round_trips(&outcome(&mut random, kind));
        }
        round_trips(&random.genesis());
    }

    #[test]
    fn arbitrary_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_tx(&bytes);
        canonical::<Record>(&bytes);
        canonical::<Event>(&bytes);
        canonical::<Genesis>(&bytes);
    }

    /// Damaged encodings get further into the decoder than noise does.
    #[test]
    fn damaged_encodings_are_harmless(
        seed in any::<u64>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let rules = world::genesis().rules();
        let mut random = Random(seed);
        let damage = |mut bytes: Vec<u8>| {
            for (index, value) in &flips {
                let index = index.index(bytes.len());
                bytes[index] = *value;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        };
        for kind in 0..Random::BODIES {
            let bytes = damage(encode(&random.tx(kind)));
            canonical::<gristmill_ledger::SignedTx>(&bytes);
            if let Ok(tx) = decode_tx(&bytes) {
                let _ = CheckedTx::new(tx, &rules);
            }
        }
        for kind in 0..Random::RECORDS {
            let bytes = damage(encode(&random.record(kind)));
            if let Ok(record) = decode::<Record>(&bytes) {
                canonical::<Record>(&bytes);
                let _ = record.key();
                let _ = gristmill_ledger::scan([record]).adds_up();
            }
        }
        for kind in 0..Random::EVENTS {
            canonical::<Event>(&damage(encode(&random.event(kind))));
        }
        canonical::<Genesis>(&damage(encode(&random.genesis())));
    }
}

#[test]
fn too_long_a_transaction_is_not_read() {
    let bytes = vec![0; params::MAX_TX_BYTES + 1];
    let error = decode_tx(&bytes).unwrap_err();
    assert_eq!(error, Malformed::TooLong { bytes: bytes.len(), max: params::MAX_TX_BYTES });
    assert!(matches!(decode_tx(&bytes[1..]), Err(Malformed::Undecodable { .. })));
}

#[test]
fn unknown_tags_are_refused() {
    for kind in Random::RECORDS as u8..=255 {
        assert!(decode::<Record>(&[vec![kind], vec![0; 400]].concat()).is_err(), "{kind}");
    }
    // A list that claims four thousand million items allocates nothing for them.
    let mut bytes = encode(&Random(1).event(3));
    let at = 1 + 32 + 32;
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode::<Event>(&bytes).is_err());
}
