//! Durable records for gateway and processor: one SQLite file with group commit.
//!
//! This crate knows nothing of payments. It stores two kinds of things:
//!
//! - **Logs**: named sequences of opaque records that grow, are replaced whole, or are
//!   removed. Every row carries a checksum that
//!   chains it to the row before; a changed, missing or reordered row is found when the log is
//!   loaded, and named in the error.
//! - **Tables** of the shell's own schema, written by small SQL statements, read on separate
//!   read-only connections.
//!
//! # Group commit
//!
//! One thread writes. It takes all batches that are queued, writes them in one transaction with one
//! fsync, then acknowledges all of them. Callers that wait at the same time therefore share the cost
//! of the disk. A batch is atomic: its records and statements are durable together or not at all.
//!
//! Batches are written in the order in which they were queued. Where that order matters, reserve a
//! place first and queue under the lock that orders the changes:
//!
//! ```no_run
//! # use gristmill_store::{Batch, Store, StoreError};
//! # use std::sync::Mutex;
//! # async fn example(store: Store, machine: Mutex<Vec<u8>>) -> Result<(), StoreError> {
//! let slot = store.slot().await?;
//! let ticket = {
//!     let mut machine = machine.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
//!     machine.push(1);
//!     slot.write(Batch::new().append("machine", vec![1]))
//! };
//! ticket.await?; // durable from here on
//! # Ok(()) }
//! ```
//!
//! # When the disk fails
//!
//! If a commit fails (disk full, read-only, an I/O error), nothing of its group is acknowledged and
//! the store refuses everything from then on: what was decided in memory is ahead of the disk, so the
//! process has to start again from the disk.
//!
//! The same holds for a batch that is too large or breaks a constraint of the schema, if it changes a
//! log: its caller has gone on in memory, and a later record of the log would follow on one that is
//! missing. A refused batch of statements alone harms nobody else.
//!
//! # What is detected, and what is not
//!
//! - A changed, missing or reordered row of a log: by the chain and by the log's head, on loading.
//! - A write-ahead log whose tail was cut or damaged: SQLite silently goes back to the last intact
//!   commit. The *mark*, a small file beside the database, holds the number of the last acknowledged
//!   commit; a database behind its mark is refused ([`StoreError::RolledBack`]). The mark is written
//!   at every commit but not synced, to save a second fsync: after a power cut it may be older than
//!   the database, and then detects less.
//! - A whole consistent set of older files (a restored backup, mark included) cannot be detected
//!   here. Only the counterparty's signed copy shows it; see the reconciliation of the channel crate.
//! - The chain is a checksum against accidents, not a signature: who can write the file can forge it.
//!   Signed records are verified by their owner.

mod batch;
mod error;
#[cfg(debug_assertions)]
pub mod fault;
mod file;
mod log;
mod mark;
mod metrics;
mod reader;
mod writer;

pub use batch::Batch;
pub use error::StoreError;
pub use file::Migration;
pub use log::Row;
pub use rusqlite;
pub use writer::Stats;

use reader::Readers;
use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Shared, Writer};

/// Batches that may wait for the writer; a caller that comes when the queue is full waits.
const QUEUE: usize = 1024;

/// Options for opening a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Refuse to grow beyond so many bytes; 0 is no limit.
    pub max_bytes: u64,
    /// Go on with a database that is behind its mark. For a person who restored a backup on purpose;
    /// reconcile with every counterparty after it.
    pub accept_rollback: bool,
    /// Open to look: whatever is in the write-ahead log stays there.
    pub look: bool,
}

/// A store. Clones share it; the file is closed when the last is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    queue: Option<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    readers: Readers,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    /// Lets the writer finish what is queued and waits for it, so that the file can be opened again
    /// at once.
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's writer panicked");
        }
    }
}

/// The writer's thread carries the file's name, as far as the system keeps it (15 bytes), so that a
/// list of threads tells whose writer is busy.
fn writer_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // A thread's name must not hold a NUL.
    let mut name = format!("store-{stem}").replace('\0', "");
    name.truncate(name.floor_char_boundary(15));
    name
}

impl Store {
    /// Opens or creates the file, brings its schema up to date, and starts the writer.
    ///
    /// The file is readable by its owner only. A second opener, in this or any other process, is
    /// refused.
    pub fn open(path: impl AsRef<Path>, schema: &[Migration]) -> Result<Self, StoreError> {
        Self::open_with(path, schema, Options::default())
    }

    /// Opens with options.
    pub fn open_with(
        path: impl AsRef<Path>,
        schema: &[Migration],
        options: Options,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let opened = file::open(&path, schema, options)?;
        let shared = Arc::new(Shared::default());
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = Writer::new(path.clone(), opened, Arc::clone(&shared), options.look)?;
        let thread = std::thread::Builder::new()
            .name(writer_name(&path))
            .spawn(move || writer.run(jobs))
            .map_err(|error| StoreError::io(&path, &error))?;
        let readers = Readers::new(path.clone());
        let thread = Mutex::new(Some(thread));
        Ok(Self { inner: Arc::new(Inner { path, queue: Some(queue), shared, readers, thread }) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Waits for a place in the queue. What is written through it keeps its place in the order.
    pub async fn slot(&self) -> Result<Slot, StoreError> {
        let queue = self.inner.queue.as_ref().ok_or(StoreError::Closed)?;
        let permit = queue.clone().reserve_owned().await;
        match permit {
            Ok(permit) => Ok(Slot { permit, store: self.clone() }),
            Err(_) => Err(self.inner.shared.failure().unwrap_or(StoreError::Closed)),
        }
    }

    /// Writes a batch; returns when it is durable.
    pub async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.slot().await?.write(batch).await
    }

    /// Appends one record to a log; returns when it is durable.
    pub async fn append(&self, log: &str, record: Vec<u8>) -> Result<(), StoreError> {
        self.write(Batch::new().append(log, record)).await
    }

    /// Reads and verifies a whole log, oldest record first. A log that was never written is empty.
    /// Blocks; meant for the start.
    pub fn load(&self, log: &str) -> Result<Vec<Row>, StoreError> {
        self.inner.readers.with(|connection| log::load(&self.inner.path, connection, log))
    }

    /// The names of all logs that begin so, in order. Blocks; meant for the start.
    pub fn logs(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.readers.with(|connection| log::names(&self.inner.path, connection, prefix))
    }

    /// Runs a query on a read-only connection, away from the async threads.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let task = tokio::task::spawn_blocking(move || store.read_blocking(query));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs a query on a read-only connection, in this thread.
    pub fn read_blocking<T>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = &self.inner.path;
        self.inner
            .readers
            .with(|connection| query(connection).map_err(|error| StoreError::sqlite(path, &error)))
    }

    /// Shows in the registry how long commits take and how many callers share one.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.inner.shared.metrics.register(registry);
    }

    /// Resolves if a commit fails or a change of a log is refused, with the reason: the store refuses everything from then on, and its
    /// process has to start again. It does not keep the store open.
    pub fn failed(&self) -> impl Future<Output = StoreError> + Send + use<> {
        let shared = Arc::clone(&self.inner.shared);
        async move { shared.failed().await }
    }

    /// What the writer has done so far.
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }
}

/// A place in the queue.
#[derive(Debug)]
#[must_use = "a place that is not used blocks the queue until it is dropped"]
pub struct Slot {
    permit: mpsc::OwnedPermit<Job>,
    store: Store,
}

impl Slot {
    /// Queues the batch, without waiting. The ticket resolves when it is durable.
    pub fn write(self, batch: Batch) -> Ticket {
        let (done, result) = oneshot::channel();
        drop(self.permit.send(Job { batch, done }));
        Ticket { result, store: self.store }
    }
}

/// Resolves when a batch is durable. Dropping it does not take the batch back.
#[derive(Debug)]
#[must_use = "act on a change only when it is durable"]
pub struct Ticket {
    result: oneshot::Receiver<Result<(), StoreError>>,
    store: Store,
}

impl Future for Ticket {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.result).poll(context);
        result.map(|done| {
            done.unwrap_or_else(|_| Err(self.store.inner.shared.failure().unwrap_or(StoreError::Closed)))
        })
    }
}
