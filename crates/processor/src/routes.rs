//! The processor's HTTP surface.

use crate::{
    app::App,
    books::record_of,
    error::Refused,
    openapi::{self, Failed, Health, Problem},
    progress::Progress,
    serve, traces,
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
use gristmill_metrics::Answers;
use gristmill_net::{
    Base64,
    extract::Path,
    http::{RequestId, identify, read_body},
    openai::{
        ApiError, ErrorBody, MAX_REQUEST_BYTES, Shape,
        schema::{ChatBody, EmbeddingsBody, StreamEvent, TextBody},
    },
    pay::{Action, Credential, PAYMENT_RECEIPT, PaymentReceipt, Refusal},
    peer::{ChannelState, LaneState, Quotes as QuoteList, UNKNOWN_CHANNEL},
    trace::{Place, Served},
};
use gristmill_types::{ChannelId, Digest};
use std::sync::Arc;
use tracing::Instrument as _;

pub(crate) fn router(app: Arc<App>) -> Router {
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
