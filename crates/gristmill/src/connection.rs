//! A command's connection to the running exchange's ledger: what it reads is proven against the
//! genesis in the home.

use crate::{
    failure::Failure,
    home::{Home, Running},
};
use anyhow::{Context as _, Result};
use gristmill_client::Client;
use gristmill_ledger::Genesis;
use gristmill_proof::Trust;
use gristmill_types::AccountId;

/// The ledger of the running exchange.
pub(crate) struct Connection {
    pub(crate) running: Running,
    pub(crate) genesis: Genesis,
    pub(crate) ledger: Client,
}

impl Connection {
    /// Connects to the exchange that runs on the home.
    pub(crate) fn open(home: &Home) -> Result<Self> {
        let running = home.running()?;
        let path = home.path("genesis.json");
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let genesis: Genesis = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(format!("{} is damaged: {error}", path.display()))
                .next("restore the home from a backup")
        })?;
        let ledger = Client::new(&running.ledger, Trust::from_genesis(&genesis)?)?;
        Ok(Self { running, genesis, ledger })
    }

    /// The issuers of this ledger, in the genesis' order.
    pub(crate) fn issuers(&self) -> Vec<AccountId> {
        self.genesis.issuers.iter().map(|issuer| issuer.account).collect()
    }

    /// The issuer whose credits are used where a command names none.
    pub(crate) fn issuer(&self) -> Result<AccountId> {
        self.issuers().first().copied().context("the genesis names no issuer")
    }
}
