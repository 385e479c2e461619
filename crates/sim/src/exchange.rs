//! The exchange itself: its parts, in which order they start, stop and end.

use crate::{
    consumer::Consumer,
    journal::{Journal, Occurrence},
    keys::Keys,
    options::{ISSUED, ModelOptions, Options},
    side::{Side, threads},
};
use anyhow::{Context as _, Result, ensure};
use gristmill_chain::{Node, NodeHandle};
use gristmill_client::{Client, Sender};
use gristmill_gateway::Handle as Gateway;
use gristmill_ledger::{
    Genesis, GenesisBalance, GenesisIssuer, GenesisValidator,
    tx::{PublishModel, RegisterForeign},
};
use gristmill_processor::{Handle as Processor, ServedModel};
use gristmill_proof::Trust;
use gristmill_types::{
    AccountId, Amount, Manifest, ManifestFile, ModelId, SecretKey, UPSTREAM_CLASS, sha256,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// A running exchange. The methods that give a side's handle panic while that side is down.
pub struct Exchange {
    options: Options,
    keys: Keys,
    genesis: Genesis,
    ledger: Client,
    api_key: String,
    journal: Journal,
    /// Where each side listens, kept over its restarts.
    addresses: [SocketAddr; 2],
    // In the order in which they are dropped.
    gateway: Option<Side<Gateway>>,
    processor: Option<Side<Processor>>,
    node: Side<NodeHandle>,
    folder: TempDir,
}

/// The version of a model that answers as its engine does: there are no files behind it.
fn manifest(model: &ModelOptions) -> Manifest {
    let content = model.name.as_bytes();
    let file = ManifestFile {
        path: "sim".to_owned(),
        bytes: content.len() as u64,
        sha256: sha256(&[content, model.class().as_bytes()]),
    };
    Manifest::new(vec![file], model.tokenizer().digest())
}

impl Exchange {
    /// Starts all parts, publishes the models and puts them on the processor's shelf.
    pub async fn start(options: Options) -> Result<Self> {
        let keys = Keys::default();
        let genesis = genesis(&options, &keys)?;
        let folder = match &options.parent {
            Some(parent) => TempDir::new_in(parent),
            None => TempDir::new(),
        }?;
        let (config, of, key) = (
            gristmill_chain::Config::new(folder.path().join("ledger")),
            genesis.clone(),
            keys.validator.clone(),
        );
        let node = Side::start(threads::LEDGER, options.workers, Node::start(config, of, key)).await?;
        let ledger = Client::new(&node.handle().url(), Trust::from_genesis(&genesis)?)?;
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut exchange = Self {
            options,
            keys,
            genesis,
            ledger,
            api_key: String::new(),
            journal: Journal::default(),
            addresses: [anywhere; 2],
            gateway: None,
            processor: None,
            node,
            folder,
        };
        exchange.publish().await?;
        exchange.start_processor().await?;
        exchange.start_gateway().await?;
        exchange.api_key = exchange.create_key(exchange.options.budget).await?;
        Ok(exchange)
    }

    async fn publish(&self) -> Result<()> {
        let modeler = self.sender(&self.keys.modeler);
        for model in &self.options.models {
            let manifest = manifest(model);
            if model.class().starts_with(UPSTREAM_CLASS) {
                let register = |salt| RegisterForeign {
                    model: manifest.id(),
                    name: model.name.clone(),
                    licence: "MIT".to_owned(),
                    tokenizer: manifest.tokenizer(),
                    engine: "upstream-openai".to_owned(),
                    size_bytes: manifest.bytes(),
                    salt,
                };
                modeler.publish(register).await.with_context(|| format!("registering {}", model.name))?;
                continue;
            }
            let publish = |salt| PublishModel {
                model: manifest.id(),
                name: model.name.clone(),
                licence: "MIT".to_owned(),
                royalty_bps: model.royalty_bps,
                parents: Vec::new(),
                tokenizer: manifest.tokenizer(),
                engine: model.class().to_owned(),
                size_bytes: manifest.bytes(),
                salt,
            };
            modeler.publish(publish).await.with_context(|| format!("publishing {}", model.name))?;
        }
        Ok(())
    }

    /// A client of its own for each side: connections live on the runtime that opened them.
    fn client(&self, at: &dyn Fn(&str) -> String) -> Result<Client> {
        Ok(Client::new(&at(self.ledger.url()), self.ledger.trust().clone())?)
    }

    fn side_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Starts the processor, for the first time or again, and fills its shelf.
    pub async fn start_processor(&mut self) -> Result<()> {
        ensure!(self.processor.is_none(), "the processor is running; stop or kill it first");
        let (account, receipts) = (self.keys.processor.clone(), self.keys.receipts.clone());
        let folder = self.side_folder("processor")?;
        let [listen, _] = self.addresses;
        let mut config = gristmill_processor::Config::new(listen, folder, account, receipts, self.issuer());
        (self.options.processor)(&mut config);
        let client = self.client(&self.options.processor_ledger)?;
        let (genesis, models) = (self.genesis.clone(), self.options.models.clone());
        let start = async move {
            let processor = gristmill_processor::start(config, client, genesis).await?;
            for model in models {
                let served = ServedModel {
                    id: manifest(&model).id(),
                    tokenizer: Arc::clone(model.tokenizer()),
                    name: model.name,
                    compute: model.compute,
                    prices: model.prices,
                };
                processor.serve(served).await?;
            }
            anyhow::Ok(processor)
        };
        let side = Side::start(threads::PROCESSOR, self.options.workers, start).await?;
        self.addresses[0] = side.handle().address();
        self.journal.keep(side.handle().events(), Occurrence::Processor);
        self.processor = Some(side);
        Ok(())
    }

    /// Starts the gateway, for the first time or again.
    pub async fn start_gateway(&mut self) -> Result<()> {
        ensure!(self.gateway.is_none(), "the gateway is running; stop or kill it first");
        let (account, vouchers) = (self.keys.consumer.clone(), self.keys.vouchers.clone());
        let folder = self.side_folder("gateway")?;
        let [_, listen] = self.addresses;
        let mut config = gristmill_gateway::Config::new(
            listen,
            folder,
            account.account(),
            account,
            vouchers,
            self.issuer(),
        );
        (self.options.gateway)(&mut config);
        let client = self.client(&self.options.ledger)?;
        let genesis = self.genesis.clone();
        let journal = self.journal.clone();
        let start = async move {
            let gateway = gristmill_gateway::start(config, client, genesis).await?;
            journal.keep(gateway.events(), Occurrence::Gateway);
            gateway.resume().await?;
            anyhow::Ok(gateway)
        };
        let side = Side::start(threads::GATEWAY, self.options.workers, start).await?;
        self.addresses[1] = side.handle().address();
        self.gateway = Some(side);
        Ok(())
    }

    /// Stops the processor: running answers end, what is approved is settled.
    pub async fn stop_processor(&mut self) -> Result<()> {
        let side = self.processor.take().context("the processor is not running")?;
        side.stop(Processor::stop).await
    }

    /// Stops the gateway: running answers end, what is reserved is released.
    pub async fn stop_gateway(&mut self) -> Result<()> {
        let side = self.gateway.take().context("the gateway is not running")?;
        Ok(side.stop(Gateway::stop).await??)
    }

    /// Ends the processor where it stands.
    pub async fn kill_processor(&mut self) -> Result<()> {
        self.processor.take().context("the processor is not running")?.kill().await;
        Ok(())
    }

    /// Ends the gateway where it stands.
    pub async fn kill_gateway(&mut self) -> Result<()> {
        self.gateway.take().context("the gateway is not running")?.kill().await;
        Ok(())
    }

    /// Stops what runs: the gateway first, the ledger last, so that everything to be paid is paid.
    pub async fn stop(mut self) -> Result<()> {
        if self.gateway.is_some() {
            self.stop_gateway().await?;
        }
        if self.processor.is_some() {
            self.stop_processor().await?;
        }
        self.node.stop(NodeHandle::stop).await
    }

    /// The gateway's endpoint for OpenAI clients.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addresses[1])
    }

    /// The processor's URL.
    pub fn processor_url(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// The API key that was made at the start.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// Another API key with a budget of its own.
    pub async fn create_key(&self, budget: Amount) -> Result<String> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("key {}", MADE.fetch_add(1, Ordering::Relaxed));
        Ok(self.gateway().create_key(&name, budget).await?)
    }

    /// A consumer with the first API key who asks for the first model.
    pub fn consumer(&self) -> Result<Consumer> {
        let model = self.options.models.first().context("the exchange has no model")?;
        Consumer::new(&self.base_url(), &self.api_key, &model.name)
    }

    /// The test's own client of the ledger.
    pub const fn ledger(&self) -> &Client {
        &self.ledger
    }

    /// Sends transactions for one of the members. A member whose side runs has a sender there, too:
    /// two that count for themselves disturb each other.
    pub fn sender(&self, key: &SecretKey) -> Sender {
        Sender::new(self.ledger.clone(), key.clone(), self.issuer())
    }

    /// The ledger's node.
    pub fn node(&self) -> &NodeHandle {
        self.node.handle()
    }

    /// The running processor.
    pub fn processor(&self) -> &Processor {
        self.processor.as_ref().expect("the processor is running").handle()
    }

    /// The running gateway.
    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("the gateway is running").handle()
    }

    /// What both sides told so far.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Everybody's keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whose credits are used.
    pub fn issuer(&self) -> AccountId {
        self.keys.issuer.account()
    }

    /// The ledger's genesis.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The version of a model, by its place in the options.
    pub fn model(&self, index: usize) -> ModelId {
        manifest(&self.options.models[index]).id()
    }

    /// The folder with the sides' folders `ledger`, `processor` and `gateway`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn genesis(options: &Options, keys: &Keys) -> Result<Genesis> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let issuer = keys.issuer.account();
    let balance = |key: &SecretKey| GenesisBalance { account: key.account(), issuer, amount: ISSUED };
    let members = [&keys.consumer, &keys.issuer, &keys.modeler, &keys.processor];
    let mut balances: Vec<GenesisBalance> = members.into_iter().map(balance).collect();
    balances.extend(options.balances.iter().cloned());
    let genesis = Genesis {
        name: "sim".to_owned(),
        time_ms: u64::try_from(now.as_millis())?,
        fee_account: keys.validator.account(),
        issuers: vec![GenesisIssuer {
            account: issuer,
            name: "sim".to_owned(),
            cap: Amount::from_credits(1_000_000_000),
            daily_limit: Amount::from_credits(1_000_000),
        }],
        balances,
        validators: vec![GenesisValidator { key: keys.validator.account(), address: None }],
        params: options.params.clone(),
    };
    genesis.check()?;
    Ok(genesis)
}
