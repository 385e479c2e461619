//! Tests of the cashier: every way in which a credential can be for something else.

use super::*;
use crate::pay::{
    Challenge, PlacedOrder,
    fixtures::{self, BODY, NOW},
};
use gristmill_types::{AccountId, Approval, ChainId, ChannelId, Digest, ModelId, Order, Signed, Voucher};
use http::{HeaderMap, HeaderValue, header};
use mpp::protocol::core::PaymentCredential;

const LATE: u64 = NOW + 3_600_000;

fn secret() -> String {
    hex::encode([5; 32])
}

/// A challenge as the cashier issues it, with parts changed before it is sealed with its secret.
fn sealed(change: impl FnOnce(&mut PaymentChallenge)) -> PaymentChallenge {
    let mut challenge = fixtures::cashier().challenge(&fixtures::offer());
    change(&mut challenge);
    PaymentChallenge::with_secret_key_full(
        &secret(),
        challenge.realm.as_str(),
        challenge.method.as_str(),
        challenge.intent.clone(),
        challenge.request,
        challenge.expires.as_deref(),
        challenge.digest.as_deref(),
        None,
        challenge.opaque,
        challenge.header.as_deref(),
    )
}

fn credential(challenge: &PaymentChallenge, action: &Action) -> Credential {
    let value = super::super::credential::authorization(challenge.to_echo(), action).unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    Credential::read(&headers).unwrap().unwrap()
}

fn check(challenge: &PaymentChallenge, action: &Action, now_ms: u64) -> Result<(), Refusal> {
    fixtures::cashier().check(&credential(challenge, action), &fixtures::offer(), now_ms)
}

#[test]
fn a_credential_for_the_route_is_taken() {
    let challenge = sealed(|_| {});
    assert_eq!(challenge.id, fixtures::cashier().challenge(&fixtures::offer()).id);
    for action in
        [fixtures::order(), Action::Voucher(fixtures::voucher()), Action::Approve(fixtures::approval())]
    {
        assert_eq!(check(&challenge, &action, NOW), Ok(()));
    }
    assert_eq!(fixtures::placed().check_body(BODY), Ok(()));
    assert_eq!(fixtures::placed().check_body(b"{}"), Err(Refusal::Body));
}

#[test]
fn a_sealed_challenge_for_something_else_is_refused() {
    let session = |change: fn(&mut serde_json::Value)| {
        let mut request = fixtures::offer().request.decode_value().unwrap();
        change(&mut request);
        sealed(|challenge| challenge.request = Base64UrlJson::from_value(&request).unwrap())
    };
    let cases: Vec<(PaymentChallenge, &str)> = vec![
        (sealed(|c| c.method = "tempo".into()), "method-unsupported"),
        (sealed(|c| c.intent = "charge".into()), "intent is 'charge'"),
        (sealed(|c| c.realm = "other.test".to_owned()), "realm is 'other.test'"),
        (sealed(|c| c.expires = Some("2027-01-01T00:00:00Z".to_owned())), "expires is '2027-01-01"),
        (sealed(|c| c.expires = None), "expires is 'nothing'"),
        (session(|r| r["amount"] = "1".into()), "amount is '1'"),
        (session(|r| r["currency"] = "gm1other".into()), "currency is 'gm1other'"),
        (session(|r| r["recipient"] = "gm1other".into()), "recipient is 'gm1other'"),
        (session(|r| r["unitType"] = "request".into()), "unitType is 'request'"),
        (session(|r| r["suggestedDeposit"] = "7".into()), "suggestedDeposit is '7'"),
        (session(|r| r["methodDetails"]["chain"] = "00".repeat(32).into()), "chain is '0000"),
        (session(|r| r["methodDetails"]["quote"] = "AAAA".into()), "quote is 'AAAA'"),
        (session(|r| r["methodDetails"] = serde_json::Value::Null), "methodDetails does not read"),
        (session(|r| r["more"] = 1.into()), "request is"),
        (session(|r| *r = serde_json::json!({})), "missing field"),
    ];
    for (challenge, expected) in cases {
        let refusal = check(&challenge, &fixtures::order(), NOW).unwrap_err();
        let text = format!("{} {refusal}", refusal.code());
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    }
}

#[test]
fn a_cheaper_models_challenge_does_not_pay_for_this_route() {
    let challenge = fixtures::cashier().challenge(&fixtures::cheap_offer());
    let refusal = check(&challenge, &fixtures::order(), NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Differs { what: "amount", .. }), "{refusal:?}");

    // At the same price only the quote tells the models apart.
    let mut quote = fixtures::cheap_quote().body;
    quote.prices = fixtures::quote_body().prices;
    let twin = Offer::new(Signed::sign(quote, &fixtures::processor()), Amount::from_credits(1)).unwrap();
    let refusal = check(&fixtures::cashier().challenge(&twin), &fixtures::order(), NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::Differs { what: "quote", .. }), "{refusal:?}");
}

#[test]
fn an_altered_or_foreign_challenge_is_refused() {
    let altered = |change: fn(&mut PaymentChallenge)| {
        let mut challenge = sealed(|_| {});
        change(&mut challenge);
        challenge
    };
    let opaque = || Base64UrlJson::from_value(&serde_json::json!({"a": "b"})).ok();
    let cheap = fixtures::cashier().challenge(&fixtures::cheap_offer());
    let mut borrowed_id = sealed(|_| {});
    borrowed_id.id = cheap.id;
    let mut with_opaque = sealed(|_| {});
    with_opaque.opaque = opaque();
    for challenge in [
        altered(|c| c.id = "AAAA".to_owned()),
        altered(|c| c.expires = Some("2999-01-01T00:00:00Z".to_owned())),
        altered(|c| c.digest = Some("sha-256=AAAA".to_owned())),
        altered(|c| c.header = Some("Payment-Authorization".to_owned())),
        borrowed_id,
        with_opaque,
        Cashier::new(fixtures::REALM, &[6; 32]).unwrap().challenge(&fixtures::offer()),
    ] {
        assert_eq!(check(&challenge, &fixtures::order(), NOW), Err(Refusal::Forged), "{challenge:?}");
    }
}

#[test]
fn the_intent_is_compared_to_the_letter() {
    let challenge = sealed(|_| {});
    let mut echo = serde_json::to_value(challenge.to_echo()).unwrap();
    echo["intent"] = "SESSION".into();
    let credential = PaymentCredential {
        challenge: serde_json::from_value(echo).unwrap(),
        source: None,
        payload: serde_json::json!({"action": "voucher", "voucher": Base64(fixtures::voucher())}),
    };
    let text = mpp::format_authorization(&credential).unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&text).unwrap())]);
    let read = Credential::read(&headers).unwrap().unwrap();
    let refusal = fixtures::cashier().check(&read, &fixtures::offer(), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::Intent("SESSION".to_owned()));
}

#[test]
fn a_request_starts_in_time_and_is_paid_at_any_time() {
    let challenge = sealed(|_| {});
    let end = fixtures::quote_body().valid_until_ms;
    assert_eq!(check(&challenge, &fixtures::order(), end), Ok(()));
    assert!(matches!(check(&challenge, &fixtures::order(), end + 1), Err(Refusal::Expired(_))));
    for action in [Action::Voucher(fixtures::voucher()), Action::Approve(fixtures::approval())] {
        assert_eq!(check(&challenge, &action, LATE), Ok(()));
    }
}

fn order_with(change: impl FnOnce(&mut PlacedOrder)) -> Action {
    let mut placed = fixtures::placed();
    change(&mut placed);
    Action::Order(Box::new(placed))
}

fn claim_with(change: impl FnOnce(&mut Claim)) -> Claim {
    let mut claim = fixtures::claim();
    change(&mut claim);
    claim
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let other = AccountId::new([99; 32]);
    let order = |change: fn(&mut Order)| order_with(|placed| change(&mut placed.order.body));
    let voucher = |claim| Action::Voucher(Signed::sign(Voucher(claim), &fixtures::voucher_key()));
    let approve = |claim| Action::Approve(Signed::sign(Approval(claim), &fixtures::voucher_key()));
    for (action, expectation) in [
        (order_with(|p| p.terms.chain = ChainId::new([0; 32])), "the terms' ledger is the quote's"),
        (order_with(|p| p.terms.payee = other), "the terms' payee is the quote's processor"),
        (order_with(|p| p.terms.issuer = other), "the terms' issuer is the quote's"),
        (order_with(|p| p.terms.receipt_key = other), "the terms' receipt key is the quote's"),
        // Other terms are another channel.
        (order_with(|p| p.terms.open_nonce += 1), "the voucher is for the channel of the terms"),
        (order_with(|p| p.terms.payer = other), "the voucher is for the channel of the terms"),
        (order_with(|p| p.terms.voucher_key = other), "the voucher is for the channel of the terms"),
        (order(|o| o.chain = ChainId::new([0; 32])), "the order's ledger is the voucher's"),
        (order(|o| o.channel = ChannelId::new([0; 32])), "the order's channel is the voucher's"),
        (order(|o| o.lane += 1), "the order's lane is the voucher's"),
        (order(|o| o.voucher = Digest::new([0; 32]).into()), "the order names the voucher"),
        // A voucher for a little more is another voucher.
        (order_with(|p| p.voucher.body.0.amount = Amount::from_grains(9)), "the order names the voucher"),
        (voucher(claim_with(|c| c.chain = ChainId::new([0; 32]))), "the claim's ledger is the quote's"),
        (
            voucher(claim_with(|c| c.quote = fixtures::cheap_offer().hash())),
            "the claim's quote is the route's",
        ),
        (voucher(claim_with(|c| c.model = ModelId::new([17; 32]))), "the claim's model is the quote's"),
        (approve(claim_with(|c| c.model = ModelId::new([17; 32]))), "the claim's model is the quote's"),
        (
            approve(claim_with(|c| c.quote = fixtures::cheap_offer().hash())),
            "the claim's quote is the route's",
        ),
    ] {
        assert_eq!(check(&sealed(|_| {}), &action, NOW), Err(Refusal::Unrelated(expectation)));
    }
}

#[test]
fn quotes_that_cannot_be_offered() {
    let with = |change: fn(&mut Quote)| {
        let mut quote = fixtures::quote_body();
        change(&mut quote);
        Offer::new(Signed::sign(quote, &fixtures::processor()), Amount::ZERO).map(|_| ())
    };
    assert_eq!(with(|q| q.engine.clear()), Err(OfferError::Engine(0)));
    assert_eq!(with(|q| q.engine = "x".repeat(65)), Err(OfferError::Engine(65)));
    assert_eq!(with(|q| q.valid_until_ms = u64::MAX), Err(OfferError::End(u64::MAX)));
    assert_eq!(with(|q| q.processor = fixtures::issuer()), Err(OfferError::Signature));
    for realm in ["", "a b", "a\"b", "a|b", "é", &"x".repeat(129)] {
        assert_eq!(Cashier::new(realm, &[0; 32]).map(|_| ()), Err(OfferError::Realm), "{realm:?}");
    }
    assert!(!format!("{:?}", fixtures::cashier()).contains(&secret()));
}

#[tokio::test]
async fn a_refusal_carries_challenges_where_paying_helps() {
    let (offer, cheap) = (fixtures::offer(), fixtures::cheap_offer());
    let response = fixtures::cashier().refuse(&Refusal::Required, &[&offer, &cheap]);
    assert_eq!(response.status(), 402);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(response.headers().get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    // Either can be answered: the reader takes the one that it asked for.
    for (quote, hash) in [(fixtures::quote_body(), offer.hash()), (cheap.quote().body.clone(), cheap.hash())]
    {
        let expected = crate::pay::Expected { model: quote.model, at_most: None, ..fixtures::expected() };
        assert_eq!(Challenge::read(response.headers(), &expected, NOW).unwrap().quote_hash(), hash);
    }
    for refusal in [Refusal::Replayed("x".into()), Refusal::Internal("x".into())] {
        let response = fixtures::cashier().refuse(&refusal, &[&offer]);
        assert!(response.headers().get(header::WWW_AUTHENTICATE).is_none(), "{refusal:?}");
    }
}
