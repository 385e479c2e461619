//! Blocks by height, by hash, or the latest.

use super::{
    Rpc,
    error::{Path, RpcError},
};
use crate::{block::Tx, query::BlockId};
use axum::{Json, extract::State};
use gristmill_client::schema::{BlockInfo, ErrorBody};
use gristmill_types::{BlockHash, Digest};
use std::str::FromStr;

/// What a path may name a block by.
pub(super) enum Name {
    Id(BlockId),
    Latest,
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let height = text.parse::<u64>().map(BlockId::Height).ok();
        let hash = || text.parse::<BlockHash>().map(BlockId::Hash).ok();
        height.or_else(hash).map(Self::Id).ok_or("a block is named by its height, its hash, or `latest`")
    }
}

/// Read a final block.
#[utoipa::path(
    get, path = "/v1/blocks/{id}", tag = "blocks",
    params(("id" = String, Path, description = "A height, a hash, or `latest`", pattern = "^(latest|[0-9]{1,20}|[0-9a-f]{64})$")),
    responses(
        (status = 200, description = "The block, with its certificate", body = BlockInfo),
        (status = 400, description = "Not a height or a hash", body = ErrorBody),
        (status = 404, description = "No such final block", body = ErrorBody),
    )
)]
pub(super) async fn block(
    State(rpc): State<Rpc>,
    Path(name): Path<Name>,
) -> Result<Json<BlockInfo>, RpcError> {
    let head = rpc.0.view.head().height;
    let id = match name {
        Name::Id(id) => id,
        Name::Latest => BlockId::Height(head),
    };
    let block = rpc.0.reader.block(id).await?;
    let published = block.filter(|block| (1..=head).contains(&block.header.height.get()));
    let block = published.ok_or_else(|| RpcError::not_found("this block"))?;
    let header = &block.header;
    let finality = rpc.0.reader.finality(header.height.get()).await?;
    let finality = finality.ok_or_else(|| RpcError::busy("the block's certificate is not stored yet"))?;
    Ok(Json(BlockInfo {
        hash: header.hash(),
        height: header.height.get(),
        parent: header.parent_hash(),
        time_ms: header.time_ms,
        clock_ms: header.clock_ms,
        epoch: header.epoch(),
        next_committee: Digest::new(header.next_committee.0),
        body_root: Digest::new(header.body_root.0),
        state_root: Digest::new(header.state_root.0),
        transactions: block.body.iter().map(Tx::hash).collect(),
        finality: hex::encode(finality.to_bytes()),
    }))
}
