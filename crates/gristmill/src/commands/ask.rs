//! `gristmill ask`: one prompt, one answer, what it cost.

use crate::{
    endpoint::Endpoint,
    failure::Failure,
    home::Home,
    output::{Output, dim},
};
use clap::Args;
use gristmill_net::openai::{Answer, FinishReason};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Arguments of `ask`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gristmill ask \"Spell 4217 in Kazakh\"")]
pub(crate) struct Ask {
    /// What to ask
    prompt: String,
    /// The model, by name [default: the one that the exchange started with]
    #[arg(long, short)]
    model: Option<String>,
    /// The most output tokens
    #[arg(long)]
    max_tokens: Option<u32>,
    /// 0 takes the likeliest token at every step; up to 2
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f64,
    /// Repeats the same draw for the same number
    #[arg(long, allow_negative_numbers = true)]
    seed: Option<i64>,
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=2.0).contains(number));
    number.ok_or_else(|| "a temperature is a number from 0 to 2".to_owned())
}

impl Ask {
    pub(crate) async fn run(self, home: &Home, output: Output) -> anyhow::Result<()> {
        let running = home.running()?;
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model.as_ref().unwrap_or(&running.model)));
        body.insert("messages".into(), json!([{"role": "user", "content": self.prompt}]));
        body.insert("temperature".into(), json!(self.temperature));
        if let Some(max_tokens) = self.max_tokens {
            body.insert("max_tokens".into(), json!(max_tokens));
        }
        if let Some(seed) = self.seed {
            body.insert("seed".into(), json!(seed));
        }
        let started = Instant::now();
        let answer: Answer = Endpoint::new(&running)?.post("/chat/completions", &Value::Object(body)).await?;
        let seconds = started.elapsed().as_secs_f64();
        let incomplete = || {
            Failure::new("the gateway's answer lacks its text, usage or receipt")
                .next("see whether gateway and command are of one version: gristmill --version")
        };
        let choice = answer.choices.first().ok_or_else(incomplete)?;
        let text = choice.content().map(str::to_owned).ok_or_else(incomplete)?;
        let finish = choice.finish_reason;
        let usage = answer.usage.ok_or_else(incomplete)?;
        let cost = usage.cost.ok_or_else(incomplete)?.0;
        let extension = answer.gristmill.ok_or_else(incomplete)?;
        let receipt = extension.receipt.ok_or_else(incomplete)?;
        let processor = extension.processor.ok_or_else(incomplete)?;
        let value = json!({
            "answer": text,
            "model": answer.model,
            "processor": processor,
            "usage": usage,
            "receipt": receipt,
            "finish_reason": finish,
        });
        output.show(&value, || {
            let unit = usage.unit.plural();
            let speed = usage.completion_tokens as f64 / seconds.max(1e-3);
            let quiet = format!(
                "{cost} credits · {} {unit} · {speed:.0} {unit}/s · processor {} · receipt {}",
                usage.total_tokens,
                processor.short(),
                receipt.to_string().chars().take(8).collect::<String>(),
            );
            let cut = if finish == Some(FinishReason::Length) {
                format!(
                    "\n{}",
                    dim("cut off at the limit of output tokens: see --max-tokens, and docs/payments.md")
                )
            } else {
                String::new()
            };
            format!("{text}{cut}\n{}", dim(&quiet))
        })
    }
}
