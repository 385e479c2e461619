//! Lanes whose requests were given up, and what comes after them on the same lane.

use crate::{
    disputes::{channel_id, eventually, lane_at_processor},
    liars::embeds,
    way::{Fate, Way, register},
};
use anyhow::{Context as _, Result, ensure};
use gristmill_net::peer::LaneState;
use gristmill_processor::Compute;
use gristmill_sim::{Answers, Consumer, Exchange, InstantEngine, ModelOptions, Options, Script};
use gristmill_types::{Amount, ChannelId};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(3_600);

/// An exchange that answers without end, and leaves everything to approvals.
fn endless() -> Result<Options> {
    let mut options = Options::instant(Script { pace: Duration::from_millis(2), ..Script::default() })?;
    options.processor = Box::new(|config| config.approval_patience = LONG);
    Ok(options)
}

/// Asks, reads a little, and goes away.
async fn begin_and_leave(consumer: &Consumer, text: &str) -> Result<()> {
    let mut stream = consumer.stream(&consumer.request(text)).await?;
    for _ in 0..5 {
        stream.next().await?.context("the stream goes on")?;
    }
    Ok(())
}

/// What the processor has of the lane, when it has given so many requests a last receipt.
async fn ended(exchange: &Exchange, id: &ChannelId, requests: u64) -> Result<LaneState> {
    eventually(|| async {
        let lane = lane_at_processor(exchange, id).await?;
        let receipt = &lane.receipt.as_ref().context("a receipt")?.0.body;
        ensure!(receipt.last && receipt.usage.requests == requests, "not ended yet");
        Ok(lane)
    })
    .await
}

async fn counted(count: &AtomicUsize, least: usize) -> Result<()> {
    eventually(|| async {
        ensure!(count.load(Ordering::SeqCst) >= least, "not yet");
        Ok(())
    })
    .await
}

/// Waits until so many receipts are listed, newest first, and all that was spent is paid.
async fn listed(consumer: &Consumer, receipts: usize) -> Result<Vec<Value>> {
    eventually(|| async {
        let (list, channels) = (consumer.get("/receipts").await?, consumer.get("/channels").await?);
        let (list, channel) = (list["receipts"].as_array().context("a list")?, &channels["channels"][0]);
        ensure!(list.len() == receipts && channel["settled"] == channel["spent"], "{list:?} {channel}");
        ensure!(channel["lanes"] == 1, "one lane was enough: {channel}");
        Ok(list.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_given_up_twice_in_a_row_comes_free_twice() -> Result<()> {
    let exchange = Exchange::start(endless()?).await?;
    let approvals = Arc::new(AtomicUsize::new(0));
    let (go, sign) = watch::channel(false);
    let seen = Arc::clone(&approvals);
    let way = Way::open(move |of| {
        if !of.is_approval() {
            return Fate::Pass;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Fate::Wait(sign.clone())
    })
    .await?;
    way.before_processor(&exchange).await?;
    let consumer = exchange.consumer()?;
    begin_and_leave(&consumer, "The first").await?;
    let id = channel_id(&consumer).await?;
    // The first request is over, and its approval on its way for a while.
    counted(&approvals, 1).await?;
    begin_and_leave(&consumer, "The second").await?;
    ended(&exchange, &id, 2).await?;
    go.send(true)?;
    listed(&consumer, 2).await?;
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_approval_spoils_no_later_receipt() -> Result<()> {
    let exchange = Exchange::start(endless()?).await?;
    let (refusals, copies) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (look, may_look) = watch::channel(false);
    let (end, may_end) = watch::channel(false);
    let (refused, copied, ends) = (Arc::clone(&refusals), Arc::clone(&copies), may_end.clone());
    let way = Way::open(move |of| {
        if of.is_approval() && !*ends.borrow() {
            refused.fetch_add(1, Ordering::SeqCst);
            return Fate::Refused;
        }
        // Once an approval was refused, the gateway compares nothing until the second request is over.
        if of.is_copy() && refused.load(Ordering::SeqCst) > 0 {
            copied.fetch_add(1, Ordering::SeqCst);
            return Fate::Wait(may_look.clone());
        }
        let ends = ends.clone();
        match of.is_order() {
            true => Fate::Events(Arc::new(move |event| {
                if event.contains("payment-receipt") { Fate::Wait(ends.clone()) } else { Fate::Pass }
            })),
            false => Fate::Pass,
        }
    })
    .await?;
    way.before_processor(&exchange).await?;
    let consumer = exchange.consumer()?;
    begin_and_leave(&consumer, "The first").await?;
    let id = channel_id(&consumer).await?;
    counted(&refusals, 1).await?;
    let mut request = consumer.request("The second");
    request["max_tokens"] = json!(200);
    let asked = {
        let (consumer, request) = (consumer.clone(), request.clone());
        tokio::spawn(async move { consumer.chat(&request).await })
    };
    ended(&exchange, &id, 2).await?;
    // The gateway sees the second receipt in the processor's copy before it comes with the answer.
    counted(&copies, 1).await?;
    look.send(true)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    end.send(true)?;
    let answer = asked.await??;
    let receipts = listed(&consumer, 2).await?;
    let entry = receipts.iter().find(|entry| entry["id"] == answer["gristmill"]["receipt"]);
    let id = entry.context("the second is listed")?["id"].as_str().context("an id")?;
    let entry = consumer.get(&format!("/receipts/{id}")).await?;
    ensure!(entry["request"].as_str().is_some_and(|body| body.contains("The second")), "{entry}");
    ensure!(entry["kept"] == "whole", "{entry}");
    exchange.stop().await
}

/// An approval gets lost again and again, of an answer and of vectors, before and after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_sent_until_it_arrives() -> Result<()> {
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let engine = Arc::new(InstantEngine::starter(script)?);
    let models = [ModelOptions::new("sim/answers", engine), embeds(vec![vec![0.5; 8]])?];
    for (model, restarts) in models.iter().flat_map(|model| [(model, true), (model, false)]) {
        let mut options = Options::new(vec![model.clone()]);
        options.processor = Box::new(|config| config.approval_patience = LONG);
        options.gateway = Box::new(move |config| {
            config.look_every = if restarts { LONG } else { Duration::from_millis(200) };
        });
        let mut exchange = Exchange::start(options).await?;
        let refused = Arc::new(AtomicUsize::new(0));
        let (arrive, arrives) = watch::channel(false);
        let count = Arc::clone(&refused);
        let way = Way::open(move |of| {
            if of.is_approval() && !*arrives.borrow() {
                count.fetch_add(1, Ordering::SeqCst);
                return Fate::Refused;
            }
            Fate::Pass
        })
        .await?;
        way.before_processor(&exchange).await?;
        let consumer = exchange.consumer()?;
        match matches!(model.compute, Compute::Embeddings(_)) {
            true => {
                // Long enough to be worth settling.
                let request = json!({"model": model.name, "input": ["forty-two ".repeat(20)]});
                consumer.send("/embeddings", &request).await?
            }
            false => consumer.ask("Spell 42").await?,
        };
        if restarts {
            exchange.kill_gateway().await?;
            exchange.start_gateway().await?;
        }
        // Whoever answers has sent it three times before it leaves that to others.
        counted(&refused, refused.load(Ordering::SeqCst) + 4).await?;
        arrive.send(true)?;
        listed(&consumer, 1).await?;
        exchange.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_moved_is_asked_where_it_is_now() -> Result<()> {
    let exchange = Exchange::start(endless()?).await?;
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let way = Way::open(move |of| {
        if !of.is_copy() {
            return Fate::Pass;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Fate::Refused
    })
    .await?;
    way.before_processor(&exchange).await?;
    let consumer = exchange.consumer()?;
    begin_and_leave(&consumer, "Go on").await?;
    counted(&lost, 2).await?;
    register(&exchange, &exchange.processor_url()).await?;
    listed(&consumer, 1).await?;
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_bought_keeps_no_answer_alive() -> Result<()> {
    for (begun, drop) in [
        (false, ": keep-alive\n\n"),
        (true, ": keep-alive\n\n"),
        (false, "event: payment-weather\ndata: {}\n\n"),
        (true, "event: payment-weather\ndata: {}\n\n"),
    ] {
        let way = Way::open(move |of| {
            if !of.is_order() {
                return Fate::Pass;
            }
            let texts = AtomicUsize::new(0);
            Fate::Events(Arc::new(move |event| {
                let text = event.contains("\"content\"");
                let late = text && texts.fetch_add(1, Ordering::SeqCst) >= if begun { 3 } else { 0 };
                if late { Fate::Drip(drop) } else { Fate::Pass }
            }))
        })
        .await?;
        let mut options = endless()?;
        options.gateway = Box::new(|config| {
            config.first_patience = Duration::from_millis(700);
            config.next_patience = Duration::from_millis(500);
        });
        let exchange = Exchange::start(options).await?;
        way.before_processor(&exchange).await?;
        let consumer = exchange.consumer()?;
        let answer = tokio::time::timeout(Duration::from_secs(20), consumer.ask("Go on")).await?;
        let error = answer.err().context("it comes to no end")?.to_string();
        let within =
            if begun { "nothing of it came within 0.5 s" } else { "nothing of it came within 0.7 s" };
        assert!(error.contains(within), "{error}");
        listed(&consumer, 1).await?;
        exchange.stop().await?;
    }
    Ok(())
}

/// An error is heard once, and does not keep the answer alive either.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_counts() -> Result<()> {
    const CLOSES: &str = "data: {\"error\":{\"message\":\"It closes.\",\"code\":\"channel_closing\"}}\n\n";
    let (failing, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (of, count) = (Arc::clone(&failing), Arc::clone(&reads));
    let before_ledger = Way::open(move |seen| {
        if of.load(Ordering::SeqCst) && seen.path.starts_with("/v1/state") {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Pass
    })
    .await?;
    let of = Arc::clone(&failing);
    let way = Way::open(move |seen| {
        if !seen.is_order() {
            return Fate::Pass;
        }
        let of = Arc::clone(&of);
        Fate::Events(Arc::new(move |event| {
            if !event.contains("\"content\"") {
                return Fate::Pass;
            }
            of.store(true, Ordering::SeqCst);
            Fate::Drip(CLOSES)
        }))
    })
    .await?;
    let mut options = endless()?;
    options.ledger = before_ledger.before_ledger();
    options.gateway = Box::new(|config| config.first_patience = Duration::from_secs(2));
    let exchange = Exchange::start(options).await?;
    way.before_processor(&exchange).await?;
    let consumer = exchange.consumer()?;
    let answer = tokio::time::timeout(Duration::from_secs(20), consumer.ask("Go on")).await?;
    let error = answer.err().context("it comes to no end")?.to_string();
    assert!(error.contains("It closes"), "{error}");
    let reads = reads.load(Ordering::SeqCst);
    assert!((1..40).contains(&reads), "{reads} reads for some hundred errors");
    exchange.stop().await
}

/// An order that is not answered holds what was signed for it, and not all that it could have cost.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_answered_holds_what_was_signed() -> Result<()> {
    let silent = Arc::new(AtomicBool::new(true));
    let of = Arc::clone(&silent);
    let way = Way::open(move |seen| match of.load(Ordering::SeqCst) && (seen.is_order() || seen.is_copy()) {
        true => Fate::Silent,
        false => Fate::Pass,
    })
    .await?;
    let mut options = Options::instant(Script::default())?;
    options.gateway = Box::new(|config| config.first_patience = Duration::from_millis(500));
    let exchange = Exchange::start(options).await?;
    way.before_processor(&exchange).await?;
    // A thousand tokens cost 0.02 credits: no two such requests fit.
    let key = exchange.create_key(Amount::from_grains(30_000_000)).await?;
    let consumer = Consumer::new(&exchange.base_url(), &key, "sim/instant")?;
    let mut request = consumer.request("Go on");
    request["max_tokens"] = json!(1_000);
    let error = consumer.chat(&request).await.err().context("nobody answers")?.to_string();
    assert!(error.contains("does not begin its answer"), "{error}");
    silent.store(false, Ordering::SeqCst);
    let answer = consumer.chat(&request).await?;
    assert_eq!(answer["usage"]["completion_tokens"], 1_000);
    undoubted(&consumer).await?;
    exchange.stop().await
}

async fn undoubted(consumer: &Consumer) -> Result<()> {
    eventually(|| async {
        let channels = consumer.get("/channels").await?;
        ensure!(channels["channels"][0]["in_doubt"] == 0, "{channels}");
        Ok(())
    })
    .await
}

/// Orders that never arrived hold up no lane after a stop in order: on a lane that the processor knows, and on one of
/// which it has seen nothing.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_never_arrived_are_forgotten_after_a_stop() -> Result<()> {
    for knows in [true, false] {
        let silent = Arc::new(AtomicBool::new(!knows));
        let of = Arc::clone(&silent);
        let way =
            Way::open(move |seen| match of.load(Ordering::SeqCst) && (seen.is_order() || seen.is_copy()) {
                true => Fate::Silent,
                false => Fate::Pass,
            })
            .await?;
        let mut options = Options::instant(Script::default())?;
        options.gateway = Box::new(|config| config.first_patience = Duration::from_millis(500));
        let mut exchange = Exchange::start(options).await?;
        way.before_processor(&exchange).await?;
        let mut consumer = exchange.consumer()?;
        let mut request = consumer.request("Go on");
        request["max_tokens"] = json!(200);
        if knows {
            consumer.chat(&request).await?;
        }
        silent.store(true, Ordering::SeqCst);
        assert!(consumer.chat(&request).await.is_err(), "nobody answers");
        exchange.stop_gateway().await?;
        silent.store(false, Ordering::SeqCst);
        exchange.start_gateway().await?;
        consumer = exchange.consumer()?;
        consumer.chat(&request).await?;
        undoubted(&consumer).await?;
        exchange.stop().await?;
    }
    Ok(())
}

/// Who goes away while an order waits for its answer is heard at once.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_waited_for_who_went_away() -> Result<()> {
    let way = Way::open(|seen| if seen.is_order() { Fate::Silent } else { Fate::Pass }).await?;
    let mut options = Options::instant(Script::default())?;
    options.gateway = Box::new(|config| config.first_patience = LONG);
    let exchange = Exchange::start(options).await?;
    way.before_processor(&exchange).await?;
    let consumer = exchange.consumer()?;
    let asked = tokio::time::timeout(Duration::from_secs(2), consumer.ask("Go on")).await;
    assert!(asked.is_err(), "nobody answers");
    let http = gristmill_net::http::client()?;
    let url = format!("{}/metrics", exchange.base_url().trim_end_matches("/v1"));
    eventually(|| async {
        let metrics = http.get(&url).send().await?.text().await?;
        let gone = |line: &str| line.contains("requests_total{") && line.contains("\"gone\"} 1");
        ensure!(metrics.lines().any(gone), "it is still waited for");
        Ok(())
    })
    .await?;
    exchange.stop().await
}
