//! `gristmill up` under load, killed at random moments, and the books after each.
//!
//! A round: clients send requests, the exchange is killed (or stopped) at a moment that the seed
//! chooses, is started again, sometimes killed while it starts, and then gateway, processor and ledger
//! are compared with each other and with what each client received. The short form is an ordinary
//! test; `cargo xtask crash --minutes 10 [--seed N]` is the long one. The seed decides what the clients
//! ask and when the kills come; how far the exchange has got by then is up to the machine.

pub(crate) mod books;
pub(crate) mod clients;
mod plan;

use crate::exchange::Exchange;
use books::Books;
use clients::Load;
use plan::{End, Plan, Table};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// How long the long form runs, and its seed; set by `cargo xtask crash`.
const SECONDS: &str = "GRISTMILL_CRASH_SECONDS";
const SEED: &str = "GRISTMILL_CRASH_SEED";
/// What the short form takes, about, and its seed.
const SHORT: u64 = 30;
const SHORT_SEED: u64 = 4217;

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn books_agree_after_kills_at_random_moments() {
    let seconds = number(SECONDS).unwrap_or(SHORT);
    let seed = number(SEED).unwrap_or(SHORT_SEED);
    println!(
        "seed {seed}, {seconds} s; to run this again: cargo xtask crash --seconds {seconds} --seed {seed}"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut storm = Storm::begin(folder.path(), seed).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        storm.round().await;
    }
    storm.finish().await;
}

/// The exchange, its clients, and all that is known of both.
struct Storm<'a> {
    home: &'a Path,
    plan: Plan,
    books: Books,
    load: Load,
    table: Table,
    exchange: Option<Exchange>,
    began: Instant,
}

impl<'a> Storm<'a> {
    /// Starts an exchange with two API keys.
    async fn begin(home: &'a Path, seed: u64) -> Self {
        let began = Instant::now();
        let exchange = Exchange::start(home);
        let other = exchange.json(&["api-key", "create", "other", "--budget", "1000000"]);
        let keys = vec![exchange.api_key().to_owned(), other["key"].as_str().unwrap().to_owned()];
        exchange.stop();
        let start = Instant::now();
        let exchange = Exchange::start(home);
        assert_ne!(keys[0], keys[1]);
        Self {
            home,
            plan: Plan::new(seed, start.elapsed()),
            books: Books::new(&exchange, keys.clone()),
            load: Load::new(seed, keys),
            table: Table::default(),
            exchange: Some(exchange),
            began,
        }
    }

    /// One round; panics with the seed's place where the books disagree.
    async fn round(&mut self) {
        let exchange = self.exchange.take().expect("a round begins with a running exchange");
        let round = self.plan.next();
        let load = self.load.start(exchange.base_url(), round.clients);
        tokio::time::sleep(round.load).await;
        let name = round.end.name();
        self.end(exchange, round.end).await;
        let requests = load.end().await;
        self.table.count(&requests);
        self.books.requested(requests);

        for delay in round.starts {
            let starting = Exchange::spawn(self.home, &[]);
            tokio::time::sleep(delay).await;
            let (status, stderr) = starting.kill_or_ended();
            assert!(status.code().is_none(), "it ended by itself at its start: {status} {stderr}");
            check_stderr(&stderr);
            self.table.killed("start");
        }
        let mut exchange = Exchange::start(self.home);
        if round.again {
            // Killed again before all is in order.
            let load = self.load.start(exchange.base_url(), round.clients);
            tokio::time::sleep(round.again_after).await;
            self.killed(exchange, "recovery");
            let requests = load.end().await;
            self.table.count(&requests);
            self.books.requested(requests);
            exchange = Exchange::start(self.home);
        }
        let found = self.books.reconcile(&exchange).await;
        check_stderr(&exchange.stderr());
        self.table.reconciled(&found);
        println!(
            "{:>5} s  round {:>3}  {name:<8}  {} requests, {} of {} tokens paid, {} in the window",
            self.began.elapsed().as_secs(),
            self.table.rounds(),
            self.table.requests(),
            self.table.paid_tokens(),
            self.table.delivered_tokens(),
            found.in_window,
        );
        self.exchange = Some(exchange);
    }

    async fn end(&mut self, exchange: Exchange, end: End) {
        match end {
            End::Kill => self.killed(exchange, "load"),
            End::KillInStop(delay) => {
                exchange.signal("-TERM");
                tokio::time::sleep(delay).await;
                let (_, stderr) = exchange.kill_or_ended();
                check_stderr(&stderr);
                self.table.killed("stop");
            }
            End::Stop => {
                let warnings = warnings(&exchange);
                assert!(warnings.is_empty(), "{warnings:?}");
                exchange.stop();
                self.table.stopped();
            }
        }
    }

    fn killed(&mut self, exchange: Exchange, phase: &'static str) {
        let warnings = warnings(&exchange);
        let (status, stderr) = exchange.kill_or_ended();
        assert!(status.code().is_none(), "it ended by itself: {status} {stderr}");
        assert!(warnings.is_empty(), "{warnings:?}");
        check_stderr(&stderr);
        self.table.killed(phase);
    }

    /// A clean stop and a start change nothing; then the table.
    async fn finish(mut self) {
        let exchange = self.exchange.take().expect("a round leaves a running exchange");
        let before = self.books.figures(&exchange).await;
        exchange.stop();
        let exchange = Exchange::start(self.home);
        let found = self.books.reconcile(&exchange).await;
        assert_eq!(found.requests, 0, "nothing was asked meanwhile");
        let after = self.books.figures(&exchange).await;
        assert_eq!(before, after, "a clean stop and a start change nothing");
        exchange.stop();
        println!("{}", self.table.show(self.plan.seed(), self.began.elapsed()));
    }
}

/// What the exchange warned of: nothing should be wrong but this machine's disk.
fn warnings(exchange: &Exchange) -> Vec<String> {
    let events = exchange.events().into_iter().filter(|event| event["event"] == "warning");
    let messages = events.map(|event| event["message"].to_string());
    messages.filter(|message| !message.contains("free where the home is")).collect()
}

fn check_stderr(text: &str) {
    assert!(!text.contains("panicked") && !text.contains("error"), "{text}");
}
