//! What every role's `GET /metrics` shares.
//!
//! A role keeps one `Metrics` struct of its own, with its registry; its file says what each metric means.
//! Here is the rest: the answer and who may read it ([`answer`]), HTTP answers by route ([`Answers`]),
//! labels whose values come from outside and are bounded ([`Bounded`]), histograms with the same buckets
//! everywhere ([`seconds`]), and a reader of the text ([`read`]), for `gristmill status` and for tests.
//!
//! It knows no role and no money. Whoever counts on a path that is paid for keeps the counter's handle:
//! a count then is one atomic addition.

mod answers;
mod bounded;
mod reading;

pub use answers::Answers;
pub use bounded::{Bounded, MAX_VALUES, OTHER};
pub use reading::{Kind, Reading, Sample, read};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use prometheus_client::{metrics::histogram::Histogram, registry::Registry};
use std::net::SocketAddr;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a registry, without its last line: more may follow.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode_registry(&mut text, registry);
    text
}

/// Whether the request came over the loopback interface. One whose origin is not known did not.
pub fn is_local(extensions: &Extensions) -> bool {
    extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|ConnectInfo(from)| from.ip().is_loopback())
}

/// The answer to `GET /metrics`: for readers on this machine only. `text` comes from [`text`], and may
/// have been added to.
pub fn answer(text: String) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text + "# EOF\n").into_response()
}

/// The answer to a reader who is somewhere else.
pub fn refuse() -> Response {
    (StatusCode::FORBIDDEN, "metrics are read on this machine only\n").into_response()
}

/// A histogram of seconds: 27 buckets from 50 µs to 10 min, a factor of √3 apart at most.
pub fn seconds() -> Histogram {
    Histogram::new([
        0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05,
        0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
    ])
}

/// A number as a gauge takes it: the largest where it does not fit.
pub fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A number as a counter takes it: the largest where it does not fit.
pub fn count(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, extract::Request, routing::get};
    use prometheus_client::metrics::counter::Counter;
    use std::sync::Arc;

    #[test]
    fn numbers_that_do_not_fit_are_the_largest() {
        assert_eq!((gauge(7_u128), gauge(u128::MAX)), (7, i64::MAX));
        assert_eq!((count(7_u128), count(u128::MAX)), (7, u64::MAX));
    }

    /// What `answer` sends is read by [`read`], and only a reader with a known local origin gets it.
    #[tokio::test]
    async fn metrics_are_for_this_machine() {
        let mut registry = Registry::with_prefix("test");
        let asked = Counter::<u64>::default();
        registry.register("asked", "Questions", asked.clone());
        let registry = Arc::new(registry);
        let route = get(move |request: Request| async move {
            asked.inc();
            if is_local(request.extensions()) { answer(text(&registry)) } else { refuse() }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for known in [true, false] {
            let router = Router::new().route("/metrics", route.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/metrics", listener.local_addr().unwrap());
            tokio::spawn(async move {
                if known {
                    let service = router.into_make_service_with_connect_info::<SocketAddr>();
                    axum::serve(listener, service).await
                } else {
                    axum::serve(listener, router).await
                }
            });
            let answer = reqwest::get(url).await.unwrap();
            assert_eq!(answer.status().is_success(), known);
            if known {
                assert_eq!(answer.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
                let body = answer.text().await.unwrap();
                assert!(body.ends_with("# EOF\n"), "{body}");
                assert_eq!(read(&body).value("test_asked_total", &[]), Some(1.0));
            }
        }
    }
}
