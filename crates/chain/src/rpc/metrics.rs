//! `GET /metrics`: our counts, then those of the consensus engine.

use super::{MAX_FOLLOWERS, Rpc};
use crate::metrics::{Snapshot, bytes_in};
use axum::{
    extract::{Request, State},
    response::Response,
};

pub(super) async fn metrics(State(rpc): State<Rpc>, request: Request) -> Response {
    if !gristmill_metrics::is_local(request.extensions()) {
        return gristmill_metrics::refuse();
    }
    let inner = &rpc.0;
    let folder = inner.folder.clone();
    let finality = inner.reader.finality(inner.view.head().height).await;
    let snapshot = Snapshot {
        followers: MAX_FOLLOWERS.saturating_sub(inner.followers.available_permits()),
        signers: finality.ok().flatten().map(|of| of.certificate.certificate.signers.count()),
        bytes: tokio::task::spawn_blocking(move || bytes_in(&folder)).await.unwrap_or_default(),
    };
    let mut text = inner.metrics.text(&inner.view, &inner.pool, &snapshot);
    if let Ok(engine) = inner.reader.engine_metrics().await {
        text.push_str(engine.trim_end().trim_end_matches("# EOF"));
    }
    gristmill_metrics::answer(text)
}
