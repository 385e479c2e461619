//! The OpenAPI document.

use super::{blocks, events, listings, state, transactions};
use axum::Json;
use gristmill_client::schema::{BlockEvents, Wait};
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
        state::claims,
        listings::models,
        listings::holders,
        listings::offers,
        listings::processors,
        listings::supply,
        listings::status,
        listings::genesis,
        events::events,
    ),
    // Named by parameters and by the data of an event, where they are not found by themselves.
    components(schemas(Wait, BlockEvents))
)]
struct Document;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn describes_every_route() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        // The routes as the router's own text lists them, so that none is forgotten here.
        let routes: Vec<&str> = include_str!("../rpc.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once('"'))
            .map(|(path, _)| path)
            .filter(|path| !["/openapi.json", "/metrics"].contains(path))
            .collect();
        assert_eq!(routes.len(), 15);
        for route in routes {
            assert!(described.iter().any(|path| *path == route), "{route} is not described");
        }
    }
}
