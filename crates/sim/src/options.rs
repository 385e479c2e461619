//! How an exchange is set up.

use crate::instant::{InstantEngine, Script};
use anyhow::Result;
use gristmill_engine::Engine;
use gristmill_ledger::{GenesisBalance, Params};
use gristmill_processor::Compute;
use gristmill_tokenizer::Tokenizer;
use gristmill_types::{Amount, Prices};
use std::{fmt, path::PathBuf, sync::Arc};

/// What each of consumer, issuer, modeler and processor holds at the start.
pub const ISSUED: Amount = Amount::from_credits(100_000);

/// An exchange's settings.
pub struct Options {
    /// The ledger's parameters.
    pub params: Params,
    /// Balances of the genesis beside those of the members.
    pub balances: Vec<GenesisBalance>,
    /// The models that are published and served.
    pub models: Vec<ModelOptions>,
    /// Changes the processor's settings, at each of its starts.
    pub processor: Box<dyn Fn(&mut gristmill_processor::Config) + Send + Sync>,
    /// Changes the gateway's settings, at each of its starts.
    pub gateway: Box<dyn Fn(&mut gristmill_gateway::Config) + Send + Sync>,
    /// Where the gateway finds the ledger, given the URL of its node.
    pub ledger: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// Where the processor does.
    pub processor_ledger: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// What the API key may spend.
    pub budget: Amount,
    /// Worker threads of each side's runtime.
    pub workers: usize,
    /// Where the temporary folder is made; the system's place for such things by default.
    pub parent: Option<PathBuf>,
}

/// A model on offer.
#[derive(Clone)]
pub struct ModelOptions {
    /// Its line's name.
    pub name: String,
    /// What answers.
    pub compute: Compute,
    /// What the processor asks.
    pub prices: Prices,
    /// The modeler's part, in hundredths of a percent.
    pub royalty_bps: u16,
}

impl ModelOptions {
    /// A model of the usual prices (10 and 20 credits per million tokens) and a royalty of 10 %.
    pub fn new(name: &str, engine: Arc<dyn Engine>) -> Self {
        let prices = Prices {
            input_per_mtok: Amount::from_credits(10),
            output_per_mtok: Amount::from_credits(20),
            ..Prices::default()
        };
        Self { name: name.to_owned(), compute: Compute::Answers(engine), prices, royalty_bps: 1_000 }
    }

    pub(crate) fn class(&self) -> &str {
        match &self.compute {
            Compute::Answers(engine) => &engine.info().class,
            Compute::Embeddings(embedder) => &embedder.info().class,
        }
    }

    pub(crate) fn tokenizer(&self) -> &Arc<Tokenizer> {
        match &self.compute {
            Compute::Answers(engine) => engine.tokenizer(),
            Compute::Embeddings(embedder) => embedder.tokenizer(),
        }
    }
}

impl Options {
    /// An exchange with these models and the usual settings.
    pub fn new(models: Vec<ModelOptions>) -> Self {
        Self {
            params: Params::default(),
            balances: Vec::new(),
            models,
            processor: Box::new(|_| {}),
            gateway: Box::new(|_| {}),
            ledger: Box::new(str::to_owned),
            processor_ledger: Box::new(str::to_owned),
            budget: ISSUED,
            workers: 2,
            parent: None,
        }
    }

    /// An exchange with one model, `sim/instant`, which answers as the script says.
    pub fn instant(script: Script) -> Result<Self> {
        let engine = Arc::new(InstantEngine::starter(script)?);
        Ok(Self::new(vec![ModelOptions::new("sim/instant", engine)]))
    }
}

impl fmt::Debug for ModelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("models", &self.models).finish_non_exhaustive()
    }
}
