//! The measurements of `crates/sim/benches/exchange`, run as the product runs: optimised, and with one
//! thread of candle's pool less than there are cores.

use anyhow::{Context as _, Result, bail};

/// Read by candle, once; what is set already stands.
const ENGINE_THREADS: &str = "CANDLE_NUM_THREADS";

/// Passes the arguments on.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut command = crate::workspace::cargo();
    command.args(["bench", "--package", "gristmill-sim", "--bench", "exchange", "--"]).args(arguments);
    command.env(ENGINE_THREADS, threads().to_string());
    let status = command.status().with_context(|| format!("{command:?} did not start"))?;
    if !status.success() {
        bail!("the measurements ended with {status}");
    }
    Ok(())
}

/// One less than there are cores, and at least one.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}
