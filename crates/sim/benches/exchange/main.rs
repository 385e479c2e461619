//! What paying costs, how fast the ledger is, and how fast the engine is: each beside a peer or a
//! limit that is measured in the same run. Absolute figures belong to a machine; ratios travel.
//!
//! Run it with `cargo xtask bench`; see `docs/benchmarks.md`.

mod cpu;
mod engine;
mod ledger;
mod llama;
mod machine;
mod model;
mod paying;
mod postgres;
mod proxy;
mod report;
mod streams;
mod unpaid;
mod vouchers;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use machine::Machine;
use report::Report;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Paid answers against unpaid ones.
    Paying,
    /// A server that answers at once, sold; against a plain hop and LiteLLM's proxy.
    Proxy,
    /// Vouchers and settlements without a network, against the bare signature.
    Vouchers,
    /// Transfers and settlements, against PostgreSQL.
    Ledger,
    /// Tokens, against llama.cpp and the memory's bandwidth.
    Engine,
}

/// Measures the exchange.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Fewer repetitions: for a look, not for a comparison
    #[arg(long)]
    quick: bool,
    /// Measures vouchers in this process, which may use one core, and prints the figures
    #[arg(long, hide = true, value_name = "FOLDER")]
    one_core: Option<std::path::PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.one_core {
        return vouchers::one_core(folder, arguments.quick);
    }
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("making the bench's folder")?;
    let mut report = Report::new(Machine::measure(folder.path())?, arguments.quick);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("bench")
        .enable_all()
        .build()?;
    if wanted(Part::Paying) {
        runtime.block_on(paying::measure(&mut report, folder.path())).context("measuring the paying")?;
    }
    if wanted(Part::Proxy) {
        runtime.block_on(proxy::measure(&mut report, folder.path())).context("measuring the proxy")?;
    }
    if wanted(Part::Vouchers) {
        vouchers::measure(&mut report, folder.path()).context("measuring the vouchers")?;
    }
    if wanted(Part::Ledger) {
        runtime.block_on(ledger::measure(&mut report, folder.path())).context("measuring the ledger")?;
    }
    if wanted(Part::Engine) {
        engine::measure(&mut report, folder.path()).context("measuring the engine")?;
    }
    report.print(arguments.json)
}
