//! The processor's side: challenges for its quotes, and the check of what comes back.

use super::{
    Action, Credential, INTENT, MAX_ENGINE_BYTES, METHOD, MethodDetails, Refusal, session_request, time_text,
};
use crate::Base64;
use axum::response::{IntoResponse as _, Response};
use gristmill_types::{Amount, Claim, PublicKey, Quote, QuoteHash, Signed};
use mpp::{
    PaymentChallenge,
    error::PaymentErrorDetails,
    protocol::{
        core::{Base64UrlJson, ChallengeEcho},
        intents::SessionRequest,
    },
    server::axum::PaymentProblem,
};
use std::fmt;
use zeroize::Zeroizing;

const MAX_REALM_BYTES: usize = 128;

/// Why a quote or a realm cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not signed by the processor that it names.
    #[error("the quote is not signed by the processor that it names")]
    Signature,
    /// The engine class is not 1 to 64 bytes.
    #[error("the quote's engine class has {0} bytes, expected 1 to {MAX_ENGINE_BYTES}")]
    Engine(usize),
    /// An end that cannot be written as a date.
    #[error("the quote's end, {0} ms of Unix time, is beyond the year 9999")]
    End(u64),
    /// A realm that cannot stand in a header.
    #[error("a realm is 1 to {MAX_REALM_BYTES} letters, digits, dots, hyphens, underscores or colons")]
    Realm,
    /// The challenge did not format.
    #[error("the challenge cannot be written: {0}")]
    Format(String),
}

/// A quote that is offered, with the parts of its challenge that need computing once only.
///
/// A processor keeps the offers whose lanes are still open, not just the current ones: a request in
/// flight is paid under the quote that it began with.
#[derive(Clone, Debug)]
pub struct Offer {
    quote: Signed<Quote>,
    hash: QuoteHash,
    request: Base64UrlJson,
    expires: String,
}

impl Offer {
    /// Prepares a quote. `suggested_deposit` is a hint to payers.
    pub fn new(quote: Signed<Quote>, suggested_deposit: Amount) -> Result<Self, OfferError> {
        let key = PublicKey::try_from(&quote.body.processor).map_err(|_| OfferError::Signature)?;
        quote.verify_strict(&key).map_err(|_| OfferError::Signature)?;
        let engine = quote.body.engine.len();
        if engine == 0 || engine > MAX_ENGINE_BYTES {
            return Err(OfferError::Engine(engine));
        }
        let end = quote.body.valid_until_ms;
        let expires = time_text(end).ok_or(OfferError::End(end))?;
        let text = Base64(&quote).to_text();
        let request = session_request(&quote.body, text, suggested_deposit);
        let request =
            Base64UrlJson::from_typed(&request).map_err(|error| OfferError::Format(error.to_string()))?;
        Ok(Self { hash: quote.body.hash(), quote, request, expires })
    }

    /// The quote.
    pub fn quote(&self) -> &Signed<Quote> {
        &self.quote
    }

    /// The quote's hash.
    pub fn hash(&self) -> QuoteHash {
        self.hash
    }
}

/// Issues challenges and checks credentials, under one realm and one secret.
///
/// The secret outlives restarts, or the gateways' challenges become worthless at each of them and
/// cost one more round trip. Nothing else depends on it: who knows it can forge challenges that the
/// processor takes for its own, and each of them still carries a quote that only its key can sign.
pub struct Cashier {
    realm: String,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Cashier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cashier").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl Cashier {
    /// A cashier for a realm, usually the processor's account.
    pub fn new(realm: &str, secret: &[u8; 32]) -> Result<Self, OfferError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if realm.is_empty() || realm.len() > MAX_REALM_BYTES || !realm.bytes().all(allowed) {
            return Err(OfferError::Realm);
        }
        Ok(Self { realm: realm.to_owned(), secret: Zeroizing::new(hex::encode(secret)) })
    }

    fn challenge(&self, offer: &Offer) -> PaymentChallenge {
        let request = offer.request.clone();
        let expires = Some(offer.expires.as_str());
        PaymentChallenge::with_secret_key_full(
            &self.secret,
            self.realm.as_str(),
            METHOD,
            INTENT,
            request,
            expires,
            None,
            None,
            None,
            None,
        )
    }

    /// The answer to a request that is not paid for: the refusal's status, a problem as the body, and,
    /// where paying helps, a challenge for each offer of the route (usually one).
    pub fn refuse(&self, refusal: &Refusal, offers: &[&Offer]) -> Response {
        let challenges = offers.iter().map(|offer| self.challenge(offer)).collect();
        let mut problem = PaymentProblem::new(refusal, challenges);
        problem.problem = PaymentErrorDetails { hint: refusal.hint(), ..problem.problem };
        problem.into_response()
    }

    /// The `WWW-Authenticate` value for an offer.
    pub fn header(&self, offer: &Offer) -> Result<String, OfferError> {
        self.challenge(offer).to_header().map_err(|error| OfferError::Format(error.to_string()))
    }

    /// Checks that the credential answers this processor's own challenge for this offer, and that its
    /// parts belong together and to the offer.
    ///
    /// `offer` is the one of the route as it is asked now: for an order, the offer of the model named
    /// in the body; for a voucher or an approval, the one that the lane is pinned to. An order must
    /// come before the quote ends. What pays for a request that began in time is taken at any time, and
    /// under any challenge of ours: it names its quote itself, under the payer's signature, and the one
    /// that the request began with may be gone.
    pub fn check(&self, credential: &Credential, offer: &Offer, now_ms: u64) -> Result<(), Refusal> {
        let echo = credential.echo();
        self.check_origin(echo)?;
        if matches!(credential.action(), Action::Order(_)) {
            check_request(&echo.request, offer)?;
            // Covered by the HMAC and derived from the quote; compared nevertheless, so that this
            // function holds even for a challenge that an older version of ours wrote otherwise.
            if echo.expires.as_deref() != Some(offer.expires.as_str()) {
                let found = echo.expires.as_deref().unwrap_or("nothing");
                return Err(differs("expires", &offer.expires, found));
            }
            if now_ms > offer.quote.body.valid_until_ms {
                return Err(Refusal::Expired(offer.expires.clone()));
            }
        }
        check_action(credential.action(), offer)
    }

    fn check_origin(&self, echo: &ChallengeEcho) -> Result<(), Refusal> {
        if echo.method.as_str() != METHOD {
            return Err(Refusal::Method(shorten(echo.method.as_str())));
        }
        // Byte for byte: `is_session` of the crate ignores case, and the HMAC does not.
        if echo.intent.as_str() != INTENT {
            return Err(Refusal::Intent(shorten(echo.intent.as_str())));
        }
        if echo.realm != self.realm {
            return Err(differs("realm", &self.realm, &echo.realm));
        }
        let echoed = PaymentChallenge {
            id: echo.id.clone(),
            realm: echo.realm.clone(),
            method: echo.method.clone(),
            intent: echo.intent.clone(),
            request: echo.request.clone(),
            expires: echo.expires.clone(),
            description: None,
            digest: echo.digest.clone(),
            opaque: echo.opaque.clone(),
            header: echo.header.clone(),
        };
        if echoed.verify(&self.secret) { Ok(()) } else { Err(Refusal::Forged) }
    }
}

/// The echoed request is one of ours; is it the offer's? Equal text is equal meaning, as the request
/// has one spelling; otherwise the first difference is named.
fn check_request(echoed: &Base64UrlJson, offer: &Offer) -> Result<(), Refusal> {
    if echoed.raw() == offer.request.raw() {
        return Ok(());
    }
    let read = |request: &Base64UrlJson| -> Result<(SessionRequest, MethodDetails), Refusal> {
        let request: SessionRequest =
            request.decode().map_err(|error| Refusal::Malformed(error.to_string()))?;
        let details = serde_json::from_value(request.method_details.clone().unwrap_or_default())
            .map_err(|error| Refusal::Malformed(format!("methodDetails does not read: {error}")))?;
        Ok((request, details))
    };
    let ((want, want_details), (got, got_details)) = (read(&offer.request)?, read(echoed)?);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    for (what, want, got) in [
        ("recipient", text(&want.recipient), text(&got.recipient)),
        ("currency", want.currency, got.currency),
        ("chain", want_details.chain.to_string(), got_details.chain.to_string()),
        ("amount", want.amount, got.amount),
        ("unitType", text(&want.unit_type), text(&got.unit_type)),
        ("quote", want_details.quote, got_details.quote),
        ("suggestedDeposit", text(&want.suggested_deposit), text(&got.suggested_deposit)),
    ] {
        if want != got {
            return Err(differs(what, &want, &got));
        }
    }
    Err(differs("request", offer.request.raw(), echoed.raw()))
}

fn differs(what: &'static str, expected: &str, got: &str) -> Refusal {
    Refusal::Differs { what, expected: shorten(expected), got: shorten(got) }
}

/// Text of the other side is repeated in part only.
fn shorten(text: &str) -> String {
    const MAX: usize = 80;
    let mut short: String = text.chars().take(MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The parts of an action belong together, and to the offer.
fn check_action(action: &Action, offer: &Offer) -> Result<(), Refusal> {
    match action {
        Action::Order(placed) => {
            let (terms, quote) = (&placed.terms, &offer.quote.body);
            agree("the terms' ledger is the quote's", terms.chain == quote.chain)?;
            agree("the terms' payee is the quote's processor", terms.payee == quote.processor)?;
            agree("the terms' issuer is the quote's", terms.issuer == quote.issuer)?;
            agree("the terms' receipt key is the quote's", terms.receipt_key == quote.receipt_key)?;
            let (claim, order) = (&placed.voucher.body.0, &placed.order.body);
            check_claim(claim, offer)?;
            agree("the voucher is for the channel of the terms", claim.channel == terms.id())?;
            agree("the order's ledger is the voucher's", order.chain == claim.chain)?;
            agree("the order's channel is the voucher's", order.channel == claim.channel)?;
            agree("the order's lane is the voucher's", order.lane == claim.lane)?;
            agree("the order names the voucher", order.voucher == placed.voucher.body.hash())
        }
        Action::Voucher(voucher) => check_claim(&voucher.body.0, offer),
        Action::Approve(approval) => check_claim(&approval.body.0, offer),
    }
}

fn check_claim(claim: &Claim, offer: &Offer) -> Result<(), Refusal> {
    agree("the claim's ledger is the quote's", claim.chain == offer.quote.body.chain)?;
    agree("the claim's quote is the route's", claim.quote == offer.hash)?;
    agree("the claim's model is the quote's", claim.model == offer.quote.body.model)
}

fn agree(expectation: &'static str, holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Unrelated(expectation)) }
}

#[cfg(test)]
#[path = "cashier_tests.rs"]
mod tests;
