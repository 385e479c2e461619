//! The OpenAPI document of the gateway, and what its own routes answer.
//!
//! Some routes are OpenAI's; the others tell the owner of a key what it spent, and where. A route that the
//! router has and this document lacks fails the test below; `/metrics` is left out, which has a form of its
//! own and is read on this machine only.

use crate::{operator, receipts, routes};
use axum::Json;
use gristmill_net::openai::{Chunk, ErrorBody};
use gristmill_types::{AccountId, Amount, ChannelId, Digest};
use serde::Serialize;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// Every route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Gristmill gateway",
        description = "OpenAI's API, paid by the token, and what it cost. Every route but the health \
                       and this document takes an API key as `Authorization: Bearer KEY`."
    ),
    paths(
        routes::chat,
        routes::text,
        routes::embeddings,
        routes::models,
        routes::model,
        routes::key,
        routes::channels,
        routes::list_receipts,
        routes::show_receipt,
        routes::show_trace,
        routes::health,
        operator::list,
        operator::create,
        operator::change,
        operator::revoke,
    ),
    components(schemas(Chunk, ErrorBody)),
    modifiers(&Keys)
)]
struct Document;

/// How a key is sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("key", SecurityScheme::Http(bearer.clone()));
            components.add_security_scheme("operator", SecurityScheme::Http(bearer));
        }
    }
}

/// The document.
pub(crate) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

/// Whether the gateway answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    pub(crate) status: &'static str,
}

/// How a request for an answer fails.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "described here, made of errors")]
pub(crate) enum Failed {
    /// Not a request that can be honoured.
    #[response(status = 400)]
    Request(ErrorBody),
    /// No API key, or one that is not known.
    #[response(status = 401)]
    Key(ErrorBody),
    /// What is left does not pay for it.
    #[response(status = 402)]
    Credit(ErrorBody),
    /// Nobody offers the model.
    #[response(status = 404)]
    Model(ErrorBody),
    /// Too long.
    #[response(status = 413)]
    Length(ErrorBody),
    /// Too many requests at once.
    #[response(status = 429)]
    Rate(ErrorBody),
    /// The gateway failed.
    #[response(status = 500)]
    Gateway(ErrorBody),
    /// The processor failed.
    #[response(status = 502)]
    Processor(ErrorBody),
    /// Nobody can take it now.
    #[response(status = 503)]
    Busy(ErrorBody),
}

/// Where an API key stands. Amounts are decimal strings of grains.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyInfo {
    /// The most that it may ever spend.
    #[schema(value_type = String)]
    pub(crate) limit: Amount,
    /// What it spent.
    #[schema(value_type = String)]
    pub(crate) spent: Amount,
    /// What is held for requests under way.
    #[schema(value_type = String)]
    pub(crate) held: Amount,
    /// What is left.
    #[schema(value_type = String)]
    pub(crate) remaining: Amount,
    /// The account that pays.
    #[schema(value_type = String)]
    pub(crate) account: AccountId,
    /// Whose credits it pays with.
    #[schema(value_type = String)]
    pub(crate) issuer: AccountId,
}

/// An API key, as whoever runs the gateway sees it. Amounts are decimal strings of grains.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKey {
    /// The key's digest.
    #[schema(value_type = String)]
    pub(crate) id: Digest,
    /// What people call it.
    pub(crate) name: Option<String>,
    /// Unix time in milliseconds.
    pub(crate) created_ms: Option<u64>,
    /// Unix time in milliseconds; null while it can be used.
    pub(crate) revoked_ms: Option<u64>,
    /// The most that it may ever spend.
    #[schema(value_type = String)]
    pub(crate) limit: Amount,
    /// What it spent.
    #[schema(value_type = String)]
    pub(crate) spent: Amount,
    /// What is held for requests under way.
    #[schema(value_type = String)]
    pub(crate) held: Amount,
    /// What is left.
    #[schema(value_type = String)]
    pub(crate) remaining: Amount,
}

/// The API keys of the gateway.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeys {
    /// All that were ever made.
    pub(crate) keys: Vec<ApiKey>,
}

/// An API key that was made a moment ago.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// The key itself. It is not kept, and not shown again.
    pub(crate) key: String,
    /// Where it stands.
    #[serde(flatten)]
    pub(crate) of: ApiKey,
}

/// The gateway's payment channels.
#[derive(Serialize, ToSchema)]
pub(crate) struct Channels {
    /// All of them.
    pub(crate) channels: Vec<ChannelInfo>,
}

/// Where a channel stands on the ledger.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChannelState {
    Open,
    Closing,
    Closed,
}

/// A payment channel. Amounts are decimal strings of grains.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChannelInfo {
    /// Its id.
    #[schema(value_type = String)]
    pub(crate) id: ChannelId,
    /// Who is paid.
    #[schema(value_type = String)]
    pub(crate) processor: AccountId,
    /// Whose credits.
    #[schema(value_type = String)]
    pub(crate) issuer: AccountId,
    /// Where it stands.
    pub(crate) state: ChannelState,
    /// All that was deposited.
    #[schema(value_type = String)]
    pub(crate) deposit: Amount,
    /// What the ledger has paid out.
    #[schema(value_type = String)]
    pub(crate) settled: Amount,
    /// What was spent.
    #[schema(value_type = String)]
    pub(crate) spent: Amount,
    /// What is held for requests under way.
    #[schema(value_type = String)]
    pub(crate) held: Amount,
    /// What is left.
    #[schema(value_type = String)]
    pub(crate) free: Amount,
    /// Lanes in use.
    pub(crate) lanes: usize,
    /// Lanes whose last request is not settled between both sides.
    pub(crate) in_doubt: usize,
}

/// The newest receipts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Receipts {
    /// Newest first.
    pub(crate) receipts: Vec<receipts::Summary>,
    /// How many there are in all.
    pub(crate) total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_net::openai::Shape;

    #[test]
    fn every_route_is_described() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        // The routes as the router's own text lists them, so that none is forgotten here.
        let shapes = [Shape::Chat, Shape::Text, Shape::Embeddings];
        let source = shapes.iter().fold(include_str!("routes.rs").to_owned(), |source, shape| {
            source.replace(&format!("Shape::{shape:?}.path()"), &format!("{:?}", shape.path()))
        });
        let routes: Vec<(&str, &str)> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once("\", "))
            .filter(|(path, _)| !["/openapi.json", "/metrics"].contains(path))
            .collect();
        assert!(routes.len() >= 13, "{routes:?}");
        for (path, handlers) in &routes {
            let path = path.replace("{*", "{");
            // As in `get(list).post(create)`.
            let methods: Vec<&str> =
                handlers.split('.').map(|handler| handler.split_once('(').unwrap().0).collect();
            for method in &methods {
                assert!(document["paths"][&path][method].is_object(), "{method} {path} is not described");
            }
            assert_eq!(document["paths"][&path].as_object().unwrap().len(), methods.len(), "{path}");
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), routes.len(), "a route that is none");
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                let open = path == "/health";
                assert_eq!(operation["security"].is_array(), !open, "{path}");
                assert_eq!(operation["responses"]["401"].is_object(), !open, "{path}");
            }
        }
    }
}
