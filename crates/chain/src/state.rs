//! The authenticated state: which database, how it is configured, how it is executed on.
//!
//! Keys are the ledger's state keys, values its records in canonical bytes. The database proves
//! presence and absence of a key against its root, which the block header carries.

use crate::{block::Tx, catalog::is_listed};
use commonware_codec::RangeCfg;
use commonware_cryptography::{Sha256, sha256::Digest};
use commonware_glue::stateful::db::{AttachableResolver, DatabaseSet, Shared};
use commonware_parallel::Rayon;
use commonware_runtime::{
    BLOB_PAGE_SIZE, Clock, Metrics, Spawner, Storage, Strategizer,
    buffer::paged::{self, CacheRef},
};
use commonware_storage::{
    journal::contiguous::variable::Config as LogConfig,
    mmr::{self, Location, full::Config as MerkleConfig},
    qmdb::{
        any::ordered::variable::Operation,
        current::{self, VariableConfig, batch::Slot},
        sync::{Request, ServeError, Source, source},
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, non_empty_range, range::NonEmptyRange};
use gristmill_ledger::{Context, Executor, Genesis, Invalid, Outcome, Rules};
use gristmill_proof::{CHUNK_BYTES, Key, MAX_VALUE_BYTES, Value};
use gristmill_types::{StateKey, encode};
use rand_core::CryptoRng;
use std::{
    marker::PhantomData,
    num::{NonZeroU16, NonZeroUsize},
    sync::Arc,
};

/// What the chain needs of its runtime; the tokio runtime and the deterministic one provide it.
pub trait Env: Clock + CryptoRng + Metrics + Spawner + Storage + Strategizer {}

impl<T: Clock + CryptoRng + Metrics + Spawner + Storage + Strategizer> Env for T {}

/// The database.
pub(crate) type Db<E> =
    current::ordered::variable::Db<mmr::Family, E, Key, Value, Sha256, EightCap, CHUNK_BYTES, Rayon>;
/// The database as it is shared between the state machine and its readers.
pub(crate) type Databases<E> = Shared<Db<E>>;
/// Changes on top of the database or of other changes.
pub(crate) type Batch<E> = <Databases<E> as DatabaseSet<E>>::Unmerkleized;
/// Changes with their root.
pub(crate) type Sealed<E> = <Databases<E> as DatabaseSet<E>>::Merkleized;

/// How values are bounded when they are read back.
pub(crate) type ValueBounds = (RangeCfg<usize>, ());

/// Bytes of a cached page. With its checksum it fills one page of the disk.
const PAGE_BYTES: NonZeroU16 = paged::page_size(BLOB_PAGE_SIZE);

/// Sizes of buffers and caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoSizes {
    /// Bytes of each write and replay buffer.
    pub buffer: NonZeroUsize,
    /// Pages of 4 KiB in the page cache.
    pub cache_pages: NonZeroUsize,
}

impl IoSizes {
    /// For a node on a disk.
    pub(crate) const NODE: Self = Self { buffer: NZUsize!(1 << 20), cache_pages: NZUsize!(16_384) };
    /// For simulations: small, so that buffers are written often.
    #[cfg(test)]
    pub(crate) const SMALL: Self = Self { buffer: NZUsize!(2_048), cache_pages: NZUsize!(64) };

    /// A page cache of this size.
    pub(crate) fn cache(&self) -> CacheRef {
        CacheRef::new(PAGE_BYTES, self.cache_pages)
    }
}

/// Where the database lives and how it is opened.
pub(crate) fn config(
    prefix: &str,
    io: IoSizes,
    cache: &CacheRef,
    strategy: Rayon,
) -> VariableConfig<EightCap, ((), ValueBounds), Rayon> {
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{prefix}-state-merkle-journal"),
            metadata_partition: format!("{prefix}-state-merkle-metadata"),
            items_per_blob: NZU64!(1 << 20),
            write_buffer: io.buffer,
            replay_buffer: io.buffer,
            strategy,
            page_cache: cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: NZU64!(1 << 18),
            compression: None,
            codec_config: ((), (RangeCfg::new(0..=MAX_VALUE_BYTES), ())),
            page_cache: cache.clone(),
            write_buffer: io.buffer,
            replay_buffer: io.buffer,
        },
        grafted_metadata_partition: format!("{prefix}-state-grafted-metadata"),
        translator: EightCap,
        init_cache: Some(NZUsize!(1 << 16)),
        init_buffer: NZUsize!(1 << 21),
        init_concurrency: (),
    }
}

/// What a header says about the state's log.
pub(crate) fn sync_target<E: Env>(sealed: &Sealed<E>) -> (Digest, NonEmptyRange<Location>) {
    (sealed.ops_root(), non_empty_range!(sealed.sync_boundary(), sealed.bounds().tip.size))
}

/// A transaction that cannot be part of the block, and why.
pub(crate) struct Refused {
    /// Its position in the input.
    pub position: usize,
    /// The ledger's reason.
    pub reason: Invalid,
}

/// What executing a list of transactions came to.
pub(crate) struct Execution<E: Env> {
    /// The state after them.
    pub sealed: Sealed<E>,
    /// One outcome per transaction that was executed, in order.
    pub outcomes: Vec<Outcome>,
    /// The transactions that were left out.
    pub refused: Vec<Refused>,
    /// The records that changed, as far as they are [listed](crate::catalog).
    pub changes: Vec<(StateKey, Option<Value>)>,
}

/// Executes the transactions, one after the other, on the batch.
///
/// This is the only way from transactions to state: the proposer of a block and everybody who
/// checks or replays it run this function. All keys that the transactions declare are read first,
/// in one go; then the ledger runs without I/O. Returns `None` if the database fails.
pub(crate) async fn execute<E: Env>(
    batch: Batch<E>,
    rules: &Arc<Rules>,
    context: Context,
    txs: &[Tx],
) -> Option<Execution<E>> {
    let checked: Vec<_> = txs.iter().map(|tx| tx.checked(rules)).collect();
    let mut keys: Vec<StateKey> = checked.iter().flatten().flat_map(|tx| tx.reads()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let names: Vec<Key> = keys.iter().map(|key| Key::new(*key.as_bytes())).collect();
    let (values, staged) = batch.stage(&names.iter().collect::<Vec<_>>()).await.ok()?;

    let mut executor = Executor::new(rules.clone(), context);
    executor.load(keys.iter().copied().zip(values));
    let mut outcomes = Vec::with_capacity(txs.len());
    let mut refused = Vec::new();
    for (position, checked) in checked.into_iter().enumerate() {
        let result = checked.map_err(|malformed| malformed.clone().into()).and_then(|tx| executor.apply(tx));
        match result {
            Ok(outcome) => outcomes.push(outcome),
            Err(reason) => refused.push(Refused { position, reason }),
        }
    }
    let mut written = executor.finish();
    let listed = written.iter().filter(|(_, value)| is_listed(value.as_deref()));
    let changes: Vec<_> = listed.map(|(key, value)| (*key, value.clone())).collect();

    let slots = keys
        .iter()
        .map(|key| match written.remove(key) {
            None => Slot::Keep,
            Some(Some(value)) => Slot::Put(value),
            Some(None) => Slot::Delete,
        })
        .collect();
    // A key that was written without being declared; the ledger's own tests panic on it.
    let unstaged = written.into_iter().map(|(key, value)| (Key::new(*key.as_bytes()), value)).collect();
    let sealed = staged.merkleize(slots, unstaged).await.ok()?;
    Some(Execution { sealed, outcomes, refused, changes })
}

/// Writes the records of the genesis: what block 1 does.
pub(crate) async fn execute_genesis<E: Env>(mut batch: Batch<E>, genesis: &Genesis) -> Option<Execution<E>> {
    use commonware_glue::stateful::db::Unmerkleized as _;
    let mut changes = Vec::new();
    for record in genesis.records() {
        let key = record.key();
        let value = encode(&record);
        batch = batch.write(Key::new(*key.as_bytes()), Some(value.clone()));
        changes.push((key, Some(value)));
    }
    let sealed = batch.merkleize().await.ok()?;
    Some(Execution { sealed, outcomes: Vec::new(), refused: Vec::new(), changes })
}

/// Where a node would copy the state of its peers from: nowhere. Every validator executes every
/// block. (The engine's own server of state over the network knows fixed-size values only.)
pub(crate) struct NoPeerState<E>(PhantomData<fn() -> E>);

impl<E> Default for NoPeerState<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E> Clone for NoPeerState<E> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<E: Env> Source for NoPeerState<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation<mmr::Family, Key, Value>;
    type Error = ServeError<mmr::Family>;

    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        Err(ServeError::MissingSource)
    }
}

impl<E: Env> AttachableResolver<Db<E>> for NoPeerState<E> {
    async fn attach_database(&self, _: Databases<E>) {}
}
