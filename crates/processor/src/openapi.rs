//! The OpenAPI document of the processor. What is paid for follows the protocol of `docs/payments.md`,
//! which the document names and does not repeat. `/metrics` is left out, which has a form of its own and is
//! read on this machine only.

use crate::routes;
use axum::Json;
use gristmill_net::openai::{Chunk, ErrorBody, Shape};
use serde::Serialize;
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

/// Every route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Gristmill processor",
        description = "Answers prompts for pay, by the Machine Payments Protocol: a request without a \
                       payment is refused with 402 and a challenge."
    ),
    paths(
        routes::chat,
        routes::text,
        routes::embeddings,
        routes::pay,
        routes::quotes,
        routes::channel,
        routes::tokenizer,
        routes::trace,
        routes::health,
    ),
    components(schemas(Chunk, ErrorBody, Problem)),
    modifiers(&Payments)
)]
struct Document;

/// A payment is taken on the route of whichever request it is for.
struct Payments;

impl Modify for Payments {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let routes = &mut document.paths.paths;
        let pay = routes.get(Shape::Chat.path()).and_then(|route| route.head.clone());
        for shape in [Shape::Text, Shape::Embeddings] {
            if let Some(route) = routes.get_mut(shape.path()) {
                route.head.clone_from(&pay);
                if let Some(pay) = &mut route.head {
                    pay.operation_id = Some(format!("pay_{shape:?}").to_lowercase());
                }
            }
        }
    }
}

/// The document.
pub(crate) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

/// Whether the processor answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    pub(crate) status: &'static str,
}

/// Why a payment is not taken, by RFC 9457.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described here, made by the payment protocol's library")]
pub(crate) struct Problem {
    /// The kind of problem, as a URI of the protocol.
    r#type: String,
    /// The kind of problem, for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened.
    detail: String,
    /// What to do.
    hint: Option<String>,
}

/// How a request for an answer fails, besides what may be told in two ways.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "described here, made of errors")]
pub(crate) enum Failed {
    /// To be paid first, or not paid rightly.
    #[response(status = 402, content_type = "application/problem+json")]
    Payment(Problem),
    /// The same payment again.
    #[response(status = 403, content_type = "application/problem+json")]
    Again(Problem),
    /// The model is not served here.
    #[response(status = 404)]
    Model(ErrorBody),
    /// The channel is closed.
    #[response(status = 410, content_type = "application/problem+json")]
    Closed(Problem),
    /// Too long.
    #[response(status = 413)]
    Length(ErrorBody),
    /// The engine is full, or the ledger does not answer.
    #[response(status = 503)]
    Busy(ErrorBody),
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(routes.len() >= 8, "{routes:?}");
        for (path, handlers) in &routes {
            let methods = ["get", "post", "head", "put", "delete"];
            for method in methods.into_iter().filter(|method| handlers.contains(&format!("{method}("))) {
                assert!(document["paths"][path][method].is_object(), "{method} {path} is not described");
            }
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), routes.len(), "a route that is none");
    }
}
