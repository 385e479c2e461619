//! Channels and the market as a node shows them.

use crate::fixture::{genesis, issuer, key, sender, validator};
use gristmill_chain::{Config, Node};
use gristmill_client::Client;
use gristmill_ledger::{
    Body,
    record::ChannelState,
    tx::{CloseChannel, OpenChannel, RegisterProcessor, RequestClose},
};
use gristmill_proof::Trust;
use gristmill_types::{Amount, ChannelTerms};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_deadline_comes_without_anybody_working() {
    let folder = tempfile::tempdir().unwrap();
    let mut genesis = genesis();
    genesis.params.min_grace_ms = 1_500;
    let node = Node::start(Config::new(folder.path()), genesis.clone(), validator()).await.unwrap();
    let client = Client::new(&node.url(), Trust::from_genesis(&genesis).unwrap()).unwrap();
    let alice = sender(&client, 0);
    let deposit = Amount::from_credits(5);
    let mut terms = None;
    let open = |nonce| {
        let opened = ChannelTerms {
            chain: genesis.chain_id(),
            payer: key(0).account(),
            payee: key(1).account(),
            issuer: issuer(),
            voucher_key: key(2).account(),
            receipt_key: key(3).account(),
            grace_ms: 1_500,
            open_nonce: nonce,
        };
        terms = Some(opened);
        Body::from(OpenChannel { terms: opened, deposit })
    };
    let tx = alice.prepare_with(open).await.unwrap();
    alice.submit(&tx).await.unwrap();
    let terms = terms.unwrap();

    let channel = client.channel(&terms.id()).await.unwrap().value.unwrap();
    assert_eq!((channel.channel.deposit, channel.lanes.len()), (deposit, 0));
    for number in [0, 1] {
        assert_eq!(client.account_info(&key(number).account()).await.unwrap().channels, [terms.id()]);
    }
    let early = alice.send(CloseChannel { terms, lanes: Vec::new() }).await;
    assert!(early.is_err(), "closed without a request: {early:?}");
    alice.send(RequestClose { terms }).await.unwrap();
    let closing = client.channel(&terms.id()).await.unwrap();
    let ChannelState::Closing { deadline_ms } = closing.value.unwrap().channel.state else {
        panic!("the channel is not closing")
    };
    assert_eq!(deadline_ms, closing.clock_ms + 1_500);

    // Nobody sends anything. Ledger time reaches the deadline, and then stands still again.
    let mut head = node.follow();
    let reached = head.wait_for(|head| head.clock_ms >= deadline_ms);
    let height = tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap().unwrap().height;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.head().height, height);

    alice.send(CloseChannel { terms, lanes: Vec::new() }).await.unwrap();
    let closed = client.channel(&terms.id()).await.unwrap().value.unwrap();
    assert_eq!((closed.channel.state, closed.channel.refunded), (ChannelState::Closed, deposit));
    assert!(client.account_info(&key(0).account()).await.unwrap().channels.is_empty());
    assert!(client.supply().await.unwrap().adds_up);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = crate::fixture::start(folder.path()).await;
    let client = crate::fixture::client(&node);
    let register =
        RegisterProcessor { receipt_key: key(5).account(), endpoints: vec!["http://127.0.0.1:9/".into()] };
    sender(&client, 4).send(register).await.unwrap();
    let listed = client.processors(0, 10).await.unwrap();
    assert_eq!((listed.total, listed.processors[0].processor), (1, key(4).account()));
    assert_eq!(client.genesis().await.unwrap().issuers[0].issuer, issuer());
    node.stop().await;
    let node = crate::fixture::start(folder.path()).await;
    let client = crate::fixture::client(&node);
    assert_eq!(client.processors(0, 10).await.unwrap().processors, listed.processors);
    assert_eq!(client.processors(1, 10).await.unwrap().processors, []);
    node.stop().await;
}
