//! One side of the exchange: a runtime of its own, and what runs on it.

use anyhow::{Context as _, Result};
use std::{future::Future, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// How long tasks may take to notice that their runtime ends. They end at their next wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// The names of the threads, so that their processor time can be told apart.
pub mod threads {
    /// The ledger node's server; the validator itself has the names of its own runtime.
    pub const LEDGER: &str = "sim-ledger";
    /// The processor's tasks.
    pub const PROCESSOR: &str = "sim-processor";
    /// The writer of the processor's store.
    pub const PROCESSOR_STORE: &str = "store-processor";
    /// The gateway's tasks.
    pub const GATEWAY: &str = "sim-gateway";
    /// The writer of the gateway's store.
    pub const GATEWAY_STORE: &str = "store-gateway";
}

/// A running side.
pub(crate) struct Side<H> {
    /// None only while it ends.
    parts: Option<(Runtime, H)>,
}

impl<H: Send + 'static> Side<H> {
    /// Starts something on a runtime of its own.
    pub(crate) async fn start<F, E>(name: &'static str, workers: usize, start: F) -> Result<Self>
    where
        F: Future<Output = Result<H, E>> + Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name(name)
            .enable_all()
            .build()
            .with_context(|| format!("starting the threads of {name}"))?;
        let started = runtime.spawn(start).await;
        match started {
            Ok(Ok(handle)) => Ok(Self { parts: Some((runtime, handle)) }),
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error.into()).with_context(|| format!("starting {name}"))
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error).with_context(|| format!("{name} panicked at its start"))
            }
        }
    }

    /// What was started.
    pub(crate) fn handle(&self) -> &H {
        let (_, handle) = self.parts.as_ref().expect("a side has its parts until it ends");
        handle
    }

    /// Runs the clean stop on the side's own threads, then ends them.
    pub(crate) async fn stop<F, T>(mut self, stop: impl FnOnce(H) -> F) -> Result<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (runtime, handle) = self.parts.take().expect("a side has its parts until it ends");
        let stopped = runtime.spawn(stop(handle)).await;
        end(runtime).await;
        stopped.context("a part of the exchange panicked while it stopped")
    }

    /// Ends all tasks where they stand.
    pub(crate) async fn kill(mut self) {
        let (runtime, handle) = self.parts.take().expect("a side has its parts until it ends");
        end(runtime).await;
        // The tasks are gone; with the handle goes the last owner of the store, whose file is closed.
        let dropped = tokio::task::spawn_blocking(move || drop(handle)).await;
        dropped.expect("dropping a handle does not panic");
    }
}

async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await;
    ended.expect("ending a runtime does not panic");
}

impl<H> Drop for Side<H> {
    fn drop(&mut self) {
        if let Some((runtime, handle)) = self.parts.take() {
            // A runtime must not be waited for in async code; a test that failed does not wait at all.
            runtime.shutdown_background();
            drop(handle);
        }
    }
}
