//! Project tasks, run as `cargo xtask TASK`. It needs nothing but the Rust toolchain and git.
//!
//! It is not shipped and no crate depends on it.

mod bench;
mod check;
mod crash;
mod fuzz;
mod tidy;
mod workspace;

use std::process::ExitCode;

struct Task {
    name: &'static str,
    about: &'static str,
    run: Run,
}

enum Run {
    Plain(fn() -> anyhow::Result<()>),
    /// With what follows the task's name.
    With(fn(&[String]) -> anyhow::Result<()>),
}

const TASKS: &[Task] = &[
    Task {
        name: "check",
        about: "everything that CI runs: format, clippy, tidy, tests, docs",
        run: Run::Plain(check::run),
    },
    Task {
        name: "tidy",
        about: "the rules of this repository that no other tool knows",
        run: Run::Plain(tidy::run),
    },
    Task {
        name: "crash",
        about: "kills under load, and the books after each: [--minutes N | --seconds N | --damage] [--seed N] [--release]",
        run: Run::With(crash::run),
    },
    Task {
        name: "bench",
        about: "measurements beside their peers: [paying|proxy|vouchers|ledger|engine] [--json] [--quick]",
        run: Run::With(bench::run),
    },
    Task {
        name: "fuzz",
        about: "the fuzzer over every decoder: [--minutes N] [TARGET...]; needs cargo-fuzz",
        run: Run::With(fuzz::run),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = arguments.split_first().and_then(|(name, rest)| {
        let task = TASKS.iter().find(|task| task.name == name)?;
        (rest.is_empty() || matches!(task.run, Run::With(_))).then_some((task, rest))
    });
    let Some((task, rest)) = task else {
        eprintln!("usage: cargo xtask TASK\n");
        for task in TASKS {
            eprintln!("  {:<8} {}", task.name, task.about);
        }
        return ExitCode::from(2);
    };
    let result = match task.run {
        Run::Plain(run) => run(),
        Run::With(run) => run(rest),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
