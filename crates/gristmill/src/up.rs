//! `gristmill up`: a whole exchange on this machine, and what it says while it runs.

pub(crate) mod exchange;
mod neighbours;

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
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

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
}

impl Up {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let started = Instant::now();
        home.create()?;
        let _lock = home.lock()?;
        home.retract();
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let prices = Prices {
            input_per_mtok: self.input_price,
            output_per_mtok: self.output_price,
            ..Prices::default()
        };
        let ports =
            exchange::Ports { gateway: self.port, ledger: self.ledger_port, processor: self.processor_port };
        let mut exchange = tokio::select! {
            exchange = Exchange::start(home, &ports, prices, output) => exchange?,
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        };
        home.announce(exchange.running())?;
        output.show(&ready(&exchange), || greeting(&exchange, home, started))?;
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
                    Ok(occurrence) => output.show(&event(&occurrence), || line(&occurrence))?,
                    Err(error) => break Err(error),
                },
                _ = interrupted.recv() => break Ok(()),
                _ = terminated.recv() => break Ok(()),
            }
        };
        home.retract();
        output.say("stopping: requests end, what was approved is settled");
        exchange.stop(|occurrence| drop(output.show(&event(occurrence), || line(occurrence)))).await;
        output
            .show(&json!({"event": "stopped"}), || "stopped; `gristmill up` goes on from here".to_owned())?;
        result
    }
}

fn ready(exchange: &Exchange) -> Value {
    let running = exchange.running();
    json!({
        "event": "ready",
        "base_url": running.base_url,
        "api_key": running.api_key,
        "ledger": running.ledger,
        "processor": running.processor,
        "model": running.model,
        "chain": exchange.chain(),
    })
}

fn greeting(exchange: &Exchange, home: &Home, started: Instant) -> String {
    let running = exchange.running();
    format!(
        "an exchange runs on this machine, ready after {:.1} s\n\n  \
         endpoint  {}\n  api key   {}\n  model     {}\n  ledger    {}\n  home      {}\n\n\
         try this in another terminal:\n\n  {}{} ask \"Spell 4217 in Kazakh\"\n",
        started.elapsed().as_secs_f64(),
        running.base_url,
        running.api_key,
        running.model,
        running.ledger,
        home.root().display(),
        program(),
        exchange.home_argument(),
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
                "paid      {cost} credits to processor {} for {model}: {prompt_tokens} + {completion_tokens} {} {}",
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
                "settled   processor earned {earned}{}{}, modeler's royalty {royalty}, ledger fee {fee} credits {}",
                part("for fees that it owed", owed),
                part("into its bond", bonded),
                dim(&format!("transaction {transaction}")),
            )
        }
        ProcessorEvent::Warning { message } => format!("warning   {message}"),
    }
}
