//! What the tests of crashes share: a consumer that counts what arrives, and the comparison of all books.

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use gristmill_ledger::Event;
use gristmill_sim::{Consumer, Exchange, Options, Script};
use gristmill_types::{Amount, ChannelId};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The window of the quotes, in tokens.
pub(crate) const WINDOW: u64 = 64;

/// An exchange with channels so small that they are topped up, which settles at once.
pub(crate) async fn exchange() -> Result<Exchange> {
    let mut options = Options::instant(Script { pace: Duration::from_micros(300), ..Script::default() })?;
    options.params.min_deposit = Amount::from_grains(1);
    options.processor = Box::new(|config| {
        config.settle_after = Duration::from_millis(50);
        config.voucher_patience = Duration::from_secs(1);
    });
    options.gateway = Box::new(|config| {
        config.deposit = Amount::from_grains(12_000_000);
        config.ahead = Amount::from_grains(2_000_000);
    });
    Exchange::start(options).await
}

/// What the consumer asks for, and what arrived. Token by token: here a token is a character.
#[derive(Clone)]
pub(crate) struct Business {
    consumer: Consumer,
    delivered: Arc<AtomicU64>,
}

impl Business {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, delivered: Arc::default() }
    }

    /// Tokens that arrived so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// A streamed answer of so many tokens, of which so many are read.
    pub(crate) async fn stream(&self, tokens: u64, read: u64) -> Result<()> {
        let mut request = self.consumer.request("Go on");
        request["max_tokens"] = json!(tokens);
        let mut stream = self.consumer.stream(&request).await?;
        let mut count = 0;
        while count < read {
            let Some(chunk) = stream.next().await? else { return Ok(()) };
            let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            let arrived = text.chars().count() as u64;
            count += arrived;
            self.delivered.fetch_add(arrived, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) async fn channels(&self) -> Result<Vec<Value>> {
        Ok(self.consumer.get("/channels").await?["channels"].as_array().context("a list")?.clone())
    }
}

pub(crate) fn grains(value: &Value) -> Result<u128> {
    Ok(value.as_str().context("an amount")?.parse()?)
}

pub(crate) async fn eventually<T, F: Future<Output = Result<T>>>(mut check: impl FnMut() -> F) -> Result<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() > until => return Err(error.context("waited in vain")),
            Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
        }
    }
}

/// What closed channels paid, and what arrived and was paid so far.
#[derive(Default)]
pub(crate) struct Totals {
    /// The last block that was looked at.
    height: u64,
    settled: u128,
    tokens: u64,
}

impl Totals {
    /// Tokens that are paid, as of the last close.
    pub(crate) const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Closes the channel and compares: gateway, key, receipts, ledger.
    pub(crate) async fn close(&mut self, exchange: &Exchange, business: &Business) -> Result<()> {
        for channel in eventually(|| business.channels()).await? {
            let id: ChannelId = channel["id"].as_str().context("an id")?.parse()?;
            let found = exchange.ledger().channel(&id).await?.value.context("the channel")?;
            if channel["state"] == "open" {
                let payer = exchange.sender(&exchange.keys().consumer);
                payer.send(gristmill_ledger::tx::RequestClose { terms: found.channel.terms }).await?;
            }
        }
        eventually(|| async {
            let left = business.channels().await?;
            ensure!(left.is_empty(), "the gateway still has {left:?}");
            Ok(())
        })
        .await?;
        self.follow(exchange).await?;
        let key = business.consumer.get("/key").await?;
        ensure!(grains(&key["held"])? == 0, "{key}");
        let listed = business.consumer.get("/receipts?limit=1000").await?;
        let receipts = listed["receipts"].as_array().context("a list")?;
        let bought: u128 = receipts.iter().map(|of| grains(&of["cost"])).sum::<Result<_>>()?;
        let spent = grains(&key["spent"])?;
        ensure!(
            spent == self.settled && bought == spent,
            "the key spent {spent}, receipts say {bought}, channels paid {}",
            self.settled
        );
        ensure!(exchange.ledger().supply().await?.adds_up, "the supply does not add up");
        self.tokens = receipts.iter().filter_map(|of| of["completion_tokens"].as_u64()).sum();
        Ok(())
    }

    async fn follow(&mut self, exchange: &Exchange) -> Result<()> {
        let latest = exchange.ledger().latest_block().await?.context("a block")?.value.height;
        let mut blocks = std::pin::pin!(exchange.ledger().follow(Some(self.height + 1)));
        while self.height < latest {
            let block = blocks.next().await.context("a block")??;
            self.height = block.height;
            for event in block.outcomes.iter().flat_map(|outcome| &outcome.events) {
                if let Event::ChannelClosed { settled, .. } = event {
                    self.settled += settled.grains();
                }
            }
        }
        Ok(())
    }
}
