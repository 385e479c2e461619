//! `Payment-Receipt`: what was accepted and spent, as a header and as the last event of a stream.

use super::{INTENT, METHOD, amount_text, read_amount, read_time, time_text};
use crate::Base64;
use gristmill_types::{Amount, ChannelId, Receipt, Signed};
use http::{HeaderName, HeaderValue};
use mpp::protocol::core::{ReceiptStatus, format_receipt, parse_receipt};
use serde_json::{Map, Value};

/// The header's name.
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");

/// A receipt in the protocol's form. The figures outside `signed` are for clients that know the
/// protocol but not our method; what counts is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentReceipt {
    /// The challenge that was answered.
    pub challenge_id: String,
    /// The channel.
    pub channel: ChannelId,
    /// The lane within the channel.
    pub lane: u32,
    /// The highest amount promised on the lane, all requests together.
    pub accepted: Amount,
    /// The amount spent on the lane, all requests together.
    pub spent: Amount,
    /// When, in Unix milliseconds.
    pub time_ms: u64,
    /// The processor's signed word. Absent on answers that merely take a voucher or an approval.
    pub signed: Option<Signed<Receipt>>,
}

/// A receipt that does not read or cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment receipt is not usable: {0}")]
pub struct ReceiptError(String);

impl PaymentReceipt {
    fn to_mpp(&self) -> Result<mpp::Receipt, ReceiptError> {
        let timestamp = time_text(self.time_ms)
            .ok_or_else(|| ReceiptError(format!("{} ms is beyond the year 9999", self.time_ms)))?;
        let mut extensions = Map::new();
        for (name, text) in [
            ("intent", INTENT.to_owned()),
            ("challengeId", self.challenge_id.clone()),
            ("channelId", self.channel.to_string()),
            ("lane", self.lane.to_string()),
            ("acceptedCumulative", amount_text(self.accepted)),
            ("spent", amount_text(self.spent)),
        ] {
            extensions.insert(name.to_owned(), Value::String(text));
        }
        if let Some(signed) = &self.signed {
            extensions.insert("receipt".to_owned(), Value::String(Base64(signed).to_text()));
        }
        Ok(mpp::Receipt {
            status: ReceiptStatus::Success,
            method: METHOD.into(),
            timestamp,
            reference: self.channel.to_string(),
            external_id: None,
            subscription_id: None,
            extensions,
        })
    }

    fn from_mpp(receipt: &mpp::Receipt) -> Result<Self, ReceiptError> {
        if receipt.method.as_str() != METHOD {
            return Err(ReceiptError(format!("its method is not '{METHOD}'")));
        }
        let member = |name: &'static str| {
            let text = receipt.extensions.get(name).and_then(Value::as_str);
            text.ok_or_else(|| ReceiptError(format!("'{name}' is missing")))
        };
        let wrong = |name: &'static str| ReceiptError(format!("'{name}' does not read"));
        let amount = |name| read_amount(member(name)?).ok_or_else(|| wrong(name));
        if member("intent")? != INTENT {
            return Err(ReceiptError(format!("its intent is not '{INTENT}'")));
        }
        let signed = match receipt.extensions.get("receipt") {
            None => None,
            Some(Value::String(text)) => Some(
                Base64::from_text(text).map_err(|reason| ReceiptError(format!("'receipt': {reason}")))?.0,
            ),
            Some(_) => return Err(wrong("receipt")),
        };
        Ok(Self {
            challenge_id: member("challengeId")?.to_owned(),
            channel: member("channelId")?.parse().map_err(|_| wrong("channelId"))?,
            lane: member("lane")?.parse().map_err(|_| wrong("lane"))?,
            accepted: amount("acceptedCumulative")?,
            spent: amount("spent")?,
            time_ms: read_time(&receipt.timestamp).ok_or_else(|| wrong("timestamp"))?,
            signed,
        })
    }

    /// The header's value.
    pub fn to_header(&self) -> Result<HeaderValue, ReceiptError> {
        let text = format_receipt(&self.to_mpp()?).map_err(|error| ReceiptError(error.to_string()))?;
        HeaderValue::from_str(&text).map_err(|error| ReceiptError(error.to_string()))
    }

    /// Reads a header's value. No signature is checked here.
    pub fn from_header(value: &HeaderValue) -> Result<Self, ReceiptError> {
        let text = value.to_str().map_err(|error| ReceiptError(error.to_string()))?;
        let receipt = parse_receipt(text).map_err(|error| ReceiptError(error.to_string()))?;
        Self::from_mpp(&receipt)
    }

    pub(super) fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string(&self.to_mpp()?).map_err(|error| ReceiptError(error.to_string()))
    }

    pub(super) fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let receipt = serde_json::from_str(text).map_err(|error| ReceiptError(error.to_string()))?;
        Self::from_mpp(&receipt)
    }
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
mod tests;
