//! The exchange on one machine: which parts it has, and in which order they start and stop.

use super::damage::{
    check_records, check_whole, gateway_failure, ledger_failed_first, ledger_failure, processor_failure,
    stored_key, unknown_api_key,
};
use crate::{
    failure::Failure,
    home::{Home, Running},
    models, starter,
    up::steps::Steps,
    wallet,
};
use anyhow::{Context as _, Result};
use gristmill_chain::{Node, NodeHandle};
use gristmill_client::{Client, Sender};
use gristmill_engine::Purpose;
use gristmill_ledger::{
    Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params, keys,
    record::{Model, Stored},
    tx::PublishModel,
};
use gristmill_processor::Compute;
use gristmill_proof::Trust;
use gristmill_types::{Amount, ChainId, Manifest, ModelId, Prices, SecretKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::broadcast;

/// How often the home is looked over for models that were published meanwhile.
const WATCH: Duration = Duration::from_secs(1);
/// What the members of a new local exchange begin with.
pub(super) const CONSUMER_CREDITS: u64 = 1_000;
const OTHER_CREDITS: u64 = 10;
/// What it may spend in all; the account's balance is the nearer bound.
const KEY_BUDGET: Amount = Amount::from_credits(1_000_000);

/// Which ports to take; 0 is the one of the last run where it is free, or any free one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) gateway: u16,
    pub(super) ledger: u16,
    pub(super) processor: u16,
}

/// Where the ports of the last run are kept: an endpoint that stays is an endpoint that clients can
/// be set up with, and that need not be registered again.
pub(super) const PORTS: &str = "ports.json";
/// Is there once the gateway spends with a key that has a limit. It never goes back to the wallet's own key by
/// itself: whoever revokes the key wants less to be spent, not more.
pub(crate) const LIMITED: &str = "gateway-limited";
/// Where the ledger's first state is.
pub(super) const GENESIS: &str = "genesis.json";
/// Where the local API key is.
pub(super) const API_KEY: &str = "api-key";
const OPERATOR_KEY: &str = "operator-key";

impl Ports {
    fn or_last(self, home: &Home) -> Self {
        let last = std::fs::read(home.path(PORTS)).ok().map(|text| serde_json::from_slice(&text));
        let last: Self = last.and_then(Result::ok).unwrap_or_else(|| {
            if home.path(PORTS).exists() {
                eprintln!(
                    "warning: {} is damaged; the endpoints may get other ports",
                    home.path(PORTS).display()
                );
            }
            Self::default()
        });
        let choose = |what: &str, wanted: u16, last: u16| match wanted {
            0 if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, last)).is_ok() => last,
            0 => {
                eprintln!("warning: port {last}, which the {what} had, is taken: it gets another");
                0
            }
            wanted => wanted,
        };
        Self {
            gateway: choose("gateway", self.gateway, last.gateway),
            ledger: choose("ledger", self.ledger, last.ledger),
            processor: choose("processor", self.processor, last.processor),
        }
    }
}

/// Something that happened in the exchange.
#[derive(Debug)]
pub(super) enum Occurrence {
    Gateway(gristmill_gateway::Event),
    Processor(gristmill_processor::Event),
    /// A model is served from now on.
    Serving {
        name: String,
        model: ModelId,
    },
}

impl Occurrence {
    /// Whether it needs the owner's eye.
    pub(super) const fn is_warning(&self) -> bool {
        use gristmill_gateway::Event as Gateway;
        use gristmill_processor::Event as Processor;
        matches!(self, Self::Gateway(Gateway::Warning { .. }) | Self::Processor(Processor::Warning { .. }))
    }
}

/// A running exchange.
pub(super) struct Exchange {
    home: Home,
    running: Running,
    prices: Prices,
    node: NodeHandle,
    ledger: Client,
    processor: gristmill_processor::Handle,
    gateway: gristmill_gateway::Handle,
    gateway_events: broadcast::Receiver<gristmill_gateway::Event>,
    processor_events: broadcast::Receiver<gristmill_processor::Event>,
    /// Models in the home that could not be served; said once.
    refused: BTreeSet<ModelId>,
    watch: tokio::time::Interval,
}

struct Keys {
    validator: SecretKey,
    issuer: SecretKey,
    modeler: SecretKey,
    processor: SecretKey,
    receipts: SecretKey,
    consumer: SecretKey,
    vouchers: SecretKey,
}

impl Keys {
    /// The keys of the home's exchange. They are made before its genesis, which names them: once that is
    /// there, a key that is missing was lost.
    fn load(home: &Home) -> Result<Self> {
        let founded = home.path(GENESIS).exists();
        let key = |name| {
            if founded { wallet::load_of_exchange(home, name) } else { wallet::load_or_create(home, name) }
        };
        Ok(Self {
            validator: key("validator")?,
            issuer: key("issuer")?,
            modeler: key("modeler")?,
            processor: key("processor")?,
            receipts: key("processor-receipts")?,
            consumer: key(wallet::CONSUMER)?,
            vouchers: key(wallet::VOUCHERS)?,
        })
    }
}

impl Exchange {
    pub(super) async fn start(home: &Home, ports: &Ports, prices: Prices, steps: Arc<Steps>) -> Result<Self> {
        check_whole(home)?;
        let keys = Keys::load(home)?;
        let genesis = genesis(home, &keys)?;
        // What is damaged is refused before anything is changed.
        check_records(home, &keys.vouchers)?;
        let manifest = starter::install(home)?;
        let ports = ports.or_last(home);

        steps.begin("ledger", "starting the ledger");
        let mut config = gristmill_chain::Config::new(home.folder("ledger")?);
        config.rpc = local(ports.ledger);
        let node = Node::start(config, genesis.clone(), keys.validator.clone()).await;
        let node = node.map_err(|error| ledger_failure(home, &error))?;
        if node.recomputed() > 0 {
            eprintln!(
                "warning: of {} blocks it was missing what they did; it was computed again from the blocks",
                node.recomputed()
            );
        }
        let failed = node.failed();
        tokio::select! {
            exchange = Self::start_on(node, home, &ports, (keys, genesis, manifest), prices, steps) =>
                exchange.map_err(|error| ledger_failed_first(home).unwrap_or(error)),
            error = failed => Err(ledger_failure(home, &error)),
        }
    }

    /// Starts the other parts on the running ledger.
    async fn start_on(
        node: NodeHandle,
        home: &Home,
        ports: &Ports,
        (keys, genesis, manifest): (Keys, Genesis, Manifest),
        prices: Prices,
        steps: Arc<Steps>,
    ) -> Result<Self> {
        let issuer = keys.issuer.account();
        let ledger = Client::new(&node.url(), Trust::from_genesis(&genesis)?)?;

        steps.begin("model", "seeing that the starter model is published");
        let modeler = Sender::new(ledger.clone(), keys.modeler.clone(), issuer);
        let publication = Publication {
            name: starter::NAME,
            licence: starter::LICENCE,
            royalty_bps: starter::ROYALTY_BPS,
            parents: Vec::new(),
            purpose: Purpose::Answers,
        };
        publish(&ledger, &modeler, &manifest, &publication).await?;

        steps.begin("processor", "starting the processor");
        let config = gristmill_processor::Config::new(
            local(ports.processor),
            home.folder("processor")?,
            keys.processor,
            keys.receipts,
            issuer,
        );
        let started = gristmill_processor::start(config, ledger.clone(), genesis.clone()).await;
        let processor = started.map_err(|error| processor_failure(home, &error))?;
        let processor_events = processor.events();
        steps.begin("engine", &format!("loading {}", starter::NAME));
        serve(home, &ledger, &processor, &manifest.id(), prices, Some(Arc::clone(&steps))).await?;

        steps.begin("gateway", "starting the gateway");
        let payer = keys.consumer.account();
        // With a key that has a limit, once the wallet gave it one: also when that was revoked.
        let of_key = gristmill_ledger::keys::spending_key(&payer, &keys.vouchers.account());
        if ledger.state(&[of_key]).await?.value.iter().any(Option::is_some) && !home.path(LIMITED).exists() {
            home.write_secret(LIMITED, b"")?;
        }
        let limited = home.path(LIMITED).exists();
        let key = if limited { &keys.vouchers } else { &keys.consumer };
        let mut config = gristmill_gateway::Config::new(
            local(ports.gateway),
            home.folder("gateway")?,
            payer,
            key.clone(),
            keys.vouchers.clone(),
            issuer,
        );
        config.guard = keys.consumer;
        let operator_key = operator_key(home)?;
        config.operator = Some(gristmill_gateway::key_id(&operator_key));
        let started = gristmill_gateway::start(config, ledger.clone(), genesis).await;
        let gateway = started.map_err(|error| gateway_failure(home, &error))?;
        let gateway_events = gateway.events();
        let api_key = api_key(home, &gateway).await?;
        gateway.resume().await?;

        let taken = Ports {
            gateway: gateway.address().port(),
            ledger: node.address().port(),
            processor: processor.address().port(),
        };
        home.write_secret(PORTS, &serde_json::to_vec(&taken)?)?;
        let running = Running {
            pid: std::process::id(),
            base_url: format!("http://{}/v1", gateway.address()),
            api_key,
            operator_key,
            ledger: node.url(),
            processor: format!("http://{}", processor.address()),
            model: starter::NAME.to_owned(),
            limited,
        };
        Ok(Self {
            home: home.clone(),
            running,
            prices,
            node,
            ledger,
            processor,
            gateway,
            gateway_events,
            processor_events,
            refused: BTreeSet::new(),
            watch: tokio::time::interval(WATCH),
        })
    }

    pub(super) const fn running(&self) -> &Running {
        &self.running
    }

    /// The last final block.
    pub(super) fn height(&self) -> u64 {
        self.node.head().height
    }

    pub(super) fn chain(&self) -> ChainId {
        self.ledger.chain()
    }

    /// ` --home DIR`, where the home is not the default one.
    pub(super) fn home_argument(&self) -> String {
        match Home::locate(None) {
            Ok(home) if home.root() == self.home.root() => String::new(),
            _ => format!(" --home {}", crate::output::quoted(&self.home.root().display().to_string())),
        }
    }

    /// Waits for the next thing that happens. An error ends the exchange.
    pub(super) async fn next(&mut self) -> Result<Occurrence> {
        let (gateway_failed, processor_failed) = (self.gateway.failed(), self.processor.failed());
        tokio::pin!(gateway_failed, processor_failed);
        loop {
            tokio::select! {
                event = self.gateway_events.recv() => if let Ok(event) = event {
                    return Ok(Occurrence::Gateway(event));
                },
                event = self.processor_events.recv() => if let Ok(event) = event {
                    return Ok(Occurrence::Processor(event));
                },
                error = self.node.failed() => return Err(ledger_failure(&self.home, &error)),
                error = &mut gateway_failed => return Err(gateway_failure(&self.home, &error)),
                error = &mut processor_failed => return Err(processor_failure(&self.home, &error)),
                _ = self.watch.tick() => if let Some(occurrence) = self.look_for_models().await {
                    return Ok(occurrence);
                },
            }
        }
    }

    /// Serves a model that was published since.
    async fn look_for_models(&mut self) -> Option<Occurrence> {
        for model in models::installed(&self.home).ok()? {
            if self.processor.serves(&model) || self.refused.contains(&model) {
                continue;
            }
            let Ok(Some(record)) = find(&self.ledger, &model).await else { continue };
            match serve(&self.home, &self.ledger, &self.processor, &model, self.prices, None).await {
                Ok(()) => return Some(Occurrence::Serving { name: record.name, model }),
                Err(error) => {
                    self.refused.insert(model);
                    let message =
                        format!("model {} ({}) is not served: {error:#}", record.name, model.short());
                    return Some(Occurrence::Processor(gristmill_processor::Event::Warning { message }));
                }
            }
        }
        None
    }

    /// Stops consumers first and the ledger last, so that everything still to be paid is paid.
    pub(super) async fn stop(mut self, mut tell: impl FnMut(&Occurrence)) {
        if let Err(error) = self.gateway.stop().await {
            tracing::warn!(%error, "the gateway's records are not tidy; the next start tidies them");
        }
        self.processor.stop().await;
        while let Ok(event) = self.gateway_events.try_recv() {
            tell(&Occurrence::Gateway(event));
        }
        while let Ok(event) = self.processor_events.try_recv() {
            tell(&Occurrence::Processor(event));
        }
        self.node.stop().await;
    }
}

/// What to do where another program has the port.
pub(super) fn port_in_use(
    role: &str,
    flag: &str,
    address: SocketAddr,
    error: &std::io::Error,
) -> anyhow::Error {
    let port = address.port();
    Failure::new(format!("the {role} cannot listen on {address}: {error}"))
        .next(format!(
            "give another port ({flag} PORT), leave {flag} out to take a free one, or stop what uses it (lsof -i :{port} \
             tells what that is)"
        ))
        .into()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The ledger's genesis: written once, then read.
fn genesis(home: &Home, keys: &Keys) -> Result<Genesis> {
    let path = home.path(GENESIS);
    match std::fs::read(&path) {
        Ok(text) => {
            let damaged = |reason: String| {
                Failure::new(format!("{} is damaged: {reason}", path.display())).next(
                    "restore the home from a backup, or start a new exchange in another folder: --home DIR",
                )
            };
            let genesis: Genesis =
                serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
            genesis.check().map_err(|error| damaged(error.to_string()))?;
            return Ok(genesis);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    }
    if home.path("ledger").exists() {
        return Err(Failure::new(format!("{} is missing, but there is a ledger beside it", path.display()))
            .next("restore genesis.json from a backup, or start a new exchange in another folder: --home DIR")
            .into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let issuer = keys.issuer.account();
    let balance = |key: &SecretKey, credits| GenesisBalance {
        account: key.account(),
        issuer,
        amount: Amount::from_credits(credits),
    };
    let genesis = Genesis {
        name: "local".to_owned(),
        time_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
        fee_account: keys.validator.account(),
        issuers: vec![GenesisIssuer {
            account: issuer,
            name: "local".to_owned(),
            cap: Amount::from_credits(1_000_000_000),
            daily_limit: Amount::from_credits(1_000_000),
        }],
        balances: vec![
            balance(&keys.consumer, CONSUMER_CREDITS),
            balance(&keys.issuer, OTHER_CREDITS),
            balance(&keys.modeler, OTHER_CREDITS),
            balance(&keys.processor, OTHER_CREDITS),
        ],
        validators: vec![GenesisValidator { key: keys.validator.account(), address: None }],
        params: Params::default(),
    };
    genesis.check()?;
    home.write_secret(GENESIS, &serde_json::to_vec_pretty(&genesis)?)?;
    Ok(genesis)
}

/// What a modeler says of a model.
pub(crate) struct Publication<'a> {
    pub(crate) name: &'a str,
    pub(crate) licence: &'a str,
    pub(crate) royalty_bps: u16,
    /// The versions that it was made from, ascending.
    pub(crate) parents: Vec<ModelId>,
    /// What it is for, thus what an engine must be able to run.
    pub(crate) purpose: Purpose,
}

/// The record of a model version, proven.
pub(crate) async fn find(ledger: &Client, model: &ModelId) -> Result<Option<Model>> {
    let records = ledger.state(&[keys::model(model)]).await?.value;
    Ok(records.iter().flatten().filter_map(Model::of).next().cloned())
}

/// Publishes a version, unless the ledger has it. True if it is new.
pub(crate) async fn publish(
    ledger: &Client,
    modeler: &Sender,
    manifest: &Manifest,
    publication: &Publication<'_>,
) -> Result<bool> {
    if find(ledger, &manifest.id()).await?.is_some() {
        return Ok(false);
    }
    let body = |salt| PublishModel {
        model: manifest.id(),
        name: publication.name.to_owned(),
        licence: publication.licence.to_owned(),
        royalty_bps: publication.royalty_bps,
        parents: publication.parents.clone(),
        tokenizer: manifest.tokenizer(),
        engine: match publication.purpose {
            Purpose::Answers => "llama",
            Purpose::Embeddings => "bert",
        }
        .to_owned(),
        size_bytes: manifest.bytes(),
        salt,
    };
    modeler.publish(body).await?;
    Ok(true)
}

/// Loads a model from the home and puts it on the processor's shelf.
async fn serve(
    home: &Home,
    ledger: &Client,
    processor: &gristmill_processor::Handle,
    model: &ModelId,
    prices: Prices,
    steps: Option<Arc<Steps>>,
) -> Result<()> {
    let record = find(ledger, model).await?.context("the model is not on the ledger")?;
    let folder = models::folder(home, model);
    let id = *model;
    // Hashing and quantising take time and would hold up everything else here.
    let (compute, tokenizer) = tokio::task::spawn_blocking(move || {
        let watch = |done, total| {
            if let Some(steps) = &steps {
                steps.bytes(done, total);
            }
        };
        models::check_watched(&folder, &id, &watch)?;
        models::open(&folder)
    })
    .await??;
    // Vectors are paid by the tokens of their texts alone.
    let prices = match compute {
        Compute::Answers(_) => prices,
        Compute::Embeddings(_) => Prices { output_per_mtok: Amount::ZERO, ..prices },
    };
    let model = gristmill_processor::ServedModel { id, name: record.name, compute, tokenizer, prices };
    processor.serve(model).await?;
    Ok(())
}

/// The local API key: made once, kept in the home.
async fn api_key(home: &Home, gateway: &gristmill_gateway::Handle) -> Result<String> {
    match stored_key(home, API_KEY)? {
        Some(key) if gateway.takes_key(&key) => Ok(key),
        Some(key) if !gateway.knows_key(&key) => Err(unknown_api_key(home)),
        // Removed or revoked: the one before it ends.
        _ => {
            let key = gateway.create_key(gristmill_gateway::OWN_KEY_NAME, KEY_BUDGET).await?;
            home.write_secret(API_KEY, format!("{key}\n").as_bytes())?;
            Ok(key)
        }
    }
}

/// The key that manages the gateway's API keys, made once.
fn operator_key(home: &Home) -> Result<String> {
    if let Some(key) = stored_key(home, OPERATOR_KEY)? {
        return Ok(key);
    }
    let key = gristmill_gateway::generate_key()?;
    home.write_secret(OPERATOR_KEY, format!("{key}\n").as_bytes())?;
    Ok(key)
}
