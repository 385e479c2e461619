//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.
//!
//! Stock clients choose what to do by status and `code`; a person reads `message`, which says what
//! happened, what was expected and what to do.

use super::{Choice, Extension, Usage};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use gristmill_types::Unit;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The code of a failure of whoever answers.
pub const INTERNAL_ERROR: &str = "internal_error";
/// The code of an answer that failed when some of it had come.
pub const ANSWER_CUT: &str = "answer_cut";
/// The code of an answer that ends because its payer closes the channel.
pub const CHANNEL_CLOSING: &str = "channel_closing";
const INVALID_REQUEST: &str = "invalid_request_error";
/// Longest text that is taken over from another party's error.
const MAX_TEXT: usize = 2_000;

/// An error as the caller of an OpenAI route sees it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What happened, what was expected, what to do.
    pub message: String,
    /// The class of the error (`type` on the wire).
    pub kind: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// A stable code.
    pub code: Option<String>,
    /// When trying again makes sense, in seconds.
    pub retry_after_s: Option<u32>,
    /// What came of the answer before it failed, and is paid for. Whoever asks again pays again, so stock clients
    /// are told not to do it by themselves.
    pub partial: Option<Box<Partial>>,
}

/// What came of an answer that failed, and is paid for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Partial {
    /// What was said. A stream has sent it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// What was used, and what it cost.
    pub usage: Usage,
    /// The receipts.
    pub gristmill: Extension,
}

/// An error as it is sent.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    error: ErrorMember,
    /// What came before it failed, and is paid for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_read")]
    partial: Option<Box<Partial>>,
}

/// What another server says there is none of ours.
fn not_read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Partial>>, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| None)
}

/// What failed.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = ErrorMember)]
struct ErrorMember {
    /// What happened, what was expected, what to do.
    message: String,
    /// The class of the error.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The parameter at fault.
    param: Option<String>,
    /// A stable code.
    #[schema(value_type = Option<String>)]
    code: Option<serde_json::Value>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, code: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind: kind.to_owned(),
            param: None,
            code: code.map(str::to_owned),
            retry_after_s: None,
            partial: None,
        }
    }

    fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// 400: the body is not JSON, or not an object.
    pub fn malformed(reason: impl std::fmt::Display) -> Self {
        let message = format!("The body is not a JSON object that can be read: {reason}.");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("malformed_body"), message)
    }

    /// 400: a parameter has a value that cannot be used.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("invalid_value"), message).about(param)
    }

    /// 400: a parameter that is needed is absent.
    pub fn missing(param: &str) -> Self {
        let message = format!("The parameter '{param}' is missing.");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("missing_required_parameter"), message)
            .about(param)
    }

    /// 400: a parameter that is not honoured, with the reason.
    pub fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("The parameter '{param}' is not supported: {why}.");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("unsupported_parameter"), message)
            .about(param)
    }

    /// 400: the prompt leaves no room for an answer.
    pub fn context_length(prompt_tokens: u32, context_tokens: u32, unit: Unit) -> Self {
        let unit = unit.plural();
        let message = format!(
            "The prompt has {prompt_tokens} {unit}; prompt and answer together may have {context_tokens}. \
             Shorten the messages."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, Some("context_length_exceeded"), message)
            .about("messages")
    }

    /// 401: no key, or one that is not known.
    pub fn wrong_key() -> Self {
        let message = "The API key is missing or wrong. Send the key that `gristmill up` printed, as \
                       `Authorization: Bearer KEY`.";
        Self::new(StatusCode::UNAUTHORIZED, INVALID_REQUEST, Some("invalid_api_key"), message)
    }

    /// 402: what is left does not pay for the request. `message` says how much is missing, and how
    /// to get it.
    pub fn no_credit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", Some("insufficient_credits"), message)
    }

    /// 404: nobody offers the model.
    pub fn unknown_model(model: &str) -> Self {
        let shown: String = model.chars().take(80).collect();
        let message = format!(
            "The model '{shown}' is not offered here. See `GET /v1/models` or `gristmill market` for those that are."
        );
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, Some("model_not_found"), message).about("model")
    }

    /// 404: there is no such route.
    pub fn unknown_route(method: &http::Method, path: &str) -> Self {
        let shown: String = path.chars().take(80).collect();
        let message = format!(
            "There is no route {method} {shown}. Served are POST /v1/chat/completions, /v1/completions and /v1/embeddings, GET /v1/models, and what GET /openapi.json lists."
        );
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, Some("unknown_url"), message)
    }

    /// 405: the route has no such method.
    pub fn wrong_method(method: &http::Method, path: &str) -> Self {
        let shown: String = path.chars().take(80).collect();
        let message =
            format!("The route {shown} does not take {method}. See GET /openapi.json for what it takes.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, Some("method_not_allowed"), message)
    }

    /// 413: the body is too large.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes. Shorten the messages.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, Some("request_too_large"), message)
    }

    /// 429: too many requests at once or in a time.
    pub fn rate_limited(message: impl Into<String>, retry_after_s: u32) -> Self {
        let error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            message,
        );
        Self { retry_after_s: Some(retry_after_s), ..error }
    }

    /// 500: our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some(INTERNAL_ERROR), message)
    }

    /// 502: the processor failed after it had taken the request.
    pub fn processor_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "server_error", Some("processor_failed"), message)
    }

    /// 503: nobody can take the request now.
    pub fn unavailable(message: impl Into<String>, retry_after_s: u32) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("unavailable"), message);
        Self { retry_after_s: Some(retry_after_s), ..error }
    }

    /// 503, between processor and gateway: the payer closes the channel that is paid from.
    pub fn channel_closing() -> Self {
        let message = "The payer closes the channel; the answer ends here.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some(CHANNEL_CLOSING), message)
    }

    /// The same, of an answer of which something had come by then.
    #[must_use]
    pub fn cut(self, message: impl Into<String>, partial: Partial) -> Self {
        let cut = match self.status {
            // What is missing is the client's to mend.
            StatusCode::PAYMENT_REQUIRED => self,
            status => {
                let cut = Self::processor_failed("");
                let status = if status.is_server_error() { status } else { cut.status };
                Self { status, code: Some(ANSWER_CUT.to_owned()), ..cut }
            }
        };
        Self { message: message.into(), partial: Some(Box::new(partial)), ..cut }
    }

    /// The JSON body, also used as the data of an event when a stream fails after it began.
    pub fn body(&self) -> String {
        let member = ErrorMember {
            message: self.message.clone(),
            kind: Some(self.kind.clone()),
            param: self.param.clone(),
            code: self.code.clone().map(serde_json::Value::String),
        };
        serde_json::to_string(&ErrorBody { error: member, partial: self.partial.clone() }).unwrap_or_default()
    }

    /// Reads the event with which the stream of another server fails. Whether the request is at fault shows in its kind.
    pub fn from_event(data: &str) -> Self {
        let error = Self::from_answer(StatusCode::BAD_GATEWAY, data.as_bytes());
        match error.kind.as_str() {
            INVALID_REQUEST => Self { status: StatusCode::BAD_REQUEST, ..error },
            _ => error,
        }
    }

    /// Reads the answer of another server. A body in another shape is shown as it is, shortened.
    pub fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let short = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error, .. }) => Self {
                status,
                message: short(&error.message),
                kind: short(error.kind.as_deref().unwrap_or("unknown")),
                param: error.param.as_deref().map(short),
                code: error.code.map(|code| match code {
                    serde_json::Value::String(text) => short(&text),
                    other => short(&other.to_string()),
                }),
                retry_after_s: None,
                partial: None,
            },
            Err(_) => Self::new(status, "unknown", None, short(&String::from_utf8_lossy(body))),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.partial.is_some() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<axum::extract::rejection::JsonRejection> for ApiError {
    fn from(rejection: axum::extract::rejection::JsonRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

/// An answer in JSON; an error where it cannot be written, which is a fault of ours.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    Json(value).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_status_and_code() {
        for (error, status, kind, param, code) in [
            (ApiError::wrong_key(), 401, INVALID_REQUEST, None, "invalid_api_key"),
            (ApiError::no_credit("0 credits left"), 402, "insufficient_quota", None, "insufficient_credits"),
            (ApiError::unknown_model("x"), 404, INVALID_REQUEST, Some("model"), "model_not_found"),
            (ApiError::unknown_route(&http::Method::GET, "/x"), 404, INVALID_REQUEST, None, "unknown_url"),
            (
                ApiError::wrong_method(&http::Method::PUT, "/x"),
                405,
                INVALID_REQUEST,
                None,
                "method_not_allowed",
            ),
            (ApiError::malformed("eof"), 400, INVALID_REQUEST, None, "malformed_body"),
            (ApiError::missing("model"), 400, INVALID_REQUEST, Some("model"), "missing_required_parameter"),
            (ApiError::invalid("stop", "no"), 400, INVALID_REQUEST, Some("stop"), "invalid_value"),
            (ApiError::unsupported("n", "one"), 400, INVALID_REQUEST, Some("n"), "unsupported_parameter"),
            (
                ApiError::context_length(9, 8, Unit::Byte),
                400,
                INVALID_REQUEST,
                Some("messages"),
                "context_length_exceeded",
            ),
            (ApiError::too_large(1), 413, INVALID_REQUEST, None, "request_too_large"),
            (ApiError::rate_limited("slow", 2), 429, "rate_limit_error", None, "rate_limit_exceeded"),
            (ApiError::internal("x"), 500, "server_error", None, "internal_error"),
            (ApiError::processor_failed("x"), 502, "server_error", None, "processor_failed"),
            (ApiError::unavailable("x", 1), 503, "server_error", None, "unavailable"),
        ] {
            assert_eq!(error.status.as_u16(), status, "{error:?}");
            let json: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
            let member = &json["error"];
            assert_eq!(member["type"], kind);
            assert_eq!(member["param"].as_str(), param);
            assert_eq!(member["code"], code);
            assert_eq!(member["message"], error.message.as_str());
            let mut read = ApiError::from_answer(error.status, error.body().as_bytes());
            read.retry_after_s = error.retry_after_s;
            assert_eq!(read, error);
        }
    }

    #[test]
    fn the_answer_names_the_time_to_try_again() {
        let response = ApiError::rate_limited("slow down", 7).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn other_shapes_are_shown_short() {
        let error = ApiError::from_answer(StatusCode::BAD_GATEWAY, "<html>".repeat(1_000).as_bytes());
        assert_eq!(error.message.len(), MAX_TEXT);
        let error = ApiError::from_answer(StatusCode::BAD_REQUEST, br#"{"error":{"message":"m","code":7}}"#);
        assert_eq!((error.message.as_str(), error.code.as_deref()), ("m", Some("7")));
    }
}
