//! What a request has passed so far: for the metrics, for its log lines and for its trace.
//!
//! One for each request, shared by those who work on it. A stage is noted a few times a request and once
//! a window; a token costs one look at a flag.

use crate::{buy::at_fault, error::BuyError, metrics::Metrics, purchase::Bought};
use gristmill_channel::Code;
use gristmill_net::{
    http::RequestId,
    trace::{Stages, Trace},
};
use gristmill_types::{AccountId, Amount, ChannelId};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered, paid, and the receipt is kept.
    Paid,
    /// The client went away.
    Gone,
    /// Refused for what it asks.
    Invalid,
    /// The key's budget does not suffice.
    Budget,
    /// The account cannot fund a channel.
    AccountEmpty,
    /// Too much is under way, or nobody offers the model now.
    Busy,
    /// The processor does not answer, or broke off.
    Unreachable,
    /// The processor refused, or failed.
    Refused,
    /// The processor broke the protocol.
    BrokeProtocol,
    /// The ledger did not answer, or refused.
    Ledger,
    /// A failure here.
    Internal,
}

impl Outcome {
    pub(crate) const ALL: [Self; 11] = [
        Self::Paid,
        Self::Gone,
        Self::Invalid,
        Self::Budget,
        Self::AccountEmpty,
        Self::Busy,
        Self::Unreachable,
        Self::Refused,
        Self::BrokeProtocol,
        Self::Ledger,
        Self::Internal,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Gone => "gone",
            Self::Invalid => "invalid",
            Self::Budget => "budget",
            Self::AccountEmpty => "account_empty",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::BrokeProtocol => "broke_protocol",
            Self::Ledger => "ledger",
            Self::Internal => "internal",
        }
    }

    pub(crate) fn of(cause: &BuyError) -> Self {
        match cause {
            BuyError::Cut { error, .. } | BuyError::Unsettled { error, .. } => match Self::of(error) {
                Self::Invalid if at_fault(cause).is_some() => Self::Refused,
                outcome => outcome,
            },
            BuyError::Gone => Self::Gone,
            BuyError::Stopping => Self::Busy,
            BuyError::Budget(_) | BuyError::Held { .. } => Self::Budget,
            BuyError::Payer(payer) => match payer.code() {
                Code::BudgetExceeded => Self::Budget,
                Code::LaneBusy | Code::AmountExceedsDeposit => Self::Busy,
                Code::LimitExceeded => Self::Invalid,
                _ => Self::BrokeProtocol,
            },
            BuyError::Text(_) => Self::Invalid,
            BuyError::Api(error) => match error.status.as_u16() {
                402 => Self::Budget,
                429 | 503 => Self::Busy,
                400..=499 => Self::Invalid,
                _ => Self::Refused,
            },
            BuyError::Answered { error, .. } => match error.status.as_u16() {
                429 | 503 => Self::Busy,
                _ if at_fault(cause).is_some() => Self::Refused,
                _ => Self::Invalid,
            },
            BuyError::Empty { .. } => Self::AccountEmpty,
            BuyError::Unreachable { .. } => Self::Unreachable,
            BuyError::Challenge { .. } | BuyError::Refused { .. } => Self::Refused,
            BuyError::Misbehaved { .. } => Self::BrokeProtocol,
            BuyError::Ledger(_) => Self::Ledger,
            BuyError::Store(_)
            | BuyError::Replay(_)
            | BuyError::NoChannel
            | BuyError::Random(_)
            | BuyError::Damaged(_) => Self::Internal,
        }
    }
}

/// What went wrong, without the words of others: those may repeat what was asked.
fn unquoting(error: &BuyError) -> String {
    match error {
        BuyError::Api(error) | BuyError::Answered { error, .. } => {
            let code: String = error.code.iter().flat_map(|code| code.chars()).take(64).collect();
            format!("answered with status {} {code}", error.status.as_u16())
        }
        BuyError::Refused { problem, .. } => format!("the processor refused the payment: {}", problem.code),
        BuyError::Cut { error, .. } | BuyError::Unsettled { error, .. } => unquoting(error),
        BuyError::Text(_) => "the messages cannot be made into a prompt".to_owned(),
        other => other.to_string(),
    }
}

/// One request's progress.
pub(crate) struct Progress {
    metrics: Arc<Metrics>,
    id: RequestId,
    span: tracing::Span,
    stages: Mutex<Stages>,
    /// The processor's id of it.
    other: Mutex<Option<String>>,
    /// Who is asked now.
    processor: Mutex<Option<AccountId>>,
    texted: AtomicBool,
    ended: AtomicBool,
}

impl Progress {
    /// A request came.
    pub(crate) fn begin(metrics: &Arc<Metrics>, id: &RequestId) -> Arc<Self> {
        metrics.running.inc();
        let span = tracing::info_span!(
            "request",
            request = %id,
            channel = tracing::field::Empty,
            lane = tracing::field::Empty,
            receipt = tracing::field::Empty,
        );
        Arc::new(Self {
            metrics: Arc::clone(metrics),
            id: id.clone(),
            span,
            stages: Mutex::new(Stages::begin("asked")),
            other: Mutex::default(),
            processor: Mutex::default(),
            texted: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// What log lines of the request stand in.
    pub(crate) fn span(&self) -> tracing::Span {
        self.span.clone()
    }

    pub(crate) const fn id(&self) -> &RequestId {
        &self.id
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn processor(&self) -> MutexGuard<'_, Option<AccountId>> {
        self.processor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn other(&self) -> MutexGuard<'_, Option<String>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage is reached.
    pub(crate) fn reach(&self, stage: &'static str, note: Option<String>) {
        tracing::debug!(parent: &self.span, stage, note);
        self.stages().reach(stage, note);
    }

    /// This processor is asked.
    pub(crate) fn ask(&self, processor: AccountId) {
        self.metrics.upstream(&processor, None);
        *self.processor() = Some(processor);
    }

    /// A lane is reserved, and that is on disk.
    pub(crate) fn reserved(&self, channel: &ChannelId, lane: u32) {
        self.span.record("channel", tracing::field::display(channel));
        self.span.record("lane", lane);
        self.reach("reserved", Some(format!("lane {lane} of channel {}", channel.short())));
    }

    /// The processor began, and calls the request so.
    pub(crate) fn started(&self, other: &str) {
        *self.other() = Some(other.chars().take(64).collect());
        self.reach("started", None);
    }

    /// A voucher for the next window is on its way.
    pub(crate) fn window(&self, tokens: usize, promised: Amount) {
        self.reach(
            "window",
            Some(format!("{tokens} tokens arrived, {promised} credits promised on the lane")),
        );
    }

    /// Text is there for the client.
    pub(crate) fn text(&self) {
        if !self.texted.load(Ordering::Relaxed) && !self.texted.swap(true, Ordering::Relaxed) {
            self.metrics.first_text.observe(self.stages().began().elapsed().as_secs_f64());
            self.reach("first text", None);
        }
    }

    /// It is placed anew with the same processor.
    pub(crate) fn retried(&self, error: &BuyError) {
        self.upstream(error);
        self.moved_on(error);
    }

    /// It is placed anew.
    pub(crate) fn moved_on(&self, error: &BuyError) {
        self.metrics.retries.inc();
        self.reach("placed anew", Some(unquoting(error)));
    }

    /// It cannot be placed with who is asked now: what the one before said counts.
    pub(crate) fn passed_over(&self, error: &BuyError) {
        self.reach("passed over", Some(unquoting(error)));
    }

    /// One of several choices that are all placed anew, or given up as one request: it is no request any more.
    pub(crate) fn dropped(&self, error: &BuyError) {
        self.upstream(error);
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.metrics.running.dec();
        }
    }

    /// Counts a failure of who is asked now.
    pub(crate) fn upstream(&self, error: &BuyError) {
        if let Some(processor) = *self.processor() {
            self.metrics.upstream(&processor, Some(error));
        }
    }

    /// It was answered and paid for.
    pub(crate) fn paid(&self, bought: &Bought) {
        if self.end(Outcome::Paid) {
            self.metrics.whole.observe(self.stages().began().elapsed().as_secs_f64());
            let Bought { prompt_tokens, completion_tokens, cost, .. } = bought;
            tracing::info!(parent: &self.span, prompt_tokens, completion_tokens, %cost, "paid");
        }
    }

    /// It came to nothing more.
    pub(crate) fn failed(&self, error: &BuyError) {
        if self.came_to(error) {
            self.upstream(error);
        }
    }

    /// The same, of a failure that was counted when it happened.
    pub(crate) fn came_to(&self, error: &BuyError) -> bool {
        let first = self.end(Outcome::of(error));
        if first {
            tracing::info!(parent: &self.span, error = unquoting(error), "not answered to its end");
        }
        first
    }

    /// Nobody waits for it any more.
    pub(crate) fn given_up(&self) {
        self.end(Outcome::Gone);
    }

    /// It ended, if it had not.
    fn end(&self, outcome: Outcome) -> bool {
        let first = !self.ended.swap(true, Ordering::Relaxed);
        if first {
            self.metrics.running.dec();
            self.metrics.ended(outcome);
        }
        first
    }

    /// The receipt is known, and about to be written down.
    pub(crate) fn receipt(&self, id: &gristmill_types::Digest, channel: &ChannelId, lane: u32) -> Trace {
        self.span.record("receipt", tracing::field::display(id));
        self.reach("receipt", None);
        self.stages().trace(self.id.to_string(), self.other().clone(), *channel, lane)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.given_up();
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("id", &self.id).finish_non_exhaustive()
    }
}
