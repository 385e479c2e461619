//! What whoever runs the gateway does with its API keys: make, list, change, revoke.

use crate::{
    accounts::State,
    app::App,
    error::BuyError,
    keys::{self, NameRecord, check_name},
    openapi::{ApiKey, ApiKeys, NewKey},
    routes::{Reader, reader},
};
use axum::{
    Json,
    body::Body,
    extract,
    http::{HeaderMap, StatusCode},
};
use gristmill_channel::{BudgetError, KeyId};
use gristmill_net::{
    extract::Path,
    http::read_body,
    openai::{ApiError, ErrorBody},
};
use gristmill_types::{Amount, Digest};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;
use utoipa::ToSchema;

/// No body is longer.
const MAX_BODY_BYTES: usize = 4_096;

/// A key to make. Amounts are decimal strings of grains.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    /// What people call it; no other key that is in use has the name.
    #[schema(example = "library", min_length = 1, max_length = 64)]
    name: String,
    /// The most that it may ever spend.
    #[schema(value_type = String, example = "5000000000")]
    limit: Amount,
}

/// What to change of a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// The most that it may ever spend, no less than what it spent and holds.
    #[schema(value_type = String, example = "5000000000")]
    limit: Amount,
}

/// Only the operator.
fn authorise(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    match reader(app, headers)? {
        Reader::Operator => Ok(()),
        Reader::Key(_) => {
            let message = "Keys are managed with the operator's key, not with an API key: on the gateway's machine, \
                           with `gristmill api-key`.";
            Err(ApiError { status: StatusCode::FORBIDDEN, ..ApiError::invalid("authorization", message) })
        }
    }
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let body = read_body(body.into_data_stream(), MAX_BODY_BYTES).await?;
    serde_json::from_slice(&body).map_err(ApiError::malformed)
}

fn unknown() -> ApiError {
    let message = "There is no such key; see GET /v1/keys.";
    ApiError { status: StatusCode::NOT_FOUND, ..ApiError::invalid("id", message) }
}

fn shown(app: &App, id: &KeyId) -> Result<ApiKey, ApiError> {
    let accounts = app.accounts.lock();
    let (of, named) = (accounts.key(id).ok_or_else(unknown)?, accounts.names().of(id));
    Ok(ApiKey {
        id: id.0,
        name: named.map(|of| of.name.clone()),
        created_ms: named.map(|of| of.created_ms),
        revoked_ms: named.and_then(|of| of.revoked_ms),
        limit: of.limit,
        spent: of.spent,
        held: of.held,
        remaining: of.room(),
    })
}

/// List all API keys, those that were revoked too.
#[utoipa::path(
    get, path = "/v1/keys", tag = "operator", security(("operator" = [])),
    responses(
        (status = 200, description = "The keys, oldest first", body = ApiKeys),
        (status = 401, description = "No key, or one that is not known", body = ErrorBody),
        (status = 403, description = "An API key", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    extract::State(app): extract::State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<ApiKeys>, ApiError> {
    authorise(&app, &headers)?;
    let ids: Vec<KeyId> = app.accounts.lock().keys().map(|(id, _)| *id).collect();
    let mut keys = ids.iter().map(|id| shown(&app, id)).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by_key(|key| key.created_ms);
    Ok(Json(ApiKeys { keys }))
}

/// Make an API key. This answer is the only place where it ever stands.
#[utoipa::path(
    post, path = "/v1/keys", tag = "operator", request_body = Create, security(("operator" = [])),
    responses(
        (status = 200, description = "The key", body = NewKey),
        (status = 400, description = "Not a name or a limit that can be used", body = ErrorBody),
        (status = 401, description = "No key, or one that is not known", body = ErrorBody),
        (status = 403, description = "An API key", body = ErrorBody),
        (status = 413, description = "Too long", body = ErrorBody),
        (status = 500, description = "The gateway failed", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    extract::State(app): extract::State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<NewKey>, ApiError> {
    authorise(&app, &headers)?;
    let Create { name, limit } = read(body).await?;
    check_name(&name)?;
    if limit.is_zero() {
        return Err(ApiError::invalid("limit", "A key with a limit of 0 could buy nothing; give it more."));
    }
    let key = app.create_key(&name, limit, false).await?;
    Ok(Json(NewKey { of: shown(&app, &keys::id(&key))?, key }))
}

/// Change what an API key may spend.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", tag = "operator", request_body = Change, security(("operator" = [])),
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "The key as it stands now", body = ApiKey),
        (status = 400, description = "Not a limit, or one below what it spent and holds", body = ErrorBody),
        (status = 401, description = "No key, or one that is not known", body = ErrorBody),
        (status = 403, description = "An API key", body = ErrorBody),
        (status = 404, description = "No such key", body = ErrorBody),
        (status = 413, description = "Too long", body = ErrorBody),
        (status = 500, description = "The gateway failed", body = ErrorBody),
    )
)]
pub(crate) async fn change(
    extract::State(app): extract::State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<ApiKey>, ApiError> {
    authorise(&app, &headers)?;
    let id = known(&app, &id)?;
    let Change { limit } = read(body).await?;
    let mut set = app.accounts.set_limit(id, limit).await;
    if let Err(BuyError::Budget(BudgetError::LimitTooLow { .. })) = &set {
        // Idle lanes hold some for the requests that follow.
        app.accounts.trim().await?;
        set = app.accounts.set_limit(id, limit).await;
    }
    set.map_err(|error| match error {
        BuyError::Budget(BudgetError::LimitTooLow { least }) => {
            let message =
                format!("The key has spent or holds {least} credits already; its limit cannot be lower.");
            ApiError::invalid("limit", message)
        }
        error => error.into(),
    })?;
    Ok(Json(shown(&app, &id)?))
}

/// Revoke an API key: from now on it is refused. Answers that are under way end as they were paid for.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "operator", security(("operator" = [])),
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "The key as it ended", body = ApiKey),
        (status = 400, description = "Revoked before", body = ErrorBody),
        (status = 401, description = "No key, or one that is not known", body = ErrorBody),
        (status = 403, description = "An API key", body = ErrorBody),
        (status = 404, description = "No such key", body = ErrorBody),
        (status = 500, description = "The gateway failed", body = ErrorBody),
    )
)]
pub(crate) async fn revoke(
    extract::State(app): extract::State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<ApiKey>, ApiError> {
    authorise(&app, &headers)?;
    let id = known(&app, &id)?;
    let at_ms = app.now_ms();
    let revoke = |state: &mut State| {
        if !state.names().is_active(&id) {
            return Err(ApiError::invalid("id", "The key was revoked before.").into());
        }
        state.rename(NameRecord::Revoked { key: id, at_ms })
    };
    let ((), queued) = app.accounts.change(revoke).await?;
    queued.durable().await?;
    Ok(Json(shown(&app, &id)?))
}

fn known(app: &App, id: &str) -> Result<KeyId, ApiError> {
    let id = KeyId(id.parse::<Digest>().map_err(|_| unknown())?);
    app.accounts.lock().key(&id).map(|_| id).ok_or_else(unknown)
}

impl App {
    /// A new key. Another that has the name is revoked, or else the name is refused.
    pub(crate) async fn create_key(
        &self,
        name: &str,
        limit: Amount,
        replaces: bool,
    ) -> Result<String, BuyError> {
        let key = keys::generate()?;
        let (id, now_ms) = (keys::id(&key), self.now_ms());
        let create = |state: &mut State| {
            match state.names().active(name) {
                Some(before) if replaces => {
                    state.rename(NameRecord::Revoked { key: before, at_ms: now_ms })?
                }
                Some(_) => {
                    let message =
                        format!("Another key is called '{name}'; choose another name, or revoke that one.");
                    return Err(ApiError::invalid("name", message).into());
                }
                None => {}
            }
            state.set_limit(id, limit)?;
            state.rename(NameRecord::Named { key: id, name: name.to_owned(), created_ms: now_ms })
        };
        let ((), queued) = self.accounts.change(create).await?;
        queued.durable().await?;
        Ok(key)
    }
}
