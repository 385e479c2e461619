//! The command line: one file per command.

mod api_key;
mod ask;
mod channel;
mod claim;
mod credits;
mod key;
mod ledger;
mod market;
mod model;
pub(crate) mod pages;
mod prove;
mod receipt;
mod shares;
mod status;
mod wallet;

use crate::{home::Home, output::Output};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Names the home where no argument does.
const HOME_VARIABLE: &str = "GRISTMILL_HOME";

/// How long work that was left behind may take when the program ends.
const LAST_WORK: Duration = Duration::from_secs(5);

/// An open exchange for AI processing.
///
/// Processors sell processing, modelers earn royalties, consumers pay by the token through the
/// OpenAI API, and a ledger that anybody can check holds the accounts.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print one line of JSON (for `up`: one per event) instead of words
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The folder that holds all state [default: that of the variable GRISTMILL_HOME, or `gristmill` in your data
    /// folder]
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) log: crate::log::Log,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an exchange on this machine: ledger, modeler, processor and gateway
    Up(crate::up::Up),
    /// Offer a server that runs already (Ollama, llama.cpp, vLLM, …) for pay on the running exchange
    Sell(crate::sell::Sell),
    /// Send a prompt through the running exchange and pay for the answer
    Ask(ask::Ask),
    /// Create, show and use wallets
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Make, list and revoke API keys of the running exchange, each with a budget of its own
    #[command(subcommand)]
    ApiKey(api_key::ApiKey),
    /// Show what is on offer and at which price
    Market(market::Market),
    /// Publish, list and show models
    #[command(subcommand)]
    Model(model::Model),
    /// Show and close payment channels
    #[command(subcommand)]
    Channel(channel::Channel),
    /// List, show and verify receipts
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    /// Write one file that proves a payment, from the prompt to the ledger's root
    Prove(prove::Prove),
    /// Read the ledger: blocks, transactions, accounts, the supply of credits
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Issue credits as the exchange's issuer
    #[command(subcommand)]
    Credits(credits::Credits),
    /// Say whether the exchange runs and is well
    Status(status::Status),
}

/// Unix time here. A block that is made now has about this time.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago something was, in its largest unit.
fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// The names of the commands.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let of = || Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    NAMES.get_or_init(of).iter().map(String::as_str).chain(["help"])
}

/// Numbers below 0 are values that are out of range, not options.
fn with_numbers(command: clap::Command) -> clap::Command {
    command.allow_negative_numbers(true).mut_subcommands(with_numbers)
}

impl Cli {
    /// Reads the program's arguments.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&with_numbers(Self::command()).try_get_matches()?)
    }

    /// How the program was called: by its name or path, with the home if an argument named it.
    pub(crate) fn call(&self) -> String {
        let program = crate::output::quoted(&crate::up::program());
        match &self.home {
            Some(home) => format!("{program} --home {}", crate::output::quoted(&home.display().to_string())),
            None => program,
        }
    }

    /// Whether the command may run the engine.
    pub(crate) const fn computes(&self) -> bool {
        matches!(self.command, Command::Up(_) | Command::Model(_) | Command::Receipt(_))
    }
}

/// Runs the command.
pub(crate) fn run(cli: Cli, output: Output) -> anyhow::Result<ExitCode> {
    let variable = || std::env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = Home::locate(cli.home.or_else(variable))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name("gristmill").enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Status(command) => return command.run(&home, output).await,
            Command::Up(command) => command.run(&home, output).await,
            Command::Sell(command) => command.run(&home, output).await,
            Command::Ask(command) => command.run(&home, output).await,
            Command::ApiKey(command) => command.run(&home, output).await,
            Command::Wallet(command) => command.run(&home, output).await,
            Command::Market(command) => command.run(&home, output).await,
            Command::Model(command) => command.run(&home, output).await,
            Command::Channel(command) => command.run(&home, output).await,
            Command::Receipt(command) => command.run(&home, output).await,
            Command::Prove(command) => command.run(&home, output).await,
            Command::Ledger(command) => command.run(&home, output).await,
            Command::Credits(command) => command.run(&home, output).await,
        }?;
        Ok(ExitCode::SUCCESS)
    });
    // What hangs after a failure must not keep the program from ending.
    runtime.shutdown_timeout(LAST_WORK);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7_199, "1 h"), (200_000, "2 d")] {
            assert_eq!(age(seconds * 1_000 + 999), text);
        }
    }
}
