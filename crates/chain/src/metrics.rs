//! What a ledger node counts, for `GET /metrics`. `docs/operations.md` lists the same metrics, and a test
//! compares the two.
//!
//! Counters and histograms are fed once a block; gauges are set when they are read. What consensus,
//! network and storage count themselves follows in the same answer under the names that Commonware gives
//! it; that part is not ours and may change with its releases.

use crate::{
    block::Tx,
    index::Applied,
    pool::{Pool, Refusal},
    view::View,
};
use gristmill_ledger::{Audit, Body};
use gristmill_metrics::{Answers, count, gauge, seconds};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransactionLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// A node's metrics. Cheap to clone; clones are the same metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    answers: Answers,
    /// By kind, in the order of [`Body::KINDS`]: applied, rejected.
    transactions: Vec<[Counter; 2]>,
    refused: Family<ReasonLabel, Counter>,
    finality: Histogram,
    block_transactions: Histogram,
    height: Gauge,
    block_time: Gauge<f64, AtomicU64>,
    stalled: Gauge<f64, AtomicU64>,
    waiting: Gauge,
    waiting_bytes: Gauge,
    followers: Gauge,
    signers: Gauge,
    conserved: Gauge,
    conserved_height: Gauge,
    records: Gauge,
    disk: Gauge,
}

/// What is read of a node when its metrics are.
pub(crate) struct Snapshot {
    pub(crate) followers: usize,
    /// Who signed the certificate of the last block, if it is stored.
    pub(crate) signers: Option<usize>,
    /// What the folder holds.
    pub(crate) bytes: u64,
}

impl Metrics {
    pub(crate) fn new(validators: usize) -> Self {
        let mut registry = Registry::with_prefix("gristmill_ledger");
        let answers = Answers::register(&mut registry);
        let family = Family::<TransactionLabels, Counter>::default();
        let by_kind = |kind: &&'static str| {
            ["applied", "rejected"]
                .map(|outcome| family.get_or_create_owned(&TransactionLabels { kind, outcome }))
        };
        let transactions = Body::KINDS.iter().map(by_kind).collect();
        let help = "Final transactions since the start, by kind and whether they had an effect";
        registry.register("transactions", help, family);
        let refused = Family::<ReasonLabel, Counter>::default();
        for reason in Refusal::CODES {
            drop(refused.get_or_create(&ReasonLabel { reason }));
        }
        let help = "Submitted transactions that cannot be in a block, by reason";
        registry.register("transactions_refused", help, refused.clone());
        let finality = seconds();
        let help = "From the pool to final and durable, of each transaction that came to this node";
        registry.register_with_unit("finality", help, Unit::Seconds, finality.clone());
        let sizes = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4];
        let block_transactions = Histogram::new(sizes);
        registry.register("block_transactions", "Transactions in a block", block_transactions.clone());

        let mut plain = |name: &str, help: &str| {
            let gauge = Gauge::<i64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let height = plain("height", "The last final block");
        let waiting = plain("pool_transactions", "Transactions that wait or are not final yet");
        let followers = plain("followers", "Clients that follow the blocks");
        plain("validators", "Validators of this epoch").set(gauge(validators));
        let signers = plain("certificate_signers", "Validators that signed the last block's certificate");
        let conserved = plain("conserved", "1 if all credits added up at the last scan of the whole state");
        let conserved_height = plain("conserved_height", "The block whose state that scan read");
        let records = plain("state_records", "Records of the state, at that scan");
        let (waiting_bytes, disk) = (Gauge::default(), Gauge::default());
        let help = "What they take in memory";
        registry.register_with_unit("pool", help, Unit::Bytes, waiting_bytes.clone());
        let help = "What the node's folder takes on disk: blocks, certificates, outcomes, state";
        registry.register_with_unit("disk", help, Unit::Bytes, disk.clone());
        let (block_time, stalled) = (Gauge::default(), Gauge::default());
        let help = "Since the last block; an idle ledger makes none, and that is fine";
        registry.register_with_unit("block_age", help, Unit::Seconds, block_time.clone());
        let help = "Since when transactions wait and no block comes; 0 if none waits";
        registry.register_with_unit("stalled", help, Unit::Seconds, stalled.clone());
        Self(Arc::new(Inner {
            registry,
            answers,
            transactions,
            refused,
            finality,
            block_transactions,
            height,
            block_time,
            stalled,
            waiting,
            waiting_bytes,
            followers,
            signers,
            conserved,
            conserved_height,
            records,
            disk,
        }))
    }

    pub(crate) fn answers(&self) -> Answers {
        self.0.answers.clone()
    }

    /// Consensus made a block final.
    pub(crate) fn block(&self, body: &[Tx], applied: &Applied) {
        self.0.block_transactions.observe(body.len() as f64);
        let mut tally = vec![[0_u64; 2]; Body::KINDS.len()];
        for (tx, outcome) in body.iter().zip(&applied.outcomes) {
            let kind = tx.signed().body.body.kind();
            let at = Body::KINDS.iter().position(|of| *of == kind);
            let of = at.and_then(|at| tally.get_mut(at));
            if let Some([applied, rejected]) = of {
                if outcome.rejection.is_none() { *applied += 1 } else { *rejected += 1 }
            }
        }
        for (counters, numbers) in self.0.transactions.iter().zip(tally) {
            for (counter, number) in counters.iter().zip(numbers) {
                counter.inc_by(number);
            }
        }
    }

    /// Transactions of ours are final and durable, so long after they came.
    pub(crate) fn settled(&self, ages: impl Iterator<Item = Duration>) {
        for age in ages {
            self.0.finality.observe(age.as_secs_f64());
        }
    }

    /// A submission was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.0.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The whole state was added up.
    pub(crate) fn scanned(&self, height: u64, audit: &Audit) {
        self.0.conserved.set(i64::from(audit.adds_up()));
        self.0.conserved_height.set(gauge(height));
        self.0.records.set(gauge(audit.records));
    }

    /// Our part of the text, with the gauges as they are now.
    pub(crate) fn text(&self, view: &View, pool: &Pool, snapshot: &Snapshot) -> String {
        let inner = &self.0;
        let head = view.head();
        inner.height.set(gauge(head.height));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        inner.block_time.set(now.saturating_sub(Duration::from_millis(head.time_ms)).as_secs_f64());
        inner.stalled.set(pool.stalled(Instant::now()).as_secs_f64());
        inner.waiting.set(gauge(pool.len()));
        inner.waiting_bytes.set(gauge(pool.bytes()));
        inner.followers.set(gauge(snapshot.followers));
        inner.disk.set(gauge(snapshot.bytes));
        if let Some(signers) = snapshot.signers {
            inner.signers.set(gauge(signers));
        }
        gristmill_metrics::text(&inner.registry)
    }
}

/// Bytes of all files in a folder, as far as they can be read.
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes_in(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    });
    sizes.fold(0, |sum, size| count(sum.saturating_add(size)))
}
