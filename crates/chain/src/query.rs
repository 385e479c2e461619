//! Reading the chain from outside its runtime.
//!
//! The RPC server runs on an ordinary tokio runtime and knows neither the database nor marshal. It
//! holds a [`Reader`], which sends questions over a bounded channel; [`serve`] answers them inside
//! the chain's runtime.

use crate::{
    app::Headers,
    block::Block,
    index::{Applied, Index},
    state::{Databases, Env},
    view::View,
};
use commonware_consensus::{
    marshal::{Identifier, core::Mailbox as Marshal, standard::Standard},
    types::Height,
};
use commonware_cryptography::sha256::Digest;
use commonware_glue::stateful::db::ReadGuard;
use futures::{StreamExt as _, pin_mut};
use gristmill_ledger::{Audit, Record, scan};
use gristmill_proof::{Certificate, Finality, Header, Key, MAX_DESCENDANTS, ProofParts, Scheme, StateProof};
use gristmill_types::{BlockHash, StateKey, TxHash, decode};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Questions that wait at most.
const QUEUE: usize = 1_024;
/// Questions that are worked on at once.
const CONCURRENT: usize = 16;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Too many questions wait.
    #[error("the node has too many questions waiting; try again in a second")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The ledger has no block yet.
    #[error("the ledger has no final block yet; try again in a second")]
    NoBlock,
    /// The storage failed.
    #[error("the node's storage failed: {0}; see the node's log")]
    Storage(String),
}

/// Values with the proofs that a light client wants.
pub struct ProvenState {
    /// The header whose state the values are from, and why it is final.
    pub finality: Finality,
    /// One per key, in the order of the question.
    pub proofs: Vec<StateProof>,
}

/// A block's name.
#[derive(Clone, Copy, Debug)]
pub enum BlockId {
    /// By height.
    Height(u64),
    /// By hash.
    Hash(BlockHash),
}

enum Query {
    State(Vec<StateKey>, oneshot::Sender<Result<ProvenState, QueryError>>),
    Records(Vec<StateKey>, oneshot::Sender<Result<Vec<Option<Record>>, QueryError>>),
    Block(BlockId, oneshot::Sender<Result<Option<Block>, QueryError>>),
    Finality(u64, oneshot::Sender<Result<Option<Finality>, QueryError>>),
    Applied(u64, oneshot::Sender<Result<Option<Arc<Applied>>, QueryError>>),
    Audit(oneshot::Sender<Result<(u64, Audit), QueryError>>),
    Metrics(oneshot::Sender<Result<String, QueryError>>),
}

/// Asks questions. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    queries: mpsc::Sender<Query>,
    view: View,
}

/// The answering side's end of the channel.
pub struct Queries(mpsc::Receiver<Query>);

impl Reader {
    /// A reader and the end that `serve` needs.
    pub fn new(view: View) -> (Self, Queries) {
        let (queries, receiver) = mpsc::channel(QUEUE);
        (Self { queries, view }, Queries(receiver))
    }

    async fn ask<T>(
        &self,
        query: impl FnOnce(oneshot::Sender<Result<T, QueryError>>) -> Query,
    ) -> Result<T, QueryError> {
        let (sender, receiver) = oneshot::channel();
        self.queries.try_send(query(sender)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => QueryError::Busy,
            mpsc::error::TrySendError::Closed(_) => QueryError::Stopping,
        })?;
        receiver.await.unwrap_or(Err(QueryError::Stopping))
    }

    /// The values of keys, with proofs against the newest state.
    pub async fn state(&self, keys: Vec<StateKey>) -> Result<ProvenState, QueryError> {
        self.ask(|reply| Query::State(keys, reply)).await
    }

    /// The records under keys in the newest state, without proofs.
    pub async fn records(&self, keys: Vec<StateKey>) -> Result<Vec<Option<Record>>, QueryError> {
        self.ask(|reply| Query::Records(keys, reply)).await
    }

    /// A final block.
    pub async fn block(&self, id: BlockId) -> Result<Option<Block>, QueryError> {
        self.ask(|reply| Query::Block(id, reply)).await
    }

    /// Why the block at a height is final.
    pub async fn finality(&self, height: u64) -> Result<Option<Finality>, QueryError> {
        self.ask(|reply| Query::Finality(height, reply)).await
    }

    /// What the block at a height did.
    pub async fn applied(&self, height: u64) -> Result<Option<Arc<Applied>>, QueryError> {
        if height > self.view.head().height {
            return Ok(None);
        }
        match self.view.recent(height) {
            Some(applied) => Ok(Some(applied)),
            None => self.ask(|reply| Query::Applied(height, reply)).await,
        }
    }

    /// The block that holds a transaction, and the transaction's position in it.
    pub async fn find(&self, hash: &TxHash) -> Result<Option<(Arc<Applied>, u32)>, QueryError> {
        for height in self.view.blocks_of(hash) {
            let Some(applied) = self.applied(height).await? else { continue };
            let found = (0..).zip(&applied.outcomes).find(|(_, outcome)| outcome.hash == *hash);
            if let Some((position, _)) = found {
                return Ok(Some((applied, position)));
            }
        }
        Ok(None)
    }

    /// Adds up all credits on the ledger; the height is that of the state that was read.
    pub async fn audit(&self) -> Result<(u64, Audit), QueryError> {
        self.ask(Query::Audit).await
    }

    /// What the consensus engine, its network and its storage count, as text.
    pub async fn engine_metrics(&self) -> Result<String, QueryError> {
        self.ask(Query::Metrics).await
    }
}

/// What answers are made of.
pub(crate) struct Sources<E: Env> {
    /// The database.
    pub databases: Databases<E>,
    /// Blocks and certificates.
    pub marshal: Marshal<Scheme, Standard<Block>>,
    /// Outcomes.
    pub index: Index<E>,
    /// Which header belongs to the database's state.
    pub headers: Headers,
}

impl<E: Env> Clone for Sources<E> {
    fn clone(&self) -> Self {
        Self {
            databases: self.databases.clone(),
            marshal: self.marshal.clone(),
            index: self.index.clone(),
            headers: self.headers.clone(),
        }
    }
}

/// Answers questions until nobody can ask any more.
pub(crate) async fn serve<E: Env>(env: E, sources: Sources<E>, mut queries: Queries) {
    let permits = Arc::new(Semaphore::new(CONCURRENT));
    // Adding up everything is slow: one at a time.
    let audits = Arc::new(Semaphore::new(1));
    while let Some(query) = queries.0.recv().await {
        let query = match query {
            Query::Metrics(reply) => {
                let _ = reply.send(Ok(env.encode()));
                continue;
            }
            query => query,
        };
        let permit = match &query {
            Query::Audit(_) => audits.clone().try_acquire_owned().ok(),
            _ => permits.clone().acquire_owned().await.ok(),
        };
        let Some(permit) = permit else {
            query.refuse();
            continue;
        };
        let sources = sources.clone();
        env.child("answer").spawn(move |_| async move {
            sources.answer(query).await;
            drop(permit);
        });
    }
}

impl Query {
    fn refuse(self) {
        if let Self::Audit(reply) = self {
            let _ = reply.send(Err(QueryError::Busy));
        }
    }
}

fn storage(error: impl std::fmt::Display) -> QueryError {
    QueryError::Storage(error.to_string())
}

fn name(key: &StateKey) -> Key {
    Key::new(*key.as_bytes())
}

impl<E: Env> Sources<E> {
    async fn answer(&self, query: Query) {
        // The asker may have left; then nobody wants the answer.
        match query {
            Query::State(keys, reply) => {
                let _ = reply.send(self.state(keys).await);
            }
            Query::Records(keys, reply) => {
                let _ = reply.send(self.records(keys).await);
            }
            Query::Block(id, reply) => {
                let _ = reply.send(Ok(self.final_block(id).await));
            }
            Query::Finality(height, reply) => {
                let _ = reply.send(Ok(self.finality_at(height).await));
            }
            Query::Applied(height, reply) => {
                let _ = reply.send(self.applied(height).await);
            }
            Query::Audit(reply) => {
                let _ = reply.send(self.audit().await);
            }
            // Answered where the runtime is at hand.
            Query::Metrics(_) => {}
        }
    }

    async fn final_block(&self, id: BlockId) -> Option<Block> {
        let height = match id {
            BlockId::Height(height) => Height::new(height),
            // Marshal knows blocks that are not final by their hash, but places only final ones.
            BlockId::Hash(hash) => {
                let digest = Digest::from(*hash.as_bytes());
                self.marshal.get_info(Identifier::Digest(digest)).await?.0
            }
        };
        self.block(height).await
    }

    async fn block(&self, height: Height) -> Option<Block> {
        Some(self.marshal.get_block(Identifier::Height(height)).await?.inner().clone())
    }

    async fn applied(&self, height: u64) -> Result<Option<Arc<Applied>>, QueryError> {
        let Some((_, digest)) = self.marshal.get_info(Identifier::Height(Height::new(height))).await else {
            return Ok(None);
        };
        self.index.get(height, BlockHash::new(digest.0)).await.map_err(storage)
    }

    /// The header of the state that the guard shows.
    async fn header(&self, database: &ReadGuard<'_, crate::state::Db<E>>) -> Result<Header, QueryError> {
        let root = database.root();
        if let Some(header) = self.headers.find(&root) {
            return Ok(header);
        }
        Err(QueryError::NoBlock)
    }

    async fn state(&self, keys: Vec<StateKey>) -> Result<ProvenState, QueryError> {
        let database = self.databases.read().await;
        let header = self.header(&database).await?;
        let mut proofs = Vec::with_capacity(keys.len());
        for key in keys {
            let parts = match database.get(&name(&key)).await.map_err(storage)? {
                Some(value) => {
                    let proof = database.key_value_proof(name(&key)).await.map_err(storage)?;
                    ProofParts::Present(value, proof)
                }
                None => ProofParts::Absent(database.exclusion_proof(&name(&key)).await.map_err(storage)?),
            };
            proofs.push(StateProof { key, parts });
        }
        drop(database);
        let finality = self.finality(header).await.ok_or(QueryError::NoBlock)?;
        Ok(ProvenState { finality, proofs })
    }

    async fn records(&self, keys: Vec<StateKey>) -> Result<Vec<Option<Record>>, QueryError> {
        let database = self.databases.read().await;
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            let value = database.get(&name(&key)).await.map_err(storage)?;
            records.push(value.map(|bytes| decode(&bytes)).transpose().map_err(storage)?);
        }
        Ok(records)
    }

    async fn finality_at(&self, height: u64) -> Option<Finality> {
        let block = self.block(Height::new(height)).await?;
        self.finality(block.header).await
    }

    /// The certificate of the block, or of the first descendant that has one.
    async fn finality(&self, header: Header) -> Option<Finality> {
        let mut height = header.height;
        let mut descendants = Vec::new();
        loop {
            if let Some(certificate) = self.marshal.get_finalization(height).await {
                let certificate: Certificate = certificate;
                return Some(Finality { header, descendants, certificate });
            }
            if descendants.len() == MAX_DESCENDANTS {
                return None;
            }
            height = height.next();
            descendants.push(self.block(height).await?.header);
        }
    }

    async fn audit(&self) -> Result<(u64, Audit), QueryError> {
        let database = self.databases.read().await;
        let height = self.header(&database).await?.height.get();
        let mut records = Vec::new();
        {
            let stream = database.stream_range(..);
            pin_mut!(stream);
            while let Some(entry) = stream.next().await {
                let (_, value) = entry.map_err(storage)?;
                records.push(decode::<Record>(&value).map_err(storage)?);
            }
        }
        drop(database);
        Ok((height, scan(records)))
    }
}
