//! What can be wrong with an upstream before it serves.

/// Why a server cannot be sold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The address is none, or holds what must not be there.
    #[error("'{address}' cannot be an upstream: {reason}")]
    Address {
        /// What was given, without what might be secret in it.
        address: String,
        /// Why.
        reason: &'static str,
    },
    /// The key is none.
    #[error("the upstream's API key is not usable: {0}")]
    Key(&'static str),
    /// No client can be made.
    #[error("no connections can be made: {0}")]
    Client(String),
    /// It does not answer.
    #[error("the upstream {address} does not answer: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// It refuses the key, or wants one.
    #[error("the upstream {address} refuses the API key, or wants one: {reason}")]
    Denied {
        /// Where.
        address: String,
        /// Its words.
        reason: String,
    },
    /// It does not do what the API promises.
    #[error("the upstream {address} does not answer a chat: {reason}")]
    Misbehaved {
        /// Where.
        address: String,
        /// How.
        reason: String,
    },
    /// It has no such model.
    #[error("the upstream has no model '{wanted}'; it has {}", listed(.models))]
    UnknownModel {
        /// What was asked for.
        wanted: String,
        /// What there is.
        models: Vec<String>,
    },
    /// A model has to be named.
    #[error("{}", unnamed(.models, .reason))]
    NoModel {
        /// What there is.
        models: Vec<String>,
        /// Why the list could not be had, if so.
        reason: Option<String>,
    },
}

fn listed(models: &[String]) -> String {
    if models.is_empty() { "none".to_owned() } else { models.join(", ") }
}

fn unnamed(models: &[String], reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!("the upstream does not list its models ({reason}); one has to be named"),
        None if models.is_empty() => "the upstream lists no models; load one there".to_owned(),
        None => format!("the upstream has several models, and one has to be named: {}", models.join(", ")),
    }
}
