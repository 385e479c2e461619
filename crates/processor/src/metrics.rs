//! What a processor counts, for `GET /metrics`. `docs/operations.md` lists the same metrics, and a test
//! compares the two.
//!
//! Counters are counted where things happen, through handles that are kept. Gauges are set when they are
//! read, from the books and the shelf. Amounts are grains; they end at 2⁶³ − 1 and are for alerts, the
//! books themselves are exact.

use crate::{app::App, error::Refused};
use gristmill_channel::Phase;
use gristmill_engine::Condition;
use gristmill_metrics::{Answers, Bounded, count, gauge, seconds};
use gristmill_types::{Amount, Finish, Usage};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the account's balance is shown before it is asked for again, and how long that may take.
const BALANCE_FRESH: Duration = Duration::from_secs(5);
const BALANCE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishLabel {
    finish: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    /// The line's name, or the version where two versions have one name.
    model: String,
}

/// A processor's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) answers: Answers,
    finished: [(Finish, Counter); 4],
    challenges: Counter,
    refusals: Family<ReasonLabel, Counter>,
    reasons: Bounded,
    pub(crate) running: Gauge,
    pub(crate) first_token: Histogram,
    pub(crate) whole: Histogram,
    input_tokens: Counter,
    output_tokens: Counter,
    pub(crate) stalls: Histogram,
    pub(crate) unpaid: Counter,
    delivered: Counter,
    pub(crate) earned: Counter,
    pub(crate) royalties: Counter,
    pub(crate) fees: Counter,
    pub(crate) settle_errors: Counter,
    /// Set by the settling task.
    pub(crate) pending: Gauge,
    approved: Gauge,
    unapproved: Gauge,
    closing: Gauge,
    closing_left: Gauge<f64, AtomicU64>,
    channels: Gauge,
    quotes: Gauge,
    models: Bounded,
    engine_up: Family<ModelLabel, Gauge>,
    engine_failing: Family<ModelLabel, Gauge>,
    engine_running: Family<ModelLabel, Gauge>,
    engine_queued: Family<ModelLabel, Gauge>,
    engine_places: Family<ModelLabel, Gauge>,
    engine_silent: Gauge<f64, AtomicU64>,
    balance: Gauge,
    ledger_up: Gauge,
    asked: Mutex<Option<Instant>>,
    began: Instant,
    /// Milliseconds after `began` at which an engine was last heard of.
    heard_ms: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(store: &gristmill_store::Store) -> Self {
        let mut registry = Registry::with_prefix("gristmill_processor");
        let grains = || Unit::Other("grains".to_owned());
        let answers = Answers::register(&mut registry);
        store.register(&mut registry);

        let family = Family::<FinishLabel, Counter>::default();
        let finished = [Finish::Stop, Finish::Length, Finish::Cancelled, Finish::Error]
            .map(|of| (of, family.get_or_create_owned(&FinishLabel { finish: finish_name(of) })));
        registry.register("requests", "Requests that were taken on, by how their answer ended", family);
        let challenges = Counter::default();
        let refusals = Family::<ReasonLabel, Counter>::default();
        let reasons = Bounded::default();
        // Those that an operator looks for first are there from the start.
        for reason in ["unavailable", "internal_error", "invalid-challenge", "verification-failed"] {
            drop(refusals.get_or_create(&ReasonLabel { reason: reasons.admit(reason.to_owned()) }));
        }
        let help = "Requests without a payment, which were answered with a challenge";
        registry.register("challenges", help, challenges.clone());
        let help = "Requests and payments that were refused, by reason (64 at most, then `other`)";
        registry.register("refusals", help, refusals.clone());
        let running = Gauge::default();
        registry.register("requests_running", "Requests under way", running.clone());
        let (first_token, whole) = (seconds(), seconds());
        let help = "From a paid request's arrival to its first token";
        registry.register_with_unit("first_token", help, Unit::Seconds, first_token.clone());
        let help = "From a paid request's arrival to its receipt on disk";
        registry.register_with_unit("request", help, Unit::Seconds, whole.clone());
        let (input_tokens, output_tokens) = (Counter::default(), Counter::default());
        registry.register("input_tokens", "Prompt tokens that receipts count", input_tokens.clone());
        registry.register("output_tokens", "Answer tokens that receipts count", output_tokens.clone());
        let (stalls, unpaid) = (seconds(), Counter::default());
        let help = "Waits for a voucher with the window used up; their number is that of the stalls";
        registry.register_with_unit("window_stall", help, Unit::Seconds, stalls.clone());
        let help = "Answers that ended because no further voucher came";
        registry.register("unpaid_ends", help, unpaid.clone());

        let delivered = Counter::default();
        let help = "Earned by what was delivered, royalties included, by the receipts";
        registry.register_with_unit("delivered", help, grains(), delivered.clone());
        let (earned, royalties, fees) = (Counter::default(), Counter::default(), Counter::default());
        let help = "Paid to this processor by settlements";
        registry.register_with_unit("settled", help, grains(), earned.clone());
        let help = "Paid to the models' lines by settlements";
        registry.register_with_unit("royalties", help, grains(), royalties.clone());
        registry.register_with_unit("settle_fees", "Paid for settlements", grains(), fees.clone());
        let settle_errors = Counter::default();
        let help = "Channels that could not be settled and are tried again";
        registry.register("settle_errors", help, settle_errors.clone());
        let (pending, approved) = (Gauge::default(), Gauge::default());
        let help = "Claims on the ledger that wait for its grace to end";
        registry.register_with_unit("pending", help, grains(), pending.clone());
        let help = "Approved by payers and not settled yet";
        registry.register_with_unit("approved", help, grains(), approved.clone());
        let (unapproved, closing) = (Gauge::default(), Gauge::default());
        let help = "Owed by receipts that no payer approved yet; claimed without it in the end";
        registry.register_with_unit("unapproved", help, grains(), unapproved.clone());
        let help = "Owed on channels that close, which goes back to the payer if it is not claimed in time";
        registry.register_with_unit("closing", help, grains(), closing.clone());
        let closing_left = Gauge::default();
        let help = "Ledger time until the first of these channels closes; 0 if there is none";
        registry.register_with_unit("closing_left", help, Unit::Seconds, closing_left.clone());
        let (channels, quotes) = (Gauge::default(), Gauge::default());
        registry.register("channels", "Channels that are kept", channels.clone());
        registry.register("quotes", "Quotes that requests can be made under", quotes.clone());
        let (engine_up, engine_running) = (Family::default(), Family::default());
        let help = "1 while the engine of a model takes jobs (64 models at most, then `other`)";
        registry.register("engine_up", help, engine_up.clone());
        let engine_failing = Family::default();
        let help = "1 where a server that is sold failed at its last request";
        registry.register("engine_failing", help, engine_failing.clone());
        registry.register("engine_running", "Answers that are computed", engine_running.clone());
        let (engine_queued, engine_places) = (Family::default(), Family::default());
        registry.register("engine_queued", "Jobs that wait for the engine", engine_queued.clone());
        let help = "Jobs that the engine takes at most, running and waiting";
        registry.register("engine_places", help, engine_places.clone());
        let engine_silent = Gauge::default();
        let help = "Since when no engine gave a token although one has a job; 0 if none has";
        registry.register_with_unit("engine_silent", help, Unit::Seconds, engine_silent.clone());
        let (balance, ledger_up) = (Gauge::default(), Gauge::default());
        let help = "What the account holds on the ledger, as last proven";
        registry.register_with_unit("account", help, grains(), balance.clone());
        registry.register("ledger_up", "1 if the ledger proved that balance just now", ledger_up.clone());
        Self {
            registry,
            answers,
            finished,
            challenges,
            refusals,
            reasons,
            running,
            first_token,
            whole,
            input_tokens,
            output_tokens,
            stalls,
            unpaid,
            delivered,
            earned,
            royalties,
            fees,
            settle_errors,
            pending,
            approved,
            unapproved,
            closing,
            closing_left,
            channels,
            quotes,
            models: Bounded::default(),
            engine_up,
            engine_failing,
            engine_running,
            engine_queued,
            engine_places,
            engine_silent,
            balance,
            ledger_up,
            asked: Mutex::default(),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
        }
    }

    /// A request or a payment is refused.
    pub(crate) fn refused(&self, refused: &Refused) {
        let reason = match refused {
            Refused::Payment(gristmill_net::pay::Refusal::Required) => {
                self.challenges.inc();
                return;
            }
            Refused::Payment(refusal) => refusal.code().to_owned(),
            Refused::Request(error) => error.code.clone().unwrap_or_else(|| error.status.to_string()),
        };
        self.refusals.get_or_create(&ReasonLabel { reason: self.reasons.admit(reason) }).inc();
    }

    /// A request's receipt is on disk.
    pub(crate) fn finished(&self, finish: Finish, usage: &Usage, cost: Amount) {
        if let Some((_, counter)) = self.finished.iter().find(|(of, _)| *of == finish) {
            counter.inc();
        }
        self.input_tokens.inc_by(usage.input_tokens);
        self.output_tokens.inc_by(usage.output_tokens);
        self.delivered.inc_by(count(cost.grains()));
    }

    /// An engine took a job or gave a token.
    pub(crate) fn heard(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The text, with the gauges as they are now.
    pub(crate) async fn text(&self, app: &App) -> String {
        self.ask_ledger(app).await;
        self.read_books(app);
        self.read_shelf(app);
        self.quotes.set(gauge(app.live_quotes()));
        gristmill_metrics::text(&self.registry)
    }

    fn read_books(&self, app: &App) {
        let (mut approved, mut owed, mut closing) = (0_u128, 0_u128, 0_u128);
        let mut first: Option<u64> = None;
        let books = app.books.all();
        for book in &books {
            let payee = book.payee();
            let mut here = 0_u128;
            for claim in payee.claims_to_settle() {
                approved = approved.saturating_add(claim.at_once.grains());
                here = here.saturating_add(claim.owed.grains());
            }
            owed = owed.saturating_add(here);
            if let Phase::Closing { deadline_ms } = payee.view().phase
                && here > 0
            {
                closing = closing.saturating_add(here);
                first = Some(first.map_or(deadline_ms, |first| first.min(deadline_ms)));
            }
        }
        self.approved.set(gauge(approved));
        self.unapproved.set(gauge(owed.saturating_sub(approved)));
        self.closing.set(gauge(closing));
        let left_ms = first.map_or(0, |deadline_ms| deadline_ms.saturating_sub(app.ledger_clock_ms()));
        self.closing_left.set(Duration::from_millis(left_ms).as_secs_f64());
        self.channels.set(gauge(books.len()));
    }

    fn read_shelf(&self, app: &App) {
        let mut jobs = 0;
        let models = app.shelf.all();
        for model in &models {
            let alone = models.iter().filter(|other| other.name == model.name).count() == 1;
            let name = if alone { model.name.clone() } else { model.id.to_string() };
            let label = ModelLabel { model: self.models.admit(name) };
            let (load, condition) = (model.compute.load(), model.compute.condition());
            jobs += load.running + load.queued;
            for (family, number) in [
                (&self.engine_up, usize::from(condition != Condition::Down)),
                (&self.engine_failing, usize::from(condition == Condition::Failing)),
                (&self.engine_running, load.running),
                (&self.engine_queued, load.queued),
                (&self.engine_places, model.compute.places()),
            ] {
                family.get_or_create(&label).set(gauge(number));
            }
        }
        let silent_ms = self.now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        let silent = if jobs == 0 { 0.0 } else { Duration::from_millis(silent_ms).as_secs_f64() };
        self.engine_silent.set(silent);
    }

    async fn ask_ledger(&self, app: &App) {
        let now = Instant::now();
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|at| now.duration_since(at) < BALANCE_FRESH) {
                return;
            }
            *asked = Some(now);
        }
        let account = app.account();
        let balance = app.ledger.balance(&account, &app.config.issuer);
        let found = tokio::time::timeout(BALANCE_PATIENCE, balance).await;
        self.ledger_up.set(i64::from(matches!(found, Ok(Ok(_)))));
        if let Ok(Ok(balance)) = found {
            self.balance.set(gauge(balance.value.grains()));
        }
    }
}

const fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Cancelled => "cancelled",
        Finish::Error => "error",
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
