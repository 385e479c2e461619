//! `gristmill sell`: a server that runs already, offered for pay on the running exchange.

mod key;
pub(crate) mod seller;

use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::Output,
    up::{processor_line, program},
};
use anyhow::Result;
use clap::Args;
use gristmill_engine::Engine as _;
use gristmill_types::{Amount, Prices};
use gristmill_upstream::{Address, Options, Patience, Report, Upstream, UpstreamError, probe};
use seller::{Offer, Seller};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{broadcast::error::RecvError, watch},
};

/// A token has about so many bytes in most languages.
const BYTES_PER_TOKEN: u32 = 4;
/// What is offered where the server does not tell its context.
const CONTEXT_BYTES: u32 = 16_384;
/// A name on the ledger has at most so many bytes.
const MAX_NAME: usize = 64;
/// How long a stopping seller waits for the exchange.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "upstream/";

/// Arguments of `sell`.
#[derive(Debug, Args)]
#[command(after_help = "\
Counted and paid is each byte of UTF-8, in and out: the server's tokenizer is not known here.
That the model is what the server says is your claim; consumers see it as such.

Example:
  gristmill sell --upstream http://127.0.0.1:11434 --model qwen2.5:0.5b

Ctrl-C stops it and withdraws the offer; the same command goes on later with the same books.
What a run that was killed has left on offer is withdrawn by the next one with the same wallet, or by

  gristmill sell --withdraw")]
pub(crate) struct Sell {
    /// Where the server is, for example http://127.0.0.1:11434; it speaks the OpenAI API
    #[arg(long, value_name = "URL", required_unless_present = "withdraw")]
    upstream: Option<String>,
    /// Only withdraw what the wallet has on offer, settle what it is owed, and end
    #[arg(long, conflicts_with = "upstream")]
    withdraw: bool,
    /// The model, as the server names it [default: the only one that it has]
    #[arg(long)]
    model: Option<String>,
    /// The model's name on the ledger [default: upstream/ and the server's name for it]
    #[arg(long)]
    name: Option<String>,
    /// The model's licence, as an SPDX expression
    #[arg(long, default_value = "LicenseRef-Unknown")]
    licence: String,
    /// Credits per million bytes of prompts
    #[arg(long, default_value = "2.5", value_name = "CREDITS")]
    input_price: Amount,
    /// Credits per million bytes of answers
    #[arg(long, default_value = "5", value_name = "CREDITS")]
    output_price: Amount,
    /// Bytes of prompt and answer together at most [default: four for each token of the server's
    /// context, or 16384]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..))]
    context: Option<u32>,
    /// Answers at a time at most
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    parallel: u16,
    /// A file with the server's API key that only you may read
    #[arg(long, value_name = "FILE", conflicts_with = "key_env")]
    key_file: Option<PathBuf>,
    /// The environment variable with the server's API key [default: GRISTMILL_UPSTREAM_KEY, if it is set]
    #[arg(long, value_name = "VARIABLE")]
    key_env: Option<String>,
    /// The wallet that earns, made if it is missing; each running `sell` has its own
    #[arg(long, default_value = "seller", value_name = "WALLET")]
    wallet: String,
    /// The port to listen on [default: that of the last run, or a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
}

impl Sell {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let wallet = self.wallet.clone();
        seller::check_wallet(home, &wallet)?;
        if self.withdraw && !seller::has_sold(home, &wallet) {
            return Err(Failure::new(format!("the wallet `{wallet}` has sold nothing from this home"))
                .next("name the one that did, as `gristmill status` shows it: --wallet NAME")
                .into());
        }
        let withdraws = self.withdraw;
        let started = tokio::select! {
            started = self.start(home, output) => started?,
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        };
        let (seller, mut health) = started;
        let mut events = seller.processor.events();
        let failed = seller.processor.failed();
        tokio::pin!(failed);
        let result = loop {
            if withdraws {
                break Ok(());
            }
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => output.show(&event, || processor_line(&event))?,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break Ok(()),
                },
                Ok(()) = health.changed() => {
                    let kind = *health.borrow_and_update();
                    let (event, line) = told(kind);
                    output.show(&event, || line)?;
                }
                error = &mut failed => break Err(seller::failure(home, &wallet, &error)),
                _ = interrupted.recv() => break Ok(()),
                _ = terminated.recv() => break Ok(()),
            }
        };
        output.say("stopping: the offer is withdrawn, requests end, what was approved is settled");
        let warn = |message: &str| {
            output.show(&json!({"event": "warning", "message": message}), || format!("warning   {message}"))
        };
        let closing = async {
            match seller.withdraw(None).await {
                Ok(count) => {
                    seller::retract(home, &wallet);
                    output.show(&json!({"event": "withdrawn", "offers": count}), || {
                        format!("withdrawn  {count} {}", if count == 1 { "offer" } else { "offers" })
                    })?;
                }
                Err(error) => warn(&format!(
                    "the offer could not be withdrawn: {error}; the next run takes it up again"
                ))?,
            }
            seller.processor.stop().await;
            anyhow::Ok(())
        };
        // Where the exchange is gone, too, nothing more can be settled. All that was paid is written down.
        tokio::select! {
            closed = closing => closed?,
            _ = interrupted.recv() => warn("not everything was settled; the next run does that")?,
            _ = terminated.recv() => warn("not everything was settled; the next run does that")?,
            () = tokio::time::sleep(STOP_PATIENCE) => {
                warn("the exchange does not answer: what was not settled yet is settled by the next run")?;
            }
        }
        while let Ok(event) = events.try_recv() {
            output.show(&event, || processor_line(&event))?;
        }
        output.show(&json!({"event": "stopped"}), || {
            let shown = output.commands(&format!("gristmill wallet show {wallet}"));
            format!("stopped; what was paid out is in the wallet `{wallet}`: {shown}")
        })?;
        result
    }

    async fn start(
        self,
        home: &Home,
        output: Output,
    ) -> Result<(Seller, watch::Receiver<Option<&'static str>>)> {
        let connection = Connection::open(home)?;
        let start = Seller::start(home, &connection, &self.wallet, self.port, output);
        let Some(upstream) = &self.upstream else {
            return Ok((start.await?, watch::channel(None).1));
        };
        let address: Address = upstream.parse().map_err(failure)?;
        let key = key::read(self.key_file.clone(), self.key_env.as_deref(), |name| std::env::var_os(name))?;
        output.say(&format!("asking {address} what it can do"));
        let patience = Patience::default();
        let report = probe(&address, key.as_ref(), self.model.as_deref(), patience).await.map_err(failure)?;
        let told = report.context_tokens.map(|tokens| tokens.saturating_mul(BYTES_PER_TOKEN));
        let context_bytes = self.context.or(told).unwrap_or(CONTEXT_BYTES);
        output
            .show(&found(&address, &report, context_bytes), || findings(&address, &report, context_bytes))?;
        let options = Options {
            model: report.model.clone(),
            context_bytes,
            context_tokens: report.context_tokens,
            explains: report.explains,
            completes: report.completes,
            limit: report.limit,
            max_running: usize::from(self.parallel),
            patience,
        };
        let engine = Upstream::new(address.clone(), key, options).map_err(failure)?;
        let health = engine.health();
        let name = match self.name.clone().or_else(|| default_name(&report.model)) {
            Some(name) => name,
            None => {
                let text = format!(
                    "the model's name `{}` has no letter or digit that a name may have",
                    report.model
                );
                return Err(Failure::new(text).next("say what it is sold as: --name NAME").into());
            }
        };
        let prices = Prices {
            input_per_mtok: self.input_price,
            output_per_mtok: self.output_price,
            ..Prices::default()
        };
        let offer = Offer { name: &name, licence: &self.licence, prices };
        // Before its wallet is given what registering costs.
        let manifest = seller::manifest(&name, engine.tokenizer().digest());
        seller::is_registered(&connection.ledger, &manifest, &name).await?;
        let mut seller = start.await?;
        let model = seller.offer(home, engine, &offer).await?;
        let ready = json!({
            "event": "ready", "name": name, "model": model, "processor": seller.account,
            "endpoint": format!("http://{}", seller.processor.address()), "upstream": address.to_string(),
            "prices": prices, "unit": "byte", "trust": "claimed",
        });
        output.show(&ready, || {
            format!(
                "selling    {name} for {} credits per million bytes in and {} out\naccount    {}, wallet `{}`\n\
                 trust      claimed: consumers can check counts and prices, and not which model answered\n\n\
                 try this in another terminal:\n\n  {} --home {} ask --model {name} \"…\"\n",
                prices.input_per_mtok,
                prices.output_per_mtok,
                seller.account,
                self.wallet,
                program(),
                home.root().display(),
            )
        })?;
        Ok((seller, health))
    }
}

/// What to say of a server that begins to fail, or answers again.
fn told(failure: Option<&str>) -> (Value, String) {
    match failure {
        Some(kind) => {
            let message =
                format!("the server fails ({kind}): requests fail until it answers again; see its own log");
            (json!({"event": "warning", "message": message}), format!("warning   {message}"))
        }
        None => (json!({"event": "recovered"}), "the server answers again".to_owned()),
    }
}

/// The upstream's name as the ledger can spell it; none where nothing of it is left.
fn default_name(model: &str) -> Option<String> {
    // A local file goes by its own name, not by where it lies.
    let model = if model.starts_with('/') { model.rsplit('/').next().unwrap_or(model) } else { model };
    let model = model.to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '-' };
    let text: String = model.trim_end_matches(".gguf").chars().map(plain).collect();
    let edges = |c: char| !c.is_ascii_alphanumeric();
    let parts = text.split('/').map(|part| part.trim_matches(edges)).filter(|part| !part.is_empty());
    let own = parts.collect::<Vec<_>>().join("/");
    let mut name = format!("{NAMESPACE}{own}");
    name.truncate(MAX_NAME);
    (!own.is_empty()).then(|| name.trim_end_matches(edges).to_owned())
}

fn found(address: &Address, report: &Report, context_bytes: u32) -> Value {
    json!({
        "event": "probed", "upstream": address.to_string(), "models": report.models,
        "unlisted": report.unlisted, "model": report.model, "context_tokens": report.context_tokens,
        "context_bytes": context_bytes, "streams": report.streams, "marks_end": report.marks_end, "explains": report.explains,
        "counts": report.counts, "reasons": report.reasons, "limit": report.limit.name(),
        "completes": report.completes, "first_ms": report.first.as_millis() as u64,
    })
}

fn findings(address: &Address, report: &Report, context_bytes: u32) -> String {
    let listed = match (&report.unlisted, report.models.len()) {
        (Some(reason), _) => format!("it does not list its models: {reason}"),
        (None, 1) => "the only one".to_owned(),
        (None, count) => format!("one of {count}"),
    };
    let context = match report.context_tokens {
        Some(tokens) => format!("{tokens} tokens, it says; {context_bytes} bytes are offered"),
        None => format!("not told; {context_bytes} bytes are offered (--context)"),
    };
    let mut lines = vec![
        format!("upstream   {address} answers, first words after {:.2} s", report.first.as_secs_f64()),
        format!("model      {} ({listed})", report.model),
        format!("context    {context}"),
        format!(
            "streaming  {}",
            if report.streams {
                "works"
            } else {
                "does not work: answers come whole, when they are complete"
            }
        ),
        format!(
            "texts      {}",
            if report.completes {
                "are completed, too (/v1/completions)"
            } else {
                "are not completed, only chats"
            }
        ),
    ];
    if report.limit.name().is_none() {
        lines.push("limit      it takes no limit of tokens; answers are cut here".to_owned());
    }
    if report.reasons {
        lines.push(
            "reasoning  it thinks apart from its answers; that is not delivered, and not paid for".to_owned(),
        );
    }
    lines.join("\n")
}

/// What to do about an upstream that cannot be sold.
fn failure(error: UpstreamError) -> anyhow::Error {
    let next = match &error {
        UpstreamError::Address { .. } => {
            "give the server's URL alone: --upstream http://127.0.0.1:8080, and a key it needs with --key-file FILE"
        }
        UpstreamError::Key(_) | UpstreamError::Denied { .. } => {
            "put its API key into a file that only you may read, and name it: --key-file FILE"
        }
        UpstreamError::Client(_) => "see the system's certificates and limits, then try again",
        UpstreamError::Unreachable { .. } => "start the server, or give its right address: --upstream URL",
        UpstreamError::Misbehaved { .. } => {
            "see the server's own log; it has to answer POST /v1/chat/completions"
        }
        UpstreamError::UnknownModel { .. } | UpstreamError::NoModel { .. } => "name the model: --model NAME",
    };
    Failure::new(error.to_string()).next(next).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_ledger_can_spell() {
        for (model, name) in [
            ("tiny", "upstream/tiny"),
            ("qwen2.5:0.5b", "upstream/qwen2.5-0.5b"),
            ("Qwen/Qwen2.5-0.5B-Instruct", "upstream/qwen/qwen2.5-0.5b-instruct"),
            ("/models/My Model.Q8_0.gguf", "upstream/my-model.q8_0"),
            ("../..//x/", "upstream/x"),
            (&"x".repeat(99), &format!("upstream/{}", "x".repeat(55))),
        ] {
            assert_eq!(default_name(model).as_deref(), Some(name));
        }
        assert_eq!(default_name("модель"), None);
    }
}
