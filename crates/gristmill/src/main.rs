//! `gristmill`: one binary for every role. This crate reads arguments, wires the parts and talks to
//! the person; it decides nothing about money, models or consensus.

mod commands;
mod connection;
mod endpoint;
mod failure;
mod home;
mod log;
mod models;
mod output;
mod sell;
mod starter;
mod up;
mod wallet;

use std::{os::unix::process::CommandExt as _, process::ExitCode, sync::OnceLock};

/// How candle is told the size of its pool of threads. It reads it once, and only from here.
const ENGINE_THREADS: &str = "CANDLE_NUM_THREADS";

/// The threads of the ledger's engine, which takes its runtime's name as it is. Ours have another.
const ENGINE_OF_LEDGER: &str = "tokio-rt-worker";

/// The first panic of the ledger's threads: the later ones only follow from it.
static LEDGER_PANIC: OnceLock<String> = OnceLock::new();

/// Three servers hold thousands of connections beside the ledger's files, and many systems begin with room for
/// 1,024.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

fn main() -> ExitCode {
    let cli = match commands::Cli::read() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    if cli.computes() && std::env::var_os(ENGINE_THREADS).is_none() {
        // The pool spins while it waits; it leaves one core to the ledger and the network. If the
        // program cannot start itself again, candle's own choice stands.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        if let Ok(program) = std::env::current_exe() {
            let error = std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .env(ENGINE_THREADS, threads.to_string())
                .exec();
            eprintln!("warning: the engine takes all cores: {error}");
        }
    }
    allow_files();
    let output = output::Output::new(cli.json, Box::leak(cli.call().into_boxed_str()));
    if let Err(error) = cli.log.start() {
        output.failure(&error.into());
        return ExitCode::from(2);
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The ledger's threads panic where its files are damaged; why comes out as an error.
        if matches!(std::thread::current().name(), Some(gristmill_chain::THREAD | ENGINE_OF_LEDGER)) {
            let reason = panic.payload_as_str().unwrap_or("a task failed");
            let _later = LEDGER_PANIC.set(gristmill_chain::reason(reason));
            tracing::debug!("{panic}");
        } else {
            usual(panic);
        }
    }));
    match commands::run(cli, output) {
        Ok(code) => code,
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}
