//! Signing and counting for one account.

use crate::{client::Client, error::ClientError, schema::Inclusion};
use gristmill_ledger::{Body, SignedTx, Transaction, tx::CommitModel};
use gristmill_types::{AccountId, Digest, SecretKey, Signed};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Sends transactions of one account, one nonce after the other.
///
/// All transactions of an account should go through one sender: two that count for themselves take
/// the same nonce, and one of the two transactions is then refused.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    client: Client,
    key: SecretKey,
    fee_issuer: AccountId,
    /// The next nonce, once it was read from the ledger.
    next: Mutex<Option<u64>>,
}

impl Sender {
    /// A sender for the key's account, which pays its fees in this issuer's credits.
    pub fn new(client: Client, key: SecretKey, fee_issuer: AccountId) -> Self {
        Self(Arc::new(Inner { client, key, fee_issuer, next: Mutex::new(None) }))
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.0.key.account()
    }

    /// The client that it sends through.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Signs the next transaction without sending it. Persist it, then [`submit`](Self::submit) it;
    /// transactions behind it wait for it.
    pub async fn prepare(&self, body: impl Into<Body>) -> Result<SignedTx, ClientError> {
        let body = body.into();
        self.prepare_with(|_| body).await
    }

    /// Like [`prepare`](Self::prepare), for a payload that contains its transaction's nonce.
    pub async fn prepare_with(&self, body: impl FnOnce(u64) -> Body) -> Result<SignedTx, ClientError> {
        let mut next = self.0.next.lock().await;
        let nonce = match *next {
            Some(nonce) => nonce,
            None => self.0.client.nonce(&self.account()).await?.value,
        };
        let transaction = Transaction {
            chain: self.0.client.chain(),
            sender: self.account(),
            nonce,
            fee_issuer: self.0.fee_issuer,
            body: body(nonce),
        };
        *next = nonce.checked_add(1);
        Ok(Signed::sign(transaction, &self.0.key))
    }

    /// Submits a prepared transaction, for the first time or again, and waits until it is final.
    /// Rejection by the ledger is an error here.
    pub async fn submit(&self, tx: &SignedTx) -> Result<Inclusion, ClientError> {
        let result = self.0.client.submit_and_wait(tx).await;
        if matches!(&result, Err(error) if !error.is_temporary()) {
            // The nonce was not used: count from the ledger again.
            *self.0.next.lock().await = None;
        }
        let inclusion = result?;
        match inclusion.outcome.rejection {
            Some(rejection) => Err(ClientError::Rejected { hash: inclusion.outcome.hash, rejection }),
            None => Ok(inclusion),
        }
    }

    /// Signs, submits and waits. Where somebody else sent for the account in the meantime, it signs
    /// once more.
    pub async fn send(&self, body: impl Into<Body>) -> Result<Inclusion, ClientError> {
        let body = body.into();
        let tx = self.prepare(body.clone()).await?;
        match self.submit(&tx).await {
            Err(error) if error.is_stale_nonce() => {
                let tx = self.prepare(body).await?;
                self.submit(&tx).await
            }
            other => other,
        }
    }

    /// Publishes or registers a model version: commits to the payload with a fresh salt, and when that is
    /// final sends it. What breaks off between the two is simply begun anew.
    pub async fn publish<B: Into<Body>>(
        &self,
        payload: impl FnOnce(Digest) -> B,
    ) -> Result<Inclusion, ClientError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| ClientError::Randomness(error.to_string()))?;
        let body = payload(Digest::new(salt)).into();
        self.send(CommitModel::to(&self.account(), &body)).await?;
        self.send(body).await
    }

    /// Forgets the counted nonce, after transactions were sent for the account by other means.
    pub async fn recount(&self) {
        *self.0.next.lock().await = None;
    }
}
