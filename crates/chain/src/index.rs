//! What every block did, durably: the outcomes of its transactions, by height.
//!
//! Outcomes cannot be recomputed later, because the state before an old block is gone; so they are
//! stored before the block counts as processed. Which block a transaction is in is not stored: the
//! outcomes name their transactions, and the [view](crate::view) reads them all once when the node
//! starts.
//!
//! One archive entry per block, appended and never changed. Writing the same height again is a
//! no-op, which makes replay after a crash harmless: execution is deterministic, so the entry that
//! is there is the entry that would be written.

use crate::{
    block::Block,
    state::{Env, IoSizes},
};
use commonware_codec::RangeCfg;
use commonware_cryptography::{Digestible as _, sha256::Digest};
use commonware_glue::stateful::db::Shared;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_storage::{
    archive::{Archive as _, Error, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::NZU64;
use gristmill_ledger::Outcome;
use gristmill_types::{BlockHash, StateKey, decode, encode};
use std::{num::NonZeroU64, sync::Arc};

/// Blocks in one section of an archive. A section is one open file or two, so it is large; an
/// entry costs a few dozen bytes of memory.
pub(crate) const BLOCKS_PER_SECTION: NonZeroU64 = NZU64!(1 << 16);

/// A final block, what it did, and which records it changed.
#[derive(Debug)]
pub struct Applied {
    /// The block's hash.
    pub hash: BlockHash,
    /// The block's height.
    pub height: u64,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time after it, milliseconds.
    pub clock_ms: u64,
    /// One outcome per transaction, in order.
    pub outcomes: Vec<Outcome>,
    /// Records that changed, as far as the node lists them. Empty when read from the index.
    pub changes: Vec<(StateKey, Option<Vec<u8>>)>,
}

impl Applied {
    /// What a block did.
    pub fn new(block: &Block, outcomes: Vec<Outcome>, changes: Vec<(StateKey, Option<Vec<u8>>)>) -> Self {
        Self {
            hash: BlockHash::new(block.digest().0),
            height: block.header.height.get(),
            time_ms: block.header.time_ms,
            clock_ms: block.header.clock_ms,
            outcomes,
            changes,
        }
    }
}

type Stored = (u64, u64, Vec<Outcome>);
type Archive<E> = prunable::Archive<EightCap, E, Digest, Vec<u8>>;

/// The durable outcomes. Cheap to clone.
pub(crate) struct Index<E: Env>(Shared<Archive<E>>);

impl<E: Env> Clone for Index<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How an archive of blocks, certificates or outcomes is laid out.
pub(crate) fn archive_config<C>(
    prefix: &str,
    name: &str,
    io: IoSizes,
    cache: &CacheRef,
    codec: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-key"),
        key_page_cache: cache.clone(),
        value_partition: format!("{prefix}-{name}-value"),
        compression: None,
        codec_config: codec,
        items_per_section: BLOCKS_PER_SECTION,
        key_write_buffer: io.buffer,
        value_write_buffer: io.buffer,
        replay_buffer: io.buffer,
    }
}

impl<E: Env> Index<E> {
    /// Opens the index.
    pub(crate) async fn open(context: E, prefix: &str, io: IoSizes, cache: &CacheRef) -> Result<Self, Error> {
        let codec = (RangeCfg::new(..), ());
        let archive = Archive::init(context, archive_config(prefix, "outcomes", io, cache, codec)).await?;
        Ok(Self(Shared::new("outcomes", archive)))
    }

    /// Writes what a block did; durable when the handle completes.
    pub(crate) async fn put(&self, applied: &Applied) -> Result<Handle<()>, Error> {
        let value = encode(&(applied.time_ms, applied.clock_ms, &applied.outcomes));
        let key = Digest::from(*applied.hash.as_bytes());
        let (slot, archive) = self.0.write().await;
        let (archive, durable) = archive.put_start_sync(applied.height, key, &value).await?;
        slot.put(archive);
        Ok(durable)
    }

    /// What the block at the height did; `hash` is that block's.
    pub(crate) async fn get(&self, height: u64, hash: BlockHash) -> Result<Option<Arc<Applied>>, Error> {
        let archive = self.0.read().await;
        let Some(value) = archive.get(Identifier::Index(height)).await? else { return Ok(None) };
        let Ok((time_ms, clock_ms, outcomes)) = decode::<Stored>(&value) else {
            return Err(Error::RecordCorrupted);
        };
        Ok(Some(Arc::new(Applied { hash, height, time_ms, clock_ms, outcomes, changes: Vec::new() })))
    }
}
