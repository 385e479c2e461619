//! Refusals of a payment, as RFC 9457 problems with the types that the protocol defines.

use http::StatusCode;
use mpp::{
    MppError, SESSION_PROBLEM_TYPE_BASE,
    error::{CORE_PROBLEM_TYPE_BASE, PaymentError, PaymentErrorDetails},
};

/// The largest problem body that is read, in bytes.
pub(super) const MAX_PROBLEM_BYTES: usize = 16 * 1024;
const MAX_TEXT: usize = 2_000;

/// Why a processor does not take a payment. What the channel finds is passed on in its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential was sent.
    #[error("the request carries no payment credential")]
    Required,
    /// The credential does not read.
    #[error("{0}")]
    Malformed(String),
    /// Another payment method.
    #[error("payment method '{0}' is not taken here, only 'gristmill'")]
    Method(String),
    /// Another intent.
    #[error("the credential's intent is '{0}', expected 'session'")]
    Intent(String),
    /// The challenge is not this processor's, or was altered.
    #[error("the challenge was not issued by this processor, or it was altered")]
    Forged,
    /// The challenge is this processor's, but not for this route.
    #[error("the challenge's {what} is '{got}', here it is '{expected}'")]
    Differs {
        /// Which part.
        what: &'static str,
        /// The route's.
        expected: String,
        /// The challenge's.
        got: String,
    },
    /// The quote has ended.
    #[error("the quote ended at {0}")]
    Expired(String),
    /// The payload does not read.
    #[error("{0}")]
    Payload(String),
    /// Parts of the payload do not belong together, or not to this route.
    #[error("expected that {0}")]
    Unrelated(&'static str),
    /// The order is for another body.
    #[error("the order is for another request body: its SHA-256 differs")]
    Body,
    /// The voucher does not cover what is asked for.
    #[error("{0}")]
    Insufficient(String),
    /// What is left in the channel does not suffice.
    #[error("{0}")]
    Balance(String),
    /// A signature does not verify.
    #[error("{0}")]
    Signature(String),
    /// Signed by a key that may not.
    #[error("{0}")]
    Signer(String),
    /// More is promised than deposited.
    #[error("{0}")]
    Deposit(String),
    /// The amount did not rise, or by too little.
    #[error("{0}")]
    Delta(String),
    /// The same payment again; a new one would not help.
    #[error("{0}")]
    Replayed(String),
    /// The ledger has no such channel.
    #[error("{0}")]
    NoChannel(String),
    /// The channel is closed, or closing.
    #[error("{0}")]
    Closed(String),
    /// Another reason that lies with the sender, against the channel's or the lane's rules.
    #[error("{0}")]
    Rules(String),
    /// Our own fault. The text stays in our log.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        let status = self.to_problem_details(None).status;
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem type without its base, for example `session/insufficient-balance`.
    pub fn code(&self) -> &'static str {
        self.to_mpp().problem_type_suffix().unwrap_or("internal-payment-error")
    }

    /// What to do. The crate's own hint names wallets that do not speak our method.
    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Required | Self::Method(_) | Self::Malformed(_) => {
                "Send the request through a gristmill gateway, which pays for it: `gristmill up`, then its \
                 /v1/chat/completions."
            }
            Self::Expired(_) | Self::Forged | Self::Differs { .. } => {
                "Pay under the challenge of this answer."
            }
            Self::Closed(_) | Self::NoChannel(_) => "Open a channel to this processor, then order again.",
            Self::Deposit(_) | Self::Balance(_) => "Top up the channel, then send the voucher again.",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    fn to_mpp(&self) -> MppError {
        // The crate ends its sentences itself.
        let text = self.to_string();
        let text = text.strip_suffix('.').unwrap_or(&text).to_owned();
        match self {
            Self::Required => MppError::payment_required_default(),
            Self::Malformed(_) => MppError::malformed_credential(text),
            Self::Method(_) => MppError::UnsupportedPaymentMethod(text),
            Self::Intent(_) | Self::Forged | Self::Differs { .. } => MppError::invalid_challenge_reason(text),
            Self::Expired(at) => MppError::payment_expired(at.clone()),
            Self::Payload(_) | Self::Unrelated(_) => MppError::invalid_payload(text),
            Self::Body | Self::Rules(_) => MppError::verification_failed(text),
            Self::Insufficient(_) => MppError::payment_insufficient(text),
            Self::Balance(_) => MppError::InsufficientBalance(Some(text)),
            Self::Signature(_) => MppError::InvalidSignature(Some(text)),
            Self::Signer(_) => MppError::SignerMismatch(Some(text)),
            Self::Deposit(_) => MppError::AmountExceedsDeposit(Some(text)),
            Self::Delta(_) => MppError::DeltaTooSmall(Some(text)),
            Self::Replayed(_) => MppError::CredentialReplayed(Some(text)),
            Self::NoChannel(_) => MppError::ChannelNotFound(Some(text)),
            Self::Closed(_) => MppError::ChannelClosed(Some(text)),
            Self::Internal(_) => MppError::Internal(text),
        }
    }
}

impl PaymentError for Refusal {
    fn to_problem_details(&self, challenge_id: Option<&str>) -> PaymentErrorDetails {
        self.to_mpp().to_problem_details(challenge_id)
    }
}

/// A problem as a gateway reads it from a processor's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the processor refused ({status}, {code}): {detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The problem type without its base, for example `session/insufficient-balance`; empty if the
    /// type is none of the protocol's.
    pub code: String,
    /// What happened.
    pub detail: String,
}

impl Problem {
    /// Reads the body of a refusal. A body that is no problem is shown as it is, shortened. The status
    /// is the answer's own, not the one that the body claims.
    pub fn read(status: StatusCode, body: &[u8]) -> Self {
        let short = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
        let body = body.get(..MAX_PROBLEM_BYTES).unwrap_or(body);
        match serde_json::from_slice::<PaymentErrorDetails>(body) {
            Ok(problem) => {
                let code = match problem.problem_type.strip_prefix(SESSION_PROBLEM_TYPE_BASE) {
                    Some(rest) => format!("session{rest}"),
                    None => problem
                        .problem_type
                        .strip_prefix(CORE_PROBLEM_TYPE_BASE)
                        .and_then(|rest| rest.strip_prefix('/'))
                        .unwrap_or_default()
                        .to_owned(),
                };
                Self { status, code: short(&code), detail: short(&problem.detail) }
            }
            Err(_) => Self { status, code: String::new(), detail: short(&String::from_utf8_lossy(body)) },
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
