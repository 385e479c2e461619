//! The ordinary life of a node.

use crate::fixture::{START, client, fee, issuer, key, sender, signed, start, transfer};
use futures::StreamExt as _;
use gristmill_client::ClientError;
use gristmill_ledger::{Event, tx_hash};
use gristmill_types::Amount;
use std::{io::Write as _, net::TcpStream, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_final_and_proven_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    assert!(node.audit().adds_up());
    let client = client(&node);
    let alice = sender(&client, 0);

    let tx = alice.prepare(transfer(1, 5)).await.unwrap();
    let inclusion = alice.submit(&tx).await.unwrap();
    assert_eq!(inclusion.outcome.fee, fee());
    assert!(matches!(inclusion.outcome.events.as_slice(), [Event::Transferred { amount, .. }]
        if *amount == Amount::from_grains(5)));

    let left = START.saturating_sub(Amount::from_grains(5)).saturating_sub(fee());
    let account = client.account(&alice.account(), &[issuer()]).await.unwrap();
    assert!(account.height >= inclusion.height);
    assert_eq!((account.value.nonce, account.value.balances), (1, vec![(issuer(), left)]));
    // An account that never appeared is proven to be empty.
    let nobody = key(77).account();
    assert_eq!(client.balance(&nobody, &issuer()).await.unwrap().value, Amount::ZERO);

    let hash = tx_hash(&tx);
    let included = client.included(&hash).await.unwrap().unwrap();
    assert_eq!(included.value.outcome, inclusion.outcome);
    assert_eq!(included.value.tx.as_deref(), Some(tx_hex(&tx).as_str()));
    let block = client.block(inclusion.height).await.unwrap().unwrap().value;
    assert_eq!(block.transactions, [hash]);
    let same = client.block_by_hash(&block.hash).await.unwrap().unwrap().value;
    assert_eq!((same.height, same.state_root), (block.height, block.state_root));
    assert!(client.block(inclusion.height + 100).await.unwrap().is_none());
    let supply = client.supply().await.unwrap();
    assert!(supply.adds_up, "{supply:?}");

    node.stop().await;
    let node = start(folder.path()).await;
    let client = crate::fixture::client(&node);
    let again = client.included(&hash).await.unwrap().unwrap();
    assert_eq!(again.value.outcome, inclusion.outcome);
    assert_eq!(client.balance(&alice.account(), &issuer()).await.unwrap().value, left);
    assert_eq!(client.block(block.height).await.unwrap().unwrap().value.hash, block.hash);
    // The same bytes again: the earlier outcome, nothing applied twice.
    let resubmitted = client.submit_and_wait(&tx).await.unwrap();
    assert_eq!((resubmitted.height, resubmitted.block), (inclusion.height, inclusion.block));
    let next = sender(&client, 0).send(transfer(1, 7)).await.unwrap();
    assert!(next.height > inclusion.height);
    node.stop().await;
}

fn tx_hex(tx: &gristmill_ledger::SignedTx) -> String {
    tx.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_ledger_makes_no_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let first = sender(&client, 0).send(transfer(1, 1)).await.unwrap().height;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.head().height, first);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_order_nonces_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let chain = client.chain();
    let mut waiting = tokio::task::JoinSet::new();
    for nonce in [3, 2, 1, 0] {
        let client = client.clone();
        waiting.spawn(async move { client.submit_and_wait(&signed(chain, 0, nonce, transfer(1, 1))).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(result) = waiting.join_next().await {
        assert_eq!(result.unwrap().unwrap().outcome.rejection, None);
    }
    assert_eq!(client.nonce(&key(0).account()).await.unwrap().value, 4);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let mut live = client.follow(None);
    let mut sent = Vec::new();
    let follower = tokio::spawn(async move {
        let mut heights = Vec::new();
        while heights.len() < 3 {
            let event = live.next().await.unwrap().unwrap();
            if !event.outcomes.is_empty() {
                heights.push((event.height, event.outcomes[0].hash));
            }
        }
        heights
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let alice = sender(&client, 0);
    for _ in 0..3 {
        let inclusion = alice.send(transfer(1, 1)).await.unwrap();
        sent.push((inclusion.height, inclusion.outcome.hash));
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), follower).await.unwrap().unwrap(), sent);

    // From a height on, after a restart, which reads the stored outcomes.
    node.stop().await;
    let node = start(folder.path()).await;
    let client = crate::fixture::client(&node);
    let events: Vec<_> =
        client.follow(Some(sent[1].0)).take(2).map(|event| event.unwrap()).collect::<Vec<_>>().await;
    let seen: Vec<_> = events.iter().map(|event| (event.height, event.outcomes[0].hash)).collect();
    assert_eq!(seen, sent[1..]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_costs_its_fee_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let alice = sender(&client, 0);
    let refused = alice.send(transfer(1, u128::from(u64::MAX) * 1_000_000)).await;
    assert!(matches!(refused, Err(ClientError::Rejected { .. })), "{refused:?}");
    let account = client.account(&alice.account(), &[issuer()]).await.unwrap().value;
    assert_eq!((account.nonce, account.balances[0].1), (1, START.saturating_sub(fee())));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_does_not_hold_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let mut half_sent = TcpStream::connect(node.address()).unwrap();
    half_sent
        .write_all(b"POST /v1/transactions HTTP/1.1\r\nhost: node\r\ncontent-length: 99\r\n\r\n{")
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), node.stop()).await;
    assert!(stopped.is_ok(), "the node waits for the rest of a request");
    // The folder is free.
    start(folder.path()).await.stop().await;
    drop(half_sent);
}
