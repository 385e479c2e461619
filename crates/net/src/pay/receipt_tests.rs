//! Tests of the receipt header.

use super::*;
use crate::pay::{
    fixtures::{self, NOW},
    golden::pinned,
};
use proptest::prelude::*;

fn payment_receipt(signed: bool) -> PaymentReceipt {
    let claim = fixtures::claim();
    PaymentReceipt {
        challenge_id: "c-1".to_owned(),
        channel: claim.channel,
        lane: claim.lane,
        accepted: claim.amount,
        spent: claim.amount,
        time_ms: NOW + 250,
        signed: signed.then(fixtures::receipt),
    }
}

#[test]
fn the_form_is_pinned() {
    for (name, signed) in [("receipt", false), ("receipt-signed", true)] {
        let receipt = payment_receipt(signed);
        let header = receipt.to_header().unwrap();
        pinned(name, header.to_str().unwrap());
        assert_eq!(PaymentReceipt::from_header(&header).unwrap(), receipt);
        assert_eq!(PaymentReceipt::from_json(&receipt.to_json().unwrap()).unwrap(), receipt);
    }
}

#[test]
fn what_does_not_read_is_refused_with_the_reason() {
    let with = |name: &str, value: Value| {
        let mut json: Value = serde_json::from_str(&payment_receipt(true).to_json().unwrap()).unwrap();
        json[name] = value;
        PaymentReceipt::from_json(&json.to_string()).unwrap_err().to_string()
    };
    for (name, value, reason) in [
        ("method", Value::from("tempo"), "method"),
        ("intent", Value::from("charge"), "intent"),
        ("intent", Value::Null, "'intent' is missing"),
        ("status", Value::from("failed"), "unknown variant"),
        ("timestamp", Value::from("now"), "'timestamp' does not read"),
        ("challengeId", Value::Null, "'challengeId' is missing"),
        ("channelId", Value::from("0x1"), "'channelId' does not read"),
        ("lane", Value::from("-1"), "'lane' does not read"),
        ("acceptedCumulative", Value::from("1.5"), "'acceptedCumulative' does not read"),
        ("spent", Value::from("01"), "'spent' does not read"),
        ("receipt", Value::from("AAAA"), "'receipt'"),
        ("receipt", Value::from(7), "'receipt' does not read"),
    ] {
        let error = with(name, value);
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
    let late = PaymentReceipt { time_ms: u64::MAX, ..payment_receipt(false) };
    assert!(late.to_header().unwrap_err().to_string().contains("year 9999"));
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            prop_assert!(PaymentReceipt::from_header(&value).is_err());
        }
        let value = HeaderValue::from_str(&mpp::base64url_encode(&value)).unwrap();
        prop_assert!(PaymentReceipt::from_header(&value).is_err());
    }
}
