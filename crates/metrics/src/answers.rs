//! HTTP answers by route and status.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The name of everything that is no route.
const NO_ROUTE: &str = "none";

/// Routes are the router's own, so both labels are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    status: u16,
}

/// Counts a server's HTTP answers. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Answers(Family<Labels, Counter>);

impl Answers {
    /// A count that the registry shows.
    pub fn register(registry: &mut Registry) -> Self {
        let answers = Self::default();
        registry.register(
            "http_answers",
            "HTTP answers by route and status; a stream counts when it begins",
            answers.0.clone(),
        );
        answers
    }

    /// Middleware: `layer(from_fn_with_state(answers, Answers::count))`, after all routes.
    pub async fn count(State(answers): State<Self>, request: Request, next: Next) -> Response {
        let route = request.extensions().get::<MatchedPath>().cloned();
        let response = next.run(request).await;
        let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
        answers.0.get_or_create(&Labels { route, status: response.status().as_u16() }).inc();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read, text};
    use axum::{Router, http::StatusCode, middleware, routing::get};

    #[tokio::test]
    async fn answers_are_counted_by_route_and_not_by_path() {
        let mut registry = Registry::default();
        let answers = Answers::register(&mut registry);
        let app = Router::new()
            .route("/things/{id}", get(|| async { StatusCode::IM_A_TEAPOT }))
            .layer(middleware::from_fn_with_state(answers, Answers::count));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for path in ["things/1", "things/2", "secret", "../etc/passwd"] {
            reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        }
        let found = read(&text(&registry));
        let value =
            |route, status| found.value("http_answers_total", &[("route", route), ("status", status)]);
        assert_eq!(value("/things/{id}", "418"), Some(2.0));
        assert_eq!(value("none", "404"), Some(2.0));
        assert_eq!(found.samples.len(), 2, "{found:?}");
    }
}
