//! Paid against unpaid: the same engine object, the same requests, in turns.

use crate::{
    cpu::{self, Snapshot},
    machine, model,
    report::{Figure, Report, median, percentile},
    streams::{Ways, timed, together},
    unpaid::{self, Peer},
};
use anyhow::{Result, ensure};
use gristmill_engine::Engine;
use gristmill_sim::{Consumer, Exchange, InstantEngine, ModelOptions, Options, Script};
use std::{path::Path, sync::Arc, time::Duration};

const GROUP: &str = "paying";
const MODEL: &str = "bench/model";
/// Tokens of an answer whose first token or processor time is measured: half of a window.
const TOKENS: usize = 32;
/// From one request to the next, so that what follows an answer disturbs no other.
const PAUSE: Duration = Duration::from_millis(4);
/// Beyond one sync, in milliseconds.
const ALLOWED_MS: f64 = 1.0;
/// Longer than a sync.
const PREFILL: Duration = Duration::from_millis(25);
const STREAMS: usize = 8;
const STREAM_TOKENS: usize = 96;
const MAX_LOSS: f64 = 3.0;

/// An exchange and its unpaid peers over one engine.
struct Setting {
    exchange: Exchange,
    ways: Ways,
    _peers: [Peer; 2],
}

impl Setting {
    async fn start(engine: Arc<dyn Engine>, folder: &Path) -> Result<Self> {
        let mut options = Options::new(vec![ModelOptions::new(MODEL, Arc::clone(&engine))]);
        options.parent = Some(folder.to_owned());
        let exchange = Exchange::start(options).await?;
        let server = unpaid::server(engine, exchange.model(0)).await?;
        let hop = unpaid::hop(&server).await?;
        let ways = Ways {
            direct: Consumer::new(&server.base_url(), "none", MODEL)?,
            hop: Consumer::new(&hop.base_url(), "none", MODEL)?,
            paid: exchange.consumer()?,
        };
        // Connections, the channel, the quote and the tokenizer are there before anything is timed.
        for seed in 0..20 {
            for way in ways.all() {
                timed(way, TOKENS, seed).await?;
            }
        }
        Ok(Self { exchange, ways, _peers: [server, hop] })
    }
}

pub(crate) async fn measure(report: &mut Report, folder: &Path) -> Result<()> {
    let instant = || InstantEngine::starter(Script::default());
    let setting = Setting::start(Arc::new(instant()?), folder).await?;
    first_token(report, &setting, folder, "instant engine", None).await?;
    processor_time(report, &setting).await?;
    setting.exchange.stop().await?;

    let script = Script { prefill: PREFILL, ..Script::default() };
    let setting = Setting::start(Arc::new(InstantEngine::starter(script)?), folder).await?;
    let name = format!("prefill of {} ms", PREFILL.as_millis());
    first_token(report, &setting, folder, &name, Some(ALLOWED_MS)).await?;
    setting.exchange.stop().await?;

    let setting = Setting::start(Arc::new(model::engine()?), folder).await?;
    throughput(report, &setting).await?;
    setting.exchange.stop().await
}

/// Time to the first text. Without a limit, a measured sync and a millisecond are the aim.
async fn first_token(
    report: &mut Report,
    setting: &Setting,
    folder: &Path,
    engine: &str,
    limit_ms: Option<f64>,
) -> Result<()> {
    let rounds = report.times(1_000, 100);
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut syncs = Vec::new();
    for seed in 0..rounds {
        for (way, times) in setting.ways.all().into_iter().zip(&mut times) {
            times.push(timed(way, TOKENS, seed).await?.as_secs_f64() * 1e3);
            tokio::time::sleep(PAUSE).await;
        }
        syncs.extend(machine::syncs(folder, 1)?);
    }
    let [direct, hop, paid] = &times;
    for percent in [50, 99] {
        let at = |times: &[f64]| percentile(times, percent);
        let sync = at(&syncs);
        let added = at(paid) - at(direct);
        let name = format!("{engine}: added time to first token, p{percent}");
        let figure = Figure::new(GROUP, name, added, "ms")
            .beside("a plain hop's", at(hop) - at(direct))
            .beside("one fdatasync", sync);
        report.add(figure.at_most(limit_ms.unwrap_or(sync + ALLOWED_MS)));
        let name = format!("{engine}: time to first token paid, p{percent}");
        report.add(Figure::new(GROUP, name, at(paid), "ms").beside("unpaid", at(direct)));
    }
    Ok(())
}

/// Processor time of each side, one request after the other.
async fn processor_time(report: &mut Report, setting: &Setting) -> Result<()> {
    let rounds = report.times(1_000, 100);
    let mut each = Vec::new();
    for way in [&setting.ways.hop, &setting.ways.paid] {
        let before = Snapshot::take();
        for seed in 0..rounds {
            timed(way, TOKENS, seed).await?;
        }
        // Approvals and what is settled for these requests belong to them.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let after = Snapshot::take();
        each.push(move |party: &cpu::Party| after.micros_since(&before, party) / rounds as f64);
    }
    let [unpaid, paid] = each.as_slice() else { return Ok(()) };
    for (name, party, peer, of) in [
        ("gateway", cpu::GATEWAY, "a plain hop", cpu::PLAIN_HOP),
        ("processor", cpu::PROCESSOR, "a plain server", cpu::PLAIN_SERVER),
    ] {
        let name = format!("instant engine: {name}'s time per request of {TOKENS} tokens");
        report.add(Figure::new(GROUP, name, paid(&party), "µs").beside(peer, unpaid(&of)));
        let store = cpu::Party(&party.0[1..]);
        report.add(Figure::new(GROUP, "  of it the store's writer", paid(&store), "µs"));
    }
    Ok(())
}

/// Tokens per second of several answers at a time on the real engine, in turns.
async fn throughput(report: &mut Report, setting: &Setting) -> Result<()> {
    let rounds = report.times(12, 3);
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut losses: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds {
        let mut at = [0.0; 3];
        let mut tokens = [0; 3];
        // Each way comes first equally often: the machine's other work is not the same at all times.
        for turn in 0..3 {
            let way = (round + turn) % 3;
            let consumer = setting.ways.all()[way];
            let (count, seconds) = together(consumer, STREAMS, STREAM_TOKENS, round * STREAMS).await?;
            (tokens[way], at[way]) = (count, count as f64 / seconds);
            rates[way].push(at[way]);
            tokio::time::sleep(PAUSE * 20).await;
        }
        ensure!(tokens[0] == tokens[1] && tokens[0] == tokens[2], "other answers: {tokens:?}");
        losses[0].push(100.0 * (1.0 - at[2] / at[0]));
        losses[1].push(100.0 * (1.0 - at[1] / at[0]));
    }
    let [direct, hop, paid] = &rates;
    let name = format!("100 M model: tokens per second paid, {STREAMS} streams");
    let figure = Figure::new(GROUP, name, median(paid), "/s").beside("unpaid", median(direct));
    report.add(figure.beside("a plain hop", median(hop)));
    let [loss, hop_loss] = &losses;
    let name = format!("100 M model: throughput lost, {STREAMS} streams, median of pairs");
    report.add(Figure::new(GROUP, name, median(loss), "%").at_most(MAX_LOSS));
    report.add(Figure::new(GROUP, "  a plain hop loses", median(hop_loss), "%"));
    Ok(())
}
