//! The gateway's HTTP surface.

use crate::{
    answer::{Heading, stream, whole},
    app::App,
    buy::buy,
    embeddings::vectors,
    error::BuyError,
    keys,
    market::price,
    openapi::{self, ChannelInfo, ChannelState, Channels, Failed, Health, KeyInfo, Receipts},
    operator,
    progress::Progress,
    receipts, traces,
};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post},
};
use gristmill_channel::{KeyId, Phase};
use gristmill_client::schema::ModelInfo;
use gristmill_ledger::record::{self, Offer};
use gristmill_metrics::Answers;
use gristmill_net::{
    extract::{Path, Query},
    http::{RequestId, identify, read_body},
    openai::{
        Answer, ApiError, EmbeddingList, ErrorBody, MAX_REQUEST_BYTES, Model, ModelList, Prompt,
        PromptRequest, Shape,
        schema::{ChatBody, EmbeddingsBody, StreamEvent, TextBody},
    },
    trace::Trace,
};
use gristmill_types::{Amount, Digest, ModelId};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use utoipa::IntoParams;

/// Receipts in one listing at most.
const MAX_RECEIPTS: u32 = 1_000;

pub(crate) fn router(app: Arc<App>) -> Router {
    let answers = app.metrics.answers.clone();
    Router::new()
        .route(Shape::Chat.path(), post(chat))
        .route(Shape::Text.path(), post(text))
        .route(Shape::Embeddings.path(), post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/key", get(key))
        .route("/v1/keys", get(operator::list).post(operator::create))
        .route("/v1/keys/{id}", patch(operator::change).delete(operator::revoke))
        .route("/v1/channels", get(channels))
        .route("/v1/receipts", get(list_receipts))
        .route("/v1/receipts/{id}", get(show_receipt))
        .route("/v1/receipts/{id}/trace", get(show_trace))
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

/// The key of a request, if it is one of ours.
fn authenticate(app: &App, headers: &HeaderMap) -> Result<KeyId, ApiError> {
    let id = keys::of_request(headers)?;
    if app.accounts.lock().names().is_active(&id) { Ok(id) } else { Err(ApiError::wrong_key()) }
}

/// Who reads.
pub(crate) enum Reader {
    /// Whoever has this API key, and sees what was bought with it.
    Key(KeyId),
    /// Whoever runs the gateway, and sees everything.
    Operator,
}

impl Reader {
    /// Whose receipts it sees, where those are not all.
    const fn only(&self) -> Option<KeyId> {
        match self {
            Self::Key(id) => Some(*id),
            Self::Operator => None,
        }
    }
}

pub(crate) fn reader(app: &App, headers: &HeaderMap) -> Result<Reader, ApiError> {
    if app.config.operator == Some(keys::of_request(headers)?) {
        return Ok(Reader::Operator);
    }
    authenticate(app, headers).map(Reader::Key)
}

/// Whether the gateway answers.
#[utoipa::path(get, path = "/health", tag = "gateway", responses((status = 200, description = "It does", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ask a model, and pay for the answer.
///
/// The answer is whole, or a stream of chunks that ends with `[DONE]`.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", request_body = ChatBody, security(("key" = [])),
    responses(
        (status = 200, description = "The answer", content((Answer = "application/json"), (StreamEvent = "text/event-stream"))),
        Failed,
    )
)]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(app, id, Shape::Chat, headers, body).await
}

/// Ask a model to go on from a text, and pay for it.
///
/// The answer is whole, or a stream of chunks that ends with `[DONE]`.
#[utoipa::path(
    post, path = "/v1/completions", tag = "openai", request_body = TextBody, security(("key" = [])),
    responses(
        (status = 200, description = "The answer", content((Answer = "application/json"), (StreamEvent = "text/event-stream"))),
        Failed,
    )
)]
pub(crate) async fn text(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(app, id, Shape::Text, headers, body).await
}

/// Ask a model for vectors of texts, and pay for them.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsBody, security(("key" = [])),
    responses((status = 200, description = "The vectors", body = EmbeddingList), Failed)
)]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(app, id, Shape::Embeddings, headers, body).await
}

async fn answer(
    app: Arc<App>,
    id: RequestId,
    shape: Shape,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let key = authenticate(&app, &headers)?;
    let body = read_body(body.into_data_stream(), MAX_REQUEST_BYTES).await?;
    let request = PromptRequest::parse(&body, shape)?;
    // Buying goes on when the client goes away and this handler is dropped: what is written down
    // half way must be confirmed. `gone` tells it, and it stops at the next safe point.
    let gone = CancellationToken::new();
    let alive = gone.clone().drop_guard();
    let progress = Progress::begin(&app.metrics, &id);
    let span = progress.span();
    let bought = async move {
        let (seller, steps) = buy(&app, key, &request, &progress, &gone).await?;
        let heading = Heading::new(&app, id, &request, seller.processor);
        if request.stream {
            return Ok::<_, ApiError>(stream(steps, heading, app.config.reader_patience));
        }
        if let Prompt::Inputs(_) = &request.prompt {
            let list = vectors(steps, heading, request.encoding, gone.cancelled()).await?;
            return Ok(list.into_response());
        }
        Ok(Json(whole(steps, heading, gone.cancelled()).await?).into_response())
    };
    let answer =
        tokio::spawn(bought.instrument(span)).await.map_err(|error| ApiError::internal(error.to_string()))?;
    drop(alive);
    answer
}

/// List the models that are offered.
///
/// On a ledger with more than 10000 model versions or offers some may be missing; those can be asked for by their names
/// all the same.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai", security(("key" = [])),
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
        (status = 503, description = "The ledger does not answer", body = ErrorBody),
    )
)]
pub(crate) async fn models(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<ModelList>, ApiError> {
    reader(&app, &headers)?;
    Ok(Json(ModelList::new(list_models(&app).await?)))
}

/// Look a model up by its name, which may hold slashes.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai", security(("key" = [])),
    params(("id" = String, Path, description = "The model's name", example = "gristmill/numbers")),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = 400, description = "Not a name", body = ErrorBody),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
        (status = 404, description = "Nobody offers it", body = ErrorBody),
        (status = 503, description = "The ledger does not answer", body = ErrorBody),
    )
)]
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    reader(&app, &headers)?;
    let found = app.market.offered(&id, &app.config.issuer).await?;
    let (model, offer) = found.ok_or_else(|| ApiError::unknown_model(&id))?;
    Ok(Json(listed(&model, &offer)))
}

/// The newest version of every line that somebody offers for our credits.
async fn list_models(app: &App) -> Result<Vec<Model>, BuyError> {
    let listing = app.market.listing().await?;
    let mut best: BTreeMap<&ModelId, &Offer> = BTreeMap::new();
    for offer in listing.offers.iter().filter(|offer| offer.issuers.contains(&app.config.issuer)) {
        let of_model = best.entry(&offer.model).or_insert(offer);
        if price(&offer.prices) < price(&of_model.prices) {
            *of_model = offer;
        }
    }
    let newest = |info: &&ModelInfo| info.line.as_ref().is_some_and(|line| line.latest == info.model.model);
    let offered = listing.models.iter().filter(newest).filter_map(|info| {
        let offer = best.get(&info.model.model)?;
        Some((&info.model.name, listed(&info.model, offer)))
    });
    // By name, each once: a page may begin with what the one before ended with.
    Ok(offered.collect::<BTreeMap<_, _>>().into_values().collect())
}

/// A model on the list, with its best offer.
fn listed(model: &record::Model, offer: &Offer) -> Model {
    Model {
        id: model.name.clone(),
        object: "model".to_owned(),
        created: model.time_ms / 1_000,
        owned_by: model.publisher.to_string(),
        context_length: None,
        unit: gristmill_tokenizer::unit(&model.tokenizer),
        pricing: Some((&offer.prices).into()),
    }
}

/// See what the key may still spend.
#[utoipa::path(
    get, path = "/v1/key", tag = "gateway", security(("key" = [])),
    responses(
        (status = 200, description = "Where the key stands", body = KeyInfo),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
    )
)]
pub(crate) async fn key(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<KeyInfo>, ApiError> {
    let id = authenticate(&app, &headers)?;
    let of = app.accounts.lock().key(&id).ok_or_else(ApiError::wrong_key)?;
    Ok(Json(KeyInfo {
        limit: of.limit,
        spent: of.spent,
        held: of.held,
        remaining: of.room(),
        account: app.config.payer,
        issuer: app.config.issuer,
    }))
}

/// List the gateway's payment channels.
#[utoipa::path(
    get, path = "/v1/channels", tag = "gateway", security(("key" = [])),
    responses(
        (status = 200, description = "The channels", body = Channels),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
    )
)]
pub(crate) async fn channels(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<Channels>, ApiError> {
    reader(&app, &headers)?;
    let accounts = app.accounts.lock();
    let channels = accounts.payers().map(|payer| {
        let (view, uses) = (payer.view(), payer.lane_uses());
        let state = match view.phase {
            Phase::Open => ChannelState::Open,
            Phase::Closing { .. } => ChannelState::Closing,
            Phase::Closed => ChannelState::Closed,
        };
        let spent = uses.iter().map(|lane| lane.spent).chain(view.retired());
        let spent = spent.fold(Amount::ZERO, |sum, of| sum.checked_add(of).unwrap_or(sum));
        let free = payer.room();
        ChannelInfo {
            id: payer.id(),
            processor: payer.terms().payee,
            issuer: payer.terms().issuer,
            state,
            deposit: view.deposit,
            settled: view.settled,
            spent,
            held: view.deposit.saturating_sub(spent).saturating_sub(free),
            free,
            lanes: uses.len(),
            in_doubt: payer.in_doubt().len(),
        }
    });
    Ok(Json(Channels { channels: channels.collect() }))
}

/// Which receipts to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// So many of the newest are left out.
    skip: Option<u32>,
    /// At most 1000; 20 without it.
    limit: Option<u32>,
}

/// List the newest receipts of the key. The operator's key lists those of all keys.
#[utoipa::path(
    get, path = "/v1/receipts", tag = "gateway", params(Page), security(("key" = [])),
    responses(
        (status = 200, description = "The receipts", body = Receipts),
        (status = 400, description = "Not a number", body = ErrorBody),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
    )
)]
pub(crate) async fn list_receipts(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<Page>,
) -> Result<Json<Receipts>, ApiError> {
    let only = reader(&app, &headers)?.only();
    let limit = query.limit.unwrap_or(20).min(MAX_RECEIPTS);
    let receipts = receipts::list(&app.store, only, query.skip.unwrap_or(0), limit).await?;
    let total = receipts::count(&app.store, only).await.map_err(BuyError::from)?;
    Ok(Json(Receipts { receipts, total }))
}

/// Read a receipt with all that it is checked against.
#[utoipa::path(
    get, path = "/v1/receipts/{id}", tag = "gateway", security(("key" = [])),
    params(("id" = String, Path, description = "The receipt's id, or its beginning of eight digits or more")),
    responses(
        (status = 200, description = "The receipt", body = Object),
        (status = 400, description = "Not an id", body = ErrorBody),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
        (status = 404, description = "No such receipt", body = ErrorBody),
    )
)]
pub(crate) async fn show_receipt(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let only = reader(&app, &headers)?.only();
    match receipts::find(&app.store, only, &id).await? {
        Some(entry) => Ok(Json(entry).into_response()),
        None => {
            let message =
                format!("There is no receipt '{id}', or more than one begins so; see GET /v1/receipts.");
            let error = ApiError { status: StatusCode::NOT_FOUND, ..ApiError::invalid("id", message) };
            Err(error)
        }
    }
}

/// See at which times the request of a receipt passed its stages here.
#[utoipa::path(
    get, path = "/v1/receipts/{id}/trace", tag = "gateway", security(("key" = [])),
    params(("id" = String, Path, description = "The receipt's id")),
    responses(
        (status = 200, description = "The stages", body = Trace),
        (status = 400, description = "Not an id", body = ErrorBody),
        (status = 401, description = "No API key, or one that is not known", body = ErrorBody),
        (status = 404, description = "No trace of such a receipt", body = ErrorBody),
    )
)]
pub(crate) async fn show_trace(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let only = reader(&app, &headers)?.only();
    let found = match id.parse::<Digest>() {
        Ok(id) => traces::find(&app.store, only, id).await?,
        Err(_) => None,
    };
    let message = "There is no trace of that receipt: it is too old, or not of this gateway.";
    let unknown = || ApiError { status: StatusCode::NOT_FOUND, ..ApiError::invalid("id", message) };
    Ok(Json(found.ok_or_else(unknown)?).into_response())
}

async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    if !gristmill_metrics::is_local(request.extensions()) {
        return gristmill_metrics::refuse();
    }
    gristmill_metrics::answer(app.metrics.text(&app).await)
}
