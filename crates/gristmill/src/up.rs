//! `gristmill up`: a whole exchange on this machine, and what it says while it runs.

pub(crate) mod damage;
pub(crate) mod exchange;
mod neighbours;
pub(crate) mod steps;

use crate::{
    home::Home,
    output::{Output, dim},
};
use anyhow::Result;
use clap::Args;
use exchange::{Exchange, Occurrence};
use gristmill_gateway::Event as GatewayEvent;
use gristmill_processor::Event as ProcessorEvent;
use gristmill_types::{Amount, Prices};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use steps::Steps;
use tokio::signal::unix::{SignalKind, signal};

/// How long a stop may take after something has failed.
const FAILED_STOP: Duration = Duration::from_secs(10);

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C stops it; `gristmill up` goes on later with the same balances.

Everything listens on this machine only (127.0.0.1).")]
pub(crate) struct Up {
    /// Port of the OpenAI-compatible endpoint [default: that of the last run, or a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Port of the ledger's endpoint [default: that of the last run, or a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    ledger_port: u16,
    /// Port of the processor [default: that of the last run, or a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    processor_port: u16,
    /// Credits per million input tokens that the processor asks
    #[arg(long, default_value = "10", value_name = "CREDITS")]
    input_price: Amount,
    /// Credits per million output tokens that the processor asks
    #[arg(long, default_value = "20", value_name = "CREDITS")]
    output_price: Amount,
    /// Say nothing once it is ready, but warnings: no line for each payment and settlement
    #[arg(long)]
    quiet: bool,
}

impl Up {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let started = Instant::now();
        home.check_ours()?;
        home.create()?;
        let _lock = home.lock()?;
        home.retract();
        // Until one start came to its end, nobody was told what this is.
        let first = !home.path(exchange::PORTS).exists();
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let prices = Prices {
            input_per_mtok: self.input_price,
            output_per_mtok: self.output_price,
            ..Prices::default()
        };
        let ports =
            exchange::Ports { gateway: self.port, ledger: self.ledger_port, processor: self.processor_port };
        let steps = Arc::new(Steps::new(output));
        let start = Exchange::start(home, &ports, prices, Arc::clone(&steps));
        let mut exchange = tokio::select! {
            exchange = start => exchange?,
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        };
        home.announce(exchange.running())?;
        drop(steps);
        let took = started.elapsed();
        output.show(&ready(&exchange, first), || greeting(&exchange, home, first, took))?;
        if let Some(warning) = little_room(home) {
            output
                .show(&json!({"event": "warning", "message": warning}), || format!("warning   {warning}"))?;
        }
        let mut looking = tokio::spawn(neighbours::find());
        let mut looked = false;
        let result = loop {
            tokio::select! {
                found = &mut looking, if !looked => {
                    looked = true;
                    for neighbour in found.unwrap_or_default() {
                        let command = neighbour.command(&program(), &exchange.home_argument());
                        output.show(&neighbour.event(&command), || neighbour.line(&command))?;
                    }
                }
                occurrence = exchange.next() => match occurrence {
                    Ok(occurrence) => self.tell(&occurrence, output)?,
                    Err(error) => break Err(error),
                },
                _ = interrupted.recv() => break Ok(()),
                _ = terminated.recv() => break Ok(()),
            }
        };
        home.retract();
        output.say("stopping: requests end, what was approved is settled");
        let stop = exchange.stop(|occurrence| drop(self.tell(occurrence, output)));
        // What still works after a failure may end well, and is not waited for: whatever counts is on the disk.
        let patience = if result.is_ok() { Duration::MAX } else { FAILED_STOP };
        tokio::select! {
            _ = tokio::time::timeout(patience, stop) => {}
            _ = interrupted.recv() => output.say("stopped at once: the next start settles the rest"),
            _ = terminated.recv() => output.say("stopped at once: the next start settles the rest"),
        }
        output.show(&json!({"event": "stopped"}), || {
            output.commands("stopped; this goes on from here: gristmill up")
        })?;
        result
    }
}

impl Up {
    fn tell(&self, occurrence: &Occurrence, output: Output) -> Result<()> {
        if self.quiet && !occurrence.is_warning() {
            return Ok(());
        }
        output.show(&event(occurrence), || line(occurrence))
    }
}

/// A warning where the home's disk is nearly full.
fn little_room(home: &Home) -> Option<String> {
    let disk = home.disk().filter(|disk| disk.is_low())?;
    Some(format!(
        "{} MiB are free where the home is; a full disk stops ledger, processor and gateway: free some space",
        disk.free >> 20
    ))
}

fn ready(exchange: &Exchange, first: bool) -> Value {
    let running = exchange.running();
    json!({
        "event": "ready",
        "base_url": running.base_url,
        "api_key": running.api_key,
        "ledger": running.ledger,
        "processor": running.processor,
        "model": running.model,
        "chain": exchange.chain(),
        "first": first,
    })
}

/// What the person needs now: all of it at the first start, little at a later one.
fn greeting(exchange: &Exchange, home: &Home, first: bool, took: Duration) -> String {
    let running = exchange.running();
    let (seconds, root) = (took.as_secs_f64(), home.root().display());
    let gristmill = format!("{}{}", program(), exchange.home_argument());
    let access = format!(
        "  endpoint  {}\n  api key   {}\n  model     {}\n",
        running.base_url, running.api_key, running.model
    );
    if !first {
        let height = exchange.height();
        return format!(
            "the exchange goes on at block {height}, ready after {seconds:.1} s\n\n{access}  ledger    {}\n  home      {root}\n\n\
             how it is: {gristmill} status · Ctrl-C stops it\n",
            running.ledger,
        );
    }
    format!(
        "an exchange runs on this machine, ready after {seconds:.1} s\n\n{access}\n\
         It was made in {root}: a ledger with you as its only validator,\n\
         wallets, and the starter model. Its credits are play money: you issued them to yourself, {} to the wallet\n\
         that pays, and nobody else takes them.\n\n\
         Try this in another terminal:\n\n  {gristmill} ask \"Spell 4217 in Kazakh\"\n\n\
         Ctrl-C stops it; `{gristmill} up` goes on with the same balances. How it is: {gristmill} status\n\
         More: {gristmill} help, and docs/start.md\n",
        exchange::CONSUMER_CREDITS,
    )
}

/// How this program is called: by its name where the shell finds it, or by its path.
pub(crate) fn program() -> String {
    const NAME: &str = "gristmill";
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(NAME).is_file()) {
        return NAME.to_owned();
    }
    let Ok(program) = std::env::current_exe() else { return NAME.to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).unwrap_or(&program).display().to_string()
}

fn event(occurrence: &Occurrence) -> Value {
    let value = match occurrence {
        Occurrence::Gateway(event) => serde_json::to_value(event),
        Occurrence::Processor(event) => serde_json::to_value(event),
        Occurrence::Serving { name, model } => Ok(json!({"event": "serving", "name": name, "model": model})),
    };
    value.unwrap_or_default()
}

fn line(occurrence: &Occurrence) -> String {
    match occurrence {
        Occurrence::Gateway(GatewayEvent::Paid {
            model,
            processor,
            prompt_tokens,
            completion_tokens,
            unit,
            cost,
            receipt,
        }) => {
            format!(
                "paid      {cost} credits to processor {} for {model}: {prompt_tokens} + {completion_tokens} {} · {}",
                processor.short(),
                unit.plural(),
                dim(&format!("receipt {}", receipt.to_string().chars().take(8).collect::<String>())),
            )
        }
        Occurrence::Gateway(GatewayEvent::ChannelOpened { channel, processor, deposit, .. }) => format!(
            "channel   {} opened to processor {} with {deposit} credits",
            channel.short(),
            processor.short()
        ),
        Occurrence::Gateway(GatewayEvent::ChannelToppedUp { channel, amount, .. }) => {
            format!("channel   {} topped up with {amount} credits", channel.short())
        }
        Occurrence::Processor(event) => processor_line(event),
        Occurrence::Gateway(GatewayEvent::Warning { message }) => format!("warning   {message}"),
        Occurrence::Serving { name, model } => format!("serving   {name} (version {})", model.short()),
    }
}

/// What a processor tells, for a person.
pub(crate) fn processor_line(event: &ProcessorEvent) -> String {
    match event {
        ProcessorEvent::Served { payer, usage, unit, cost, .. } => format!(
            "served    {} + {} {} for {cost} credits to {}",
            usage.input_tokens,
            usage.output_tokens,
            unit.plural(),
            payer.short()
        ),
        ProcessorEvent::Settled { earned, owed, bonded, royalty, fee, transaction, .. } => {
            let part = |what: &str, amount: &Amount| {
                if amount.is_zero() { String::new() } else { format!(" ({amount} of it {what})") }
            };
            format!(
                "settled   processor earned {earned}{}{}, modeler's royalty {royalty}, ledger fee {fee} credits · {}",
                part("for fees that it owed", owed),
                part("into its bond", bonded),
                dim(&format!("transaction {transaction}")),
            )
        }
        ProcessorEvent::Warning { message } => format!("warning   {message}"),
    }
}
