//! The writer: one thread that turns queued batches into few commits.

use crate::{
    batch::{Batch, Write},
    error::StoreError,
    file::Opened,
    log::{self, Chain, Log},
    mark::Mark,
    metrics::Metrics,
};
use rusqlite::{Connection, params, params_from_iter};
use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Batches in one commit.
const GROUP: usize = 512;
/// Bytes after which a commit takes no further batch.
const GROUP_BYTES: usize = 8 << 20;
/// Commits after which an idle writer moves the write-ahead log into the database.
const COMMITS_PER_CHECKPOINT: u64 = 512;
/// Logs whose heads are kept in memory.
const HEADS: usize = 4096;

/// A batch and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) done: oneshot::Sender<Result<(), StoreError>>,
}

/// What the writer has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions, thus fsyncs.
    pub commits: u64,
    /// Batches that were acknowledged.
    pub batches: u64,
    /// Records that were appended.
    pub records: u64,
}

/// What the writer shares with the callers.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    failure: OnceLock<StoreError>,
    /// Tells of the failure.
    failed: watch::Sender<bool>,
    commits: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    pub(crate) metrics: Metrics,
}

impl Shared {
    /// Why the store writes no more.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.failure.get().cloned()
    }

    /// Resolves when the store writes no more because a commit failed.
    pub(crate) async fn failed(&self) -> StoreError {
        let mut failed = self.failed.subscribe();
        // The sender is ours and lives as long as this.
        let _seen = failed.wait_for(|failed| *failed).await;
        self.failure().unwrap_or(StoreError::Closed)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }
}

pub(crate) struct Writer {
    path: PathBuf,
    connection: Connection,
    mark: Mark,
    commits: u64,
    since_checkpoint: u64,
    heads: HashMap<String, Log>,
    shared: Arc<Shared>,
    /// Whether the write-ahead log stays as it is at the end.
    look: bool,
    /// Dropped last, when the connection is closed.
    _lock: File,
}

/// A group that was not acknowledged: why, unless the writer was stopped for a test, and who waits for it.
struct Failed {
    error: Option<StoreError>,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

/// Where a test may stop the writer within a commit. Nowhere in a release build.
#[cfg(debug_assertions)]
use crate::fault::Moment;
#[cfg(not(debug_assertions))]
#[derive(Clone, Copy)]
enum Moment {
    Before,
    Unmarked,
    Unacknowledged,
}

/// A commit that a test may stop.
struct Watched(#[cfg(debug_assertions)] crate::fault::Watched);

impl Watched {
    #[cfg(debug_assertions)]
    fn begin(path: &std::path::Path, group: &[Job]) -> Self {
        Self(crate::fault::begin(path, group.iter().map(|job| &job.batch)))
    }

    #[cfg(not(debug_assertions))]
    const fn begin(_: &std::path::Path, _: &[Job]) -> Self {
        Self()
    }

    /// Fails without an error where the writer is to stand still.
    #[cfg(debug_assertions)]
    fn pass(&self, moment: Moment) -> Result<(), Option<StoreError>> {
        if self.0.stops(moment) { Err(None) } else { Ok(()) }
    }

    #[cfg(not(debug_assertions))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)]
    const fn pass(&self, _: Moment) -> Result<(), Option<StoreError>> {
        Ok(())
    }
}

/// What one batch came to within an open transaction.
struct Written {
    /// Where each log stands; none for one that was removed.
    heads: HashMap<String, Option<Log>>,
    records: u64,
}

impl Writer {
    pub(crate) fn new(
        path: PathBuf,
        opened: Opened,
        shared: Arc<Shared>,
        look: bool,
    ) -> Result<Self, StoreError> {
        let Opened { connection, mark, commits, lock } = opened;
        Ok(Self {
            path,
            connection,
            mark,
            commits,
            since_checkpoint: 0,
            heads: HashMap::new(),
            shared,
            look,
            _lock: lock,
        })
    }

    /// Works until the queue is closed and empty, or a commit fails.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut bytes = first.batch.bytes();
            let mut group = vec![first];
            while group.len() < GROUP && bytes < GROUP_BYTES {
                let Ok(job) = jobs.try_recv() else { break };
                bytes = bytes.saturating_add(job.batch.bytes());
                group.push(job);
            }
            let failed = match self.commit(group) {
                Ok(()) => None,
                Err(Failed { error: None, waiting }) => {
                    // Stopped for a test: nobody is told anything any more.
                    let mut held = waiting;
                    while let Some(job) = jobs.blocking_recv() {
                        held.push(job.done);
                    }
                    return;
                }
                Err(Failed { error: Some(error), waiting }) => Some((error, waiting)),
            };
            if let Some((error, waiting)) = failed {
                tracing::error!(path = %self.path.display(), %error, "the store stops: a commit failed");
                // Set before anybody is told, so that nobody sees the store closed without a reason.
                let _already = self.shared.failure.set(error.clone());
                self.shared.metrics.failed.set(1);
                self.shared.failed.send_replace(true);
                jobs.close();
                for done in waiting {
                    let _gone = done.send(Err(error.clone()));
                }
                while let Some(job) = jobs.blocking_recv() {
                    let _gone = job.done.send(Err(error.clone()));
                }
                return;
            }
            if jobs.is_empty() && self.since_checkpoint >= COMMITS_PER_CHECKPOINT {
                self.checkpoint();
            }
        }
        if !self.look {
            self.checkpoint();
        }
    }

    /// Writes a group in one transaction, then acknowledges it. On an error nothing is durable, and
    /// those who wait for it come back with it.
    fn commit(&mut self, group: Vec<Job>) -> Result<(), Failed> {
        let mut accepted = Vec::with_capacity(group.len());
        let mut records = 0u64;
        let watched = Watched::begin(&self.path, &group);
        let mut jobs = group.into_iter();
        let began = Instant::now();
        let result = self.transaction(&mut jobs, &mut accepted, &mut records, &watched);
        if let Err(error) = result {
            // Heads may be ahead of the file now; the store writes no more, so they do not matter.
            accepted.extend(jobs.map(|job| job.done));
            return Err(Failed { error, waiting: accepted });
        }
        self.shared.metrics.commit.observe(began.elapsed().as_secs_f64());
        self.shared.metrics.group.observe(accepted.len() as f64);
        self.since_checkpoint = self.since_checkpoint.saturating_add(1);
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.batches.fetch_add(accepted.len() as u64, Ordering::Relaxed);
        self.shared.records.fetch_add(records, Ordering::Relaxed);
        for done in accepted {
            let _gone = done.send(Ok(()));
        }
        Ok(())
    }

    fn transaction(
        &mut self,
        jobs: &mut impl Iterator<Item = Job>,
        accepted: &mut Vec<oneshot::Sender<Result<(), StoreError>>>,
        records: &mut u64,
        watched: &Watched,
    ) -> Result<(), Option<StoreError>> {
        self.execute("BEGIN IMMEDIATE")?;
        for Job { batch, done } in jobs.by_ref() {
            let changes_logs = batch.changes_logs();
            self.execute("SAVEPOINT batch")?;
            match self.write(batch) {
                Ok(written) => {
                    self.execute("RELEASE batch")?;
                    *records = records.saturating_add(written.records);
                    for (name, head) in written.heads {
                        match head {
                            Some(head) => self.heads.insert(name, head),
                            None => self.heads.remove(&name),
                        };
                    }
                    accepted.push(done);
                }
                Err(error @ (StoreError::Refused { .. } | StoreError::TooLarge { .. })) if !changes_logs => {
                    self.execute("ROLLBACK TO batch")?;
                    self.execute("RELEASE batch")?;
                    let _gone = done.send(Err(error));
                }
                Err(error) => {
                    accepted.push(done);
                    return Err(Some(error));
                }
            }
        }
        self.commits = self.commits.saturating_add(1);
        let number = i64::try_from(self.commits).unwrap_or(i64::MAX);
        self.statement("UPDATE gristmill_commit SET number = ?1", params![number])?;
        watched.pass(Moment::Before)?;
        self.execute("COMMIT")?;
        watched.pass(Moment::Unmarked)?;
        self.mark.set(self.commits).map_err(|error| StoreError::io(&self.path, &error))?;
        watched.pass(Moment::Unacknowledged)?;
        if self.heads.len() > HEADS {
            self.heads.clear();
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<Written, StoreError> {
        batch.check()?;
        let mut written = Written { heads: HashMap::new(), records: 0 };
        for write in batch.writes {
            match write {
                Write::Append { log, record } => {
                    let mut head = self.head(&written, &log)?;
                    self.append(&mut head, &record)?;
                    self.set_head(&head)?;
                    written.heads.insert(log, Some(head));
                    written.records = written.records.saturating_add(1);
                }
                Write::Replace { log, records } => {
                    let mut head = self.head(&written, &log)?;
                    self.statement("DELETE FROM gristmill_record WHERE log = ?1", params![head.id])?;
                    (head.base_row, head.base_chain) = (head.head_row, head.head_chain);
                    for record in &records {
                        self.append(&mut head, record)?;
                    }
                    self.set_head(&head)?;
                    written.heads.insert(log, Some(head));
                    written.records = written.records.saturating_add(records.len() as u64);
                }
                Write::Remove { log } => {
                    let head = self.head(&written, &log)?;
                    self.statement("DELETE FROM gristmill_record WHERE log = ?1", params![head.id])?;
                    self.statement("DELETE FROM gristmill_log WHERE id = ?1", params![head.id])?;
                    written.heads.insert(log, None);
                }
                Write::Sql { sql, parameters } => {
                    self.statement(sql, params_from_iter(parameters))?;
                }
            }
        }
        Ok(written)
    }

    /// Where a log stands within the open transaction; a new log begins at its root.
    fn head(&self, written: &Written, name: &str) -> Result<Log, StoreError> {
        let known = match written.heads.get(name) {
            Some(written) => written.clone(),
            None => match self.heads.get(name) {
                Some(head) => Some(head.clone()),
                None => log::find(&self.path, &self.connection, name)?,
            },
        };
        if let Some(head) = known {
            return Ok(head);
        }
        let root: Chain = log::root(name);
        self.statement(
            "INSERT INTO gristmill_log (name, base_row, base_chain, head_row, head_chain)
             VALUES (?1, 0, ?2, 0, ?2)",
            params![name, root],
        )?;
        let id = self.connection.last_insert_rowid();
        Ok(Log { id, base_row: 0, base_chain: root, head_row: 0, head_chain: root })
    }

    fn append(&self, head: &mut Log, record: &[u8]) -> Result<(), StoreError> {
        let row = head.head_row.saturating_add(1);
        let chain = log::next(&head.head_chain, row, record);
        let number = i64::try_from(row).unwrap_or(i64::MAX);
        self.statement(
            "INSERT INTO gristmill_record (log, row, record, chain) VALUES (?1, ?2, ?3, ?4)",
            params![head.id, number, record, chain],
        )?;
        (head.head_row, head.head_chain) = (row, chain);
        Ok(())
    }

    fn set_head(&self, head: &Log) -> Result<(), StoreError> {
        let number = |row: u64| i64::try_from(row).unwrap_or(i64::MAX);
        self.statement(
            "UPDATE gristmill_log SET base_row = ?2, base_chain = ?3, head_row = ?4, head_chain = ?5
             WHERE id = ?1",
            params![head.id, number(head.base_row), head.base_chain, number(head.head_row), head.head_chain],
        )
    }

    fn statement(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(parameters);
        run().map(drop).map_err(|error| StoreError::sqlite(&self.path, &error))
    }

    fn execute(&self, sql: &'static str) -> Result<(), StoreError> {
        self.statement(sql, [])
    }

    /// Moves the write-ahead log into the database, as far as readers allow. Not needed for safety,
    /// so a failure is only logged; the next commit shows whether the disk still works.
    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let result = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = result {
            tracing::warn!(path = %self.path.display(), %error, "the write-ahead log was not moved");
        }
    }
}
