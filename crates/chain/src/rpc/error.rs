//! One shape for every failure: a status, a stable code, a message, and what to do next.

use crate::{pool::Refusal, query::QueryError};
use axum::{
    Json,
    extract::{FromRequestParts, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use gristmill_client::schema::{ErrorBody, ErrorDetail};
use serde::de::DeserializeOwned;

/// A failure to be sent.
#[derive(Debug)]
pub(super) struct RpcError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<&'static str>,
}

impl RpcError {
    /// The caller sent something that cannot be used.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        let hint = Some("see /openapi.json for what is expected");
        Self { status: StatusCode::BAD_REQUEST, code: "bad_request", message: message.into(), hint }
    }

    /// There is no such thing.
    pub(super) fn not_found(what: &str) -> Self {
        let message = format!("{what} was not found on this ledger");
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message, hint: None }
    }

    /// There is no such route.
    pub(super) fn no_route() -> Self {
        let hint = Some("the routes are described in /openapi.json");
        Self {
            status: StatusCode::NOT_FOUND,
            code: "no_route",
            message: "there is no such route".into(),
            hint,
        }
    }

    /// The route has no such method.
    pub(super) fn wrong_method() -> Self {
        let hint = Some("the routes are described in /openapi.json");
        let message = "this route does not support this method".into();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "wrong_method", message, hint }
    }

    /// Too much is going on.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        let hint = Some("try again in a second");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "busy", message: message.into(), hint }
    }

    /// The node failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        let hint = Some("see the node's log");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "internal", message: message.into(), hint }
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let (status, hint) = match &refusal {
            Refusal::Full | Refusal::SenderFull => (StatusCode::TOO_MANY_REQUESTS, None),
            Refusal::Stopping => (StatusCode::SERVICE_UNAVAILABLE, None),
            Refusal::NonceTaken { .. } => {
                (StatusCode::CONFLICT, Some("read the account's nonce, and send through one sender only"))
            }
            Refusal::Invalid { code: "nonce_used" | "nonce_ahead", .. } => {
                (StatusCode::CONFLICT, Some("read the account's nonce and sign again"))
            }
            Refusal::Invalid { code: "cannot_pay_fee", .. } => (StatusCode::PAYMENT_REQUIRED, None),
            Refusal::Invalid { code: "fault", .. } => (StatusCode::INTERNAL_SERVER_ERROR, None),
            Refusal::Invalid { .. } => (StatusCode::BAD_REQUEST, None),
        };
        Self { status, code: refusal.code(), message: refusal.to_string(), hint }
    }
}

impl From<QueryError> for RpcError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Busy | QueryError::Stopping | QueryError::NoBlock => Self::busy(error.to_string()),
            QueryError::Storage(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<BytesRejection> for RpcError {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "too_long" } else { "bad_request" };
        Self { status, code, message: rejection.body_text(), hint: None }
    }
}

impl IntoResponse for RpcError {
    fn into_response(self) -> Response {
        let detail =
            ErrorDetail { code: self.code.into(), message: self.message, hint: self.hint.map(Into::into) };
        (self.status, Json(ErrorBody { error: detail })).into_response()
    }
}

/// The query part of the URL.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = RpcError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RpcError> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| RpcError::bad_request(rejection.body_text()))
    }
}

/// An id in the URL's path.
pub(super) struct Path<T>(pub T);

impl<T: std::str::FromStr<Err: std::fmt::Display> + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = RpcError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RpcError> {
        let axum::extract::Path(text) = axum::extract::Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| RpcError::bad_request(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| RpcError::bad_request(error.to_string()))
    }
}
