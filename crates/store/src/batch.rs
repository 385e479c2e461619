//! What is written together.

use crate::error::StoreError;
use rusqlite::types::Value;

/// Writes in one batch.
const MAX_WRITES: usize = 4096;
/// Bytes of records and parameters in one batch.
const MAX_BYTES: usize = 64 << 20;
/// Length of a log's name.
const MAX_NAME: usize = 128;

#[derive(Debug)]
pub(crate) enum Write {
    Append { log: String, record: Vec<u8> },
    Replace { log: String, records: Vec<Vec<u8>> },
    Remove { log: String },
    Sql { sql: &'static str, parameters: Vec<Value> },
}

/// Writes that become durable together or not at all, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    bytes: usize,
    longest_name: usize,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record to a log.
    #[must_use]
    pub fn append(mut self, log: &str, record: Vec<u8>) -> Self {
        self.count(log, record.len());
        self.writes.push(Write::Append { log: log.to_owned(), record });
        self
    }

    /// Replaces all records of a log by these: for compaction. Row numbers and chain go on.
    #[must_use]
    pub fn replace(mut self, log: &str, records: Vec<Vec<u8>>) -> Self {
        self.count(log, records.iter().map(Vec::len).sum());
        self.writes.push(Write::Replace { log: log.to_owned(), records });
        self
    }

    /// Removes a log with all its records, as if it had never been.
    #[must_use]
    pub fn remove(mut self, log: &str) -> Self {
        self.count(log, 0);
        self.writes.push(Write::Remove { log: log.to_owned() });
        self
    }

    /// Runs one SQL statement on the shell's own tables.
    #[must_use]
    pub fn sql(mut self, sql: &'static str, parameters: impl IntoIterator<Item = Value>) -> Self {
        let parameters: Vec<Value> = parameters.into_iter().collect();
        let size = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(blob) => blob.len(),
            Value::Null | Value::Integer(_) | Value::Real(_) => 8,
        };
        self.count("", parameters.iter().map(size).sum());
        self.writes.push(Write::Sql { sql, parameters });
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Whether it changes a log. What is in a log was decided in memory before it is written, so whoever
    /// decided it is ahead of the disk if the batch is refused.
    pub(crate) fn changes_logs(&self) -> bool {
        self.writes.iter().any(|write| !matches!(write, Write::Sql { .. }))
    }

    /// Bytes of records and parameters.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for (found, unit, most) in [
            (self.writes.len(), "writes", MAX_WRITES),
            (self.bytes, "bytes", MAX_BYTES),
            (self.longest_name, "bytes in a log's name", MAX_NAME),
        ] {
            if found > most {
                return Err(StoreError::TooLarge { found, unit, most });
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.longest_name = self.longest_name.max(name.len());
    }
}
