//! What the seed decides: how each round ends, and when. And the table of what happened.

use super::{books::Found, clients::Request};
use std::{collections::BTreeMap, time::Duration};

/// How the loaded exchange ends.
pub(super) enum End {
    /// kill -9.
    Kill,
    /// SIGTERM, and kill -9 so much later.
    KillInStop(Duration),
    /// SIGTERM, and it may finish.
    Stop,
}

impl End {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillInStop(_) => "in stop",
            Self::Stop => "stop",
        }
    }
}

/// One round.
pub(super) struct Round {
    pub(super) clients: usize,
    /// How long the load lasts before the end.
    pub(super) load: Duration,
    pub(super) end: End,
    /// Starts that are killed, each so long after it began.
    pub(super) starts: Vec<Duration>,
    /// Whether it is killed again just after it is ready, and how long after.
    pub(super) again: bool,
    pub(super) again_after: Duration,
}

/// Rounds from a seed.
pub(super) struct Plan {
    seed: u64,
    random: fastrand::Rng,
    start: Duration,
}

impl Plan {
    /// Rounds for an exchange that takes so long to start.
    pub(super) fn new(seed: u64, start: Duration) -> Self {
        Self { seed, random: fastrand::Rng::with_seed(seed), start }
    }

    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn next(&mut self) -> Round {
        let start = u64::try_from(self.start.as_millis()).unwrap_or(u64::MAX);
        let random = &mut self.random;
        let mut upto = |ms: u64| Duration::from_millis(random.u64(0..=ms));
        let (load, stop, again_after) = (upto(2_500), upto(1_500), upto(600));
        let starts: Vec<Duration> = (0..2).map(|_| upto(start + start / 4)).collect();
        let end = match random.u8(0..8) {
            0..=4 => End::Kill,
            5 | 6 => End::KillInStop(stop),
            _ => End::Stop,
        };
        let starts = starts.into_iter().filter(|_| random.u8(0..3) == 0).collect();
        Round { clients: random.usize(3..=10), load, end, starts, again: random.u8(0..4) == 0, again_after }
    }
}

/// What all rounds came to.
#[derive(Default)]
pub(super) struct Table {
    kills: BTreeMap<&'static str, u64>,
    stops: u64,
    requests: BTreeMap<&'static str, u64>,
    rounds: u64,
    found: Found,
    widest: u64,
}

impl Table {
    pub(super) fn killed(&mut self, phase: &'static str) {
        *self.kills.entry(phase).or_default() += 1;
    }

    pub(super) const fn stopped(&mut self) {
        self.stops += 1;
    }

    pub(super) fn count(&mut self, requests: &[Request]) {
        for request in requests {
            *self.requests.entry(request.ended()).or_default() += 1;
        }
    }

    pub(super) fn reconciled(&mut self, found: &Found) {
        self.rounds += 1;
        self.found.add(found);
        self.widest = self.widest.max(found.widest);
    }

    pub(super) const fn rounds(&self) -> u64 {
        self.rounds
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.values().sum()
    }

    pub(super) const fn delivered_tokens(&self) -> u64 {
        self.found.delivered
    }

    pub(super) const fn paid_tokens(&self) -> u64 {
        self.found.paid
    }

    /// The table for people.
    pub(super) fn show(&self, seed: u64, took: Duration) -> String {
        let mut text = format!("\nseed {seed}, {} s\n", took.as_secs());
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<36} {value:>14}\n"));
        line("rounds", self.rounds.to_string());
        for (phase, count) in &self.kills {
            line(&format!("kills: {phase}"), count.to_string());
        }
        line("clean stops", self.stops.to_string());
        line("requests", self.requests().to_string());
        for (end, count) in &self.requests {
            line(&format!("  {end}"), count.to_string());
        }
        line("receipts", self.found.receipts.to_string());
        line("output tokens delivered to clients", self.found.delivered.to_string());
        line("output tokens paid", self.found.paid.to_string());
        line("  of interrupted requests", self.found.interrupted.to_string());
        line("tokens in the window, all requests", self.found.in_window.to_string());
        line("  most of one request", self.widest.to_string());
        line("grains spent", self.found.spent.to_string());
        line("grains settled", self.found.settled.to_string());
        line("disagreements", "0".to_owned());
        text
    }
}
