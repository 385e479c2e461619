//! The peer of the engine: llama.cpp in a process of its own, on the same file and as many threads.

use anyhow::{Context as _, Result, ensure};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const SCRIPT: &str = include_str!("llama_cpp.py");
/// Set by `.ci/llama.sh`.
const PYTHON: &str = "GRISTMILL_LLAMA_PYTHON";

/// What to say where the peer is not there.
pub(crate) const MISSING: &str =
    "llama.cpp is missing, so the engine stands beside its limits only; run `. .ci/llama.sh` to build it";

/// llama.cpp with a model in memory; stopped when dropped.
pub(crate) struct Peer {
    pub(crate) version: String,
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Loads a GGUF file; `None` where llama.cpp is not installed.
    pub(crate) fn start(model: &Path, threads: usize) -> Result<Option<Self>> {
        let Some(python) = std::env::var_os(PYTHON) else { return Ok(None) };
        let mut process = Command::new(python)
            .args(["-c", SCRIPT])
            .arg(model)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting llama.cpp's process")?;
        let orders = process.stdin.take().context("llama.cpp's process has no input")?;
        let answers = BufReader::new(process.stdout.take().context("llama.cpp's process has no output")?);
        let mut peer = Self { version: String::new(), process, orders, answers };
        peer.version = peer.line()?;
        Ok(Some(peer))
    }

    /// Tokens per second.
    pub(crate) fn decode(&mut self, batch: usize, tokens: u32) -> Result<f64> {
        self.measure(&format!("decode {batch} {tokens}"))
    }

    /// Tokens per second.
    pub(crate) fn prefill(&mut self, tokens: usize) -> Result<f64> {
        self.measure(&format!("prefill {tokens}"))
    }

    fn measure(&mut self, order: &str) -> Result<f64> {
        writeln!(self.orders, "{order}").context("telling llama.cpp's process what to measure")?;
        self.line()?.parse().context("llama.cpp's process answers with no number")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "llama.cpp's process ended; see its words above");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
