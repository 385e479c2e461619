//! The OpenAPI document.

use super::{blocks, events, listings, state, transactions};
use axum::Json;
use utoipa::OpenApi;

/// Every route of the ledger's RPC.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Gristmill ledger",
        description = "Submit transactions, read the state with proofs, follow what final blocks do."
    ),
    paths(
        transactions::submit,
        transactions::lookup,
        blocks::block,
        state::state,
        state::account,
        state::channel,
        listings::models,
        listings::offers,
        listings::processors,
        listings::supply,
        listings::status,
        listings::genesis,
        events::events,
    )
)]
struct Document;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
