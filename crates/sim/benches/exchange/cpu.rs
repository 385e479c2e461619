//! Whose processor time it is: the system counts it for each thread, and threads have names.

use gristmill_sim::threads;
use std::collections::BTreeMap;

/// A side of the measurement, with the names of its threads.
pub(crate) struct Party(pub(crate) &'static [&'static str]);

pub(crate) const GATEWAY: Party = Party(&[threads::GATEWAY, threads::GATEWAY_STORE]);
pub(crate) const PROCESSOR: Party = Party(&[threads::PROCESSOR, threads::PROCESSOR_STORE]);
pub(crate) const PLAIN_SERVER: Party = Party(&[crate::unpaid::SERVER]);
pub(crate) const PLAIN_HOP: Party = Party(&[crate::unpaid::HOP]);

/// Nanoseconds on a processor, by thread.
pub(crate) struct Snapshot(BTreeMap<String, (String, u64)>);

impl Snapshot {
    pub(crate) fn take() -> Self {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let nanos = read("schedstat").split(' ').next().and_then(|number| number.parse().ok());
            // A thread that ended in between has no figure any more.
            if let Some(nanos) = nanos {
                let id = entry.file_name().to_string_lossy().into_owned();
                threads.insert(id, (read("comm").trim().to_owned(), nanos));
            }
        }
        Self(threads)
    }

    /// Microseconds that a party's threads used since the earlier snapshot.
    pub(crate) fn micros_since(&self, earlier: &Self, party: &Party) -> f64 {
        let of = self.0.iter().filter(|(_, (name, _))| party.0.contains(&name.as_str()));
        let nanos: u64 = of
            .map(|(id, (_, nanos))| nanos.saturating_sub(earlier.0.get(id).map_or(0, |(_, nanos)| *nanos)))
            .sum();
        nanos as f64 / 1e3
    }
}
