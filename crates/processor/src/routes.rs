//! The processor's HTTP surface, what its parts share, and its start and stop.

use crate::{
    books::{Books, record_of},
    config::{Config, ServedModel},
    error::{Refused, StartError},
    event::Event,
    metrics::Metrics,
    openapi::{self, Failed, Health, Problem},
    progress::Progress,
    quotes::{OwnQuote, Quotes, Terms, earlier, is_known, make},
    serve, settle,
    shelf::Shelf,
    traces,
};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, Method, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::StreamExt as _;
use gristmill_client::{Client, Sender};
use gristmill_ledger::{Event as LedgerEvent, Genesis};
use gristmill_metrics::Answers;
use gristmill_net::{
    Base64,
    extract::Path,
    http::{RequestId, identify, read_body},
    openai::{
        ApiError, ErrorBody, MAX_REQUEST_BYTES, Shape,
        schema::{ChatBody, EmbeddingsBody, StreamEvent, TextBody},
    },
    pay::{Action, Cashier, Credential, PAYMENT_RECEIPT, PaymentReceipt, Refusal},
    peer::{ChannelState, LaneState, Quotes as QuoteList, UNKNOWN_CHANNEL},
    trace::{Place, Served},
};
use gristmill_store::{Batch, Options, Store};
use gristmill_types::{AccountId, ChannelId, Digest, LineId, ModelId, QuoteHash, Signed};
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Events that wait for a slow listener at most.
const EVENTS: usize = 1024;
/// How long to wait before a channel that could not be read is read again.
const RETRY: Duration = Duration::from_secs(2);
/// How long running answers may take to end when the processor stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The log of the cashier's secret.
const SECRET_LOG: &str = "cashier";
/// The log of quotes.
const QUOTES_LOG: &str = "quotes";

/// The logs that are no channel's.
pub(crate) const OTHER_LOGS: [&str; 2] = [SECRET_LOG, QUOTES_LOG];

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What all parts of a running processor share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) genesis: Genesis,
    pub(crate) ledger: Client,
    pub(crate) sender: Sender,
    pub(crate) shelf: Shelf,
    pub(crate) books: Books,
    pub(crate) cashier: Cashier,
    pub(crate) metrics: Arc<Metrics>,
    quotes: Mutex<Quotes>,
    /// One new quote at a time.
    making: tokio::sync::Mutex<()>,
    pub(crate) store: Store,
    terms: Terms,
    pub(crate) lines: Mutex<HashMap<ModelId, Vec<LineId>>>,
    /// Ledger time as last seen.
    pub(crate) clock_ms: AtomicU64,
    pub(crate) stopping: CancellationToken,
    events: broadcast::Sender<Event>,
}

/// A running processor.
pub struct Handle {
    app: Arc<App>,
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
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
        stopping: CancellationToken::new(),
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
    let stopping = app.stopping.clone();
    let server = tokio::spawn(async move {
        let listener = gristmill_net::http::prompt(listener);
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, router).with_graceful_shutdown(async move { stopping.cancelled().await }).await
    });
    let tasks = vec![tokio::spawn(settle::run(Arc::clone(&app))), tokio::spawn(follow(Arc::clone(&app)))];
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
            quotes.remember(Arc::new(earlier(quote).map_err(|error| failed(&error))?));
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
        () = app.stopping.cancelled() => return,
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
            () = app.stopping.cancelled() => return,
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

    /// Takes no more requests, lets those that run end for a moment, settles what is approved.
    pub async fn stop(mut self) {
        self.app.stopping.cancel();
        if tokio::time::timeout(STOP_PATIENCE, &mut self.server).await.is_err() {
            self.server.abort();
        }
        for task in self.tasks {
            drop(task.await);
        }
        settle::settle_all(&self.app).await;
    }
}

impl App {
    /// The account that is paid.
    pub(crate) fn account(&self) -> AccountId {
        self.config.account.account()
    }

    /// The key that signs receipts, as an account.
    pub(crate) fn receipt_account(&self) -> AccountId {
        self.terms.receipt_key
    }

    /// Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        unix_ms()
    }

    /// Ledger time as last seen, in milliseconds.
    pub(crate) fn ledger_clock_ms(&self) -> u64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    /// The current quote of a model, made new and written down where the last is about to end.
    pub(crate) async fn quote(&self, model: &ServedModel) -> Result<Arc<OwnQuote>, ApiError> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "no quote could be made");
            ApiError::internal("The processor cannot make a quote at the moment.")
        };
        if let Some(quote) = self.quotes().current(&self.terms, &model.id, self.now_ms()) {
            return Ok(quote);
        }
        let _making = self.making.lock().await;
        if let Some(quote) = self.quotes().current(&self.terms, &model.id, self.now_ms()) {
            return Ok(quote);
        }
        let quote = make(&self.terms, model, self.now_ms()).map_err(|error| failed(&error))?;
        self.store.append(QUOTES_LOG, quote.signed.to_bytes()).await.map_err(|error| failed(&error))?;
        let quote = Arc::new(quote);
        self.quotes().replace(&quote, self.now_ms());
        Ok(quote)
    }

    fn quotes(&self) -> MutexGuard<'_, Quotes> {
        self.quotes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many quotes start requests now.
    pub(crate) fn live_quotes(&self) -> usize {
        self.quotes().live(self.now_ms())
    }

    /// An own quote by its hash, as long as it is remembered.
    pub(crate) fn find_quote(&self, hash: &QuoteHash) -> Option<Arc<OwnQuote>> {
        self.quotes().find(hash)
    }

    /// Tells the owner. Nobody may be listening.
    pub(crate) fn emit(&self, event: Event) {
        drop(self.events.send(event));
    }
}

fn router(app: Arc<App>) -> Router {
    let answers = app.metrics.answers.clone();
    Router::new()
        .route(Shape::Chat.path(), post(chat).head(pay))
        .route(Shape::Text.path(), post(text).head(pay))
        .route(Shape::Embeddings.path(), post(embeddings).head(pay))
        .route("/v1/quotes", get(quotes))
        .route("/v1/channels/{id}", get(channel))
        .route("/v1/tokenizers/{digest}", get(tokenizer))
        .route("/v1/receipts/{id}/trace", get(trace))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/openapi.json", get(openapi::serve))
        .fallback(|method: Method, request: Request| async move {
            ApiError::unknown_route(&method, request.uri().path())
        })
        .method_not_allowed_fallback(|method: Method, request: Request| async move {
            ApiError::wrong_method(&method, request.uri().path())
        })
        .layer(middleware::from_fn(identify))
        .layer(middleware::from_fn_with_state(answers, Answers::count))
        .with_state(app)
}

/// Whether the processor answers.
#[utoipa::path(get, path = "/health", tag = "processor", responses((status = 200, description = "It does", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Answer a prompt for pay, or take a payment for one that is being answered.
///
/// The model is a version's id. The credential in `Authorization` says which: an order comes with the
/// body, a voucher or an approval without.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", request_body = ChatBody,
    responses(
        (status = 200, description = "The answer", body = StreamEvent, content_type = "text/event-stream"),
        (status = 204, description = "The payment is taken"),
        (status = 400, description = "Not a request that can be honoured", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        (status = 500, description = "The processor failed", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        Failed,
    )
)]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, id, Shape::Chat, headers, body).await
}

/// Go on from a text for pay, or take a payment for it. Paid as chats are.
#[utoipa::path(
    post, path = "/v1/completions", tag = "openai", request_body = TextBody,
    responses(
        (status = 200, description = "The answer", body = StreamEvent, content_type = "text/event-stream"),
        (status = 204, description = "The payment is taken"),
        (status = 400, description = "Not a request that can be honoured", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        (status = 500, description = "The processor failed", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        Failed,
    )
)]
pub(crate) async fn text(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, id, Shape::Text, headers, body).await
}

/// Make vectors of texts for pay, or take a payment for them. Paid as chats are; the text of the answer
/// has a line for each vector.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsBody,
    responses(
        (status = 200, description = "The answer", body = StreamEvent, content_type = "text/event-stream"),
        (status = 204, description = "The payment is taken"),
        (status = 400, description = "Not a request that can be honoured", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        (status = 500, description = "The processor failed", content(
            (ErrorBody = "application/json"), (Problem = "application/problem+json"),
        )),
        Failed,
    )
)]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(app, id, Shape::Embeddings, headers, body).await
}

async fn answer(app: Arc<App>, id: RequestId, shape: Shape, headers: HeaderMap, body: Body) -> Response {
    let credential = match Credential::read(&headers) {
        Ok(credential) => credential,
        Err(refusal) => return Refused::from(refusal).answer(&app, &[]),
    };
    if let Some(credential) = &credential
        && !matches!(credential.action(), Action::Order(_))
    {
        let (app, credential) = (Arc::clone(&app), credential.clone());
        return to_the_end(async move { take_payment(&app, &credential).await }).await;
    }
    match read_body(body.into_data_stream(), MAX_REQUEST_BYTES).await {
        Ok(body) => {
            let progress = Progress::begin(&app.metrics, &id);
            let span = progress.span();
            let answer = async move { serve::answer(&app, credential, shape, body, (id, progress)).await };
            to_the_end(answer.instrument(span)).await
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Answers in a task of its own. A handler is dropped where it stands when its caller goes away, but
/// what is written down half way must be confirmed.
async fn to_the_end(answer: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(answer).await {
        Ok(response) => response,
        Err(error) => ApiError::internal(error.to_string()).into_response(),
    }
}

/// Take a voucher or an approval, without a body, on the route of the request that it is for.
#[utoipa::path(
    head, path = "/v1/chat/completions", tag = "openai",
    responses(
        (status = 204, description = "The payment is taken"),
        (status = 400, description = "The credential does not read"),
        (status = 402, description = "No payment, or not a right one"),
        (status = 403, description = "The same payment again"),
        (status = 410, description = "The channel is closed"),
        (status = 500, description = "The processor failed"),
        (status = 503, description = "The ledger does not answer"),
    )
)]
pub(crate) async fn pay(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match Credential::read(&headers) {
        Ok(Some(credential)) => to_the_end(async move { take_payment(&app, &credential).await }).await,
        Ok(None) => Refused::from(Refusal::Required).answer(&app, &[]),
        Err(refusal) => Refused::from(refusal).answer(&app, &[]),
    }
}

/// Takes a voucher for a request in flight, or an approval.
async fn take_payment(app: &Arc<App>, credential: &Credential) -> Response {
    match try_payment(app, credential).await {
        Ok(receipt) => match receipt.to_header() {
            Ok(header) => (StatusCode::NO_CONTENT, [(PAYMENT_RECEIPT, header)]).into_response(),
            Err(error) => ApiError::internal(error.to_string()).into_response(),
        },
        Err(refused) => refused.answer(app, &[]),
    }
}

async fn try_payment(app: &Arc<App>, credential: &Credential) -> Result<PaymentReceipt, Refused> {
    let claim = *credential.action().claim();
    let quote = app.find_quote(&claim.quote).ok_or(Refusal::Forged)?;
    app.cashier.check(credential, &quote.offer, app.now_ms())?;
    let unknown = || Refusal::NoChannel("no request was ordered on this channel".to_owned());
    let book = app.books.get(&claim.channel).ok_or_else(unknown)?;
    let accept = |payee: &mut gristmill_channel::Payee| {
        let accepted = match credential.action() {
            Action::Voucher(voucher) => {
                let find = |hash: &_| app.find_quote(hash).map(|quote| quote.signed.body.clone());
                payee.accept(voucher, find, app.ledger_clock_ms())?
            }
            Action::Approve(approval) => payee.approve(approval)?,
            Action::Order(_) => return Ok(((), Vec::new())),
        };
        Ok(((), record_of(accepted).into_iter().collect()))
    };
    let note = |(): &()| match credential.action() {
        Action::Approve(approval) => vec![traces::approved(&approval.body.0, gristmill_net::trace::now_us())],
        Action::Voucher(_) | Action::Order(_) => Vec::new(),
    };
    let ((), queued) = match book.change_noting(accept, note).await {
        Err(Refused::Payment(Refusal::Deposit(_))) => {
            // The payer may have topped up since.
            app.refresh(&book).await?;
            book.change_noting(accept, note).await?
        }
        other => other?,
    };
    queued.durable().await?;
    let payee = book.payee();
    let (_, spent) = payee.spent(claim.lane)?;
    Ok(PaymentReceipt {
        challenge_id: credential.challenge_id().to_owned(),
        channel: claim.channel,
        lane: claim.lane,
        accepted: payee.promised(claim.lane),
        spent,
        time_ms: app.now_ms(),
        signed: None,
    })
}

/// List the quotes that the processor stands by now.
#[utoipa::path(
    get, path = "/v1/quotes", tag = "processor",
    responses(
        (status = 200, description = "The signed quotes", body = QuoteList),
        (status = 500, description = "The processor failed", body = ErrorBody),
    )
)]
pub(crate) async fn quotes(State(app): State<Arc<App>>) -> Result<Json<QuoteList>, ApiError> {
    let mut quotes = Vec::new();
    for model in app.shelf.all() {
        quotes.push(Base64(app.quote(&model).await?.signed.clone()));
    }
    Ok(Json(QuoteList { quotes }))
}

/// Read what the processor holds of a channel, each part signed.
#[utoipa::path(
    get, path = "/v1/channels/{id}", tag = "processor",
    params(("id" = String, Path, description = "The channel's id")),
    responses(
        (status = 200, description = "What it holds", body = ChannelState),
        (status = 400, description = "Not an id", body = ErrorBody),
        (status = 404, description = "No such channel here", body = ErrorBody),
    )
)]
pub(crate) async fn channel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ChannelState>, ApiError> {
    let unknown = || ApiError {
        status: StatusCode::NOT_FOUND,
        code: Some(UNKNOWN_CHANNEL.to_owned()),
        ..ApiError::invalid("id", "There is no such channel here.")
    };
    let id: ChannelId = id.parse().map_err(|_| unknown())?;
    let book = app.books.get(&id).ok_or_else(unknown)?;
    let copy = book.payee().copy();
    let lanes = copy.lanes.into_iter().map(|lane| LaneState {
        lane: lane.lane,
        voucher: Some(Base64(lane.voucher)),
        receipt: lane.receipt.map(Base64),
        approval: lane.approval.map(Base64),
    });
    Ok(Json(ChannelState { channel: id, lanes: lanes.collect() }))
}

/// Fetch the text bundle behind a quote.
#[utoipa::path(
    get, path = "/v1/tokenizers/{digest}", tag = "processor",
    params(("digest" = String, Path, description = "The bundle's digest")),
    responses(
        (status = 200, description = "The bundle's bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, description = "Not a digest", body = ErrorBody),
        (status = 404, description = "No such tokenizer here", body = ErrorBody),
    )
)]
pub(crate) async fn tokenizer(
    State(app): State<Arc<App>>,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    let bundle = digest.parse().ok().and_then(|digest: Digest| app.shelf.bundle(&digest));
    let unknown = || ApiError {
        status: StatusCode::NOT_FOUND,
        ..ApiError::invalid("digest", "There is no such tokenizer here.")
    };
    let bytes = bundle.ok_or_else(unknown)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// See at which times the request of a receipt passed its stages here, and what became of the receipt.
#[utoipa::path(
    get, path = "/v1/receipts/{id}/trace", tag = "processor",
    params(
        ("id" = String, Path, description = "The receipt's id"),
        ("channel" = String, Query, description = "Its channel"),
        ("lane" = u32, Query, description = "Its lane"),
        ("seq" = u64, Query, description = "Its number"),
    ),
    responses(
        (status = 200, description = "The stages", body = Served),
        (status = 400, description = "Not an id", body = ErrorBody),
        (status = 404, description = "No trace of such a receipt", body = ErrorBody),
        (status = 500, description = "The processor failed", body = ErrorBody),
    )
)]
pub(crate) async fn trace(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    place: Result<Query<Place>, QueryRejection>,
) -> Result<Response, ApiError> {
    let found = match (id.parse::<Digest>(), place) {
        (Ok(id), Ok(Query(at))) => traces::find(&app.store, id, at).await.map_err(|error| {
            tracing::error!(%error, "a trace could not be read");
            ApiError::internal("The processor cannot read its records at the moment.")
        })?,
        _ => None,
    };
    let message = "There is no trace of that receipt: it is too old, or not of this processor.";
    let unknown = || ApiError { status: StatusCode::NOT_FOUND, ..ApiError::invalid("id", message) };
    Ok(Json(found.ok_or_else(unknown)?).into_response())
}

async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    if !gristmill_metrics::is_local(request.extensions()) {
        return gristmill_metrics::refuse();
    }
    gristmill_metrics::answer(app.metrics.text(&app).await)
}
