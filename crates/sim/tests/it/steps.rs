//! Each side stopped dead at each of its persistence steps: just before the commit, just after it, and
//! before anybody is told. The other side and the ledger live on. After the side's restart the books agree,
//! nobody lost more than a window, and business goes on. The steps are those of docs/operations.md.

use crate::business::{Business, PATIENCE, Totals, WINDOW, eventually, exchange};
use anyhow::{Context as _, Result, ensure};
use gristmill_channel::{PayeeRecord, PayerRecord};
use gristmill_ledger::{Body, decode_tx};
use gristmill_sim::Exchange;
use gristmill_store::{
    fault::{Moment, Written, arm},
    rusqlite::types::Value as Sql,
};
use gristmill_types::{ChannelId, decode};
use std::time::Duration;

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Unmarked, Moment::Unacknowledged];

/// The gateway's steps.
const GATEWAY: [&str; 9] = [
    "a transaction that opens a channel, before it is sent",
    "a channel taken on",
    "a transaction that is final",
    "a reservation on a new lane",
    "a reservation on a lane that is used again",
    "a transaction that tops up, before it is sent",
    "a receipt",
    "what the ledger shows",
    "a channel forgotten",
];

/// The processor's steps.
const PROCESSOR: [&str; 7] = [
    "a channel taken on",
    "a voucher with an order",
    "a voucher in an answer",
    "a receipt",
    "an approval",
    "what the ledger shows",
    "a channel forgotten",
];

fn is_payer(written: &Written, is: impl Fn(PayerRecord) -> bool) -> bool {
    matches!(written, Written::Append { log, record } if log.starts_with("channel/") && decode(record).is_ok_and(is))
}

fn is_payee(written: &Written, is: impl Fn(PayeeRecord) -> bool) -> bool {
    matches!(written, Written::Append { log, record } if log.starts_with("channel/") && decode(record).is_ok_and(is))
}

fn is_sent(written: &Written, is: impl Fn(Body) -> bool) -> bool {
    match written {
        Written::Sql { sql, parameters } if sql.starts_with("INSERT") && sql.contains(" sent ") => {
            let tx = parameters.iter().find_map(|of| match of {
                Sql::Blob(bytes) => decode_tx(bytes).ok(),
                _ => None,
            });
            tx.is_some_and(|tx| is(tx.body.body))
        }
        _ => false,
    }
}

fn gateway_writes(step: &str, commit: &[Written]) -> bool {
    commit.iter().any(|of| match step {
        "a transaction that opens a channel, before it is sent" => {
            is_sent(of, |body| matches!(body, Body::OpenChannel(_)))
        }
        "a transaction that tops up, before it is sent" => is_sent(of, |body| matches!(body, Body::TopUp(_))),
        "a transaction that is final" => {
            matches!(of, Written::Sql { sql, .. } if sql.starts_with("DELETE FROM sent"))
        }
        "a channel taken on" => is_payer(of, |record| matches!(record, PayerRecord::Opened { .. })),
        "a reservation on a new lane" => is_payer(of, |record| matches!(record, PayerRecord::Lane { .. })),
        "a reservation on a lane that is used again" => {
            is_payer(of, |record| matches!(record, PayerRecord::Reserved { .. }))
        }
        "a receipt" => is_payer(of, |record| matches!(record, PayerRecord::Receipt { .. })),
        "what the ledger shows" => is_payer(of, |record| matches!(record, PayerRecord::Ledger(_))),
        _ => matches!(of, Written::Remove { .. }),
    })
}

fn processor_writes(step: &str, commit: &[Written]) -> bool {
    let any = |is: &dyn Fn(&PayeeRecord) -> bool| commit.iter().any(|of| is_payee(of, |record| is(&record)));
    let ordered = any(&|record| matches!(record, PayeeRecord::Ordered { .. }));
    match step {
        "a channel taken on" => any(&|record| matches!(record, PayeeRecord::Opened { .. })),
        "a voucher with an order" => ordered,
        "a voucher in an answer" => !ordered && any(&|record| matches!(record, PayeeRecord::Voucher { .. })),
        "a receipt" => any(&|record| matches!(record, PayeeRecord::Receipt(_))),
        "an approval" => any(&|record| matches!(record, PayeeRecord::Approval(_))),
        "what the ledger shows" => any(&|record| matches!(record, PayeeRecord::Ledger(_))),
        _ => commit.iter().any(|of| matches!(of, Written::Remove { .. })),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Gateway,
    Processor,
}

/// A short answer, one over several windows, one that the consumer leaves, and one that needs a larger
/// deposit. Ends where one fails.
async fn run(business: &Business) -> Result<()> {
    business.stream(20, u64::MAX).await?;
    business.stream(150, u64::MAX).await?;
    business.stream(150, 40).await?;
    business.stream(700, u64::MAX).await
}

/// Stops the side at the step, starts it again, and compares.
async fn stop_at(
    exchange: &mut Exchange,
    totals: &mut Totals,
    side: Side,
    step: &'static str,
    moment: Moment,
) -> Result<()> {
    let (file, writes): (_, fn(&str, &[Written]) -> bool) = match side {
        Side::Gateway => ("gateway/gateway.db", gateway_writes),
        Side::Processor => ("processor/processor.db", processor_writes),
    };
    let armed = arm(&exchange.folder().join(file), moment, move |commit| writes(step, commit));
    let business = Business::new(exchange.consumer()?);
    let before = totals.tokens();
    let asked = tokio::spawn({
        let business = business.clone();
        async move { run(&business).await }
    });
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut closing = false;
    while !armed.stopped(Duration::ZERO) {
        if asked.is_finished() && !closing {
            // What is left are the steps at the end of a channel's life.
            closing = true;
            let channels = business.channels().await?;
            let id: ChannelId = channels[0]["id"].as_str().context("an id")?.parse()?;
            let terms = exchange.ledger().channel(&id).await?.value.context("the channel")?.channel.terms;
            let payer = exchange.sender(&exchange.keys().consumer);
            payer.send(gristmill_ledger::tx::RequestClose { terms }).await?;
        }
        ensure!(tokio::time::Instant::now() < until, "the step did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match side {
        Side::Gateway => exchange.kill_gateway().await?,
        Side::Processor => exchange.kill_processor().await?,
    }
    drop(armed);
    match side {
        Side::Gateway => exchange.start_gateway().await?,
        Side::Processor => exchange.start_processor().await?,
    }
    asked.await?.ok();
    eventually(|| async {
        let channels = business.channels().await?;
        ensure!(channels.iter().all(|of| of["in_doubt"] == 0), "in doubt: {channels:?}");
        Ok(())
    })
    .await?;
    // Business goes on.
    eventually(|| business.stream(10, u64::MAX)).await?;
    totals.close(exchange, &business).await?;
    let (delivered, paid) = (business.delivered(), totals.tokens() - before);
    // One request was interrupted, and one was left by the consumer.
    ensure!(
        delivered <= paid + WINDOW && paid <= delivered + 2 * WINDOW,
        "{delivered} tokens arrived and {paid} are paid"
    );
    Ok(())
}

async fn every_step(side: Side, steps: &[&'static str]) -> Result<()> {
    let mut exchange = exchange().await?;
    let mut totals = Totals::default();
    for step in steps {
        for moment in MOMENTS {
            stop_at(&mut exchange, &mut totals, side, step, moment)
                .await
                .with_context(|| format!("{side:?}, {step}, {moment:?}"))?;
        }
    }
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_at_every_step() -> Result<()> {
    every_step(Side::Gateway, &GATEWAY).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_at_every_step() -> Result<()> {
    every_step(Side::Processor, &PROCESSOR).await
}
