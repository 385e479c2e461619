//! A change that waits for its record to be durable.

use borsh::BorshSerialize;
use gristmill_types::encode;

/// A change whose record must be durable before anybody acts on it.
///
/// Hand [`bytes`](Self::bytes) to the log, wait, then give the value to the machine's `confirm`.
/// Dropping it without that leaves the machine ahead of its log: such a machine must be replayed.
#[must_use = "make the record durable, then confirm it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Pending<R> {
    record: Box<R>,
}

impl<R> Pending<R> {
    pub(crate) fn new(record: R) -> Self {
        Self { record: Box::new(record) }
    }

    /// The record.
    pub fn record(&self) -> &R {
        &self.record
    }

    pub(crate) fn into_record(self) -> R {
        *self.record
    }
}

impl<R: BorshSerialize> Pending<R> {
    /// The record's canonical bytes, for the log.
    pub fn bytes(&self) -> Vec<u8> {
        encode(&*self.record)
    }
}
