//! `WWW-Authenticate: Payment`, as a gateway reads it of a processor that it does not trust: only what
//! the processor signed is ever paid for.

use crate::{
    parts,
    payment::fixtures::{self, NOW},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gristmill_net::pay::{Action, Challenge, Credential};
use http::{HeaderMap, HeaderValue, header};

/// The first byte says whether the headers' values follow as parts, or a challenge's parameters: the
/// JSON of its request, then its end, then what else stands in it.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    match kind {
        0 => {
            for value in parts(rest).take(8).filter_map(|part| HeaderValue::from_bytes(part).ok()) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
        1 => {
            let mut parts = parts(rest);
            let request = URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default());
            let text = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
            let (expires, more) = (text(parts.next()), text(parts.next()));
            let value = format!(
                r#"Payment id="i", realm="r", method="gristmill", intent="session", request="{request}", expires="{expires}"{more}"#
            );
            let Ok(value) = HeaderValue::from_str(&value) else { return };
            headers.append(header::WWW_AUTHENTICATE, value);
        }
        _ => return,
    }
    let expected = fixtures::expected();
    let Ok(challenge) = Challenge::read(&headers, &expected, NOW) else { return };
    assert_eq!(challenge.quote(), &fixtures::quote(), "a forged quote");
    assert_eq!(challenge.quote_hash(), fixtures::quote().body.hash());
    let action = Action::Voucher(fixtures::voucher());
    let Ok(value) = challenge.authorize(&action) else { return };
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    // A challenge of a processor's own making may be longer than a credential may be.
    if let Ok(Some(credential)) = Credential::read(&headers) {
        assert_eq!((credential.action(), credential.challenge_id()), (&action, challenge.id()));
    }
}
