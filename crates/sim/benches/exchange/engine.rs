//! Tokens per second, beside llama.cpp on the same file, and beside what the memory's bandwidth allows.

use crate::{
    llama::{MISSING, Peer},
    model,
    report::{Figure, Report, median},
};
use anyhow::{Context as _, Result};
use gristmill_audit::Seed;
use gristmill_engine::{CandleEngine, Engine as _, Event, Job, Precision};
use gristmill_types::Sampling;
use std::{hint::black_box, path::Path, time::Instant};

const PREFILL: usize = 1_024;
const OUTPUT: u32 = 128;
/// What is read to measure the bandwidth: more than any cache holds.
const BYTES: usize = 1 << 29;

/// What both sides are asked, with the names of the figures.
const WORK: [(&str, Work); 3] = [
    ("decode at batch 1, tokens per second", Work::Decode(1)),
    ("decode at batch 8, tokens per second", Work::Decode(8)),
    ("prefill of 1024, tokens per second", Work::Prefill),
];

#[derive(Clone, Copy)]
enum Work {
    Decode(usize),
    Prefill,
}

pub(crate) fn measure(report: &mut Report, folder: &Path) -> Result<()> {
    let threads = std::env::var("CANDLE_NUM_THREADS").ok().and_then(|count| count.parse().ok());
    let threads: usize = threads.unwrap_or(report.machine.cores);
    for precision in [Precision::Q8_0, Precision::Q4K] {
        let path = folder.join("engine.gguf");
        model::write(&path, precision)?;
        measure_file(report, &path, precision, threads)?;
    }
    Ok(())
}

fn measure_file(report: &mut Report, path: &Path, precision: Precision, threads: usize) -> Result<()> {
    let group = match precision {
        Precision::F32 => "engine: 100 M parameters, f32",
        Precision::Q8_0 => "engine: 100 M parameters, q8_0",
        Precision::Q4K => "engine: 100 M parameters, q4_k",
    };
    let engine = model::open(path)?;
    let mut peer = Peer::start(path, threads)?;
    let repeats = report.times(7, 3);
    // Everything is touched once before it counts.
    for (_, work) in WORK {
        ours(&engine, work)?;
        peer.as_mut().map(|peer| theirs(peer, work)).transpose()?;
    }
    let (mut read, mut own, mut other) = (0.0, [const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    // In turns, so that all see the same machine.
    for _ in 0..repeats {
        // A limit is the best that was seen.
        read = bandwidth(threads)?.max(read);
        for (at, (_, work)) in WORK.into_iter().enumerate() {
            own[at].push(ours(&engine, work)?);
            if let Some(peer) = &mut peer {
                other[at].push(theirs(peer, work)?);
            }
        }
    }
    let one = median(&own[0]);
    for (at, (name, work)) in WORK.into_iter().enumerate() {
        let mut figure = Figure::new(group, name, median(&own[at]), "/s");
        if let Some(peer) = &peer {
            figure =
                figure.beside(format!("llama.cpp (llama-cpp-python {})", peer.version), median(&other[at]));
        }
        report.add(match work {
            Work::Decode(1) => figure.beside("what the memory allows", read / model::weight_bytes(precision)),
            Work::Decode(_) => figure.beside("batch 1", one),
            Work::Prefill => figure.beside("decode at batch 1", one),
        });
    }
    let name = format!("memory read by {threads} thread(s)");
    report.add(Figure::new(group, name, read / 1e9, "GB/s"));
    report.add(Figure::new(group, "weights read by a step", model::weight_bytes(precision) / 1e6, "MB"));
    if peer.is_none() {
        report.note(MISSING);
    }
    Ok(())
}

/// Tokens per second.
fn ours(engine: &CandleEngine, work: Work) -> Result<f64> {
    match work {
        Work::Decode(batch) => decode(engine, batch),
        Work::Prefill => prefill(engine),
    }
}

/// Tokens per second.
fn theirs(peer: &mut Peer, work: Work) -> Result<f64> {
    match work {
        Work::Decode(batch) => peer.decode(batch, OUTPUT),
        Work::Prefill => peer.prefill(PREFILL),
    }
}

fn job(prompt: usize, output: u32) -> Job {
    // Ids of letters; the length of the prompt is what counts.
    let prompt_ids = (0..prompt).map(|index| 40 + u32::try_from(index % 50).unwrap_or_default()).collect();
    let sampling = Sampling {
        temperature_micros: 0,
        top_k: 1,
        top_p_micros: 1_000_000,
        max_tokens: output,
        stop: Vec::new(),
    };
    let window = usize::try_from(output).unwrap_or(usize::MAX);
    Job {
        prompt_ids,
        sampling,
        seed: Seed::new([1; 32]),
        window,
        stop_at_eos: false,
        top_logprobs: None,
        source: None,
    }
}

/// Tokens per second while all answers of the batch run.
fn decode(engine: &CandleEngine, batch: usize) -> Result<f64> {
    let jobs = (0..batch).map(|_| engine.start(job(16, OUTPUT))).collect::<Result<Vec<_>, _>>()?;
    let readers: Vec<_> = jobs
        .into_iter()
        .map(|mut answer| {
            std::thread::spawn(move || {
                let mut times = Vec::new();
                while let Some(event) = answer.blocking_next() {
                    if let Event::Piece { ids, .. } = event {
                        times.extend(ids.iter().map(|_| Instant::now()));
                    }
                }
                times
            })
        })
        .collect();
    let mut answers = Vec::new();
    for reader in readers {
        answers.push(reader.join().ok().context("a reader panicked")?);
    }
    let begun = answers.iter().filter_map(|times| times.first()).max().context("no answer came")?;
    let ended = answers.iter().filter_map(|times| times.last()).min().context("no answer came")?;
    let tokens = answers.iter().flatten().filter(|at| *at > begun && *at <= ended).count();
    Ok(tokens as f64 / ended.duration_since(*begun).as_secs_f64())
}

fn prefill(engine: &CandleEngine) -> Result<f64> {
    let started = Instant::now();
    let mut answer = engine.start(job(PREFILL, 1))?;
    answer.blocking_next().context("no answer came")?;
    Ok(PREFILL as f64 / started.elapsed().as_secs_f64())
}

/// Bytes per second that so many threads read.
fn bandwidth(threads: usize) -> Result<f64> {
    let share = BYTES / 8 / threads.max(1);
    let parts: Vec<Vec<u64>> = (0..threads.max(1)).map(|_| (0..share as u64).collect()).collect();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for part in &parts {
            scope.spawn(move || black_box(sum(black_box(part))));
        }
    });
    Ok((share * 8 * parts.len()) as f64 / started.elapsed().as_secs_f64())
}

/// Four places at a time and eight sums at each, so that neither the memory nor an addition is waited for.
fn sum(part: &[u64]) -> [u64; 8] {
    let (left, right) = part.split_at(part.len() / 2);
    let ((a, b), (c, d)) = (left.split_at(left.len() / 2), right.split_at(right.len() / 2));
    let places = a.chunks_exact(8).zip(b.chunks_exact(8)).zip(c.chunks_exact(8).zip(d.chunks_exact(8)));
    let mut sums = [0_u64; 8];
    for ((a, b), (c, d)) in places {
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = sum.wrapping_add(a[at]).wrapping_add(b[at]).wrapping_add(c[at]).wrapping_add(d[at]);
        }
    }
    sums
}
