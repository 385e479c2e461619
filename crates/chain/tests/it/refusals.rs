//! What a node refuses, and in which words.

use crate::fixture::{client, fee, genesis, key, signed, start, transfer, validator};
use gristmill_chain::{Config, Node, NodeError};
use gristmill_client::{Client, ClientError, schema::ErrorBody};
use gristmill_ledger::SignedTx;
use gristmill_proof::Trust;
use gristmill_types::{Amount, ChainId};

async fn refused(client: &Client, tx: &SignedTx) -> (u16, String) {
    match client.submit_and_wait(tx).await {
        Err(ClientError::Refused { status, code, .. }) => (status, code),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_cannot_be_in_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let chain = client.chain();

    let mut forged = signed(chain, 0, 0, transfer(1, 1));
    forged.body.nonce = 1;
    assert_eq!(refused(&client, &forged).await, (400, "bad_signature".into()));
    let elsewhere = signed(ChainId::new([9; 32]), 0, 0, transfer(1, 1));
    assert_eq!(refused(&client, &elsewhere).await, (400, "malformed".into()));
    let nothing = signed(chain, 0, 0, transfer(1, 0));
    assert_eq!(refused(&client, &nothing).await, (400, "malformed".into()));
    let poor = signed(chain, 77, 0, transfer(1, 1));
    assert_eq!(refused(&client, &poor).await, (402, "cannot_pay_fee".into()));
    client.submit_and_wait(&signed(chain, 0, 0, transfer(1, 1))).await.unwrap();
    let late = signed(chain, 0, 0, transfer(1, 2));
    assert_eq!(refused(&client, &late).await, (409, "nonce_used".into()));
    let ahead = signed(chain, 0, 5, transfer(1, 2));
    assert_eq!(refused(&client, &ahead).await, (409, "nonce_ahead".into()));
    // Nothing but the one good transfer happened.
    let spent = Amount::from_grains(1).checked_add(fee()).unwrap();
    let left = client.balance(&key(0).account(), &crate::fixture::issuer()).await.unwrap().value;
    assert_eq!(left, crate::fixture::START.saturating_sub(spent));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_pays_for_makes_no_block() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let client = client(&node);
    let chain = client.chain();
    let height = client.submit_and_wait(&signed(chain, 0, 0, transfer(1, 1))).await.unwrap().height;
    let mut ahead = tokio::task::JoinSet::new();
    for (sender, nonce) in [(0, 5), (0, 7), (0, 6), (77, 1)] {
        let (client, tx) = (client.clone(), signed(chain, sender, nonce, transfer(1, 2)));
        ahead.spawn(async move { refused(&client, &tx).await });
    }
    for grains in 2..7 {
        let used = signed(chain, 0, 0, transfer(1, grains));
        assert_eq!(refused(&client, &used).await, (409, "nonce_used".into()));
        let poor = signed(chain, 77, 0, transfer(1, grains));
        assert_eq!(refused(&client, &poor).await, (402, "cannot_pay_fee".into()));
    }
    while let Some(answer) = ahead.join_next().await {
        assert_eq!(answer.unwrap(), (409, "nonce_ahead".into()));
    }
    assert_eq!((node.head().height, node.waiting()), (height, 0));
    // And the ledger goes on as if nothing had been.
    let next = client.submit_and_wait(&signed(chain, 0, 1, transfer(1, 1))).await.unwrap();
    assert_eq!(next.height, height + 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_a_status_a_code_and_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let _ = client(&node);
    // After the body that is too long the node closes the connection: each request has its own.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let long = format!("{{\"tx\":\"{}\"}}", "0".repeat(1 << 20));
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", "", 404, "no_route"),
        ("DELETE", "/v1/status", "", 405, "wrong_method"),
        ("POST", "/v1/transactions", "", 400, "bad_request"),
        ("POST", "/v1/transactions", "{\"tx\":1}", 400, "bad_request"),
        ("POST", "/v1/transactions", "{\"tx\":\"zz\"}", 400, "bad_request"),
        ("POST", "/v1/transactions", "{\"tx\":\"00\"}", 400, "malformed"),
        ("POST", "/v1/transactions?wait=forever", "{\"tx\":\"00\"}", 400, "bad_request"),
        ("POST", "/v1/transactions", &long, 413, "too_long"),
        ("GET", "/v1/transactions/1234", "", 400, "bad_request"),
        ("GET", &format!("/v1/transactions/{}", "ab".repeat(32)), "", 404, "not_found"),
        ("GET", "/v1/blocks/-1", "", 400, "bad_request"),
        ("GET", "/v1/blocks/0", "", 404, "not_found"),
        ("GET", "/v1/blocks/18446744073709551615", "", 404, "not_found"),
        ("GET", &format!("/v1/blocks/{}", "ab".repeat(32)), "", 404, "not_found"),
        ("GET", "/v1/state", "", 400, "bad_request"),
        ("GET", "/v1/state?key=", "", 400, "bad_request"),
        ("GET", &format!("/v1/state?key={}", vec!["00".repeat(32); 66].join(",")), "", 400, "bad_request"),
        ("GET", "/v1/accounts/gm1xyz", "", 400, "bad_request"),
        ("GET", "/v1/accounts/%ff", "", 400, "bad_request"),
        ("GET", &format!("/v1/channels/{}", "ab".repeat(32)), "", 404, "not_found"),
        ("GET", "/v1/models?limit=-1", "", 400, "bad_request"),
        ("GET", "/v1/offers?model=1", "", 400, "bad_request"),
        ("GET", "/v1/events?from=x", "", 400, "bad_request"),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let request = http.request(method, format!("{}{path}", node.url())).body(body.to_owned());
        let response = request.send().await.unwrap();
        let found = response.status().as_u16();
        let text = response.text().await.unwrap();
        let error: ErrorBody =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert_eq!((found, error.error.code.as_str()), (status, code), "{path}: {text}");
        assert!(!error.error.message.is_empty());
    }
    for path in ["/v1/status", "/v1/genesis", "/v1/models", "/v1/offers", "/v1/processors", "/openapi.json"] {
        let response = http.get(format!("{}{path}", node.url())).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_keys_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let config = || Config::new(folder.path());
    assert!(matches!(Node::start(config(), genesis(), validator()).await, Err(NodeError::Locked { .. })));
    let taken = Config { rpc: node.address(), ..Config::new(tempfile::tempdir().unwrap().path()) };
    assert!(matches!(Node::start(taken, genesis(), validator()).await, Err(NodeError::Listen { .. })));
    node.stop().await;
    assert!(matches!(Node::start(config(), genesis(), key(1)).await, Err(NodeError::NotAValidator { .. })));
    let mut other = genesis();
    other.name = "other".into();
    assert!(matches!(Node::start(config(), other, validator()).await, Err(NodeError::OtherLedger { .. })));
    let file = folder.path().join("lock").join("below-a-file");
    assert!(matches!(
        Node::start(Config::new(file), genesis(), validator()).await,
        Err(NodeError::Folder { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_believes_only_its_own_validators() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let account = key(0).account();
    let honest = client(&node);
    honest.nonce(&account).await.unwrap();

    let mut genesis = genesis();
    genesis.validators[0].key = key(1).account();
    let stranger = Client::new(&node.url(), Trust::from_genesis(&genesis).unwrap()).unwrap();
    assert!(matches!(stranger.nonce(&account).await, Err(ClientError::Proof(_))));
    assert!(matches!(stranger.latest_block().await, Err(ClientError::Proof(_))));
    let unknown = Client::connect(&node.url(), ChainId::new([9; 32])).await;
    assert!(matches!(unknown, Err(ClientError::OtherLedger { .. })));
    let known = Client::connect(&node.url(), honest.chain()).await.unwrap();
    known.nonce(&account).await.unwrap();
    node.stop().await;
    assert!(matches!(honest.nonce(&account).await, Err(ClientError::Unreachable { .. })));
}
