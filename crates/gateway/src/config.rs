//! What a gateway is told when it starts.

use gristmill_channel::KeyId;
use gristmill_types::{AccountId, Amount, SecretKey};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A gateway's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Folder of the records; it must exist.
    pub folder: PathBuf,
    /// The account that pays.
    pub payer: AccountId,
    /// What signs transactions: the account's own key, or the voucher key, where the account has
    /// authorised that as its spending key. Then the account's own key need not be on this machine.
    pub key: SecretKey,
    /// What signs and pays for contests of claims on its channels. Anybody's may; with a spending key, that
    /// of an account that can pay a fee when the key has spent its limit or was revoked.
    pub guard: SecretKey,
    /// The key that signs vouchers. One gateway process, one key: never shared, never reused.
    pub voucher_key: SecretKey,
    /// The key that manages API keys and reads all receipts, as its id; none where nobody does.
    pub operator: Option<KeyId>,
    /// Whose credits are spent.
    pub issuer: AccountId,
    /// What a new channel is opened with, and what is added when it runs low.
    pub deposit: Amount,
    /// The most that one request may cost.
    pub max_request: Amount,
    /// The largest window of a quote that is accepted, in output tokens: what a processor could keep
    /// of one request without delivering it.
    pub max_window_tokens: u32,
    /// What is reserved beyond a request for those that follow, so that they wait for no disk.
    pub ahead: Amount,
    /// How long a client may take to read what is on its way to it.
    pub reader_patience: Duration,
    /// How long a processor may take to begin an answer: longer than the 300 s that it may wait for a server
    /// behind it.
    pub first_patience: Duration,
    /// How long it may take from one piece of the answer to the next, or to the receipt: longer than the 60 s
    /// that it may wait.
    pub next_patience: Duration,
    /// How often every channel is read from the ledger, whatever the node says that happened.
    pub look_every: Duration,
}

impl Config {
    /// The usual settings for these keys and places.
    pub fn new(
        listen: SocketAddr,
        folder: PathBuf,
        payer: AccountId,
        key: SecretKey,
        voucher_key: SecretKey,
        issuer: AccountId,
    ) -> Self {
        Self {
            listen,
            folder,
            payer,
            guard: key.clone(),
            key,
            voucher_key,
            operator: None,
            issuer,
            deposit: Amount::from_credits(5),
            max_request: Amount::from_credits(1),
            max_window_tokens: 64,
            ahead: Amount::from_grains(20_000_000),
            reader_patience: Duration::from_secs(30),
            first_patience: Duration::from_secs(330),
            next_patience: Duration::from_secs(90),
            look_every: Duration::from_secs(60),
        }
    }
}
