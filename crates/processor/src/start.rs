//! The processor's start and stop, and its eye on the ledger.

use crate::{
    app::{App, QUOTES_LOG, Stop, unix_ms},
    books::Books,
    config::{Config, ServedModel},
    error::StartError,
    event::Event,
    metrics::Metrics,
    quotes::{Quotes, Terms, earlier, is_known},
    routes::router,
    settle,
    shelf::Shelf,
};
use futures::StreamExt as _;
use gristmill_channel::Phase;
use gristmill_client::{Client, Sender};
use gristmill_ledger::{Event as LedgerEvent, Genesis};
use gristmill_net::pay::Cashier;
use gristmill_store::{Batch, Options, Store};
use gristmill_types::{ChannelId, ModelId, Signed};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};

/// Events that wait for a slow listener at most.
const EVENTS: usize = 1024;
/// How long to wait before a channel that could not be read is read again.
const RETRY: Duration = Duration::from_secs(2);
/// How long the last receipts may take to their disk, and connections to close, when the processor stops.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How long the last approvals may take to arrive then.
const LAST_APPROVALS: Duration = Duration::from_secs(1);
/// The log of the cashier's secret.
const SECRET_LOG: &str = "cashier";
/// The logs that are no channel's.
pub(crate) const OTHER_LOGS: [&str; 2] = [SECRET_LOG, QUOTES_LOG];

/// A running processor.
pub struct Handle {
    app: Arc<App>,
    address: SocketAddr,
    server: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

/// Opens the records and checks them.
fn open(folder: &std::path::Path, look: bool) -> Result<(Store, Books), StartError> {
    let store =
        Store::open_with(folder.join("processor.db"), crate::SCHEMA, Options { look, ..Options::default() })?;
    OTHER_LOGS.iter().try_for_each(|log| store.load(log).map(drop))?;
    let books = Books::load(store.clone())?;
    Ok((store, books))
}

/// Whether a processor could start on the records in the folder. Changes nothing.
pub fn check(folder: &std::path::Path) -> Result<(), StartError> {
    open(folder, true).map(drop)
}

/// Starts a processor on a ledger. It serves nothing until a model is put on its shelf.
pub async fn start(config: Config, ledger: Client, genesis: Genesis) -> Result<Handle, StartError> {
    let (store, books) = open(&config.folder, false)?;
    let secret = cashier_secret(&store).await?;
    let quotes = earlier_quotes(&store).await?;
    let quotes_error = |error: &dyn std::fmt::Display| StartError::Quotes(error.to_string());
    let cashier =
        Cashier::new(&config.account.account().to_string(), &secret).map_err(|error| quotes_error(&error))?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    let terms = Terms {
        chain: ledger.chain(),
        account: config.account.clone(),
        receipt_key: config.receipt_key.account(),
        issuer: config.issuer,
        window_tokens: config.window_tokens,
        data_policy: config.data_policy,
        validity: config.quote_validity,
    };
    let app = Arc::new(App {
        sender: Sender::new(ledger.clone(), config.account.clone(), config.issuer),
        config,
        genesis,
        ledger,
        shelf: Shelf::default(),
        books,
        cashier,
        metrics: Arc::new(Metrics::new(&store)),
        quotes: Mutex::new(quotes),
        making: tokio::sync::Mutex::default(),
        store,
        terms,
        lines: Mutex::default(),
        clock_ms: AtomicU64::new(0),
        stop: Stop::default(),
        events: broadcast::Sender::new(EVENTS),
    });
    app.register(&format!("http://{address}")).await?;
    for book in app.books.all() {
        // What the ledger paid or closed while this processor was away.
        if let Err(error) = app.refresh(&book).await {
            tracing::warn!(?error, "a channel could not be read");
        }
    }
    let router = router(Arc::clone(&app));
    let all = app.stop.all.clone();
    let stopped = async move { all.cancelled().await };
    let server = tokio::spawn(gristmill_net::serve(listener, router, stopped));
    let tasks = vec![
        tokio::spawn(settle::run(Arc::clone(&app))),
        tokio::spawn(follow(Arc::clone(&app))),
        tokio::spawn(look(Arc::clone(&app))),
    ];
    Ok(Handle { app, address, server, tasks })
}

/// The quotes of earlier runs, as far as they are still recognised. The others are forgotten.
async fn earlier_quotes(store: &Store) -> Result<Quotes, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Quotes(error.to_string());
    let (mut quotes, mut kept) = (Quotes::default(), Vec::new());
    let rows = store.load(QUOTES_LOG)?;
    let before = rows.len();
    for row in rows {
        let quote = Signed::from_bytes(&row.record).map_err(|error| failed(&error))?;
        if is_known(&quote, unix_ms()) {
            earlier(quote.clone()).map_err(|error| failed(&error))?;
            quotes.remember(quote);
            kept.push(row.record);
        }
    }
    if kept.len() < before {
        store.write(Batch::new().replace(QUOTES_LOG, kept)).await?;
    }
    Ok(quotes)
}

/// The secret behind the challenges; it outlives restarts.
async fn cashier_secret(store: &Store) -> Result<[u8; 32], StartError> {
    if let Some(row) = store.load(SECRET_LOG)?.pop()
        && let Ok(secret) = row.record.try_into()
    {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| StartError::Quotes(error.to_string()))?;
    store.append(SECRET_LOG, secret.to_vec()).await?;
    Ok(secret)
}

/// Follows the ledger, to notice what payers do with their channels.
async fn follow(app: Arc<App>) {
    let next = tokio::select! {
        next = app.ledger.await_next_height(RETRY) => next,
        () = app.stop.all.cancelled() => return,
    };
    let mut blocks = pin!(app.ledger.follow(Some(next)));
    // Channels that are to be read again, until that has worked. First all: what was before the next block
    // comes as no event.
    let mut changed: BTreeSet<ChannelId> = app.books.all().iter().map(|book| book.payee().id()).collect();
    loop {
        tokio::select! {
            block = blocks.next() => if let Some(Ok(block)) = block {
                app.clock_ms.fetch_max(block.clock_ms, Ordering::Relaxed);
                let events = block.outcomes.iter().flat_map(|outcome| &outcome.events);
                changed.extend(events.filter_map(of_payer));
            },
            () = tokio::time::sleep(RETRY), if !changed.is_empty() => {}
            () = app.stop.all.cancelled() => return,
        }
        for channel in std::mem::take(&mut changed) {
            let Some(book) = app.books.get(&channel) else { continue };
            if let Err(error) = app.refresh(&book).await {
                tracing::warn!(?error, %channel, "a channel could not be read; trying again");
                changed.insert(channel);
            }
        }
    }
}

/// Reads every channel now and then: events are the node's word, and one that it leaves out, a request to close
/// for one, would have this deliver what is never paid.
async fn look(app: Arc<App>) {
    let all = async {
        loop {
            tokio::time::sleep(app.config.look_every).await;
            let mut failed = 0_usize;
            for book in app.books.all() {
                let over = book.payee().view().phase == Phase::Closed;
                failed += usize::from(!over && app.refresh(&book).await.is_err());
            }
            if failed > 0 {
                tracing::warn!(failed, "channels could not be read; trying again");
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = app.stop.all.cancelled() => {}
    }
}

/// The channel of an event that the payer caused.
fn of_payer(event: &LedgerEvent) -> Option<ChannelId> {
    match event {
        LedgerEvent::ChannelToppedUp { channel, .. }
        | LedgerEvent::CloseRequested { channel, .. }
        | LedgerEvent::ChannelClosed { channel, .. } => Some(*channel),
        _ => None,
    }
}

impl Handle {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves if the records cannot be written any more: the processor refuses everything from then on.
    pub fn failed(&self) -> impl Future<Output = StartError> + Send + use<> {
        let failed = self.app.store.failed();
        async move { failed.await.into() }
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.app.events.subscribe()
    }

    /// Puts a model on the shelf and offers it on the ledger.
    pub async fn serve(&self, model: ServedModel) -> Result<(), gristmill_client::ClientError> {
        self.app.shelf.put(model.clone());
        self.app.offer(&model).await
    }

    /// Ends the model's offer on the ledger. Requests under quotes that were given go on.
    pub async fn withdraw(&self, model: &ModelId) -> Result<(), gristmill_client::ClientError> {
        self.app.withdraw(model).await
    }

    /// Whether the model is on the shelf.
    pub fn serves(&self, model: &ModelId) -> bool {
        self.app.shelf.get(model).is_some()
    }

    /// Takes no more orders, lets the answers that run end for a moment, ends the others with their receipts,
    /// and settles what is approved. Vouchers and approvals are taken until then.
    pub async fn stop(self) {
        let Stop { requests, orders, answers, all } = &self.app.stop;
        orders.cancel();
        requests.close();
        if tokio::time::timeout(self.app.config.stop_patience, requests.wait()).await.is_err() {
            answers.cancel();
            if tokio::time::timeout(END_PATIENCE, requests.wait()).await.is_err() {
                tracing::warn!(left = requests.len(), "answers did not end; their readers may stand still");
            }
        }
        drop(tokio::time::timeout(LAST_APPROVALS, settle::all_approved(&self.app)).await);
        all.cancel();
        drop(self.server.await);
        for task in self.tasks {
            drop(task.await);
        }
        settle::settle_all(&self.app).await;
    }
}
