//! Channels and the market as a node shows them.

use crate::fixture::{genesis, issuer, key, sender, validator};
use gristmill_chain::{Config, Node};
use gristmill_client::{Client, ClientError};
use gristmill_ledger::{
    Body, Event,
    record::ChannelState,
    tx::{
        ClaimProof, CloseChannel, OpenChannel, RegisterForeign, RegisterProcessor, RequestClose, Settle,
        SettleClaim,
    },
};
use gristmill_proof::Trust;
use gristmill_types::{
    Amount, Approval, ChannelTerms, Claim, Digest, ModelId, QuoteHash, Signed, Usage, Voucher,
};
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

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_found_by_lane() {
    let folder = tempfile::tempdir().unwrap();
    let node = crate::fixture::start(folder.path()).await;
    let client = crate::fixture::client(&node);
    let (payer, payee) = (sender(&client, 0), sender(&client, 1));
    let model = ModelId::new([7; 32]);
    let register = |salt| RegisterForeign {
        model,
        name: "acme/known".into(),
        licence: "MIT".into(),
        tokenizer: Digest::new([1; 32]),
        engine: "llama-f32".into(),
        size_bytes: 1,
        salt,
    };
    payee.publish(register).await.unwrap();
    let mut terms = None;
    let open = |nonce| {
        let opened = ChannelTerms {
            chain: client.chain(),
            payer: key(0).account(),
            payee: key(1).account(),
            issuer: issuer(),
            voucher_key: key(2).account(),
            receipt_key: key(3).account(),
            grace_ms: 900_000,
            open_nonce: nonce,
        };
        terms = Some(opened);
        Body::from(OpenChannel { terms: opened, deposit: Amount::from_grains(5_000_000) })
    };
    let tx = payer.prepare_with(open).await.unwrap();
    payer.submit(&tx).await.unwrap();
    let terms = terms.unwrap();

    let claim = |lane, seq, grains| Claim {
        chain: terms.chain,
        channel: terms.id(),
        lane,
        seq,
        model,
        quote: QuoteHash::new([9; 32]),
        usage: Usage::default(),
        amount: Amount::from_grains(grains),
    };
    let approved = |lane, seq, grains| SettleClaim {
        lines: Vec::new(),
        proof: ClaimProof::Approval(Signed::sign(Approval(claim(lane, seq, grains)), &key(2))),
        receipt: None,
    };
    let promised = |lane, seq, grains| SettleClaim {
        lines: Vec::new(),
        proof: ClaimProof::Voucher(Signed::sign(Voucher(claim(lane, seq, grains)), &key(2))),
        receipt: None,
    };
    for claims in [vec![approved(0, 3, 100), approved(1, 1, 50)], vec![promised(0, 5, 300)]] {
        payee.send(Settle { terms, claims, floor: None }).await.unwrap();
    }
    // Refused by the ledger: in a block, and without effect.
    let lower = Settle { terms, claims: vec![approved(0, 6, 99)], floor: None };
    assert!(matches!(payee.send(lower).await, Err(ClientError::Rejected { .. })));
    payee.send(Settle { terms, claims: vec![approved(0, 9, 400)], floor: None }).await.unwrap();

    // What happened on a lane: (number, amount, whether it was paid), with the proof of the transaction.
    let events = async |client: &Client, lane: u32, skip: usize, limit: usize| {
        let listed = client.claims(&terms.id(), lane, skip, limit).await.unwrap();
        let mut events = Vec::new();
        for of in listed.transactions {
            let included = client.included(&of.hash).await.unwrap().unwrap();
            assert_eq!((included.height, included.value.outcome.rejection), (of.height, None));
            for event in of.events {
                events.push(match event {
                    Event::ClaimPaid { seq, paid, .. } => (seq, paid.grains(), true),
                    Event::ClaimPending { seq, amount, .. } => (seq, amount.grains(), false),
                    other => panic!("{other:?}"),
                });
            }
        }
        (events, listed.total)
    };
    let lane_0 = [(3, 100, true), (5, 300, false), (9, 400, true)];
    let check = async |client: &Client| {
        assert_eq!(events(client, 0, 0, 10).await, (lane_0.to_vec(), 3));
        assert_eq!(events(client, 0, 1, 1).await, (lane_0[1..2].to_vec(), 3));
        assert_eq!(events(client, 0, 3, 10).await, (vec![], 3));
        assert_eq!(events(client, 1, 0, 10).await, (vec![(1, 50, true)], 1));
        assert_eq!(events(client, 2, 0, 10).await, (vec![], 0));
    };
    check(&client).await;
    node.stop().await;
    let node = crate::fixture::start(folder.path()).await;
    check(&crate::fixture::client(&node)).await;
    node.stop().await;
}
