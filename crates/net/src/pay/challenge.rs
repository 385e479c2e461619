//! The gateway's side: a challenge that was read, checked, and can be answered.

use super::{
    Action, INTENT, MAX_ENGINE_BYTES, METHOD, MethodDetails, UNIT, amount_text, credential::authorization,
    read_amount, read_time,
};
use crate::Base64;
use gristmill_types::{AccountId, Amount, ChainId, ModelId, Prices, PublicKey, Quote, QuoteHash, Signed};
use http::{HeaderMap, HeaderValue, header};
use mpp::{PaymentChallenge, parse_www_authenticate_all_bytes, protocol::intents::SessionRequest};

/// The most that all `WWW-Authenticate` values of an answer may have, in bytes.
const MAX_CHALLENGE_BYTES: usize = 16 * 1024;

/// What a gateway asked for, and thus what a challenge has to be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The ledger that it pays on.
    pub chain: ChainId,
    /// The processor that it asked.
    pub processor: AccountId,
    /// The model version that it asked for.
    pub model: ModelId,
    /// Whose credits it pays with.
    pub issuer: AccountId,
    /// The most that it pays, price by price; none if it takes any price.
    pub at_most: Option<Prices>,
}

/// Why a challenge is not paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// The answer holds no challenge of ours.
    #[error("the processor asks for no payment by method gristmill and intent session; it offers {0}")]
    NoneOfOurs(String),
    /// The headers are too long.
    #[error("the processor's challenges have more than {MAX_CHALLENGE_BYTES} bytes")]
    TooLarge,
    /// It does not read.
    #[error("the processor's challenge does not read: {0}")]
    Malformed(String),
    /// The quote is not signed by the processor that was asked.
    #[error("the quote is not signed by processor {0}")]
    Signature(AccountId),
    /// It is about something else than was asked, or contradicts itself.
    #[error("the challenge is for {what} {got}, expected {expected}")]
    Differs {
        /// What differs.
        what: &'static str,
        /// What was asked for.
        expected: String,
        /// What came.
        got: String,
    },
    /// The quote has ended.
    #[error("the quote ended at {0} ms of Unix time")]
    Expired(u64),
    /// A limit under which no request can run.
    #[error("the quote's limit {0} is zero")]
    ZeroLimit(&'static str),
    /// Dearer than allowed.
    #[error("the quote asks {got} credits per million {what}, at most {most} are allowed")]
    TooDear {
        /// Which price.
        what: &'static str,
        /// What is asked.
        got: Amount,
        /// What is allowed.
        most: Amount,
    },
    /// The credential did not format.
    #[error("the credential cannot be written: {0}")]
    Format(String),
}

/// A challenge that may be answered: its quote is signed by the processor that was asked, for what was
/// asked. Kept until the quote ends, it spares the round trip of the 402.
#[derive(Clone, Debug)]
pub struct Challenge {
    challenge: PaymentChallenge,
    quote: Signed<Quote>,
    hash: QuoteHash,
    suggested_deposit: Option<Amount>,
}

impl Challenge {
    /// Reads the challenge of a 402 answer and checks it against what was asked for.
    pub fn read(headers: &HeaderMap, expected: &Expected, now_ms: u64) -> Result<Self, ChallengeError> {
        let values = || headers.get_all(header::WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes);
        if values().map(<[u8]>::len).fold(0_usize, usize::saturating_add) > MAX_CHALLENGE_BYTES {
            return Err(ChallengeError::TooLarge);
        }
        let mut others = Vec::new();
        let mut first_error = None;
        for challenge in parse_www_authenticate_all_bytes(values()) {
            let result = match challenge {
                Ok(challenge)
                    if challenge.method.as_str() == METHOD && challenge.intent.as_str() == INTENT =>
                {
                    Self::check(challenge, expected, now_ms)
                }
                Ok(challenge) => {
                    others.push(format!("{}/{}", challenge.method, challenge.intent));
                    continue;
                }
                Err(error) => Err(ChallengeError::Malformed(error.to_string())),
            };
            match result {
                Ok(challenge) => return Ok(challenge),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| {
            let offered = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
            ChallengeError::NoneOfOurs(offered.chars().take(200).collect())
        }))
    }

    fn check(challenge: PaymentChallenge, expected: &Expected, now_ms: u64) -> Result<Self, ChallengeError> {
        let malformed = ChallengeError::Malformed;
        let request: SessionRequest =
            challenge.request.decode().map_err(|error| malformed(error.to_string()))?;
        let details: MethodDetails =
            serde_json::from_value(request.method_details.clone().unwrap_or_default())
                .map_err(|error| malformed(format!("methodDetails: {error}")))?;
        let quote = Base64::<Signed<Quote>>::from_text(&details.quote)
            .map_err(|reason| malformed(format!("the quote: {reason}")))?
            .0;
        check_quote(&quote, expected, now_ms)?;
        check_terms(&request, &details, &quote.body)?;
        let expires = challenge.expires.as_deref().and_then(read_time);
        if expires != Some(quote.body.valid_until_ms) {
            let got = challenge.expires.clone().unwrap_or_else(|| "no time".to_owned());
            return Err(differs("an end at", quote.body.valid_until_ms, got));
        }
        if let Some(field) = challenge.header.as_deref() {
            return Err(differs("a credential in", "Authorization", field));
        }
        let suggested_deposit = match request.suggested_deposit.as_deref() {
            None => None,
            Some(text) => Some(read_amount(text).ok_or_else(|| malformed("suggestedDeposit".to_owned()))?),
        };
        Ok(Self { hash: quote.body.hash(), challenge, quote, suggested_deposit })
    }

    /// The quote.
    pub fn quote(&self) -> &Signed<Quote> {
        &self.quote
    }

    /// The quote's hash, which vouchers name.
    pub fn quote_hash(&self) -> QuoteHash {
        self.hash
    }

    /// What the processor suggests to deposit. A hint.
    pub fn suggested_deposit(&self) -> Option<Amount> {
        self.suggested_deposit
    }

    /// The challenge's id.
    pub fn id(&self) -> &str {
        &self.challenge.id
    }

    /// The `Authorization` value that answers it. Marked sensitive, so that it stays out of logs.
    pub fn authorize(&self, action: &Action) -> Result<HeaderValue, ChallengeError> {
        authorization(self.challenge.to_echo(), action).map_err(ChallengeError::Format)
    }
}

fn differs(what: &'static str, expected: impl ToString, got: impl ToString) -> ChallengeError {
    let short = |text: String| text.chars().take(120).collect();
    ChallengeError::Differs { what, expected: short(expected.to_string()), got: short(got.to_string()) }
}

/// The quote says what was asked for, and the processor that was asked has signed it.
fn check_quote(signed: &Signed<Quote>, expected: &Expected, now_ms: u64) -> Result<(), ChallengeError> {
    let quote = &signed.body;
    if quote.processor != expected.processor {
        return Err(differs("processor", expected.processor, quote.processor));
    }
    let bad_signature = || ChallengeError::Signature(expected.processor);
    let key = PublicKey::try_from(&expected.processor).map_err(|_| bad_signature())?;
    signed.verify_strict(&key).map_err(|_| bad_signature())?;
    if quote.chain != expected.chain {
        return Err(differs("ledger", expected.chain, quote.chain));
    }
    if quote.model != expected.model {
        return Err(differs("model", expected.model, quote.model));
    }
    if quote.issuer != expected.issuer {
        return Err(differs("credits of", expected.issuer, quote.issuer));
    }
    if quote.engine.is_empty() || quote.engine.len() > MAX_ENGINE_BYTES {
        let expected = format!("{MAX_ENGINE_BYTES} bytes at most");
        return Err(differs("an engine class of", expected, quote.engine.len()));
    }
    if now_ms > quote.valid_until_ms {
        return Err(ChallengeError::Expired(quote.valid_until_ms));
    }
    for (name, limit) in [
        ("context_tokens", quote.limits.context_tokens),
        ("output_tokens", quote.limits.output_tokens),
        ("window_tokens", quote.limits.window_tokens),
    ] {
        if limit == 0 {
            return Err(ChallengeError::ZeroLimit(name));
        }
    }
    let Some(most) = expected.at_most else { return Ok(()) };
    for (what, got, most) in [
        ("input tokens", quote.prices.input_per_mtok, most.input_per_mtok),
        ("output tokens", quote.prices.output_per_mtok, most.output_per_mtok),
        ("seconds", quote.prices.per_msec, most.per_msec),
        ("requests", quote.prices.per_mreq, most.per_mreq),
    ] {
        if got > most {
            return Err(ChallengeError::TooDear { what, got, most });
        }
    }
    Ok(())
}

/// The terms beside the quote say what the quote says; the quote alone counts, but a challenge that
/// contradicts itself is nobody's mistake.
fn check_terms(
    request: &SessionRequest,
    details: &MethodDetails,
    quote: &Quote,
) -> Result<(), ChallengeError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    for (what, expected, got) in [
        ("recipient", quote.processor.to_string(), text(&request.recipient)),
        ("currency", quote.issuer.to_string(), request.currency.clone()),
        ("chain", quote.chain.to_string(), details.chain.to_string()),
        ("amount", amount_text(quote.prices.output_per_mtok), request.amount.clone()),
        ("unit", UNIT.to_owned(), text(&request.unit_type)),
    ] {
        if expected != got {
            return Err(differs(what, expected, got));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
