//! Sending one request down each way and timing it.

use anyhow::{Context as _, Result, ensure};
use gristmill_sim::Consumer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The three ways to an answer.
#[derive(Clone)]
pub(crate) struct Ways {
    /// The plain server.
    pub(crate) direct: Consumer,
    /// The plain server behind a plain hop.
    pub(crate) hop: Consumer,
    /// The processor behind the gateway.
    pub(crate) paid: Consumer,
}

impl Ways {
    pub(crate) fn all(&self) -> [&Consumer; 3] {
        [&self.direct, &self.hop, &self.paid]
    }
}

/// The time to the first text of a streamed answer.
pub(crate) async fn timed(consumer: &Consumer, tokens: usize, seed: usize) -> Result<Duration> {
    let mut request = consumer.request("Spell 4217 in Kazakh");
    request["max_tokens"] = json!(tokens);
    request["seed"] = json!(seed);
    let started = Instant::now();
    let mut stream = consumer.stream(&request).await?;
    let first = loop {
        let chunk = stream.next().await?.context("an answer without text")?;
        let text = chunk["choices"][0]["delta"]["content"].as_str();
        let ended = chunk["choices"][0]["finish_reason"].is_string();
        // A random model may begin with tokens that have no text.
        if text.is_some_and(|text| !text.is_empty()) {
            break started.elapsed();
        }
        ensure!(!ended, "an answer ended before its first text: {chunk}");
    };
    let (_, last) = stream.rest().await?;
    used(&last)?;
    Ok(first)
}

/// Runs answers at the same time; gives how many tokens came, and in which time.
pub(crate) async fn together(
    consumer: &Consumer,
    streams: usize,
    tokens: usize,
    seed: usize,
) -> Result<(u64, f64)> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..streams)
        .map(|stream| {
            let mut request = consumer.request("Spell 4217 in Kazakh");
            request["max_tokens"] = json!(tokens);
            request["seed"] = json!(seed + stream);
            let consumer = consumer.clone();
            tokio::spawn(async move {
                let (_, last) = consumer.stream(&request).await?.rest().await?;
                used(&last)
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await??;
    }
    Ok((sum, started.elapsed().as_secs_f64()))
}

fn used(chunk: &Value) -> Result<u64> {
    chunk["usage"]["completion_tokens"].as_u64().context("an answer without a usage")
}
