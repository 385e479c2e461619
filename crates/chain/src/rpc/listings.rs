//! Listings and overviews: the node's word, for finding things.

use super::{
    Rpc,
    error::{Path, Query, RpcError},
};
use axum::{Json, extract::State};
use gristmill_client::schema::{
    ErrorBody, GenesisAnswer, Holders, MAX_PAGE, ModelInfo, Models, Offers, OffersQuestion, Page, Processors,
    Status, SupplyAnswer,
};
use gristmill_types::LineId;
use std::time::{Duration, Instant};

/// A supply that was added up, when, and how long it took.
pub(super) struct CountedSupply {
    answer: SupplyAnswer,
    at: Instant,
    took: Duration,
}

/// Adding up reads the whole state and holds up the next block meanwhile, so it may take at most
/// this part of the time: one in so many.
const SUPPLY_SHARE: u32 = 20;

fn limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(MAX_PAGE).min(MAX_PAGE)
}

/// List model versions.
#[utoipa::path(
    get, path = "/v1/models", tag = "market", params(Page),
    responses((status = 200, description = "A page", body = Models), (status = 400, description = "Bad page", body = ErrorBody))
)]
pub(super) async fn models(State(rpc): State<Rpc>, Query(page): Query<Page>) -> Json<Models> {
    Json(rpc.0.view.catalog(|catalog| {
        let info = |model: &gristmill_ledger::record::Model| ModelInfo {
            model: model.clone(),
            line: catalog.line(&model.line).cloned(),
            offers: catalog.offers(Some(model.model)).count(),
        };
        let models = catalog.models().skip(page.skip).take(limit(page.limit)).map(info).collect();
        Models { models, total: catalog.models().count() }
    }))
}

/// List offers, of one model version or of all.
#[utoipa::path(
    get, path = "/v1/offers", tag = "market", params(OffersQuestion),
    responses((status = 200, description = "A page", body = Offers), (status = 400, description = "Bad question", body = ErrorBody))
)]
pub(super) async fn offers(State(rpc): State<Rpc>, Query(question): Query<OffersQuestion>) -> Json<Offers> {
    Json(rpc.0.view.catalog(|catalog| {
        let matching = || catalog.offers(question.model);
        let offers = matching().skip(question.skip).take(limit(question.limit)).cloned().collect();
        Offers { offers, total: matching().count() }
    }))
}

/// List who holds shares of a model line.
#[utoipa::path(
    get, path = "/v1/lines/{id}/holders", tag = "market",
    params(("id" = String, Path, description = "The line's id", pattern = "^[0-9a-f]{64}$"), Page),
    responses((status = 200, description = "A page", body = Holders), (status = 400, description = "Bad page", body = ErrorBody))
)]
pub(super) async fn holders(
    State(rpc): State<Rpc>,
    Path(line): Path<LineId>,
    Query(page): Query<Page>,
) -> Json<Holders> {
    Json(rpc.0.view.catalog(|catalog| {
        let holders = catalog.holders(&line).skip(page.skip).take(limit(page.limit)).collect();
        Holders { holders, total: catalog.holders(&line).count() }
    }))
}

/// List processors.
#[utoipa::path(
    get, path = "/v1/processors", tag = "market", params(Page),
    responses((status = 200, description = "A page", body = Processors), (status = 400, description = "Bad page", body = ErrorBody))
)]
pub(super) async fn processors(State(rpc): State<Rpc>, Query(page): Query<Page>) -> Json<Processors> {
    Json(rpc.0.view.catalog(|catalog| {
        let processors = catalog.processors().skip(page.skip).take(limit(page.limit)).cloned().collect();
        Processors { processors, total: catalog.processors().count() }
    }))
}

/// Add up all credits and compare with what was issued.
///
/// Reads the whole state. A recent result is served again, so that asking often costs little; its
/// height says how recent it is.
#[utoipa::path(
    get, path = "/v1/supply", tag = "ledger",
    responses((status = 200, description = "The supply", body = SupplyAnswer), (status = 503, description = "Busy", body = ErrorBody))
)]
pub(super) async fn supply(State(rpc): State<Rpc>) -> Result<Json<SupplyAnswer>, RpcError> {
    let mut counted = rpc.0.supply.lock().await;
    if let Some(counted) = counted.as_ref()
        && (counted.answer.height == rpc.0.view.head().height
            || counted.at.elapsed() < counted.took * SUPPLY_SHARE)
    {
        return Ok(Json(counted.answer.clone()));
    }
    let started = Instant::now();
    let (height, audit) = rpc.0.reader.audit().await?;
    rpc.0.metrics.scanned(height, &audit);
    let adds_up = audit.adds_up();
    let answer = SupplyAnswer { height, adds_up, supplies: audit.supplies, faults: audit.faults };
    *counted = Some(CountedSupply { answer: answer.clone(), at: Instant::now(), took: started.elapsed() });
    Ok(Json(answer))
}

/// How the node is.
#[utoipa::path(get, path = "/v1/status", tag = "ledger", responses((status = 200, description = "The status", body = Status)))]
pub(super) async fn status(State(rpc): State<Rpc>) -> Json<Status> {
    let head = rpc.0.view.head();
    Json(Status {
        name: rpc.0.genesis.name.clone(),
        chain: rpc.0.chain,
        height: head.height,
        block: head.hash,
        time_ms: head.time_ms,
        clock_ms: head.clock_ms,
        waiting: rpc.0.pool.len(),
        stalled_ms: u64::try_from(rpc.0.pool.stalled(Instant::now()).as_millis()).unwrap_or(u64::MAX),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// What the ledger started from.
#[utoipa::path(get, path = "/v1/genesis", tag = "ledger", responses((status = 200, description = "The genesis", body = GenesisAnswer)))]
pub(super) async fn genesis(State(rpc): State<Rpc>) -> Json<GenesisAnswer> {
    let issuers = rpc.0.view.catalog(|catalog| catalog.issuers().cloned().collect());
    Json(GenesisAnswer { chain: rpc.0.chain, genesis: (*rpc.0.genesis).clone(), issuers })
}
