//! The processor's metrics as text.

use super::*;
use gristmill_net::{openai::ApiError, pay::Refusal};
use gristmill_store::Store;

fn metrics() -> (tempfile::TempDir, Metrics) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("processor.db"), &[]).unwrap();
    (folder, Metrics::new(&store))
}

fn read(metrics: &Metrics) -> gristmill_metrics::Reading {
    gristmill_metrics::read(&gristmill_metrics::text(&metrics.registry))
}

#[test]
fn answers_by_how_they_ended() {
    let (_folder, metrics) = metrics();
    let usage = Usage { input_tokens: 7, output_tokens: 3, millis: 0, requests: 1 };
    metrics.finished(Finish::Length, &usage, Amount::from_grains(90));
    metrics.finished(Finish::Stop, &usage, Amount::from_grains(10));
    metrics.finished(Finish::Stop, &usage, Amount::from_grains(1));
    let found = read(&metrics);
    for (finish, value) in [("stop", 2.0), ("length", 1.0), ("cancelled", 0.0), ("error", 0.0)] {
        let labels = [("finish", finish)];
        assert_eq!(found.value("gristmill_processor_requests_total", &labels), Some(value), "{finish}");
    }
    for (name, value) in [
        ("gristmill_processor_input_tokens_total", 21.0),
        ("gristmill_processor_output_tokens_total", 9.0),
        ("gristmill_processor_delivered_grains_total", 101.0),
    ] {
        assert_eq!(found.value(name, &[]), Some(value), "{name}");
    }
}

#[test]
fn refusals_have_bounded_reasons_and_a_challenge_is_none() {
    let (_folder, metrics) = metrics();
    metrics.refused(&Refusal::Required.into());
    metrics.refused(&Refusal::Forged.into());
    metrics.refused(&Refusal::Forged.into());
    metrics.refused(&ApiError::unavailable("full", 1).into());
    for number in 0..100 {
        let error = ApiError { code: Some(format!("upstream-{number}")), ..ApiError::internal("failed") };
        metrics.refused(&error.into());
    }
    let found = read(&metrics);
    let name = "gristmill_processor_refusals_total";
    assert_eq!(found.value("gristmill_processor_challenges_total", &[]), Some(1.0));
    assert_eq!(found.value(name, &[("reason", "invalid-challenge")]), Some(2.0));
    assert_eq!(found.value(name, &[("reason", "unavailable")]), Some(1.0));
    assert_eq!(found.of(name, &[]).count(), 65);
    assert_eq!(found.value(name, &[]), Some(103.0));
}
