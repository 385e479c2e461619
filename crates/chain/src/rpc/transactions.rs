//! Submitting transactions and looking them up.

use super::{
    Rpc,
    error::{Path, Query, RpcError},
};
use crate::{
    index::Applied,
    pool::{Final, Refusal},
    query::BlockId,
};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use gristmill_client::schema::{
    ErrorBody, Inclusion, InclusionProof, LookupOptions, Submission, SubmitOptions, TransactionState,
    TransactionStatus, Wait,
};
use gristmill_proof::BodyProof;
use gristmill_types::TxHash;
use std::{sync::Arc, time::Duration};

/// The longest that a submission waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Submit a signed transaction.
///
/// Submitting the same bytes again is harmless, at any time: it answers with what became of them.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "transactions", params(SubmitOptions), request_body = Submission,
    responses(
        (status = 200, description = "Final and durable", body = TransactionStatus),
        (status = 202, description = "In the mempool", body = TransactionStatus),
        (status = 400, description = "Malformed, or not signed by its sender", body = ErrorBody),
        (status = 402, description = "The sender cannot pay the fee", body = ErrorBody),
        (status = 409, description = "Not the sender's next nonce", body = ErrorBody),
        (status = 413, description = "Too long", body = ErrorBody),
        (status = 429, description = "The mempool is full", body = ErrorBody),
        (status = 503, description = "The node is busy or stopping", body = ErrorBody),
    )
)]
pub(super) async fn submit(
    State(rpc): State<Rpc>,
    Query(options): Query<SubmitOptions>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TransactionStatus>), RpcError> {
    let submission: Submission = serde_json::from_slice(&body?)
        .map_err(|error| RpcError::bad_request(format!("the body is not a submission: {error}")))?;
    let bytes = hex::decode(&submission.tx)
        .map_err(|error| RpcError::bad_request(format!("`tx` is not hexadecimal: {error}")))?;
    let refused = |refusal: Refusal| {
        rpc.0.metrics.refused(refusal.code());
        RpcError::from(refusal)
    };
    let tx = rpc.0.admission.read(bytes.into()).map_err(refused)?;
    let hash = tx.hash();
    if let Some(status) = final_status(&rpc, &hash).await? {
        return Ok((StatusCode::OK, Json(status)));
    }
    let permit = rpc.0.waiting.clone().try_acquire_owned();
    let _permit = permit.map_err(|_| RpcError::busy("too many submissions are waiting"))?;
    let mut answer = rpc.0.admission.submit(tx).map_err(refused)?;
    let waiting = TransactionStatus { hash, state: TransactionState::Waiting, inclusion: None };
    let answered = match options.wait {
        Wait::Final => tokio::time::timeout(LONGEST_WAIT, &mut answer).await.ok(),
        // Long enough to learn of a bad signature or a full pool, short enough not to wait for a block.
        Wait::Accepted => accepted(&rpc, &hash, &mut answer).await,
    };
    match answered {
        Some(Ok(Ok(settled))) => Ok((StatusCode::OK, Json(settled_status(hash, &settled)))),
        // It may have become final between the look above and now.
        Some(Ok(Err(refusal))) => match final_status(&rpc, &hash).await? {
            Some(status) => Ok((StatusCode::OK, Json(status))),
            None => Err(refused(refusal)),
        },
        Some(Err(_)) => Err(Refusal::Stopping.into()),
        None => Ok((StatusCode::ACCEPTED, Json(waiting))),
    }
}

type Answered = Result<crate::pool::Answer, tokio::sync::oneshot::error::RecvError>;

/// Waits until the transaction is in the pool or has been answered.
async fn accepted(
    rpc: &Rpc,
    hash: &TxHash,
    answer: &mut tokio::sync::oneshot::Receiver<crate::pool::Answer>,
) -> Option<Answered> {
    const STEP: Duration = Duration::from_millis(2);
    for _ in 0..(LONGEST_WAIT.as_millis() / STEP.as_millis()) {
        if let Ok(answered) = tokio::time::timeout(STEP, &mut *answer).await {
            return Some(answered);
        }
        if rpc.0.pool.knows(hash) {
            return None;
        }
    }
    None
}

fn settled_status(hash: TxHash, settled: &Arc<Final>) -> TransactionStatus {
    let inclusion = Inclusion {
        height: settled.height,
        block: settled.block,
        position: settled.position,
        outcome: settled.outcome.clone(),
        tx: None,
        proof: None,
    };
    TransactionStatus { hash, state: TransactionState::Final, inclusion: Some(inclusion) }
}

async fn final_status(rpc: &Rpc, hash: &TxHash) -> Result<Option<TransactionStatus>, RpcError> {
    let Some((applied, position)) = rpc.0.reader.find(hash).await? else { return Ok(None) };
    Ok(inclusion(&applied, position).map(|inclusion| TransactionStatus {
        hash: *hash,
        state: TransactionState::Final,
        inclusion: Some(inclusion),
    }))
}

fn inclusion(applied: &Applied, position: u32) -> Option<Inclusion> {
    let outcome = applied.outcomes.get(usize::try_from(position).ok()?)?.clone();
    Some(Inclusion { height: applied.height, block: applied.hash, position, outcome, tx: None, proof: None })
}

/// Look a transaction up by its hash.
#[utoipa::path(
    get, path = "/v1/transactions/{hash}", tag = "transactions",
    params(("hash" = String, Path, description = "The transaction's hash", pattern = "^[0-9a-f]{64}$"), LookupOptions),
    responses(
        (status = 200, description = "What is known of it", body = TransactionStatus),
        (status = 400, description = "Not a hash", body = ErrorBody),
        (status = 404, description = "Not known", body = ErrorBody),
    )
)]
pub(super) async fn lookup(
    State(rpc): State<Rpc>,
    Path(hash): Path<TxHash>,
    Query(options): Query<LookupOptions>,
) -> Result<Json<TransactionStatus>, RpcError> {
    let Some(mut status) = final_status(&rpc, &hash).await? else {
        return if rpc.0.pool.knows(&hash) {
            Ok(Json(TransactionStatus { hash, state: TransactionState::Waiting, inclusion: None }))
        } else {
            Err(RpcError::not_found("this transaction"))
        };
    };
    if let Some(inclusion) = &mut status.inclusion {
        let block = rpc.0.reader.block(BlockId::Height(inclusion.height)).await?;
        let block = block.ok_or_else(|| RpcError::internal("a block of the index is missing"))?;
        let position = usize::try_from(inclusion.position).unwrap_or(usize::MAX);
        inclusion.tx = block.body.get(position).map(|tx| hex::encode(tx.bytes()));
        if options.proof {
            let finality = rpc.0.reader.finality(inclusion.height).await?;
            let finality =
                finality.ok_or_else(|| RpcError::busy("the block's certificate is not stored yet"))?;
            let body = BodyProof::new(block.body.iter().map(crate::block::Tx::hash), inclusion.position)
                .ok_or_else(|| RpcError::internal("the transaction is not where the index says"))?;
            inclusion.proof = Some(InclusionProof {
                finality: hex::encode(finality.to_bytes()),
                body: hex::encode(body.to_bytes()),
            });
        }
    }
    Ok(Json(status))
}
