//! The gateway's metrics as text.

use super::*;
use crate::accounts::Accounts;
use gristmill_store::Store;
use gristmill_types::{Digest, SecretKey};

fn metrics() -> (tempfile::TempDir, Store, Metrics) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("gateway.db"), &[]).unwrap();
    let metrics = Metrics::new(&store);
    (folder, store, metrics)
}

fn read(metrics: &Metrics) -> gristmill_metrics::Reading {
    gristmill_metrics::read(&gristmill_metrics::text(&metrics.registry))
}

#[test]
fn every_outcome_has_its_series_from_the_start() {
    let (_folder, _store, metrics) = metrics();
    for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
        let labels = [("outcome", outcome.name())];
        assert_eq!(read(&metrics).value("gristmill_gateway_requests_total", &labels), Some(0.0));
        for _ in 0..=number {
            metrics.ended(outcome);
        }
    }
    for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
        let labels = [("outcome", outcome.name())];
        let value = read(&metrics).value("gristmill_gateway_requests_total", &labels);
        assert_eq!(value, Some(number as f64 + 1.0), "{outcome:?}");
    }
}

#[test]
fn processors_have_bounded_series() {
    let (_folder, _store, metrics) = metrics();
    let processor = |byte| SecretKey::from_seed(&[byte; 32]).account();
    for byte in 1..=70 {
        metrics.upstream(&processor(byte), None);
    }
    let broke = |byte| BuyError::Misbehaved { processor: processor(byte), what: "it lied".to_owned() };
    metrics.upstream(&processor(1), Some(&broke(1)));
    metrics.upstream(&processor(70), Some(&broke(70)));
    metrics.upstream(&processor(70), Some(&BuyError::Gone));
    let found = read(&metrics);
    let name = "gristmill_gateway_upstream_errors_total";
    let first = processor(1).to_string();
    assert_eq!(found.value(name, &[("processor", &first), ("error", "broke_protocol")]), Some(1.0));
    assert_eq!(found.value(name, &[("processor", "other"), ("error", "broke_protocol")]), Some(1.0));
    assert_eq!(found.value(name, &[("processor", "other"), ("error", "unreachable")]), Some(0.0));
    let series: std::collections::BTreeSet<_> =
        found.of(name, &[]).map(|sample| sample.labels["processor"].clone()).collect();
    assert_eq!(series.len(), MAX_VALUES + 1);
}

#[tokio::test]
async fn keys_are_shown_by_a_part_of_their_digest_and_bounded() {
    let (_folder, store, metrics) = metrics();
    let accounts = Accounts::load(store, SecretKey::from_seed(&[1; 32])).unwrap();
    for byte in 0..70 {
        let limit = Amount::from_grains(1_000 + u128::from(byte));
        accounts.set_limit(KeyId(Digest::new([byte; 32])), limit).await.unwrap();
    }
    metrics.read(&accounts.lock());
    let found = read(&metrics);
    assert_eq!(found.value("gristmill_gateway_keys", &[]), Some(70.0));
    let name = "gristmill_gateway_key_remaining_grains";
    assert_eq!(found.value(name, &[("key", "030303030303")]), Some(1_003.0));
    assert_eq!(found.of(name, &[]).count(), MAX_VALUES);
    assert_eq!(found.value("gristmill_gateway_channels", &[("state", "open")]), Some(0.0));
}

#[test]
fn what_was_paid_adds_up() {
    let (_folder, _store, metrics) = metrics();
    metrics.paid(7, 11, Amount::from_grains(500));
    metrics.paid(1, 2, Amount::from_grains(5));
    let found = read(&metrics);
    for (name, value) in [
        ("gristmill_gateway_input_tokens_total", 8.0),
        ("gristmill_gateway_output_tokens_total", 13.0),
        ("gristmill_gateway_spent_grains_total", 505.0),
    ] {
        assert_eq!(found.value(name, &[]), Some(value), "{name}");
    }
}
