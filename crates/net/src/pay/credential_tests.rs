//! Tests of credentials: pinned forms, bounds, hostile input.

use super::*;
use crate::pay::{
    Challenge,
    fixtures::{self, NOW},
    golden::pinned,
};
use proptest::prelude::*;
use serde_json::json;

fn challenge() -> Challenge {
    let header = fixtures::cashier().header(&fixtures::offer()).unwrap();
    let value = HeaderValue::from_str(&header).unwrap();
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
    Challenge::read(&headers, &fixtures::expected(), NOW).unwrap()
}

fn headers(values: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(header::AUTHORIZATION, value);
        }
    }
    headers
}

fn text(action: &Action) -> String {
    challenge().authorize(action).unwrap().to_str().unwrap().to_owned()
}

/// The order's credential with another payload.
fn with_payload(payload: serde_json::Value) -> String {
    let mut credential = parse_authorization(&text(&fixtures::order())).unwrap();
    credential.payload = payload;
    format_authorization(&credential).unwrap()
}

#[test]
fn the_forms_are_pinned() {
    for (name, action) in [
        ("order", fixtures::order()),
        ("voucher", Action::Voucher(fixtures::voucher())),
        ("approve", Action::Approve(fixtures::approval())),
    ] {
        let value = challenge().authorize(&action).unwrap();
        assert!(value.is_sensitive());
        assert!(value.len() < MAX_CREDENTIAL_BYTES / 2, "{name} has {} bytes", value.len());
        pinned(name, value.to_str().unwrap());
        let credential = Credential::read(&headers(&[value.as_bytes()])).unwrap().unwrap();
        assert_eq!(credential.action(), &action);
        assert_eq!(credential.challenge_id(), challenge().id());
        assert_eq!(credential.into_action().claim(), &fixtures::claim());
    }
}

#[test]
fn only_payment_credentials_are_read() {
    let order = text(&fixtures::order());
    for values in [&[][..], &["Bearer sk-1"], &["Basic eDp5"], &["Payments x"], &["Payment"]] {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        assert!(Credential::read(&headers(&values)).unwrap().is_none(), "{values:?}");
    }
    for values in
        [vec![order.clone()], vec!["Bearer sk-1".into(), order.clone()], vec![format!("Bearer x, {order}")]]
    {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        assert!(Credential::read(&headers(&values)).unwrap().is_some());
    }
}

#[test]
fn what_does_not_read_is_refused_with_the_reason() {
    let order = text(&fixtures::order());
    let voucher = Base64(fixtures::voucher()).to_text();
    for (values, code, reason) in [
        (vec![order.clone(), order.clone()], "malformed-credential", "more than one"),
        (
            vec![format!("Payment {}", "A".repeat(MAX_CREDENTIAL_BYTES))],
            "malformed-credential",
            "longer than",
        ),
        (vec!["Payment %%%".into()], "malformed-credential", "base64url"),
        (vec!["Payment e30".into()], "malformed-credential", "missing field"),
        (vec![with_payload(json!({}))], "invalid-payload", "action"),
        (vec![with_payload(json!({"action": "open"}))], "invalid-payload", "unknown variant"),
        (vec![with_payload(json!({"action": "voucher"}))], "invalid-payload", "missing field"),
        (vec![with_payload(json!({"action": "voucher", "voucher": 7}))], "invalid-payload", "invalid type"),
        (vec![with_payload(json!({"action": "voucher", "voucher": "AA"}))], "invalid-payload", "decode"),
        // Trailing bytes, another alphabet, another artefact.
        (
            vec![with_payload(json!({"action": "voucher", "voucher": format!("{voucher}AAAA")}))],
            "invalid-payload",
            "decode",
        ),
        (
            vec![with_payload(json!({"action": "voucher", "voucher": format!("{voucher}==")}))],
            "invalid-payload",
            "base64url",
        ),
        (
            vec![with_payload(json!({"action": "approve", "voucher": voucher}))],
            "invalid-payload",
            "missing field",
        ),
    ] {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        let refusal = Credential::read(&headers(&values)).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.to_string().contains(reason), "{refusal:?} does not say {reason:?}");
    }
}

#[test]
fn members_of_later_versions_are_ignored() {
    let voucher = Base64(fixtures::voucher());
    let value = with_payload(json!({"action": "voucher", "voucher": voucher, "tick": [1, 2]}));
    let credential = Credential::read(&headers(&[value.as_bytes()])).unwrap().unwrap();
    assert_eq!(credential.action(), &Action::Voucher(fixtures::voucher()));
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Credential::read(&headers(&[&value]));
        let _ = Credential::read(&headers(&[&[b"Payment ", value.as_slice()].concat()]));
    }

    #[test]
    fn a_damaged_credential_never_panics(at in 0usize..4_000, byte: u8, cut in 0usize..4_000) {
        let mut value = text(&fixtures::order()).into_bytes();
        value.truncate(cut.max(10));
        if let Some(place) = value.get_mut(at) {
            *place = byte;
        }
        if let Ok(Some(credential)) = Credential::read(&headers(&[&value])) {
            let _ = fixtures::cashier().check(&credential, &fixtures::offer(), NOW);
        }
    }

    #[test]
    fn a_damaged_payload_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), action in 0usize..3) {
        let action = ["order", "voucher", "approve"][action];
        let artefact = Base64(bytes).to_text();
        let payload = json!({
            "action": action, "terms": artefact, "voucher": artefact, "order": artefact, "approval": artefact,
        });
        let _ = Credential::read(&headers(&[with_payload(payload).as_bytes()]));
    }
}
