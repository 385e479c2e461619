//! Tests of refusals: status and type of each, and what is not told.

use super::*;
use crate::pay::{fixtures, golden::pinned};

fn all() -> Vec<(Refusal, u16, &'static str)> {
    let text = || "why".to_owned();
    let differs = Refusal::Differs { what: "quote", expected: text(), got: text() };
    vec![
        (Refusal::Required, 402, "payment-required"),
        (Refusal::Malformed(text()), 402, "malformed-credential"),
        (Refusal::Method(text()), 400, "method-unsupported"),
        (Refusal::Intent(text()), 402, "invalid-challenge"),
        (Refusal::Forged, 402, "invalid-challenge"),
        (differs, 402, "invalid-challenge"),
        (Refusal::Expired(text()), 402, "payment-expired"),
        (Refusal::Payload(text()), 402, "invalid-payload"),
        (Refusal::Unrelated("it is"), 402, "invalid-payload"),
        (Refusal::Body, 402, "verification-failed"),
        (Refusal::Rules(text()), 402, "verification-failed"),
        (Refusal::Insufficient(text()), 402, "payment-insufficient"),
        (Refusal::Balance(text()), 402, "session/insufficient-balance"),
        (Refusal::Signature(text()), 402, "session/invalid-signature"),
        (Refusal::Signer(text()), 402, "session/signer-mismatch"),
        (Refusal::Deposit(text()), 402, "session/amount-exceeds-deposit"),
        (Refusal::Delta(text()), 402, "session/delta-too-small"),
        (Refusal::Replayed(text()), 403, "verification-failed"),
        (Refusal::NoChannel(text()), 410, "session/channel-not-found"),
        (Refusal::Closed(text()), 410, "session/channel-finalized"),
        (Refusal::Internal(text()), 500, "internal-payment-error"),
    ]
}

async fn body(refusal: &Refusal) -> axum::body::Bytes {
    let response = fixtures::cashier().refuse(refusal, &[&fixtures::offer()]);
    assert_eq!(response.status(), refusal.status());
    axum::body::to_bytes(response.into_body(), MAX_PROBLEM_BYTES).await.unwrap()
}

#[tokio::test]
async fn every_refusal_has_its_status_and_type_and_is_read_back() {
    for (refusal, status, code) in all() {
        let body = body(&refusal).await;
        let problem = Problem::read(refusal.status(), &body);
        assert_eq!((problem.status.as_u16(), problem.code.as_str()), (status, code), "{refusal:?}");
        assert_eq!(refusal.code(), code);
        assert!(!problem.detail.is_empty() && !problem.detail.contains(".."), "{problem}");
    }
}

#[tokio::test]
async fn our_own_faults_are_not_explained_to_others() {
    let body = body(&Refusal::Internal("disk /secret/path is full".to_owned())).await;
    assert!(!String::from_utf8_lossy(&body).contains("secret"));
}

#[tokio::test]
async fn the_form_is_pinned() {
    let body = body(&Refusal::Required).await;
    pinned("problem", std::str::from_utf8(&body).unwrap());
}

#[test]
fn bodies_that_are_no_problem_are_shown_short() {
    let problem = Problem::read(StatusCode::BAD_GATEWAY, "<html>".repeat(10_000).as_bytes());
    assert_eq!((problem.code.as_str(), problem.detail.len()), ("", MAX_TEXT));
    let foreign = br#"{"type":"https://example.org/x","title":"","status":200,"detail":"d"}"#;
    let problem = Problem::read(StatusCode::FORBIDDEN, foreign);
    assert_eq!((problem.status.as_u16(), problem.code.as_str(), problem.detail.as_str()), (403, "", "d"));
    assert_eq!(Problem::read(StatusCode::FORBIDDEN, b"\xff").detail, "\u{fffd}");
}
