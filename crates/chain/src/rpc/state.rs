//! The state: any keys with proofs; accounts and channels in words.

use super::{
    Rpc,
    error::{Path, Query, RpcError},
};
use crate::catalog::Catalog;
use axum::{Json, extract::State};
use gristmill_client::schema::{
    AccountInfo, BalanceInfo, ChannelInfo, ClaimInfo, Claims, ClaimsQuestion, ErrorBody, MAX_KEYS, MAX_PAGE,
    RedemptionName, StateAnswer, StateQuestion, StateValue,
};
use gristmill_ledger::{
    keys,
    record::{Account, Balance, Channel, Lane, Stored as _},
};
use gristmill_types::{AccountId, ChannelId, StateKey};

/// Read state values with proofs.
///
/// The keys are hashes; the crate `gristmill-ledger` says which record stands where. All values are
/// of the same state.
#[utoipa::path(
    get, path = "/v1/state", tag = "state", params(StateQuestion),
    responses(
        (status = 200, description = "The values with their proofs", body = StateAnswer),
        (status = 400, description = "Not keys, or too many", body = ErrorBody),
        (status = 503, description = "Busy, or no block is final yet", body = ErrorBody),
    )
)]
pub(super) async fn state(
    State(rpc): State<Rpc>,
    Query(question): Query<StateQuestion>,
) -> Result<Json<StateAnswer>, RpcError> {
    let names: Vec<&str> = question.key.split(',').collect();
    if names.len() > MAX_KEYS {
        return Err(RpcError::bad_request(format!("at most {MAX_KEYS} keys are read at once")));
    }
    let keys = names
        .into_iter()
        .map(|name| name.trim().parse::<StateKey>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
        RpcError::bad_request(format!("`key` holds something that is not a state key: {error}"))
    })?;
    let proven = rpc.0.reader.state(keys).await?;
    let value = |proof: gristmill_proof::StateProof| StateValue {
        key: proof.key,
        proof: hex::encode(proof.to_bytes()),
    };
    Ok(Json(StateAnswer {
        height: proven.finality.header.height.get(),
        finality: hex::encode(proven.finality.to_bytes()),
        values: proven.proofs.into_iter().map(value).collect(),
    }))
}

/// Read an account. The node's word; an account that never appeared is empty.
#[utoipa::path(
    get, path = "/v1/accounts/{id}", tag = "state",
    params(("id" = String, Path, description = "The account, gm1…", pattern = "^gm1[02-9ac-hj-np-z]{58}$")),
    responses(
        (status = 200, description = "The account", body = AccountInfo),
        (status = 400, description = "Not an account", body = ErrorBody),
    )
)]
pub(super) async fn account(
    State(rpc): State<Rpc>,
    Path(account): Path<AccountId>,
) -> Result<Json<AccountInfo>, RpcError> {
    let (issuers, channels, spending_keys, redemptions) = rpc.0.view.catalog(|catalog: &Catalog| {
        let issuers: Vec<AccountId> = catalog.issuers().map(|issuer| issuer.issuer).collect();
        let redemptions = catalog.redemptions(&account).take(MAX_PAGE);
        let redemptions = redemptions.map(|(holder, number)| RedemptionName { holder, number });
        (
            issuers,
            catalog.channels(&account).take(MAX_PAGE).collect::<Vec<_>>(),
            catalog.spending_keys(&account).take(MAX_PAGE).collect::<Vec<_>>(),
            redemptions.collect::<Vec<_>>(),
        )
    });
    let mut names = vec![keys::account(&account)];
    names.extend(issuers.iter().map(|issuer| keys::balance(&account, issuer)));
    let records = rpc.0.reader.records(names).await?;
    let nonce = records.iter().flatten().find_map(Account::of).map_or(0, |account| account.nonce);
    let balances = records.iter().flatten().filter_map(Balance::of);
    let balances =
        balances.map(|balance| BalanceInfo { issuer: balance.issuer, amount: balance.amount }).collect();
    Ok(Json(AccountInfo { account, nonce, balances, channels, spending_keys, redemptions }))
}

/// Read a channel and its lanes. The node's word.
#[utoipa::path(
    get, path = "/v1/channels/{id}", tag = "state",
    params(("id" = String, Path, description = "The channel's id", pattern = "^[0-9a-f]{64}$")),
    responses(
        (status = 200, description = "The channel", body = ChannelInfo),
        (status = 400, description = "Not an id", body = ErrorBody),
        (status = 404, description = "No such channel", body = ErrorBody),
    )
)]
pub(super) async fn channel(
    State(rpc): State<Rpc>,
    Path(id): Path<ChannelId>,
) -> Result<Json<ChannelInfo>, RpcError> {
    let records = rpc.0.reader.records(vec![keys::channel(&id)]).await?;
    let channel = records.into_iter().flatten().find_map(|record| Channel::of(&record).cloned());
    let channel = channel.ok_or_else(|| RpcError::not_found("this channel"))?;
    let names = channel.open_lanes().map(|lane| keys::lane(&id, lane)).collect();
    let records = rpc.0.reader.records(names).await?;
    let lanes = records.iter().flatten().filter_map(Lane::of).cloned().collect();
    Ok(Json(ChannelInfo { id, channel, lanes }))
}

/// Each of them reads what a whole block did.
const MAX_CLAIMS_PAGE: usize = 50;

/// List what became of the claims on a lane, at most 50 at a time. The node's word.
///
/// The final transactions that took, capped or paid claims on it, oldest first.
#[utoipa::path(
    get, path = "/v1/channels/{id}/claims", tag = "state",
    params(("id" = String, Path, description = "The channel's id", pattern = "^[0-9a-f]{64}$"), ClaimsQuestion),
    responses(
        (status = 200, description = "The transactions; none if the lane was never claimed on", body = Claims),
        (status = 400, description = "Not an id, or no lane", body = ErrorBody),
    )
)]
pub(super) async fn claims(
    State(rpc): State<Rpc>,
    Path(id): Path<ChannelId>,
    Query(question): Query<ClaimsQuestion>,
) -> Result<Json<Claims>, RpcError> {
    let ClaimsQuestion { lane, skip, limit } = question;
    let limit = limit.unwrap_or(MAX_CLAIMS_PAGE).min(MAX_CLAIMS_PAGE);
    let (places, total) = rpc.0.view.claims(&id, lane, skip, limit);
    let mut transactions = Vec::with_capacity(places.len());
    for (height, position) in places {
        let applied = rpc.0.reader.applied(height).await?;
        let outcome = applied
            .as_ref()
            .and_then(|applied| applied.outcomes.get(usize::try_from(position).ok()?))
            .ok_or_else(|| RpcError::internal("a block of the index is missing"))?;
        let on_lane = outcome.events.iter().filter(|event| event.claim_lane() == Some((id, lane)));
        transactions.push(ClaimInfo { hash: outcome.hash, height, events: on_lane.cloned().collect() });
    }
    Ok(Json(Claims { transactions, total }))
}
