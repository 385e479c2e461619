//! Stopping a writer at a chosen commit, for tests: as if the process had been killed just there.
//!
//! Only in builds with debug assertions. What is armed looks at the commits of one file; at the first that
//! is chosen the writer stands still just before the commit, just after it, or after the mark, and
//! acknowledges nothing from then on. Dropping the store ends it.

use crate::batch::{Batch, Write};
use rusqlite::types::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Where in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is durable.
    Before,
    /// It is durable, and the mark does not say so.
    Unmarked,
    /// It is durable, and nobody was told.
    Unacknowledged,
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// A record of a log.
    Append {
        /// The log.
        log: String,
        /// The record.
        record: Vec<u8>,
    },
    /// A log as a whole.
    Replace {
        /// The log.
        log: String,
    },
    /// A log is gone.
    Remove {
        /// The log.
        log: String,
    },
    /// A statement.
    Sql {
        /// The statement.
        sql: &'static str,
        /// Its parameters.
        parameters: Vec<Value>,
    },
}

type Choice = Box<dyn Fn(&[Written]) -> bool + Send + Sync>;

struct Fault {
    path: PathBuf,
    moment: Moment,
    chosen: Choice,
    stopped: Mutex<bool>,
    bell: Condvar,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("path", &self.path)
            .field("moment", &self.moment)
            .finish_non_exhaustive()
    }
}

static FAULTS: Mutex<Vec<Arc<Fault>>> = Mutex::new(Vec::new());

/// What was armed; dropping it disarms.
#[derive(Debug)]
pub struct Armed(Arc<Fault>);

/// Stops the writer of this file at its first chosen commit from now on.
pub fn arm(
    path: &Path,
    moment: Moment,
    chosen: impl Fn(&[Written]) -> bool + Send + Sync + 'static,
) -> Armed {
    let fault = Arc::new(Fault {
        path: path.to_path_buf(),
        moment,
        chosen: Box::new(chosen),
        stopped: Mutex::default(),
        bell: Condvar::new(),
    });
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&fault));
    Armed(fault)
}

impl Armed {
    /// Whether the writer stands still. Waits for it so long.
    pub fn stopped(&self, patience: Duration) -> bool {
        let stopped = self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.bell.wait_timeout_while(stopped, patience, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// What is armed for a commit under way that was chosen.
#[derive(Debug)]
pub(crate) struct Watched(Option<Arc<Fault>>);

/// Looks at a commit before it is written.
pub(crate) fn begin<'a>(path: &Path, batches: impl Iterator<Item = &'a Batch>) -> Watched {
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(fault) = faults.iter().find(|fault| fault.path == path).map(Arc::clone) else {
        return Watched(None);
    };
    drop(faults);
    let writes = batches.flat_map(|batch| &batch.writes).map(|write| match write {
        Write::Append { log, record } => Written::Append { log: log.clone(), record: record.clone() },
        Write::Replace { log, .. } => Written::Replace { log: log.clone() },
        Write::Remove { log } => Written::Remove { log: log.clone() },
        Write::Sql { sql, parameters } => Written::Sql { sql, parameters: parameters.clone() },
    });
    let writes: Vec<Written> = writes.collect();
    Watched((fault.chosen)(&writes).then_some(fault))
}

impl Watched {
    /// Whether the writer stops here.
    pub(crate) fn stops(&self, moment: Moment) -> bool {
        let Some(fault) = &self.0 else { return false };
        if fault.moment == moment {
            *fault.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
            fault.bell.notify_all();
            return true;
        }
        false
    }
}
