//! A node that changes what it proved is found out, whichever byte it changes.

use crate::fixture::{client, issuer, key, sender, start, transfer};
use gristmill_client::schema::StateAnswer;
use gristmill_ledger::keys;
use gristmill_proof::{Finality, StateProof};

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_state_proof_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    for _ in 0..3 {
        sender(&client, 0).send(transfer(1, 5)).await.unwrap();
    }
    let present = keys::balance(&key(0).account(), &issuer());
    let absent = keys::balance(&key(77).account(), &issuer());
    let url = format!("{}/v1/state?key={present},{absent}", node.url());
    let answer: StateAnswer = reqwest::get(url).await.unwrap().json().await.unwrap();
    let finality = Finality::from_bytes(&bytes(&answer.finality)).unwrap();
    let header = finality.verify(client.trust()).unwrap();
    for (index, value) in answer.values.iter().enumerate() {
        let good = bytes(&value.proof);
        let proof = StateProof::from_bytes(&good).unwrap();
        assert_eq!(proof.verify(header).unwrap().is_some(), index == 0);
        for position in 0..good.len() {
            let mut changed = good.clone();
            changed[position] ^= 1 << (position % 8);
            let Ok(changed) = StateProof::from_bytes(&changed) else { continue };
            let believed = changed.verify(header);
            // Absence is proven for a whole gap between two keys; another key within it is absent too.
            let same_gap = index == 1 && position < 32 && matches!(believed, Ok(None));
            assert!(believed.is_err() || same_gap, "byte {position} of proof {index} was changed unnoticed");
        }
    }
    node.stop().await;
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}
