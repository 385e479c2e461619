//! What can go wrong with a store.

use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why the store refuses. All variants can be cloned: one failed commit answers many callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another store in this one, has the file open.
    #[error("{path} is in use{by}; stop that process first, or use another folder")]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who, if it is known.
        by: String,
    },
    /// Not a store.
    #[error("{path} is not a file of this program; move it away, or use another folder")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "{path} has schema {found}, this program knows up to {known}; use the newer program that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The latest known here.
        known: u32,
    },
    /// A log is damaged.
    #[error("{path} is damaged: log {log}, row {row}: {reason}; restore a backup and reconcile")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The log.
        log: String,
        /// The row.
        row: u64,
        /// What was found.
        reason: &'static str,
    },
    /// The database itself is damaged.
    #[error("{path} is damaged: {reason}; restore a backup and reconcile")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The database is behind what was acknowledged.
    #[error(
        "{path} lost acknowledged commits: it ends at {found}, {acknowledged} were acknowledged; restore \
         it with its -wal and -mark files from a backup, and reconcile"
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// The last commit that was acknowledged.
        acknowledged: u64,
        /// The last commit in the file.
        found: u64,
    },
    /// No space left.
    #[error("{path} cannot grow: the disk or its limit is full; free some space and start again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Cannot be written.
    #[error(
        "{path} cannot be written: {reason}; check the disk, its free space, and the folder's permissions"
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The batch breaks a rule of the schema; nothing of it was written.
    #[error("the batch was refused: {reason}")]
    Refused {
        /// What SQLite says.
        reason: String,
    },
    /// The batch is larger than one commit may be.
    #[error("the batch has {found} {unit}, at most {most} fit into one")]
    TooLarge {
        /// How many.
        found: usize,
        /// Of what.
        unit: &'static str,
        /// The limit.
        most: usize,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the file is not as it was left: what helps is a backup.
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Foreign { .. } | Self::Corrupt { .. } | Self::Damaged { .. } | Self::RolledBack { .. }
        )
    }

    /// Whether there is no space left.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { path: path.to_path_buf() }
            }
            _ => Self::Unwritable { path: path.to_path_buf(), reason: error.to_string() },
        }
    }

    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, reason },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::InUse { path, by: " by another program".into() }
            }
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure,
            ) => Self::Unwritable { path, reason },
            _ => Self::Refused { reason },
        }
    }
}
