//! What a request has passed so far: for the metrics, for its log lines and for its trace.
//!
//! A stage is noted a few times a request and once for each stall; a token costs one look at a flag and
//! at the clock.

use crate::metrics::Metrics;
use gristmill_net::{
    http::RequestId,
    trace::{Stages, Trace},
};
use gristmill_types::{Amount, ChannelId, Digest, Finish, Usage};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// One request's progress.
pub(crate) struct Progress {
    metrics: Arc<Metrics>,
    id: RequestId,
    span: tracing::Span,
    stages: Mutex<Stages>,
    first: AtomicBool,
}

impl Progress {
    /// A request came.
    pub(crate) fn begin(metrics: &Arc<Metrics>, id: &RequestId) -> Self {
        metrics.running.inc();
        let span = tracing::info_span!(
            "request",
            request = %id,
            caller = id.caller(),
            channel = tracing::field::Empty,
            lane = tracing::field::Empty,
            receipt = tracing::field::Empty,
        );
        Self {
            metrics: Arc::clone(metrics),
            id: id.clone(),
            span,
            stages: Mutex::new(Stages::begin("arrived")),
            first: AtomicBool::new(false),
        }
    }

    /// What log lines of the request stand in.
    pub(crate) fn span(&self) -> tracing::Span {
        self.span.clone()
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage is reached.
    pub(crate) fn reach(&self, stage: &'static str, note: Option<String>) {
        tracing::debug!(parent: &self.span, stage, note);
        self.stages().reach(stage, note);
    }

    /// Voucher and order are the payer's, for this lane.
    pub(crate) fn verified(&self, channel: &ChannelId, lane: u32) {
        self.span.record("channel", tracing::field::display(channel));
        self.span.record("lane", lane);
        self.reach("verified", None);
    }

    /// The engine took the job.
    pub(crate) fn engine(&self) {
        self.metrics.heard();
        self.reach("engine asked", None);
    }

    /// The engine gave a token.
    pub(crate) fn token(&self) {
        self.metrics.heard();
        if !self.first.load(Ordering::Relaxed) && !self.first.swap(true, Ordering::Relaxed) {
            self.metrics.first_token.observe(self.stages().began().elapsed().as_secs_f64());
            self.reach("first token", None);
        }
    }

    /// The window is used up, and the next voucher has not come.
    pub(crate) fn stalled(&self) {
        self.reach("waits for a voucher", None);
    }

    /// So long it waited; `paid`: the voucher came.
    pub(crate) fn went_on(&self, waited: Duration, paid: bool) {
        self.metrics.stalls.observe(waited.as_secs_f64());
        if paid {
            self.metrics.heard();
            self.reach("voucher came", None);
        } else {
            self.metrics.unpaid.inc();
            self.reach("no voucher came", None);
        }
    }

    /// The receipt is signed, and about to be written down.
    pub(crate) fn receipt(&self, id: &Digest, channel: ChannelId, lane: u32) -> Trace {
        self.span.record("receipt", tracing::field::display(id));
        self.reach("receipt", None);
        self.stages().trace(self.id.to_string(), self.id.caller().map(str::to_owned), channel, lane)
    }

    /// The receipt is on disk.
    pub(crate) fn finished(&self, finish: Finish, usage: &Usage, cost: Amount) {
        self.metrics.whole.observe(self.stages().began().elapsed().as_secs_f64());
        self.metrics.finished(finish, usage, cost);
        let (input, output) = (usage.input_tokens, usage.output_tokens);
        tracing::info!(parent: &self.span, ?finish, input, output, %cost, "served");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.metrics.running.dec();
    }
}
