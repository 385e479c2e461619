//! A ledger of one validator for tests.

use gristmill_chain::{Config, Node, NodeHandle};
use gristmill_client::{Client, Sender};
use gristmill_ledger::{
    Body, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params, SignedTx, Transaction,
    tx::Transfer,
};
use gristmill_proof::Trust;
use gristmill_types::{AccountId, Amount, ChainId, SecretKey, Signed};
use std::path::Path;

/// Credits of every account at genesis.
pub(crate) const START: Amount = Amount::from_credits(1_000_000);

/// A key by number.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// The validator's key.
pub(crate) fn validator() -> SecretKey {
    key(200)
}

/// The issuer's account.
pub(crate) fn issuer() -> AccountId {
    key(100).account()
}

/// A ledger on which the accounts 0 to 15 hold [`START`].
pub(crate) fn genesis() -> Genesis {
    let balance = |number| GenesisBalance { account: key(number).account(), issuer: issuer(), amount: START };
    Genesis {
        name: "test".into(),
        time_ms: 1_700_000_000_000,
        fee_account: key(101).account(),
        issuers: vec![GenesisIssuer {
            account: issuer(),
            name: "issuer".into(),
            cap: Amount::from_credits(1_000_000_000),
            daily_limit: Amount::from_credits(1_000_000),
        }],
        balances: (0..16).map(balance).collect(),
        validators: vec![GenesisValidator { key: validator().account(), address: None }],
        params: Params::default(),
    }
}

/// Starts the node in the folder.
pub(crate) async fn start(folder: &Path) -> NodeHandle {
    Node::start(Config::new(folder), genesis(), validator()).await.unwrap()
}

/// A client that trusts the genesis.
pub(crate) fn client(node: &NodeHandle) -> Client {
    Client::new(&node.url(), Trust::from_genesis(&genesis()).unwrap()).unwrap()
}

/// A sender for a numbered account.
pub(crate) fn sender(client: &Client, number: u8) -> Sender {
    Sender::new(client.clone(), key(number), issuer())
}

/// A transfer of so many grains.
pub(crate) fn transfer(to: u8, grains: u128) -> Body {
    Transfer { to: key(to).account(), issuer: issuer(), amount: Amount::from_grains(grains) }.into()
}

/// A signed transfer with this nonce.
pub(crate) fn signed(chain: ChainId, from: u8, nonce: u64, body: Body) -> SignedTx {
    let sender = key(from).account();
    Signed::sign(Transaction { chain, sender, nonce, fee_issuer: issuer(), body }, &key(from))
}

/// The fee of a transfer.
pub(crate) fn fee() -> Amount {
    genesis().params.fees.transfer
}
