//! What the parts of an exchange say, each asked for a bounded time.

use crate::{
    connection::Connection,
    endpoint::Endpoint,
    home::{Disk, Home, Running, Stage},
    sell::seller::{Known, known},
    up::exchange::LIMITED,
    wallet,
};
use gristmill_client::{Client, schema};
use gristmill_ledger::{
    keys,
    record::{SpendingKey, Stored as _},
};
use gristmill_metrics::{Reading, read};
use gristmill_net::http::read_body;
use gristmill_types::{Amount, ChannelId};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long a part may take to answer. One that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// Adding up everything reads the whole state.
const SCAN_PATIENCE: Duration = Duration::from_secs(30);
/// A text of metrics is far smaller.
const MAX_TEXT: usize = 16 << 20;
/// Sellers that are asked.
const MAX_SELLERS: usize = 16;
/// Channels whose claims are looked at.
const MAX_CHANNELS: usize = 64;

/// What a part said, or why it said nothing.
pub(super) type Said<T> = Result<T, String>;

/// A claim that waits on the ledger.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PendingClaim {
    pub(super) channel: ChannelId,
    pub(super) amount: Amount,
    /// Until it is paid, if nobody contests it.
    pub(super) left_ms: u64,
}

/// What is known of an exchange that runs.
pub(super) struct Parts {
    pub(super) running: Running,
    pub(super) ledger: Said<schema::Status>,
    /// The ledger's metrics.
    pub(super) node: Said<Reading>,
    pub(super) supply: Said<schema::SupplyAnswer>,
    pub(super) processor: Said<Reading>,
    /// What `sell` sells, with each one's metrics.
    pub(super) sellers: Vec<(Known, Said<Reading>)>,
    pub(super) gateway: Said<Reading>,
    pub(super) key: Said<Value>,
    pub(super) channels: Said<Value>,
    pub(super) receipts: Said<Value>,
    /// By wallet, proven.
    pub(super) balances: Said<Map<String, Value>>,
    pub(super) claims: Said<Vec<PendingClaim>>,
    /// The right of the gateway's own key to spend from the paying account, proven.
    pub(super) spending_key: Said<Option<SpendingKey>>,
    /// The gateway spends with a key, and will not from its next start.
    pub(super) lifted: bool,
    pub(super) fees: gristmill_ledger::Fees,
    pub(super) min_deposit: Amount,
}

/// What is known of a home.
pub(super) struct Facts {
    pub(super) root: String,
    /// Whether an exchange was ever started here.
    pub(super) founded: bool,
    pub(super) stage: Stage,
    /// Why nothing can be asked although an exchange runs.
    pub(super) broken: Option<String>,
    pub(super) parts: Option<Parts>,
    pub(super) disk: Option<Disk>,
}

impl Facts {
    pub(super) async fn gather(home: &Home) -> Self {
        let stage = home.stage();
        let (mut broken, mut parts) = (None, None);
        if let Stage::Running(_) = &stage {
            match Connection::open(home) {
                Ok(connection) => parts = Some(Parts::gather(home, connection).await),
                Err(error) => broken = Some(format!("{error:#}")),
            }
        }
        let founded = home.path("genesis.json").exists();
        Self { root: home.root().display().to_string(), founded, stage, broken, parts, disk: home.disk() }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({"home": self.root, "disk": self.disk});
        let Some(parts) = &self.parts else { return value };
        let running = &parts.running;
        let channels = || parts.channels.iter().flat_map(|value| value["channels"].as_array()).flatten();
        let in_doubt: u64 = channels().filter_map(|channel| channel["in_doubt"].as_u64()).sum();
        let rest = channels().fold(0_u128, |sum, channel| {
            sum.saturating_add(grains(&channel["deposit"])).saturating_sub(grains(&channel["settled"]))
        });
        for (name, member) in [
            ("pid", json!(running.pid)),
            ("base_url", json!(running.base_url)),
            ("model", json!(running.model)),
            ("ledger", json!(parts.ledger.as_ref().ok())),
            ("supply_adds_up", json!(parts.supply.as_ref().ok().map(|supply| supply.adds_up))),
            ("balances", json!(parts.balances.as_ref().ok())),
            ("in_channels", json!(parts.channels.as_ref().ok().map(|_| Amount::from_grains(rest)))),
            ("key", json!(parts.key.as_ref().ok())),
            ("lanes_in_doubt", json!(parts.channels.as_ref().ok().map(|_| in_doubt))),
            ("receipts", json!(parts.receipts.as_ref().ok().map(|value| &value["total"]))),
        ] {
            value[name] = member;
        }
        value
    }
}

/// An amount as JSON carries it; nothing is 0.
pub(super) fn grains(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Asks, and gives up after a while.
async fn within<T, E: std::fmt::Display>(
    patience: Duration,
    ask: impl Future<Output = Result<T, E>>,
) -> Said<T> {
    match tokio::time::timeout(patience, ask).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!("it did not answer within {} s", patience.as_secs())),
    }
}

impl Parts {
    async fn gather(home: &Home, connection: Connection) -> Self {
        let Connection { running, genesis, ledger } = connection;
        let gateway_url = running.base_url.trim_end_matches("/v1").to_owned();
        let endpoint = Endpoint::new(&running);
        let get = async |path: &str| -> anyhow::Result<Value> {
            match &endpoint {
                Ok(endpoint) if path == "/key" => endpoint.key().await,
                Ok(endpoint) => endpoint.get(path).await,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            }
        };
        let issuer = genesis.issuers.first().map(|issuer| issuer.account);
        let balances = async {
            let mut balances = Map::new();
            for name in [wallet::CONSUMER, "processor", "modeler"] {
                let account = wallet::load(home, name)?.account();
                let Some(issuer) = &issuer else { continue };
                let balance = ledger.balance(&account, issuer).await?;
                balances.insert(name.to_owned(), json!(balance.value));
            }
            anyhow::Ok(balances)
        };
        let spending_key = async {
            let (owner, key) = (wallet::load(home, wallet::CONSUMER)?, wallet::load(home, wallet::VOUCHERS)?);
            let of = keys::spending_key(&owner.account(), &key.account());
            let found = ledger.state(&[of]).await?.value;
            anyhow::Ok(found.iter().flatten().find_map(SpendingKey::of).cloned())
        };
        let sellers = known(home).into_iter().take(MAX_SELLERS).map(async |known| {
            let said = match known.runs {
                true => within(PATIENCE, metrics(&known.announced.processor)).await,
                false => Err("it does not run".to_owned()),
            };
            (known, said)
        });
        let (status, node, processor, sellers, gateway, key, channels, receipts, balances, spending_key) = tokio::join!(
            within(PATIENCE, ledger.status()),
            within(PATIENCE, metrics(&running.ledger)),
            within(PATIENCE, metrics(&running.processor)),
            futures::future::join_all(sellers),
            within(PATIENCE, metrics(&gateway_url)),
            within(PATIENCE, get("/key")),
            within(PATIENCE, get("/channels")),
            within(PATIENCE, get("/receipts?limit=0")),
            within(PATIENCE, balances),
            within(PATIENCE, spending_key),
        );
        // Who does not answer a short question is not given the time for a long one.
        let supply = match &status {
            Ok(_) => within(SCAN_PATIENCE, ledger.supply()).await,
            Err(_) => Err("the ledger does not answer".to_owned()),
        };
        let claims = match &channels {
            Ok(value) => within(PATIENCE, claims(&ledger, value)).await,
            Err(reason) => Err(reason.clone()),
        };
        let lifted = running.limited && !home.path(LIMITED).exists();
        Self {
            running,
            lifted,
            ledger: status,
            node,
            supply,
            processor,
            sellers,
            gateway,
            key,
            channels,
            receipts,
            balances,
            claims,
            spending_key,
            fees: genesis.params.fees.clone(),
            min_deposit: genesis.params.min_deposit,
        }
    }
}

async fn metrics(base: &str) -> anyhow::Result<Reading> {
    let answer = gristmill_net::http::client()?.get(format!("{base}/metrics")).send().await?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "it answered with status {status}");
    let text = read_body(answer.bytes_stream(), MAX_TEXT).await?;
    Ok(read(&String::from_utf8_lossy(&text)))
}

/// Claims that wait on the ledger, of the channels that the gateway pays from.
async fn claims(
    ledger: &Client,
    channels: &Value,
) -> Result<Vec<PendingClaim>, gristmill_client::ClientError> {
    let ids = channels["channels"].as_array().into_iter().flatten();
    let ids = ids.filter_map(|channel| channel["id"].as_str()?.parse::<ChannelId>().ok());
    let mut claims = Vec::new();
    for channel in ids.take(MAX_CHANNELS) {
        let found = ledger.channel(&channel).await?;
        for lane in found.value.iter().flat_map(|records| &records.lanes) {
            let Some(pending) = &lane.pending else { continue };
            let left_ms = pending.deadline_ms.saturating_sub(found.clock_ms);
            let amount = pending.effective().saturating_sub(lane.paid);
            claims.push(PendingClaim { channel, amount, left_ms });
        }
    }
    Ok(claims)
}
