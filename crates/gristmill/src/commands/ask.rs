//! `gristmill ask`: one prompt, one answer, what it cost.

use crate::{
    endpoint::Endpoint,
    failure::Failure,
    home::Home,
    output::{Output, dim},
};
use anyhow::Result;
use clap::Args;
use futures::{Stream, StreamExt as _};
use gristmill_net::{
    openai::{ApiError, Chunk, Extension, FinishReason, LimitedBy, Usage},
    sse,
};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use std::{pin::pin, time::Instant};

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

fn temperature(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=2.0).contains(number));
    number.ok_or_else(|| "a temperature is a number from 0 to 2".to_owned())
}

impl Ask {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
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
        body.insert("stream".into(), json!(true));
        let started = Instant::now();
        let events = Endpoint::new(&running)?.stream("/chat/completions", &Value::Object(body)).await?;
        let heard = listen(events, output).await?;
        let seconds = started.elapsed().as_secs_f64();
        let incomplete = || {
            Failure::new("the gateway's answer lacks its usage or receipt")
                .next("see whether gateway and command are of one version: gristmill --version")
        };
        let usage = heard.usage.ok_or_else(incomplete)?;
        let cost = usage.cost.ok_or_else(incomplete)?.0;
        let receipt = heard.extension.receipt.ok_or_else(incomplete)?;
        let processor = heard.extension.processor.ok_or_else(incomplete)?;
        let value = json!({
            "answer": heard.text,
            "model": heard.model,
            "processor": processor,
            "usage": usage,
            "receipt": receipt,
            "finish_reason": heard.finish,
            "limited_by": heard.extension.limited_by,
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
            let cut = if heard.finish == Some(FinishReason::Length) {
                let why = match heard.extension.limited_by {
                    None => "cut off at the limit of output tokens: see --max-tokens, and docs/payments.md",
                    Some(LimitedBy::Request) => "cut off: the gateway pays no more for one request",
                    Some(LimitedBy::Key) => "cut off: the API key's budget pays for no more",
                    Some(LimitedBy::Account) => {
                        "cut off: without --max-tokens an answer takes a part of what account or spending key have left, \
                         and that is little: see gristmill status"
                    }
                };
                format!("{}\n", dim(&output.commands(why)))
            } else {
                String::new()
            };
            format!("\n{cut}{}", dim(&quiet))
        })
    }
}

/// What was said.
#[derive(Default)]
struct Heard {
    text: String,
    model: String,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    extension: Extension,
}

/// Takes the answer in, and shows it as it comes.
async fn listen(events: impl Stream<Item = Result<sse::Event>>, output: Output) -> Result<Heard> {
    let mut events = pin!(events);
    let mut heard = Heard::default();
    while let Some(event) = events.next().await {
        let data = event?.data;
        if data == sse::DONE {
            break;
        }
        let Ok(chunk) = serde_json::from_str::<Chunk>(&data) else {
            output.say("");
            let error = ApiError::from_answer(StatusCode::BAD_GATEWAY, data.as_bytes());
            return Err(Failure::new(error.message)
                .next("see how the exchange is: gristmill status; what was paid: gristmill receipt list")
                .into());
        };
        for choice in &chunk.choices {
            let more = choice.delta.as_ref().and_then(|delta| delta.content.as_deref()).unwrap_or_default();
            output.piece(more);
            heard.text.push_str(more);
            heard.finish = choice.finish_reason.or(heard.finish);
        }
        heard.model = chunk.model;
        heard.usage = chunk.usage.or(heard.usage);
        if let Some(extension) = chunk.gristmill.filter(|extension| extension.receipt.is_some()) {
            heard.extension = extension;
        }
    }
    Ok(heard)
}
