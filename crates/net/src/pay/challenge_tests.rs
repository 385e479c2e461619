//! Tests of reading a challenge: a gateway pays only what it asked for.

use super::*;
use crate::pay::{
    Cashier, Offer,
    fixtures::{self, NOW},
    golden::pinned,
};
use gristmill_types::SecretKey;
use mpp::{Base64UrlJson, format_www_authenticate};
use proptest::prelude::*;
use serde_json::Value;

fn headers(values: &[String]) -> HeaderMap {
    let values = values.iter().map(|value| HeaderValue::from_str(value).unwrap());
    let mut headers = HeaderMap::new();
    values.for_each(|value| {
        headers.append(header::WWW_AUTHENTICATE, value);
    });
    headers
}

fn honest() -> String {
    fixtures::cashier().header(&fixtures::offer()).unwrap()
}

fn read(value: String) -> Result<Challenge, ChallengeError> {
    Challenge::read(&headers(&[value]), &fixtures::expected(), NOW)
}

/// The challenge of a processor that signs another quote.
fn quoting(change: impl FnOnce(&mut Quote), signer: &SecretKey) -> String {
    let mut quote = fixtures::quote_body();
    change(&mut quote);
    let request = super::super::session_request(
        &quote,
        Base64(Signed::sign(quote.clone(), signer)).to_text(),
        Amount::ZERO,
    );
    let mut challenge = PaymentChallenge::from_header(&honest()).unwrap();
    challenge.request = Base64UrlJson::from_typed(&request).unwrap();
    challenge.expires = super::super::time_text(quote.valid_until_ms);
    format_www_authenticate(&challenge).unwrap()
}

/// The honest challenge with another session request around the honest quote.
fn asking(change: impl FnOnce(&mut Value)) -> String {
    let mut challenge = PaymentChallenge::from_header(&honest()).unwrap();
    let mut request = challenge.request.decode_value().unwrap();
    change(&mut request);
    challenge.request = Base64UrlJson::from_value(&request).unwrap();
    format_www_authenticate(&challenge).unwrap()
}

fn reshaped(change: impl FnOnce(&mut PaymentChallenge)) -> String {
    let mut challenge = PaymentChallenge::from_header(&honest()).unwrap();
    change(&mut challenge);
    format_www_authenticate(&challenge).unwrap()
}

#[test]
fn the_form_is_pinned() {
    pinned("challenge", &honest());
    let challenge = read(honest()).unwrap();
    assert_eq!(challenge.quote(), &fixtures::quote());
    assert_eq!(challenge.quote_hash(), fixtures::quote_body().hash());
    assert_eq!(challenge.suggested_deposit(), Some(Amount::from_credits(1)));
    // Stateless and repeatable: a restarted processor issues the same challenge.
    assert_eq!(
        Cashier::new(fixtures::REALM, &[5; 32]).unwrap().header(&fixtures::offer()).unwrap(),
        honest()
    );
}

#[test]
fn our_challenge_is_found_among_others() {
    let tempo = reshaped(|c| c.method = "tempo".into());
    let charge = reshaped(|c| c.intent = "charge".into());
    let values = [tempo.clone(), "Bearer realm=\"x\"".into(), charge.clone(), honest()];
    assert!(Challenge::read(&headers(&values), &fixtures::expected(), NOW).is_ok());
    let merged = format!("{tempo}, {charge}, {}", honest());
    assert!(read(merged).is_ok());
    let only_others = Challenge::read(&headers(&[tempo, charge]), &fixtures::expected(), NOW);
    assert_eq!(
        only_others.unwrap_err(),
        ChallengeError::NoneOfOurs("tempo/session, gristmill/charge".into())
    );
    let none = Challenge::read(&HeaderMap::new(), &fixtures::expected(), NOW);
    assert_eq!(none.unwrap_err(), ChallengeError::NoneOfOurs("nothing".into()));
}

#[test]
fn what_was_not_asked_for_is_not_paid() {
    let processor = fixtures::processor();
    let account = |seed: u8| fixtures::key(seed).account();
    let grains = Amount::from_grains;
    for (value, expected) in [
        (quoting(|q| q.processor = account(77), &fixtures::key(77)), "for processor"),
        (quoting(|_| {}, &fixtures::key(77)), "not signed by processor"),
        (quoting(|q| q.chain = ChainId::new([0; 32]), &processor), "for ledger"),
        (quoting(|q| q.model = ModelId::new([17; 32]), &processor), "for model"),
        (quoting(|q| q.issuer = account(77), &processor), "for credits of"),
        (quoting(|q| q.engine = "x".repeat(65), &processor), "engine class"),
        (quoting(|q| q.engine.clear(), &processor), "engine class"),
        (quoting(|q| q.valid_until_ms = NOW - 1, &processor), "ended at"),
        (quoting(|q| q.limits.context_tokens = 0, &processor), "context_tokens"),
        (quoting(|q| q.limits.output_tokens = 0, &processor), "output_tokens"),
        (quoting(|q| q.limits.window_tokens = 0, &processor), "window_tokens"),
        (quoting(|q| q.prices.input_per_mtok = grains(50_000_001), &processor), "per million input tokens"),
        (
            quoting(|q| q.prices.output_per_mtok = grains(200_000_001), &processor),
            "per million output tokens",
        ),
        (quoting(|q| q.prices.per_msec = grains(1), &processor), "per million seconds"),
        (quoting(|q| q.prices.per_mreq = grains(1), &processor), "per million requests"),
        (asking(|r| r["amount"] = "199999999".into()), "for amount"),
        (asking(|r| r["recipient"] = account(77).to_string().into()), "for recipient"),
        (asking(|r| r["recipient"] = Value::Null), "for recipient nothing"),
        (asking(|r| r["currency"] = account(77).to_string().into()), "for currency"),
        (asking(|r| r["unitType"] = "second".into()), "for unit"),
        (asking(|r| r["methodDetails"]["chain"] = "00".repeat(32).into()), "for chain"),
        (asking(|r| r["methodDetails"]["quote"] = "AAAA".into()), "the quote"),
        (asking(|r| r["methodDetails"]["quote"] = "A".repeat(10_950).into()), "longer than"),
        (asking(|r| r["methodDetails"] = Value::Null), "methodDetails"),
        (asking(|r| r["suggestedDeposit"] = "01".into()), "suggestedDeposit"),
        (reshaped(|c| c.expires = None), "an end at no time"),
        (reshaped(|c| c.expires = Some("2999-01-01T00:00:00Z".into())), "an end at 2999"),
        (reshaped(|c| c.header = Some("Payment-Authorization".into())), "a credential in"),
        ("Payment id=\"x\"".to_owned(), "does not read"),
        (format!("Payment id=\"{}\"", "x".repeat(MAX_CHALLENGE_BYTES)), "more than"),
    ] {
        let error = read(value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn a_quote_of_another_processor_cannot_be_passed_on() {
    // A middleman shows the asked processor's genuine quote, and itself as the recipient.
    let error =
        read(asking(|r| r["recipient"] = fixtures::key(66).account().to_string().into())).unwrap_err();
    assert!(matches!(error, ChallengeError::Differs { what: "recipient", .. }));
    // Or its own quote for the asked processor's model.
    let mut quote = fixtures::quote_body();
    quote.processor = fixtures::key(66).account();
    let offer = Offer::new(Signed::sign(quote, &fixtures::key(66)), Amount::ZERO).unwrap();
    let error = read(fixtures::cashier().header(&offer).unwrap()).unwrap_err();
    assert!(matches!(error, ChallengeError::Differs { what: "processor", .. }));
}

#[test]
fn prices_are_capped_only_where_a_cap_is_given() {
    let dear = quoting(|q| q.prices.output_per_mtok = Amount::from_credits(1_000), &fixtures::processor());
    let any_price = Expected { at_most: None, ..fixtures::expected() };
    assert!(Challenge::read(&headers(std::slice::from_ref(&dear)), &any_price, NOW).is_ok());
    assert!(read(dear).is_err());
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
        for value in [value.clone(), [b"Payment ", value.as_slice()].concat()] {
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
            prop_assert!(Challenge::read(&headers, &fixtures::expected(), NOW).is_err());
        }
    }

    #[test]
    fn a_damaged_challenge_never_panics_and_never_says_more(at in 0usize..2_000, byte in 32u8..127) {
        let mut value = honest().into_bytes();
        if let Some(place) = value.get_mut(at) {
            *place = byte;
        }
        let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_bytes(&value).unwrap())]);
        // Whatever still reads carries the processor's own quote, because its signature was checked.
        if let Ok(challenge) = Challenge::read(&headers, &fixtures::expected(), NOW) {
            prop_assert_eq!(challenge.quote(), &fixtures::quote());
        }
    }
}
