//! The gateway's start and stop.

use crate::{
    accounts::Accounts,
    app::App,
    config::Config,
    error::{BuyError, StartError},
    event::Event,
    keys,
    market::Market,
    metrics::Metrics,
    receipts,
    routes::router,
    traces,
    turns::Turns,
};
use gristmill_client::{Client, Sender};
use gristmill_ledger::Genesis;
use gristmill_store::{Options, Store};
use gristmill_types::{Amount, SecretKey};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, broadcast},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Events that wait for a slow listener at most.
const EVENTS: usize = 1024;
/// How long approvals that are on their way may take when the gateway stops.
pub(crate) const SEND_PATIENCE: Duration = Duration::from_secs(3);
/// Requests that wait for a lane at most.
const MAX_WAITING: usize = 256;
/// How long answers may go on when the gateway stops: less than the server gives their connections.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// The file with all records.
const RECORDS: &str = "gateway.db";
/// A running gateway.
pub struct Handle {
    app: Arc<App>,
    address: SocketAddr,
    server: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// Opens the records and checks them.
fn open(
    folder: &std::path::Path,
    voucher_key: &SecretKey,
    look: bool,
) -> Result<(Store, Arc<Accounts>), StartError> {
    let schema = [receipts::SCHEMA, crate::fund::SCHEMA, traces::SCHEMA, receipts::SUMS, receipts::PAYERS];
    let options = Options { look, ..Options::default() };
    let store = Store::open_with(folder.join(RECORDS), &schema, options)?;
    let accounts = Accounts::load(store.clone(), voucher_key.clone())?;
    receipts::check(&store)?;
    crate::fund::check(&store)?;
    Ok((store, accounts))
}

/// Whether a gateway could start on the records in the folder, and whether it would know this API key.
/// Changes nothing.
pub fn check(
    folder: &std::path::Path,
    voucher_key: &SecretKey,
    api_key: Option<&str>,
) -> Result<bool, StartError> {
    let (_, accounts) = open(folder, voucher_key, true)?;
    Ok(api_key.is_none_or(|key| accounts.lock().key(&keys::id(key)).is_some()))
}

/// Starts a gateway on a ledger.
pub async fn start(config: Config, ledger: Client, genesis: Genesis) -> Result<Handle, StartError> {
    let (store, accounts) = open(&config.folder, &config.voucher_key, false)?;
    let http = gristmill_net::http::client()?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    let sender = Sender::new(ledger.clone(), config.key.clone(), config.issuer);
    // One account counts its transactions in one place.
    let guard = if config.guard.account() == config.key.account() {
        sender.clone()
    } else {
        Sender::new(ledger.clone(), config.guard.clone(), config.issuer)
    };
    let app = Arc::new(App {
        sender,
        guard,
        market: Market::new(ledger.clone()),
        metrics: Arc::new(Metrics::new(&store)),
        config,
        genesis,
        ledger,
        http,
        store,
        accounts,
        funding: tokio::sync::Mutex::default(),
        several: Turns::default(),
        orphans: std::sync::Mutex::default(),
        queueing: Semaphore::new(MAX_WAITING),
        waiting: Semaphore::new(MAX_WAITING),
        tidying: std::sync::Mutex::default(),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
        ending: CancellationToken::new(),
        events: broadcast::Sender::new(EVENTS),
    });
    let stopping = app.stopping.clone();
    let router = router(Arc::clone(&app));
    let stopped = async move { stopping.cancelled().await };
    let server = tokio::spawn(gristmill_net::serve(listener, router, stopped));
    let watch = tokio::spawn(crate::watch::run(Arc::clone(&app)));
    Ok(Handle { app, address, server, watch })
}

impl Handle {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves if the records cannot be written any more: the gateway refuses everything from then on.
    pub fn failed(&self) -> impl Future<Output = StartError> + Send + use<> {
        let failed = self.app.store.failed();
        async move { failed.await.into() }
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.app.events.subscribe()
    }

    /// A new API key with a budget, as text. It is kept as a digest only. Another that has the name is revoked.
    pub async fn create_key(&self, name: &str, limit: Amount) -> Result<String, BuyError> {
        self.app.create_key(name, limit, true).await
    }

    /// Whether the gateway knows the key, though it may have been revoked.
    pub fn knows_key(&self, key: &str) -> bool {
        self.app.accounts.lock().key(&keys::id(key)).is_some()
    }

    /// Whether the key can be used.
    pub fn takes_key(&self, key: &str) -> bool {
        self.app.accounts.lock().names().is_active(&keys::id(key))
    }

    /// Completes what an earlier run left: transactions that may not be final, lanes in doubt.
    pub async fn resume(&self) -> Result<(), BuyError> {
        self.app.resume().await?;
        self.app.look_at_all().await;
        self.app.tidy_all(|_| true);
        Ok(())
    }

    /// Takes no more requests, lets those that run end, and releases what is reserved.
    pub async fn stop(self) -> Result<(), BuyError> {
        self.app.stopping.cancel();
        let (mut server, ending) = (self.server, &self.app.ending);
        // Clients of answers that are cut off then hear of it before the server closes their connections.
        if tokio::time::timeout(LAST_WORDS, &mut server).await.is_err() {
            ending.cancel();
            drop(server.await);
        }
        drop(tokio::time::timeout(SEND_PATIENCE, self.watch).await);
        self.app.tasks.close();
        drop(tokio::time::timeout(SEND_PATIENCE, self.app.tasks.wait()).await);
        self.app.accounts.trim().await
    }
}
