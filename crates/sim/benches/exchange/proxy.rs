//! A server that answers at once, behind four ways: nothing, a plain hop, LiteLLM's proxy, and a gateway
//! with a processor that sells it. What each adds, and how many requests a core carries.

use crate::{
    cpu::{self, Snapshot},
    report::{Figure, Report, median, percentile},
    unpaid,
};
use anyhow::{Context as _, Result, bail, ensure};
use gristmill_sim::{Answers, Consumer, Exchange, InstantEngine, ModelOptions, Options, Script};
use gristmill_types::{Amount, ModelId, Prices};
use gristmill_upstream::{Limit, Patience, Upstream};
use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const GROUP: &str = "proxy";
const MODEL: &str = "bench/upstream";
/// What the server answers: some words, a chunk for each letter.
const ANSWER: &str = "four thousand two hundred seven";
/// Requests at a time, to keep a proxy busy.
const BUSY: usize = 16;
/// How long a proxy may take to start.
const START: Duration = Duration::from_secs(120);
/// LiteLLM does not start without a key that looks strong. It listens on the loopback interface, for this run.
const MASTER_KEY: &str = "sk-bench-of-an-instant-server-4f1d0c7a92e84b63";
/// What the bench looks for, and says how to get.
const LITELLM: &str = "target/litellm/bin/litellm";

pub(crate) async fn measure(report: &mut Report, folder: &Path) -> Result<()> {
    let script = Script { answers: Answers::Text(ANSWER.to_owned()), ..Script::default() };
    let server = unpaid::server(Arc::new(InstantEngine::starter(script)?), ModelId::new([1; 32])).await?;
    let hop = unpaid::hop(&server).await?;
    let upstream = Upstream::new(
        server.base_url().trim_end_matches("/v1").parse().map_err(|error| anyhow::anyhow!("{error}"))?,
        None,
        gristmill_upstream::Options {
            model: MODEL.to_owned(),
            context_bytes: 16_384,
            context_tokens: None,
            explains: true,
            completes: true,
            limit: Limit::MaxTokens,
            max_running: 64,
            patience: Patience::default(),
        },
    )?;
    let prices = Prices { output_per_mtok: Amount::from_credits(5), ..Prices::default() };
    let model = ModelOptions { prices, ..ModelOptions::new(MODEL, Arc::new(upstream)) };
    let mut options = Options::new(vec![model]);
    options.parent = Some(folder.to_owned());
    let exchange = Exchange::start(options).await?;
    let direct = Consumer::new(&server.base_url(), "none", MODEL)?;
    let plain = Consumer::new(&hop.base_url(), "none", MODEL)?;
    let paid = exchange.consumer()?;
    let litellm = match Litellm::start(folder, &server.base_url()) {
        Ok(started) => Some(started),
        Err(error) => {
            report.note(format!("LiteLLM's proxy is left out: {error:#}"));
            None
        }
    };
    let peer = litellm.as_ref().map(|peer| Consumer::new(&peer.base_url(), MASTER_KEY, MODEL)).transpose()?;
    let mut ways: Vec<(&str, &Consumer)> = vec![("direct", &direct), ("hop", &plain), ("paid", &paid)];
    if let (Some(peer), Some(started)) = (&peer, &litellm) {
        started.wait(peer).await?;
        ways.push(("litellm", peer));
    }
    for _ in 0..20 {
        for (_, way) in &ways {
            whole(way).await?;
        }
    }
    let latencies = latencies(&ways, report.times(300, 40)).await?;
    let of = |name: &str| ways.iter().position(|(way, _)| *way == name).and_then(|at| latencies.get(at));
    let direct_times = of("direct").context("a way")?;
    for percent in [50, 99] {
        let added =
            |name: &str| of(name).map(|times| percentile(times, percent) - percentile(direct_times, percent));
        let ours = added("paid").context("a way")?;
        let name = format!("an instant server sold: a whole answer takes longer by, p{percent}");
        let mut figure =
            Figure::new(GROUP, name, ours, "ms").beside("a plain hop", added("hop").context("a way")?);
        if let Some(litellm) = added("litellm") {
            figure = figure.beside("LiteLLM's proxy", litellm);
        }
        report.add(figure);
    }
    let count = report.times(4_000, 400);
    let mut costs = Vec::new();
    for (name, way) in &ways {
        let before = (Snapshot::take(), litellm.as_ref().map(Litellm::micros).transpose()?);
        let sent = if *name == "litellm" { count / 10 } else { count };
        busy(way, sent).await?;
        // Approvals and what is settled for these requests belong to them.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let after = Snapshot::take();
        let of = |party: &cpu::Party| after.micros_since(&before.0, party);
        let micros = match *name {
            "hop" => of(&cpu::PLAIN_HOP),
            "paid" => of(&cpu::GATEWAY) + of(&cpu::PROCESSOR),
            "litellm" => litellm.as_ref().context("a way")?.micros()? - before.1.context("a way")?,
            _ => of(&cpu::PLAIN_SERVER),
        };
        costs.push((*name, 1e6 * sent as f64 / micros));
    }
    let rate = |name: &str| costs.iter().find(|(way, _)| *way == name).map(|(_, rate)| *rate);
    let name = "an instant server sold: requests per second of one core, gateway and processor";
    let mut figure = Figure::new(GROUP, name, rate("paid").context("a way")?, "/s")
        .beside("a plain hop", rate("hop").context("a way")?);
    if let Some(litellm) = rate("litellm") {
        figure = figure.beside("LiteLLM's proxy", litellm);
    }
    report.add(figure);
    exchange.stop().await
}

/// Milliseconds of whole answers, one after the other, the ways in turns.
async fn latencies(ways: &[(&str, &Consumer)], rounds: usize) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            let started = Instant::now();
            whole(way).await?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    ensure!(times.iter().all(|times| median(times) > 0.0), "no times");
    Ok(times)
}

/// One streamed answer, read to its end.
async fn whole(consumer: &Consumer) -> Result<()> {
    let (text, _) = consumer.stream(&consumer.request("Spell 4207 in English")).await?.rest().await?;
    ensure!(text == ANSWER, "another answer: {text}");
    Ok(())
}

/// So many answers, some at a time.
async fn busy(consumer: &Consumer, count: usize) -> Result<()> {
    let tasks: Vec<_> = (0..BUSY)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move {
                for _ in 0..count / BUSY {
                    whole(&consumer).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// LiteLLM's proxy in front of the server.
struct Litellm {
    child: Child,
    port: u16,
}

impl Litellm {
    fn start(folder: &Path, server: &str) -> Result<Self> {
        let program = std::env::var_os("LITELLM").map_or_else(|| workspace().join(LITELLM), PathBuf::from);
        if !program.exists() {
            bail!(
                "{} is not there; python3 -m venv target/litellm && target/litellm/bin/pip install 'litellm[proxy]'",
                program.display()
            );
        }
        let config = folder.join("litellm.yaml");
        let text = format!(
            "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n      api_base: {server}\n      api_key: none\n"
        );
        std::fs::write(&config, text)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--num_workers",
                "1",
                "--telemetry",
                "False",
            ])
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_MASTER_KEY", MASTER_KEY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting LiteLLM's proxy")?;
        Ok(Self { child, port })
    }

    fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    async fn wait(&self, consumer: &Consumer) -> Result<()> {
        let started = Instant::now();
        loop {
            match whole(consumer).await {
                Ok(()) => return Ok(()),
                Err(error) if started.elapsed() > START => {
                    return Err(error).context("LiteLLM's proxy does not answer");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Processor time that it has used so far.
    fn micros(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        // User and system time, in ticks of a hundredth of a second.
        Ok((ticks(11) + ticks(12)) * 1e4)
    }
}

impl Drop for Litellm {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}
