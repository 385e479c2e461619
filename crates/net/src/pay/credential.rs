//! Credentials: what a gateway sends to pay.

use super::Refusal;
use crate::Base64;
use gristmill_types::{Approval, ChannelTerms, Claim, Order, Signed, Voucher, sha256};
use http::{HeaderMap, HeaderValue, header};
use mpp::protocol::core::{
    ChallengeEcho, PaymentCredential, extract_payment_scheme, format_authorization, parse_authorization,
};
use serde::{Deserialize, Serialize};

/// The largest `Authorization` value that is read. An order has about four kibibytes.
pub const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// A request that is placed: everything that the processor needs before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedOrder {
    /// What the channel is about; its id is their hash.
    pub terms: ChannelTerms,
    /// The voucher for the prompt and the first window.
    pub voucher: Signed<Voucher>,
    /// The order, which binds voucher and body.
    pub order: Signed<Order>,
}

impl PlacedOrder {
    /// Checks that the order is for this body and no other.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Refusal> {
        if self.order.body.body == sha256(&[body]) { Ok(()) } else { Err(Refusal::Body) }
    }
}

/// What a credential does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts a request.
    Order(Box<PlacedOrder>),
    /// Pays on for a request in flight.
    Voucher(Signed<Voucher>),
    /// Co-signs what a receipt says.
    Approve(Signed<Approval>),
}

impl Action {
    /// The claim that it carries: channel, lane, sequence, model, quote and amount.
    pub fn claim(&self) -> &Claim {
        match self {
            Self::Order(placed) => &placed.voucher.body.0,
            Self::Voucher(voucher) => &voucher.body.0,
            Self::Approve(approval) => &approval.body.0,
        }
    }
}

/// The payload as JSON. Members that are not known are ignored, so that a later version can add some.
#[derive(Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Payload {
    Order(Box<OrderParts>),
    Voucher { voucher: Base64<Signed<Voucher>> },
    Approve { approval: Base64<Signed<Approval>> },
}

#[derive(Serialize, Deserialize)]
struct OrderParts {
    terms: Base64<ChannelTerms>,
    voucher: Base64<Signed<Voucher>>,
    order: Base64<Signed<Order>>,
}

impl From<&Action> for Payload {
    fn from(action: &Action) -> Self {
        match action {
            Action::Order(placed) => Self::Order(Box::new(OrderParts {
                terms: Base64(placed.terms),
                voucher: Base64(placed.voucher.clone()),
                order: Base64(placed.order.clone()),
            })),
            Action::Voucher(voucher) => Self::Voucher { voucher: Base64(voucher.clone()) },
            Action::Approve(approval) => Self::Approve { approval: Base64(approval.clone()) },
        }
    }
}

impl From<Payload> for Action {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Order(parts) => {
                let OrderParts { terms, voucher, order } = *parts;
                Self::Order(Box::new(PlacedOrder { terms: terms.0, voucher: voucher.0, order: order.0 }))
            }
            Payload::Voucher { voucher } => Self::Voucher(voucher.0),
            Payload::Approve { approval } => Self::Approve(approval.0),
        }
    }
}

/// A credential that was read. Nothing about it is known to be true until
/// [`Cashier::check`](super::Cashier::check) has said so.
#[derive(Clone, Debug)]
pub struct Credential {
    echo: ChallengeEcho,
    action: Action,
}

impl Credential {
    /// Reads the payment credential of a request; none if it carries none.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let mut found = None;
        for value in headers.get_all(header::AUTHORIZATION) {
            if value.len() > MAX_CREDENTIAL_BYTES {
                let reason = format!("the Authorization header is longer than {MAX_CREDENTIAL_BYTES} bytes");
                return Err(Refusal::Malformed(reason));
            }
            let Ok(text) = value.to_str() else { continue };
            if extract_payment_scheme(text).is_some() && found.replace(text).is_some() {
                return Err(Refusal::Malformed("there is more than one Payment credential".to_owned()));
            }
        }
        found.map(Self::parse).transpose()
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let credential = parse_authorization(text).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let payload: Payload = serde_json::from_value(credential.payload)
            .map_err(|error| Refusal::Payload(error.to_string()))?;
        Ok(Self { echo: credential.challenge, action: payload.into() })
    }

    /// What it does.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// What it does, by value.
    pub fn into_action(self) -> Action {
        self.action
    }

    /// The id of the challenge that it answers, for the receipt.
    pub fn challenge_id(&self) -> &str {
        &self.echo.id
    }

    pub(super) fn echo(&self) -> &ChallengeEcho {
        &self.echo
    }
}

/// The `Authorization` value that answers a challenge.
pub(super) fn authorization(echo: ChallengeEcho, action: &Action) -> Result<HeaderValue, String> {
    let payload = serde_json::to_value(Payload::from(action)).map_err(|error| error.to_string())?;
    let credential = PaymentCredential { challenge: echo, source: None, payload };
    let text = format_authorization(&credential).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[path = "credential_tests.rs"]
mod tests;
