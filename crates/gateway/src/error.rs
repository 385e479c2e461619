//! What stops a gateway, and what goes wrong when it buys.

use crate::{fund::Holds, purchase::Bought};
use gristmill_channel::{BudgetError, Code, PayerError, ReplayError};
use gristmill_client::ClientError;
use gristmill_net::{
    openai::{ApiError, INTERNAL_ERROR, Partial},
    pay::{ChallengeError, Problem},
};
use gristmill_store::StoreError;
use gristmill_tokenizer::TextError;
use gristmill_types::{AccountId, Amount};
use http::StatusCode;

/// Why a gateway did not start.
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
    #[error("the gateway's records cannot be used: {0}")]
    Store(#[from] StoreError),
    /// The records do not make sense.
    #[error("the gateway's log {log} cannot be used: {reason}; restore it from a backup")]
    Records {
        /// Which log.
        log: String,
        /// Why.
        reason: String,
    },
    /// No HTTP client.
    #[error("the gateway cannot make connections: {0}")]
    Http(#[from] gristmill_net::http::ClientError),
    /// The first API key cannot be made.
    #[error("the gateway's API key cannot be set up: {0}")]
    Key(#[from] BuyError),
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
            Self::Listen { .. } | Self::Http(_) | Self::Key(_) => false,
        }
    }
}

/// Why a request was not bought, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum BuyError {
    /// Refused by our own side of the channel.
    #[error(transparent)]
    Payer(#[from] PayerError),
    /// Refused by the key's budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The key's budget would suffice, but for what its other requests hold of it.
    #[error(
        "the API key has {room} credits left besides {held} that are held for its other requests, and up to {needed} are needed"
    )]
    Held {
        /// What the request may cost.
        needed: Amount,
        /// What is left.
        room: Amount,
        /// What is held.
        held: Amount,
    },
    /// Not written down.
    #[error("the gateway cannot write its records: {0}")]
    Store(#[from] StoreError),
    /// The channel's machine could not be made.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No such channel here.
    #[error("the gateway knows no such channel")]
    NoChannel,
    /// The ledger could not be asked, or refused.
    #[error("the ledger: {0}")]
    Ledger(#[from] ClientError),
    /// The account cannot fund a channel.
    #[error("{holds}, and {needed} are needed for a channel to {processor}")]
    Empty {
        /// What there is.
        holds: Holds,
        /// What is needed, the fee included.
        needed: Amount,
        /// To whom.
        processor: AccountId,
    },
    /// The processor does not answer.
    #[error("processor {processor} does not answer: {reason}")]
    Unreachable {
        /// Who.
        processor: AccountId,
        /// Why.
        reason: String,
    },
    /// It broke off after words came, and without a receipt: what came is paid as far as the processor proves it.
    #[error(
        "{}; what had come is paid for as far as the processor proves it: see the receipts later",
        error.to_string().trim_end_matches('.')
    )]
    Unsettled {
        /// Why it broke off.
        error: Box<BuyError>,
        /// What had come.
        partial: Box<Partial>,
    },
    /// The gateway stops.
    #[error("the gateway stops; the answer ends here")]
    Stopping,
    /// The client went away.
    #[error("the client went away")]
    Gone,
    /// The processor's challenge is not payable.
    #[error("processor {processor}: {error}")]
    Challenge {
        /// Who.
        processor: AccountId,
        /// Why.
        error: ChallengeError,
    },
    /// The processor refused the payment.
    #[error("processor {processor}: {problem}")]
    Refused {
        /// Who.
        processor: AccountId,
        /// Its answer.
        problem: Problem,
    },
    /// Refused here.
    #[error("{0}")]
    Api(Box<ApiError>),
    /// The processor answered with an error of the OpenAI shape.
    #[error("{error}")]
    Answered {
        /// Who.
        processor: AccountId,
        /// Its answer.
        error: Box<ApiError>,
    },
    /// The text bundle does not work.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The processor does not keep to the protocol: what was delivered is paid, nothing more.
    #[error("processor {processor} broke the protocol: {what}")]
    Misbehaved {
        /// Who.
        processor: AccountId,
        /// How.
        what: String,
    },
    /// It broke off, and what had come until then was paid for.
    #[error(
        "{}; what had come is paid for: {} credits, receipt {}",
        error.to_string().trim_end_matches('.'), bought.cost, bought.receipt
    )]
    Cut {
        /// Why it broke off.
        error: Box<BuyError>,
        /// What had come.
        bought: Box<Bought>,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A record of ours does not read.
    #[error("the record of {0} does not read; restore the gateway's records from a backup")]
    Damaged(String),
}

impl BuyError {
    /// Whether it is for want of credits of ours or of the key's, or for our own limits: for what a seller asks.
    pub(crate) fn is_of_terms(&self) -> bool {
        match self {
            Self::Empty { .. } | Self::Budget(_) | Self::Held { .. } => true,
            Self::Payer(error) => {
                matches!(error.code(), Code::BudgetExceeded | Code::AmountExceedsDeposit | Code::LaneBusy)
            }
            Self::Api(error) => error.status.is_client_error() && error.status != StatusCode::UNAUTHORIZED,
            _ => false,
        }
    }

    /// The same, where something was bought before.
    pub(crate) fn cut(self, bought: Bought) -> Self {
        if bought.cost.is_zero() {
            return self;
        }
        Self::Cut { error: Box::new(self), bought: Box::new(bought) }
    }
}

impl From<ApiError> for BuyError {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl From<BuyError> for ApiError {
    fn from(error: BuyError) -> Self {
        let message = format!("{}.", error.to_string().trim_end_matches('.'));
        let error = match error {
            BuyError::Cut { error, bought } => return Self::from(*error).cut(message, bought.partial()),
            BuyError::Unsettled { error, partial } => return Self::from(*error).cut(message, *partial),
            error => error,
        };
        match &error {
            BuyError::Api(error) => (**error).clone(),
            // "Our own fault" says the processor, or that we may not ask it: here it is the processor's.
            BuyError::Answered { error, .. } => match error.status.as_u16() {
                _ if error.code.as_deref() == Some(INTERNAL_ERROR) => Self::processor_failed(message),
                400 | 404 | 408 | 413 | 422 | 429 | 500.. => (**error).clone(),
                _ => Self::processor_failed(message),
            },
            BuyError::Empty { holds, .. } => {
                let next = match holds {
                    Holds::Account(_) => {
                        "Put credits into the account, for example: gristmill credits issue 100 --deposit REFERENCE"
                    }
                    Holds::Key { .. } => {
                        "Raise its limit: gristmill wallet key create gateway-vouchers --limit CREDITS"
                    }
                    Holds::NoKey => {
                        "Let it spend again: gristmill wallet key create gateway-vouchers --limit CREDITS; or pay with the \
                         wallet itself, from the next start: gristmill wallet key revoke gateway-vouchers --unlimited"
                    }
                };
                Self::no_credit(format!("{message} {next}"))
            }
            BuyError::Budget(_) => Self::no_credit(message),
            BuyError::Held { .. } => {
                Self::rate_limited(format!("{message} Try again when they have ended."), 1)
            }
            BuyError::Payer(PayerError::Closed) => {
                Self::unavailable(format!("{message} Ask again: another channel is opened."), 1)
            }
            BuyError::Payer(payer) => match payer.code() {
                Code::BudgetExceeded => Self::no_credit(format!(
                    "{message} Ask for fewer tokens with max_tokens, or have the budget raised: gristmill api-key \
                     budget NAME CREDITS"
                )),
                Code::LaneBusy => {
                    Self::rate_limited("64 requests to this processor are under way; try again.", 1)
                }
                Code::LimitExceeded => Self::invalid("max_tokens", message),
                // Others took what it had added.
                Code::AmountExceedsDeposit => Self::unavailable(format!("{message} Try again."), 1),
                _ => Self::processor_failed(message),
            },
            BuyError::Text(_) => Self::invalid("messages", message),
            BuyError::Store(_) | BuyError::Damaged(_) | BuyError::Random(_) => {
                tracing::error!(%error, "a request failed here");
                Self::internal(message)
            }
            BuyError::Unreachable { .. } | BuyError::Stopping => Self::unavailable(message, 5),
            BuyError::Ledger(_) => Self::unavailable(message, 5),
            BuyError::Cut { .. }
            | BuyError::Unsettled { .. }
            | BuyError::Gone
            | BuyError::Replay(_)
            | BuyError::NoChannel
            | BuyError::Challenge { .. }
            | BuyError::Refused { .. }
            | BuyError::Misbehaved { .. } => Self::processor_failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{buy::at_fault, progress::Outcome};
    use gristmill_net::openai::{ANSWER_CUT, FinishReason};
    use gristmill_types::{Digest, Unit};

    fn bought() -> Bought {
        Bought {
            receipt: Digest::new([1; 32]),
            finish: FinishReason::Error,
            prompt_tokens: 3,
            completion_tokens: 2,
            unit: Unit::Token,
            cost: Amount::from_grains(5),
            limited_by: None,
        }
    }

    /// Whatever broke an answer off, a client that did nothing wrong is not told that it did, nor to try again.
    #[test]
    fn what_broke_off_is_told_with_what_was_paid() {
        let processor = AccountId::new([7; 32]);
        let said = |error| BuyError::Answered { processor, error: Box::new(error) };
        let bought = bought();
        for (error, status, code) in [
            (said(ApiError::invalid("messages", "No.")), 502, ANSWER_CUT),
            (said(ApiError::internal("Ouch.")), 502, ANSWER_CUT),
            (PayerError::Closed.into(), 503, ANSWER_CUT),
            (BuyError::Misbehaved { processor, what: "it lied".to_owned() }, 502, ANSWER_CUT),
            (ApiError::no_credit("All is spent.").into(), 402, "insufficient_credits"),
        ] {
            let error = ApiError::from(BuyError::cut(error, bought.clone()));
            assert_eq!((error.status.as_u16(), error.code.as_deref()), (status, Some(code)), "{error}");
            assert!(
                error.message.contains("0.000000005 credits") && !error.message.contains(".."),
                "{error}"
            );
            assert_eq!(error.partial.map(|of| of.usage.total_tokens), Some(5));
        }
        let free = BuyError::cut(said(ApiError::internal("Ouch.")), Bought { cost: Amount::ZERO, ..bought });
        let free = ApiError::from(free);
        assert_eq!((free.status.as_u16(), free.partial), (502, None));
    }

    /// What a processor answers is judged by what it says: of the request, of itself, or of us, which is itself.
    #[test]
    fn answers_of_processors_are_judged_by_their_status() {
        let processor = AccountId::new([7; 32]);
        for (status, fault, told) in [
            (400, false, 400),
            (413, false, 413),
            (422, false, 422),
            (404, true, 404),
            (429, true, 429),
            (401, true, 502),
            (403, true, 502),
            (451, true, 502),
            (500, true, 500),
            (503, true, 503),
        ] {
            let status = http::StatusCode::from_u16(status).unwrap();
            let error = Box::new(ApiError { status, ..ApiError::invalid("model", "No.") });
            let error = BuyError::Answered { processor, error };
            assert_eq!(at_fault(&error), fault.then_some(processor), "{status}");
            assert_eq!(ApiError::from(error).status.as_u16(), told, "{status}");
        }
        assert_eq!(at_fault(&ApiError::internal("Ours.").into()), None);
        // Who took something for it cannot say that it is the request's fault.
        let error = Box::new(ApiError::invalid("model", "No."));
        let cut = BuyError::Answered { processor, error }.cut(bought());
        assert_eq!((at_fault(&cut), Outcome::of(&cut)), (Some(processor), Outcome::Refused));
    }
}
