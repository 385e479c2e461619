//! The machine that the figures belong to.

use anyhow::Result;
use serde::Serialize;
use std::{fmt, fs::File, io::Write as _, path::Path, time::Instant};

use crate::report::{median, percentile};

/// Syncs that are timed.
const SYNCS: usize = 400;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    pub(crate) cores: usize,
    memory_gib: f64,
    kernel: String,
    /// Appending 200 bytes and `fdatasync`, in milliseconds.
    pub(crate) fdatasync_ms: f64,
    pub(crate) fdatasync_p99_ms: f64,
    /// The load of the last minute before the run.
    load: f64,
}

impl Machine {
    pub(crate) fn measure(folder: &Path) -> Result<Self> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
        };
        let kib: f64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
        let syncs = syncs(folder, SYNCS)?;
        Ok(Self {
            cpu: field(&cpu, "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib / f64::from(1 << 20),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            fdatasync_ms: median(&syncs),
            fdatasync_p99_ms: percentile(&syncs, 99),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
        })
    }
}

/// Times of appending 200 bytes and `fdatasync`, in milliseconds.
pub(crate) fn syncs(folder: &Path, count: usize) -> Result<Vec<f64>> {
    let mut file = File::options().append(true).create(true).open(folder.join("syncs"))?;
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        file.write_all(&[7; 200])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {:.0} GiB, Linux {}; append and fdatasync {:.3} ms (p99 {:.3}); load before the run {}",
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.fdatasync_ms,
            self.fdatasync_p99_ms,
            self.load
        )
    }
}
