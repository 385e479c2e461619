//! What a store tells of its work. One observation a commit, none a record.

use prometheus_client::{
    metrics::{gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// How the writer does.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// From the first statement of a commit to its fsync.
    pub(crate) commit: Histogram,
    /// Batches in it: callers that shared one fsync.
    pub(crate) group: Histogram,
    /// 1 when a commit failed, for good.
    pub(crate) failed: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let group = Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        Self { commit: gristmill_metrics::seconds(), group, failed: Gauge::default() }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_commit",
            "Time of a commit to disk, fsync included",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register(
            "store_commit_batches",
            "Batches that shared one commit: callers that waited for one fsync",
            self.group.clone(),
        );
        registry.register(
            "store_failed",
            "1 after a commit failed: nothing more is written until the process starts again",
            self.failed.clone(),
        );
    }
}
