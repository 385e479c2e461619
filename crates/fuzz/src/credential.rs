//! `Authorization: Payment`, as a processor reads it of anybody.

use crate::payment::fixtures::{self, NOW};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gristmill_net::pay::{Action, Cashier, Challenge, Credential, Offer};
use http::{HeaderMap, HeaderValue, header};
use std::sync::LazyLock;

static OWN: LazyLock<(Cashier, Offer, Challenge)> = LazyLock::new(|| {
    let (cashier, offer) = (fixtures::cashier(), fixtures::offer());
    let value = HeaderValue::from_str(&cashier.header(&offer).unwrap()).unwrap();
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
    let challenge = Challenge::read(&headers, &fixtures::expected(), NOW).unwrap();
    (cashier, offer, challenge)
});

/// The first byte says whether the header's value follows, or the JSON within it.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let value = match kind {
        0 => HeaderValue::from_bytes(rest),
        1 => HeaderValue::from_str(&format!("Payment {}", URL_SAFE_NO_PAD.encode(rest))),
        _ => return,
    };
    let Ok(value) = value else { return };
    let read = |value| Credential::read(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
    let Ok(Some(credential)) = read(value) else { return };
    let (cashier, offer, challenge) = &*OWN;
    if cashier.check(&credential, offer, NOW).is_ok() {
        let claim = credential.action().claim();
        assert_eq!((claim.quote, claim.model), (offer.hash(), offer.quote().body.model));
        if let Action::Order(placed) = credential.action() {
            assert_eq!(credential.challenge_id(), challenge.id(), "a forged challenge");
            assert_eq!(placed.order.body.voucher, placed.voucher.body.hash());
            assert_eq!(placed.terms.id(), claim.channel);
        }
    }
    let written = challenge.authorize(credential.action()).expect("an action that was read is written");
    let again = read(written).expect("and read again").expect("as a credential");
    assert_eq!(again.action(), credential.action());
}
