//! How fast one validator is. Prints figures and checks only that all transfers arrive; run it with
//! `cargo nextest run -p gristmill-chain --run-ignored only --no-capture`, optimised for figures
//! that mean something (`CARGO_PROFILE_DEV_OPT_LEVEL=2`).

use crate::fixture::{genesis, issuer, key, sender, signed, transfer, validator};
use gristmill_chain::{Config, Node};
use gristmill_ledger::{Genesis, GenesisBalance, SignedTx};
use gristmill_types::Amount;
use std::time::{Duration, Instant};

const ACCOUNTS: u8 = 64;
const TRANSFERS: u64 = 100_000;

fn rich() -> Genesis {
    let mut genesis = genesis();
    let balance = |number| GenesisBalance {
        account: key(number).account(),
        issuer: issuer(),
        amount: Amount::from_credits(1_000_000),
    };
    genesis.balances = (0..ACCOUNTS).map(balance).collect();
    genesis
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn figures() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let genesis = rich();
    let started = Instant::now();
    let node = Node::start(Config::new(folder.path()), genesis.clone(), validator()).await.unwrap();
    println!("start of an empty ledger: {:?}", started.elapsed());
    let trust = gristmill_proof::Trust::from_genesis(&genesis).unwrap();
    let client = gristmill_client::Client::new(&node.url(), trust).unwrap();
    let alice = sender(&client, 0);

    let mut latencies = Vec::new();
    for round in 0..60 {
        tokio::time::sleep(Duration::from_millis(20 + round % 13)).await;
        let tx = alice.prepare(transfer(1, 1)).await.unwrap();
        let started = Instant::now();
        alice.submit(&tx).await.unwrap();
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    println!(
        "submit to final over HTTP: p50 {:?}, p90 {:?}, max {:?}",
        latencies[30], latencies[54], latencies[59]
    );

    let mut nonces = [0; ACCOUNTS as usize];
    nonces[0] = client.nonce(&alice.account()).await.unwrap().value;
    let chain = client.chain();
    let mut txs: Vec<SignedTx> = Vec::new();
    for index in 0..TRANSFERS {
        let from = u8::try_from(index % u64::from(ACCOUNTS)).unwrap();
        let nonce = &mut nonces[usize::from(from)];
        txs.push(signed(chain, from, *nonce, transfer((from + 7) % ACCOUNTS, 1)));
        *nonce += 1;
    }
    let before = node.head().height;
    let started = Instant::now();
    let taken = node.submit_many(&txs).await.unwrap();
    let admitted = started.elapsed();
    assert_eq!(taken as u64, TRANSFERS);
    while node.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let total = started.elapsed();
    let blocks = node.head().height - before;
    println!(
        "{TRANSFERS} transfers in {total:?}: {:.0}/s, admitted after {admitted:?}, {blocks} blocks",
        TRANSFERS as f64 / total.as_secs_f64()
    );
    let expected = nonces[0];
    assert_eq!(client.nonce(&alice.account()).await.unwrap().value, expected);
    node.stop().await;
    let started = Instant::now();
    let node = Node::start(Config::new(folder.path()), genesis, validator()).await.unwrap();
    println!("start over {} blocks: {:?}", node.head().height, started.elapsed());
    node.stop().await;
}
