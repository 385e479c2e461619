//! What stops a processor, and what it answers to those who are refused.

use crate::app::App;
use axum::response::Response;
use gristmill_channel::{Code, PayeeError};
use gristmill_net::{
    openai::ApiError,
    pay::{Offer, Refusal},
};

/// Why a processor did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The records cannot be opened.
    #[error("the processor's records cannot be used: {0}")]
    Store(#[from] gristmill_store::StoreError),
    /// The records do not make sense.
    #[error("the processor's log {log} cannot be used: {reason}; restore it from a backup")]
    Records {
        /// Which log.
        log: String,
        /// Why.
        reason: String,
    },
    /// The ledger did not answer as expected.
    #[error("the ledger cannot be used: {0}")]
    Ledger(#[from] gristmill_client::ClientError),
    /// The system gives no random bytes, or the realm is unusable.
    #[error("the processor cannot make quotes: {0}")]
    Quotes(String),
}

impl StartError {
    /// Whether there is no space left.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_full())
    }

    /// Whether the records are not as they were left: what helps is a backup.
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_damage(),
            Self::Records { .. } => true,
            Self::Listen { .. } | Self::Ledger(_) | Self::Quotes(_) => false,
        }
    }
}

/// Why a paid request is not served.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The payment is refused: answered as a problem, with a challenge where paying helps.
    Payment(Refusal),
    /// The request is refused: answered as an OpenAI error. Nothing was charged.
    Request(ApiError),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Payment(refusal)
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Request(error)
    }
}

impl From<PayeeError> for Refused {
    fn from(error: PayeeError) -> Self {
        Self::Payment(refusal(&error))
    }
}

impl From<gristmill_store::StoreError> for Refused {
    fn from(error: gristmill_store::StoreError) -> Self {
        tracing::error!(%error, "a record could not be written");
        let message = "The processor cannot write its records at the moment; nothing was charged.";
        Self::Request(ApiError::unavailable(message, 30))
    }
}

impl Refused {
    pub(crate) fn answer(self, app: &App, offers: &[&Offer]) -> Response {
        use axum::response::IntoResponse as _;
        app.metrics.refused(&self);
        match self {
            Self::Payment(refusal) => app.cashier.refuse(&refusal, offers),
            Self::Request(error) => error.into_response(),
        }
    }
}

/// What the channel found wrong, as the protocol's problem.
pub(crate) fn refusal(error: &PayeeError) -> Refusal {
    let text = error.to_string();
    match error.code() {
        Code::InvalidPayload | Code::Overflow => Refusal::Payload(text),
        Code::InvalidSignature => Refusal::Signature(text),
        Code::AmountExceedsDeposit => Refusal::Deposit(text),
        Code::DeltaTooSmall => Refusal::Insufficient(text),
        Code::ChannelNotFound => Refusal::NoChannel(text),
        Code::ChannelClosed => Refusal::Closed(text),
        Code::AlreadyDelivered => Refusal::Replayed(text),
        Code::WrongSequence => Refusal::Delta(text),
        Code::NotReady => Refusal::Internal(text),
        Code::WrongLane
        | Code::WrongQuote
        | Code::QuoteExpired
        | Code::LaneBusy
        | Code::LimitExceeded
        | Code::WrongReceipt
        | Code::BudgetExceeded => Refusal::Rules(text),
    }
}
