//! Opening the file: permissions, lock, schema, mark.

use crate::{Options, error::StoreError, log, mark::Mark};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Marks a file as ours (`PRAGMA application_id`): "GRST".
const APPLICATION: i32 = 0x4752_5354;

/// Files larger than this are not checked page by page at every start; their logs, and the table that
/// names them, still are.
const CHECKED_BYTES: u64 = 256 << 20;

/// One step of the shell's own schema. Steps are append-only: the first is version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The statements. Table names must not begin with `gristmill_`.
    pub sql: &'static str,
}

/// An opened file.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) mark: Mark,
    pub(crate) commits: u64,
    /// Held as long as the file is open.
    pub(crate) lock: File,
}

/// The name of a file beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn open(path: &Path, schema: &[Migration], options: Options) -> Result<Opened, StoreError> {
    let lock = lock(path)?;
    check_not_emptied(path)?;
    create_private(path)?;
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    // Until all checks are passed nothing is changed: a file that is refused stays as it was, with its
    // write-ahead log, so that a person can repair it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite)?;
    let version = check_version(path, &connection, schema)?;
    let commits = if version > 0 { commits(&connection).map_err(sqlite)? } else { 0 };
    let mark = check_mark(path, commits, options)?;
    check_pages(path, &connection, CHECKED_BYTES)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, options.look).map_err(sqlite)?;
    configure(&connection, options).map_err(sqlite)?;
    migrate(path, &mut connection, schema, version)?;
    Ok(Opened { connection, mark, commits, lock })
}

/// Refuses a file that was emptied: SQLite would take it for a new one and remove the write-ahead log, which
/// whoever repairs it may need.
fn check_not_emptied(path: &Path) -> Result<(), StoreError> {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let before = bytes(&beside(path, "-wal")) > 0 || bytes(&beside(path, "-mark")) > 0;
    if before && bytes(path) == 0 && !starting(path) {
        return Err(StoreError::Damaged {
            path: path.into(),
            reason: "the file is empty or missing, and there are files beside it that belong to one".into(),
        });
    }
    Ok(())
}

/// Whether nothing was ever committed: a crash while the file was made leaves such files.
fn starting(path: &Path) -> bool {
    let mark = Mark::open(&beside(path, "-mark"));
    mark.is_ok_and(|(_, acknowledged)| acknowledged == 0)
}

/// The number of the last commit in the file.
fn commits(connection: &Connection) -> rusqlite::Result<u64> {
    let number: i64 = connection.query_row("SELECT number FROM gristmill_commit", [], |row| row.get(0))?;
    Ok(number.unsigned_abs())
}

/// Refuses a file that is behind its mark.
fn check_mark(path: &Path, commits: u64, options: Options) -> Result<Mark, StoreError> {
    let name = beside(path, "-mark");
    let io = |error: std::io::Error| StoreError::io(&name, &error);
    let (mark, acknowledged) = Mark::open(&name).map_err(io)?;
    if commits < acknowledged {
        if !options.accept_rollback {
            return Err(StoreError::RolledBack { path: path.into(), acknowledged, found: commits });
        }
        tracing::warn!(path = %path.display(), acknowledged, found = commits, "going on with lost commits");
        mark.reset(commits).map_err(io)?;
    }
    Ok(mark)
}

/// Takes the lock beside the file. The lock, not the database, says who has it open, because readers
/// of the database come and go.
fn lock(path: &Path) -> Result<File, StoreError> {
    let name = beside(path, "-lock");
    let io = |error: std::io::Error| StoreError::io(&name, &error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let readable = (&file).take(20).read_to_string(&mut owner).is_ok();
            let by = match owner.trim().parse::<u32>() {
                Ok(process) if readable => format!(" by process {process}"),
                _ => String::new(),
            };
            return Err(StoreError::InUse { path: path.into(), by });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// Creates the file for its owner alone, or takes others' permissions away. SQLite gives its other
/// files the same mode. Closed before SQLite opens it: closing later would drop SQLite's locks.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let io = |error: std::io::Error| StoreError::io(path, &error);
    let new = !path.exists();
    drop(File::options().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?);
    if new {
        // Its name must be on disk as well: after a power cut there may be no file, as if nothing was ever promised.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    let mut permissions = fs::metadata(path).map_err(io)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        fs::set_permissions(path, permissions).map_err(io)?;
    }
    Ok(())
}

fn configure(connection: &Connection, options: Options) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // One fsync of the write-ahead log per commit; the default of some builds is less.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS an fsync alone leaves the data in the drive's cache. Elsewhere these change nothing.
    connection.pragma_update(None, "fullfsync", "ON")?;
    connection.pragma_update(None, "checkpoint_fullfsync", "ON")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    // The writer moves the log into the database when it is idle; this is the backstop.
    connection.pragma_update(None, "wal_autocheckpoint", 8192)?;
    connection.set_prepared_statement_cache_capacity(64);
    if options.max_bytes > 0 {
        let page: u64 =
            connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?.unsigned_abs();
        let pages = (options.max_bytes / page.max(1)).max(1);
        connection.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

/// Looks at every page, and that indexes say what their tables say. Of a file larger than `most` only the
/// small table of the logs' names is looked at: a log whose name is changed there or in its index would
/// look like one that was never written. What is in a log is checked when it is loaded.
fn check_pages(path: &Path, connection: &Connection, most: u64) -> Result<(), StoreError> {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let check =
        if bytes > most { "PRAGMA integrity_check(gristmill_log)" } else { "PRAGMA integrity_check(1)" };
    let verdict: String = connection
        .query_row(check, [], |row| row.get(0))
        .map_err(|error| StoreError::sqlite(path, &error))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.into(), reason: verdict }),
    }
}

/// Refuses files of others and of later versions. Returns the schema's version: 0 is an empty file,
/// 1 a store without any of the shell's steps.
fn check_version(path: &Path, connection: &Connection, schema: &[Migration]) -> Result<u32, StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sqlite);
    let (application, found) = (read("application_id")?, read("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    let empty = application == 0 && found == 0 && tables == 0;
    if application != APPLICATION && !empty {
        return Err(StoreError::Foreign { path: path.into() });
    }
    let known = u32::try_from(schema.len()).unwrap_or(u32::MAX).saturating_add(1);
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.into(), found, known });
    }
    Ok(found)
}

/// Brings the schema up to date, each step in its own transaction.
fn migrate(
    path: &Path,
    connection: &mut Connection,
    schema: &[Migration],
    found: u32,
) -> Result<(), StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let steps = std::iter::once(log::TABLES).chain(schema.iter().map(|step| step.sql));
    for (version, sql) in (1u32..).zip(steps).skip(found as usize) {
        let step = connection.transaction().map_err(sqlite)?;
        // A step that was made before: the version in the file's head is not what it was.
        step.execute_batch(sql).map_err(|error| match sqlite(error) {
            StoreError::Refused { reason } => StoreError::Damaged { path: path.into(), reason },
            error => error,
        })?;
        step.pragma_update(None, "application_id", APPLICATION).map_err(sqlite)?;
        step.pragma_update(None, "user_version", version).map_err(sqlite)?;
        step.commit().map_err(sqlite)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &tempfile::TempDir) -> Opened {
        open(&folder.path().join("records.db"), &[], Options::default()).unwrap()
    }

    #[test]
    fn a_large_file_is_checked_for_the_names_of_its_logs() {
        const NAME: &str = "a log with a name";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        let file = opened(&folder).connection;
        let insert = "INSERT INTO gristmill_log VALUES (1, ?1, 0, x'00', 0, x'00')";
        file.execute(insert, [NAME]).unwrap();
        drop(file);
        let original = fs::read(&path).unwrap();
        let check = || check_pages(&path, &Connection::open(&path).unwrap(), 0);
        assert_eq!(check(), Ok(()));
        let places = original.windows(NAME.len()).enumerate().filter(|(_, bytes)| *bytes == NAME.as_bytes());
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        assert!(places.len() >= 2, "in the table and in its index: {places:?}");
        for place in places {
            let mut damaged = original.clone();
            damaged[place] = b'b';
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(check(), Err(StoreError::Damaged { .. })), "a name changed at {place} passed");
        }
    }

    #[test]
    fn commits_reach_the_disk_on_every_system() {
        let folder = tempfile::tempdir().unwrap();
        let file = opened(&folder).connection;
        for (name, expected) in [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1)] {
            let found: i64 = file.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            assert_eq!(found, expected, "{name}");
        }
    }
}
