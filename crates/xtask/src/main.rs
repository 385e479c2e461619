//! Project tasks, run as `cargo xtask TASK`. It needs nothing but the Rust toolchain and git.
//!
//! It is not shipped and no crate depends on it.

mod check;
mod tidy;
mod workspace;

use std::process::ExitCode;

struct Task {
    name: &'static str,
    about: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "check",
        about: "everything that CI runs: format, clippy, tidy, tests, docs",
        run: check::run,
    },
    Task { name: "tidy", about: "the rules of this repository that no other tool knows", run: tidy::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = match arguments.as_slice() {
        [name] => TASKS.iter().find(|task| task.name == name),
        _ => None,
    };
    let Some(task) = task else {
        eprintln!("usage: cargo xtask TASK\n");
        for task in TASKS {
            eprintln!("  {:<8} {}", task.name, task.about);
        }
        return ExitCode::from(2);
    };
    match (task.run)() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
