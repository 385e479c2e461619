//! Paying over HTTP: the Machine Payments Protocol with our method `gristmill`, intent `session`.
//!
//! The one module that knows the `mpp` crate, which parses and formats the headers. For a session of
//! a custom method that crate checks neither method, intent, amount, currency nor recipient of what
//! comes back, so all of that is checked here.
//!
//! # Protocol
//!
//! 1. A request without a credential is refused: `402`, one `WWW-Authenticate: Payment` challenge,
//!    and an RFC 9457 problem as the body ([`Cashier::refuse`]). The challenge carries the signed quote;
//!    its id is an HMAC under the processor's secret over everything in it, so that the processor
//!    keeps no state for it. Equal quotes give equal challenges: a gateway pays under one until the
//!    quote ends ([`Challenge::read`]).
//! 2. The gateway sends the request again with `Authorization: Payment` and the action
//!    [`Action::Order`]: terms of the channel, a voucher for prompt and first window, and an order that
//!    binds the body. The answer is a stream of events ([`stream`]).
//! 3. While it runs, each `payment-need-voucher`, or better the gateway's own count before it, is
//!    answered by a request with [`Action::Voucher`] and no body; the answer carries `Payment-Receipt`.
//! 4. The stream ends with a signed receipt; the gateway co-signs it by [`Action::Approve`].
//!
//! # What is checked where
//!
//! Here: that the credential is for a challenge of this processor, of our method and intent, unaltered,
//! for the quote of the route that it is used on and not for another, not expired when a request
//! starts, and that its parts belong together ([`Cashier::check`]). On the other side, that a
//! challenge's quote is signed by the processor that was asked, for the ledger, model and issuer that
//! were asked, and that the terms beside it say the same ([`Challenge::read`]).
//!
//! Not here: signatures of vouchers, orders and approvals, sequence, amounts against use, deposits.
//! Those are the channel's.

mod cashier;
mod challenge;
mod credential;
mod problem;
mod receipt;
pub mod stream;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod golden;

pub use cashier::{Cashier, Offer, OfferError};
pub use challenge::{Challenge, ChallengeError, Expected};
pub use credential::{Action, Credential, MAX_CREDENTIAL_BYTES, PlacedOrder};
pub use problem::{Problem, Refusal};
pub use receipt::{PAYMENT_RECEIPT, PaymentReceipt, ReceiptError};

use gristmill_types::{Amount, Quote};
use mpp::protocol::intents::SessionRequest;
use serde::{Deserialize, Serialize};

/// The payment method's name.
pub const METHOD: &str = "gristmill";
/// The intent: a channel from which one pays as one goes.
pub const INTENT: &str = "session";
/// What the challenge's amount counts: output tokens, by the million.
pub const UNIT: &str = "llm_token";

/// Longest name of an engine class in a quote.
const MAX_ENGINE_BYTES: usize = 64;

/// `methodDetails` of our session request.
#[derive(Debug, Serialize, Deserialize)]
struct MethodDetails {
    chain: gristmill_types::ChainId,
    quote: String,
}

/// Grains as the decimal text that the protocol carries; one spelling per amount.
fn amount_text(amount: Amount) -> String {
    amount.grains().to_string()
}

fn read_amount(text: &str) -> Option<Amount> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).map(Amount::from_grains)
}

/// The one session request that goes with a quote.
fn session_request(quote: &Quote, quote_text: String, suggested_deposit: Amount) -> SessionRequest {
    let details = MethodDetails { chain: quote.chain, quote: quote_text };
    SessionRequest {
        amount: amount_text(quote.prices.output_per_mtok),
        unit_type: Some(UNIT.to_owned()),
        currency: quote.issuer.to_string(),
        decimals: None,
        recipient: Some(quote.processor.to_string()),
        suggested_deposit: Some(amount_text(suggested_deposit)),
        method_details: serde_json::to_value(details).ok(),
    }
}

/// A Unix time as the protocol writes it (RFC 3339, UTC, whole milliseconds); none beyond the year 9999.
fn time_text(unix_ms: u64) -> Option<String> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let nanos = i128::from(unix_ms).checked_mul(1_000_000)?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

fn read_time(text: &str) -> Option<u64> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanos.checked_div(1_000_000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, Some("1970-01-01T00:00:00Z")),
            (1_767_225_600_000, Some("2026-01-01T00:00:00Z")),
            (1_767_225_600_250, Some("2026-01-01T00:00:00.25Z")),
            (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(time_text(ms).as_deref(), text);
            if let Some(text) = text {
                assert_eq!(read_time(text), Some(ms));
            }
        }
        for bad in ["", "now", "2026-01-01", "1969-12-31T23:59:59Z"] {
            assert_eq!(read_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn amounts_have_one_spelling() {
        assert_eq!(read_amount("1500"), Some(Amount::from_grains(1_500)));
        assert_eq!(read_amount("0"), Some(Amount::ZERO));
        for bad in ["", "01", "+1", "-1", "1.0", "1e3", " 1", "340282366920938463463374607431768211456"] {
            assert_eq!(read_amount(bad), None, "{bad}");
        }
    }
}
