//! One side killed at random moments under load, the other and the ledger living on: the books agree, and
//! nobody lost more than a window of each interrupted answer.

use crate::business::{Business, Totals, WINDOW, eventually, exchange};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

const ROUNDS: u32 = 10;
const CONSUMERS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn sides_killed_at_random_moments() -> Result<()> {
    let seed = std::env::var("GRISTMILL_CRASH_SEED").map_or(Ok(4217), |text| text.parse())?;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut exchange = exchange().await?;
    let mut totals = Totals::default();
    for round in 0..ROUNDS {
        let business = Business::new(exchange.consumer()?);
        let before = totals.tokens();
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                let (business, mut random) = (business.clone(), random.fork());
                // One after the other until one is interrupted; some are left by the consumer.
                tokio::spawn(async move {
                    let mut left = 0;
                    for _ in 0..100 {
                        let tokens = random.u64(1..400);
                        let read = if random.u8(0..4) == 0 { random.u64(0..tokens) } else { u64::MAX };
                        left += u64::from(read < tokens);
                        if business.stream(tokens, read).await.is_err() {
                            break;
                        }
                    }
                    left
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.u64(0..700))).await;
        let what = random.choice(["gateway", "processor", "both"]).context("a choice")?;
        if what != "processor" {
            exchange.kill_gateway().await?;
        }
        if what != "gateway" {
            exchange.kill_processor().await?;
            tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
            exchange.start_processor().await?;
        }
        if what != "processor" {
            exchange.start_gateway().await?;
        }
        let mut apart = 0;
        for consumer in consumers {
            // What was left, and what was interrupted.
            apart += consumer.await? + 1;
        }
        eventually(|| business.stream(10, u64::MAX)).await?;
        let context = || format!("round {round}, {what} killed, seed {seed}");
        eventually(|| async {
            let channels = business.channels().await?;
            ensure!(channels.iter().all(|of| of["in_doubt"] == 0), "in doubt: {channels:?}");
            Ok(())
        })
        .await
        .with_context(context)?;
        totals.close(&exchange, &business).await.with_context(context)?;
        let (delivered, paid) = (business.delivered(), totals.tokens() - before);
        ensure!(
            delivered <= paid + apart * WINDOW && paid <= delivered + apart * WINDOW,
            "{delivered} tokens arrived, {paid} are paid, {apart} answers broke off: {}",
            context()
        );
    }
    exchange.stop().await
}
