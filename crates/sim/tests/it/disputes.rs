//! What the ledger's grace is for: claims without an approval, claims above a receipt, and a payer
//! that wants its deposit back in the middle of an answer.

use crate::way::{Fate, Seen, Way};
use anyhow::{Context as _, Result};
use gristmill_client::{ChannelRecords, Sender};
use gristmill_gateway::Event as GatewayEvent;
use gristmill_ledger::{
    Body, decode_tx, keys,
    record::{ChannelState, Model, Stored as _},
    tx::{ClaimProof, MaturedLane, Settle, SettleClaim, Withdraw},
};
use gristmill_net::peer::{ChannelState as Copy, LaneState};
use gristmill_sim::{Answers, Consumer, Exchange, Occurrence, Options, Script};
use gristmill_types::{Amount, ChannelId, LineId};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const GRACE_MS: u64 = 1_500;
const LONG: Duration = Duration::from_secs(3_600);

/// An exchange with a short grace whose processor settles nothing by itself.
fn options(script: Script, approval_patience: Duration) -> Result<Options> {
    let mut options = Options::instant(script)?;
    options.params.min_grace_ms = 100;
    options.params.default_grace_ms = GRACE_MS;
    options.processor = Box::new(move |config| {
        config.settle_after = LONG;
        config.settle_at_latest = LONG;
        config.approval_patience = approval_patience;
    });
    Ok(options)
}

async fn exchange(script: Script, approval_patience: Duration) -> Result<Exchange> {
    Exchange::start(options(script, approval_patience)?).await
}

/// The same, with a way between the gateway and the ledger.
async fn exchange_over(way: Way, script: Script, look_every: Duration) -> Result<Exchange> {
    let mut options = options(script, LONG)?;
    options.ledger = way.before_ledger();
    options.gateway = Box::new(move |config| config.look_every = look_every);
    Exchange::start(options).await
}

fn slowly() -> Script {
    Script { pace: Duration::from_millis(5), ..Script::default() }
}

pub(crate) fn grains(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no amount: {value}"))
}

pub(crate) async fn channel(consumer: &Consumer) -> Result<Value> {
    Ok(consumer.get("/channels").await?["channels"][0].clone())
}

pub(crate) async fn channel_id(consumer: &Consumer) -> Result<ChannelId> {
    Ok(channel(consumer).await?["id"].as_str().context("there is a channel")?.parse()?)
}

async fn records(exchange: &Exchange, id: &ChannelId) -> Result<ChannelRecords> {
    exchange.ledger().channel(id).await?.value.context("the ledger has the channel")
}

/// What the processor holds of the channel's lanes.
async fn lanes_at_processor(exchange: &Exchange, id: &ChannelId) -> Result<Vec<LaneState>> {
    let url = format!("{}/v1/channels/{id}", exchange.processor_url());
    let body = gristmill_net::http::client()?.get(url).send().await?.bytes().await?;
    Ok(Copy::parse(&body)?.lanes)
}

/// What it holds of the first.
pub(crate) async fn lane_at_processor(exchange: &Exchange, id: &ChannelId) -> Result<LaneState> {
    lanes_at_processor(exchange, id).await?.into_iter().next().context("the processor has the lane")
}

/// Tries until it works, or time is up.
pub(crate) async fn eventually<T, F: Future<Output = Result<T>>>(mut check: impl FnMut() -> F) -> Result<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() > until => return Err(error.context("waited in vain")),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn line(exchange: &Exchange) -> Result<LineId> {
    let found = exchange.ledger().state(&[keys::model(&exchange.model(0))]).await?.value;
    Ok(found.iter().flatten().find_map(Model::of).context("the model is published")?.line)
}

/// Claims the whole of the lane's last voucher as the payee, without the receipt that says less.
async fn claim_all(exchange: &Exchange, payee: &Sender, id: &ChannelId, lane: &LaneState) -> Result<Amount> {
    let terms = records(exchange, id).await?.channel.terms;
    let voucher = lane.voucher.as_ref().context("a voucher")?.0.clone();
    let amount = voucher.body.0.amount;
    let proof = ClaimProof::Voucher(voucher);
    let claim = SettleClaim { lines: vec![line(exchange).await?], proof, receipt: None };
    payee.send(Settle { terms, claims: vec![claim], floor: None }).await?;
    Ok(amount)
}

async fn withdraw(exchange: &Exchange, payee: &Sender, id: &ChannelId) -> Result<()> {
    let terms = records(exchange, id).await?.channel.terms;
    let lanes = vec![MaturedLane { lane: 0, lines: vec![line(exchange).await?] }];
    eventually(|| async {
        payee.send(Withdraw { terms, lanes: lanes.clone() }).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_nobody_approves_is_paid_after_the_grace() -> Result<()> {
    let mut exchange = exchange(slowly(), Duration::from_millis(200)).await?;
    let consumer = exchange.consumer()?;
    let mut stream = consumer.stream(&consumer.request("Go on")).await?;
    for _ in 0..100 {
        stream.next().await?.context("the stream goes on")?;
    }
    let id = channel_id(&consumer).await?;
    exchange.kill_gateway().await?;
    drop(stream);
    // The processor claims with voucher and receipt, waits for the ledger's grace, and withdraws.
    let (pending, settled) = eventually(|| async {
        let of = records(&exchange, &id).await?;
        let pending = of.lanes.first().and_then(|lane| lane.pending.clone());
        Ok((pending.context("nothing is pending yet")?, of.channel.settled))
    })
    .await?;
    assert_eq!(settled, Amount::ZERO);
    let paid = eventually(|| async {
        let settled = records(&exchange, &id).await?.channel.settled;
        if settled.is_zero() { Err(anyhow::anyhow!("nothing is settled yet")) } else { Ok(settled) }
    })
    .await?;
    assert_eq!(paid, pending.effective());
    let receipt = lane_at_processor(&exchange, &id).await?.receipt.context("a receipt")?.0;
    assert_eq!(paid, receipt.body.spent, "what was spent and no grain more");

    // The gateway comes back, finds out what it owed, and knows it as paid; nothing is lost.
    exchange.start_gateway().await?;
    eventually(|| async {
        let (of, key) = (channel(&consumer).await?, consumer.get("/key").await?);
        let listed = consumer.get("/receipts").await?;
        anyhow::ensure!(listed["total"] == 1, "{listed}");
        let right = of["in_doubt"] == 0
            && grains(&of["spent"]) == paid.grains()
            && grains(&key["spent"]) == paid.grains()
            && grains(&listed["receipts"][0]["cost"]) == paid.grains()
            && listed["receipts"][0]["kept"] == "nothing";
        anyhow::ensure!(right, "{of} {key} {listed}");
        Ok(())
    })
    .await?;
    let mut short = consumer.request("Go on");
    short["max_tokens"] = json!(5);
    assert_eq!(consumer.chat(&short).await?["usage"]["completion_tokens"], 5);
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_above_the_receipt_is_answered_with_the_receipt() -> Result<()> {
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let mut exchange = exchange(script, LONG).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let id = channel_id(&consumer).await?;
    let lane = lane_at_processor(&exchange, &id).await?;
    let receipt = lane.receipt.as_ref().context("a receipt")?.0.clone();
    exchange.kill_processor().await?;
    let payee = exchange.sender(&exchange.keys().processor);
    let claimed = claim_all(&exchange, &payee, &id, &lane).await?;
    assert!(claimed > receipt.body.spent, "the voucher promised a whole window");
    exchange
        .journal()
        .first(PATIENCE, |of| match of {
            Occurrence::Gateway(GatewayEvent::Warning { message }) => {
                message.contains("the receipt is shown to the ledger").then_some(())
            }
            _ => None,
        })
        .await?;
    capped(&exchange, &id, 0, &lane).await?;
    withdraw(&exchange, &payee, &id).await?;
    assert_eq!(records(&exchange, &id).await?.channel.settled, receipt.body.spent);
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_the_node_hides_is_contested_all_the_same() -> Result<()> {
    let says_nothing =
        |seen: &Seen| if seen.path.starts_with("/v1/events") { Fate::Silent } else { Fate::Pass };
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let way = Way::open(says_nothing).await?;
    let mut exchange = exchange_over(way, script, Duration::from_millis(200)).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let id = channel_id(&consumer).await?;
    let lane = lane_at_processor(&exchange, &id).await?;
    exchange.kill_processor().await?;
    let payee = exchange.sender(&exchange.keys().processor);
    claim_all(&exchange, &payee, &id, &lane).await?;
    capped(&exchange, &id, 0, &lane).await?;
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_cannot_be_contested_keeps_no_other_from_it() -> Result<()> {
    let way = Way::open(|seen| match shown_on(seen) {
        Some(0) => Fate::Refused,
        _ => Fate::Pass,
    })
    .await?;
    // Short answers, of which the vouchers say more than the receipts, at the same time.
    let answers = Answers::Text("forty-two".to_owned());
    let script = Script { answers, prefill: Duration::from_millis(500), ..Script::default() };
    let mut exchange = exchange_over(way, script, LONG).await?;
    let consumer = exchange.consumer()?;
    let request = consumer.request("Spell 42");
    for answer in futures::future::join_all([consumer.chat(&request), consumer.chat(&request)]).await {
        answer?;
    }
    let id = channel_id(&consumer).await?;
    let lanes = lanes_at_processor(&exchange, &id).await?;
    assert_eq!(lanes.len(), 2);
    exchange.kill_processor().await?;
    let payee = exchange.sender(&exchange.keys().processor);
    for lane in &lanes {
        claim_all(&exchange, &payee, &id, lane).await?;
    }
    capped(&exchange, &id, 1, &lanes[1]).await?;
    exchange.stop().await
}

/// What a processor claimed before it was gone is paid out by the payer, who has the rest back.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_gets_out_of_a_channel_whose_processor_is_gone() -> Result<()> {
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let mut exchange = exchange(script, Duration::from_secs(3)).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let id = channel_id(&consumer).await?;
    let lane = lane_at_processor(&exchange, &id).await?;
    exchange.kill_processor().await?;
    exchange.kill_gateway().await?;
    let payee = exchange.sender(&exchange.keys().processor);
    let claimed = claim_all(&exchange, &payee, &id, &lane).await?;
    let payer = exchange.sender(&exchange.keys().consumer);
    let step = || async {
        let found = exchange.ledger().channel(&id).await?;
        let records = found.value.clone().context("the channel is known")?;
        anyhow::Ok(payer.close_channel(&found.map(|_| records)).await?)
    };
    let requested = step().await?;
    assert!(!requested.closed && requested.inclusion.is_some());
    // Until it is time nothing is sent, and nothing is paid for that.
    let waits = step().await?;
    assert!(!waits.closed && waits.inclusion.is_none() && waits.left_ms > 0, "{waits:?}");
    eventually(|| async {
        anyhow::ensure!(step().await?.closed, "it is not time yet");
        Ok(())
    })
    .await?;
    let channel = records(&exchange, &id).await?.channel;
    assert_eq!((channel.state, channel.settled), (ChannelState::Closed, claimed));
    assert_eq!(channel.refunded.grains(), channel.deposit.grains() - claimed.grains());
    assert!(step().await?.closed, "it stays so");
    exchange.stop().await
}

/// The lane on which a receipt is shown, if that is what is sent.
fn shown_on(seen: &Seen) -> Option<u32> {
    let sent: Value = serde_json::from_slice(&seen.body).ok()?;
    let hex = sent["tx"].as_str()?;
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok());
    match decode_tx(&bytes.collect::<Option<Vec<u8>>>()?).ok()?.body.body {
        Body::ShowReceipt(shown) => Some(shown.receipt.body.lane),
        _ => None,
    }
}

/// Waits until the claim that is pending on the lane counts for no more than its receipt says.
async fn capped(exchange: &Exchange, id: &ChannelId, number: usize, lane: &LaneState) -> Result<()> {
    let spent = lane.receipt.as_ref().context("a receipt")?.0.body.spent;
    let claimed = lane.voucher.as_ref().context("a voucher")?.0.body.0.amount;
    anyhow::ensure!(spent < claimed, "nothing is to be contested");
    eventually(|| async {
        let lane = records(exchange, id).await?.lanes.into_iter().nth(number).context("a lane")?;
        let pending = lane.pending.context("a pending claim")?;
        anyhow::ensure!(pending.effective() == spent, "not capped yet");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_contests_counts_against_the_key() -> Result<()> {
    let script = Script { answers: Answers::Text("forty-two".to_owned()), ..Script::default() };
    let mut exchange = exchange(script, LONG).await?;
    let consumer = exchange.consumer()?;
    consumer.ask("Spell 42").await?;
    let id = channel_id(&consumer).await?;
    let lane = lane_at_processor(&exchange, &id).await?;
    exchange.kill_processor().await?;
    exchange.kill_gateway().await?;
    let payee = exchange.sender(&exchange.keys().processor);
    let claimed = claim_all(&exchange, &payee, &id, &lane).await?;
    withdraw(&exchange, &payee, &id).await?;
    assert_eq!(records(&exchange, &id).await?.channel.settled, claimed, "the gateway was away too long");
    exchange.start_processor().await?;
    exchange.start_gateway().await?;
    let key = consumer.get("/key").await?;
    assert_eq!(grains(&key["spent"]), claimed.grains(), "{key}");
    let answer = consumer.ask("Spell 42").await?;
    assert_eq!(answer["choices"][0]["message"]["content"], "forty-two");
    exchange.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_closes_in_mid_stream_pays_for_what_came() -> Result<()> {
    let exchange = exchange(slowly(), LONG).await?;
    let consumer = exchange.consumer()?;
    let account = exchange.keys().consumer.account();
    let balance =
        || async { anyhow::Ok(exchange.ledger().balance(&account, &exchange.issuer()).await?.value) };
    let before = balance().await?;
    let mut stream = consumer.stream(&consumer.request("Go on")).await?;
    for _ in 0..80 {
        stream.next().await?.context("the stream goes on")?;
    }
    let id = channel_id(&consumer).await?;
    let terms = records(&exchange, &id).await?.channel.terms;
    let payer = exchange.sender(&exchange.keys().consumer);
    payer.send(gristmill_ledger::tx::RequestClose { terms }).await?;
    // The answer ends with a receipt, and says why; the processor settles it and closes.
    let error = stream.rest().await.err().context("it breaks off")?.to_string();
    assert!(error.contains("the channel is closing") && error.contains("is paid for"), "{error}");
    let sold = consumer.get("/receipts").await?["receipts"][0].clone();
    assert!(error.contains(sold["id"].as_str().context("an id")?), "{error} {sold}");
    let closed = eventually(|| async {
        let channel = records(&exchange, &id).await?.channel;
        anyhow::ensure!(channel.state == ChannelState::Closed, "not closed yet");
        Ok(channel)
    })
    .await?;
    let tokens = |kind: &str| u128::from(sold[kind].as_u64().unwrap_or_default());
    let cost = tokens("prompt_tokens") * 10_000 + tokens("completion_tokens") * 20_000;
    assert!(tokens("completion_tokens") > 70, "{sold}");
    assert_eq!(closed.settled.grains(), cost);
    assert_eq!(closed.settled.grains() + closed.refunded.grains(), closed.deposit.grains());
    let fees = &exchange.genesis().params.fees;
    let fees = fees.open_channel.grains() + fees.request_close.grains();
    assert_eq!(balance().await?.grains() + cost + fees, before.grains());
    // Both sides forget the channel, the key's budget keeps what it cost, and a new one is opened.
    eventually(|| async {
        let (list, key) = (consumer.get("/channels").await?, consumer.get("/key").await?);
        let right =
            list["channels"] == json!([]) && grains(&key["spent"]) == cost && grains(&key["held"]) == 0;
        anyhow::ensure!(right, "{list} {key}");
        Ok(())
    })
    .await?;
    eventually(|| async {
        anyhow::ensure!(lane_at_processor(&exchange, &id).await.is_err(), "the processor still has it");
        Ok(())
    })
    .await?;
    let mut short = consumer.request("Go on");
    short["max_tokens"] = json!(5);
    assert_eq!(consumer.chat(&short).await?["usage"]["completion_tokens"], 5);
    assert_ne!(channel_id(&consumer).await?, id);
    exchange.stop().await
}
