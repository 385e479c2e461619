//! What a gateway counts, for `GET /metrics`. `docs/operations.md` lists the same metrics, and a test
//! compares the two.
//!
//! Counters are counted where things happen, through handles that are kept. Gauges are set when they are
//! read: what they show is in the accounts already. Amounts are grains; they end at 2⁶³ − 1 and are for
//! alerts, the accounts themselves are exact.

use crate::{accounts::State, app::App, buy::at_fault, error::BuyError, progress::Outcome};
use gristmill_channel::{KeyId, Phase};
use gristmill_metrics::{Answers, Bounded, MAX_VALUES, count, gauge, seconds};
use gristmill_types::{AccountId, Amount};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the account's balance is shown before it is asked for again, and how long that may take.
const BALANCE_FRESH: Duration = Duration::from_secs(1);
const BALANCE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    /// Its account; they are public, and the list of them is bounded.
    processor: String,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    /// The first digits of the key's digest, from which nobody gets to the key.
    key: String,
}

/// A gateway's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) answers: Answers,
    /// In the order of [`Outcome::ALL`].
    requests: Vec<Counter>,
    pub(crate) running: Gauge,
    pub(crate) first_text: Histogram,
    pub(crate) whole: Histogram,
    pub(crate) input_tokens: Counter,
    pub(crate) output_tokens: Counter,
    pub(crate) spent: Counter,
    pub(crate) retries: Counter,
    pub(crate) payments_lost: Counter,
    upstream: Family<UpstreamLabels, Counter>,
    processors: Bounded,
    key_remaining: Family<KeyLabel, Gauge>,
    keys: Gauge,
    reserved: Gauge,
    channels: Family<StateLabel, Gauge>,
    deposits: Gauge,
    free: Gauge,
    in_doubt: Gauge,
    balance: Gauge,
    spendable: Gauge,
    ledger_up: Gauge,
    asked: Mutex<Option<Instant>>,
}

impl Metrics {
    pub(crate) fn new(store: &gristmill_store::Store) -> Self {
        let mut registry = Registry::with_prefix("gristmill_gateway");
        let grains = || Unit::Other("grains".to_owned());
        let answers = Answers::register(&mut registry);
        store.register(&mut registry);

        let family = Family::<OutcomeLabel, Counter>::default();
        let requests = Outcome::ALL
            .map(|outcome| family.get_or_create_owned(&OutcomeLabel { outcome: outcome.name() }))
            .to_vec();
        registry.register("requests", "Requests that reached buying, by how they ended", family);
        let running = Gauge::default();
        registry.register("requests_running", "Requests under way", running.clone());
        let (first_text, whole) = (seconds(), seconds());
        let help = "From a request's arrival to its first text";
        registry.register_with_unit("first_text", help, Unit::Seconds, first_text.clone());
        let help = "From a request's arrival to its receipt on disk, of those that were paid";
        registry.register_with_unit("request", help, Unit::Seconds, whole.clone());
        let (input_tokens, output_tokens) = (Counter::default(), Counter::default());
        registry.register("input_tokens", "Prompt tokens that were paid for", input_tokens.clone());
        registry.register("output_tokens", "Answer tokens that were paid for", output_tokens.clone());
        let spent = Counter::default();
        registry.register_with_unit("spent", "Paid for requests, by their receipts", grains(), spent.clone());
        let (retries, payments_lost) = (Counter::default(), Counter::default());
        let help = "Requests that were placed anew before their first token";
        registry.register("retries", help, retries.clone());
        let help = "Vouchers and approvals that did not arrive, or were overtaken by a later one; what matters is sent again";
        registry.register("payments_lost", help, payments_lost.clone());
        let upstream = Family::default();
        let help = "Failures of processors, by account (64 at most, then `other`) and kind";
        registry.register("upstream_errors", help, upstream.clone());

        let (key_remaining, keys) = (Family::default(), Gauge::default());
        let help = "What an API key may still spend, by the first digits of its digest (64 keys at most)";
        registry.register_with_unit("key_remaining", help, grains(), key_remaining.clone());
        registry.register("keys", "API keys", keys.clone());
        let reserved = Gauge::default();
        let help = "Held of the keys' budgets for requests under way and ahead of the next";
        registry.register_with_unit("reserved", help, grains(), reserved.clone());
        let channels = Family::default();
        registry.register("channels", "Channels that are kept, by state", channels.clone());
        let (deposits, free, in_doubt) = (Gauge::default(), Gauge::default(), Gauge::default());
        let help = "Deposits of the open channels, less what the ledger paid out of them";
        registry.register_with_unit("channel_deposits", help, grains(), deposits.clone());
        let help = "Of the open channels' deposits, what is neither spent nor reserved";
        registry.register_with_unit("channel_free", help, grains(), free.clone());
        let help = "Lanes whose last request has to be compared with the processor's copy";
        registry.register("lanes_in_doubt", help, in_doubt.clone());
        let (balance, ledger_up) = (Gauge::default(), Gauge::default());
        let help = "What the paying account holds on the ledger, as last proven";
        registry.register_with_unit("account", help, grains(), balance.clone());
        let spendable = Gauge::default();
        let help =
            "What of the account can go into channels: less than all where a spending key has less left";
        registry.register_with_unit("spendable", help, grains(), spendable.clone());
        registry.register("ledger_up", "1 if the ledger proved that balance just now", ledger_up.clone());
        Self {
            registry,
            answers,
            requests,
            running,
            first_text,
            whole,
            input_tokens,
            output_tokens,
            spent,
            retries,
            payments_lost,
            upstream,
            processors: Bounded::default(),
            key_remaining,
            keys,
            reserved,
            channels,
            deposits,
            free,
            in_doubt,
            balance,
            spendable,
            ledger_up,
            asked: Mutex::default(),
        }
    }

    /// A request ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        if let Some(counter) = self.requests.get(outcome as usize) {
            counter.inc();
        }
    }

    /// A processor may have failed: the error says whether. Its series begin at 0 with its first request.
    pub(crate) fn upstream(&self, processor: &AccountId, error: Option<&BuyError>) {
        let processor = self.processors.admit(processor.to_string());
        let kind = error.and_then(upstream_kind);
        let labels = UpstreamLabels { processor, error: kind.unwrap_or("unreachable") };
        self.upstream.get_or_create(&labels).inc_by(u64::from(kind.is_some()));
    }

    /// The text, with the gauges as they are now.
    pub(crate) async fn text(&self, app: &App) -> String {
        self.ask_ledger(app).await;
        self.read(&app.accounts.lock());
        gristmill_metrics::text(&self.registry)
    }

    fn read(&self, state: &State) {
        let (mut keys, mut held) = (0_usize, Amount::ZERO);
        for (key, of) in state.keys() {
            if keys < MAX_VALUES {
                let series = self.key_remaining.get_or_create_owned(&KeyLabel { key: short(key) });
                series.set(gauge(of.room().grains()));
            }
            keys += 1;
            held = held.checked_add(of.held).unwrap_or(held);
        }
        self.keys.set(gauge(keys));
        self.reserved.set(gauge(held.grains()));
        let (mut open, mut closing, mut in_doubt) = (0, 0, 0);
        let (mut deposits, mut free) = (0_u128, 0_u128);
        for payer in state.payers() {
            in_doubt += payer.in_doubt().len();
            match payer.view().phase {
                Phase::Open => open += 1,
                Phase::Closing { .. } => closing += 1,
                Phase::Closed => continue,
            }
            let view = payer.view();
            deposits = deposits.saturating_add(view.deposit.saturating_sub(view.settled).grains());
            free = free.saturating_add(payer.room().grains());
        }
        for (state, number) in [("open", open), ("closing", closing)] {
            self.channels.get_or_create(&StateLabel { state }).set(number);
        }
        self.in_doubt.set(gauge(in_doubt));
        self.deposits.set(gauge(deposits));
        self.free.set(gauge(free));
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
        let found = tokio::time::timeout(BALANCE_PATIENCE, app.means()).await;
        self.ledger_up.set(i64::from(matches!(found, Ok(Ok(_)))));
        if let Ok(Ok(means)) = found {
            self.balance.set(gauge(means.account.grains()));
            self.spendable.set(gauge(means.spendable().grains()));
        }
    }

    /// What a request came to, whether it was answered to its end or not.
    pub(crate) fn paid(&self, prompt_tokens: u64, completion_tokens: u64, cost: Amount) {
        self.input_tokens.inc_by(prompt_tokens);
        self.output_tokens.inc_by(completion_tokens);
        self.spent.inc_by(count(cost.grains()));
    }
}

/// A key's id, shortened.
fn short(key: &KeyId) -> String {
    key.0.to_string().chars().take(12).collect()
}

/// What kind of failure of the processor an error is, if it is one.
fn upstream_kind(error: &BuyError) -> Option<&'static str> {
    Some(match error {
        BuyError::Cut { error: cause, .. } | BuyError::Unsettled { error: cause, .. } => {
            return upstream_kind(cause).or_else(|| at_fault(error).map(|_| "refused"));
        }
        BuyError::Unreachable { .. } => "unreachable",
        BuyError::Refused { .. } => "refused",
        BuyError::Challenge { .. } => "bad_challenge",
        BuyError::Misbehaved { .. } => "broke_protocol",
        BuyError::Answered { error, .. } if error.status.is_server_error() => "server_error",
        // One that is full is well.
        BuyError::Answered { error: said, .. }
            if at_fault(error).is_some() && said.status.as_u16() != 429 =>
        {
            "refused"
        }
        _ => return None,
    })
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
