//! The RPC server: JSON over HTTP, described by an OpenAPI document.
//!
//! One file per group of routes. Everything a caller can send is bounded: bodies, keys in a
//! question, pages, waiting times, followers. Nothing here decides anything: submissions go to
//! [admission](crate::admission), questions to the [reader](crate::query), listings to the
//! [view](crate::view).

mod blocks;
mod error;
mod events;
mod listings;
mod metrics;
mod openapi;
mod state;
mod transactions;

pub use openapi::document;

use crate::{admission::Admission, metrics::Metrics, pool::Pool, query::Reader, view::View};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use error::RpcError;
use gristmill_ledger::{Genesis, params::MAX_TX_BYTES};
use gristmill_metrics::Answers;
use gristmill_types::ChainId;
use std::{path::PathBuf, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// Bytes of a request body at most: a transaction in hexadecimal and the JSON around it.
const MAX_BODY: usize = 2 * MAX_TX_BYTES + 1_024;
/// Submissions that wait for finality at once.
const MAX_WAITING: usize = 65_536;
/// Event streams at once.
const MAX_FOLLOWERS: usize = 1_024;

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Rpc(Arc<Inner>);

struct Inner {
    genesis: Arc<Genesis>,
    chain: ChainId,
    admission: Admission,
    reader: Reader,
    view: View,
    pool: Pool,
    metrics: Metrics,
    folder: PathBuf,
    stopping: watch::Receiver<bool>,
    waiting: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    supply: tokio::sync::Mutex<Option<listings::CountedSupply>>,
}

impl Rpc {
    /// The routes' state.
    pub(crate) fn new(
        genesis: Arc<Genesis>,
        admission: Admission,
        reader: Reader,
        view: View,
        pool: Pool,
        (metrics, folder): (Metrics, PathBuf),
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let chain = genesis.chain_id();
        Self(Arc::new(Inner {
            genesis,
            chain,
            admission,
            reader,
            view,
            pool,
            metrics,
            folder,
            stopping,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            supply: tokio::sync::Mutex::new(None),
        }))
    }
}

/// All routes.
pub(crate) fn router(rpc: Rpc) -> Router {
    let answers = rpc.0.metrics.answers();
    Router::new()
        .route("/v1/transactions", post(transactions::submit))
        .route("/v1/transactions/{hash}", get(transactions::lookup))
        .route("/v1/blocks/{id}", get(blocks::block))
        .route("/v1/state", get(state::state))
        .route("/v1/accounts/{id}", get(state::account))
        .route("/v1/channels/{id}", get(state::channel))
        .route("/v1/channels/{id}/claims", get(state::claims))
        .route("/v1/models", get(listings::models))
        .route("/v1/lines/{id}/holders", get(listings::holders))
        .route("/v1/offers", get(listings::offers))
        .route("/v1/processors", get(listings::processors))
        .route("/v1/supply", get(listings::supply))
        .route("/v1/status", get(listings::status))
        .route("/v1/genesis", get(listings::genesis))
        .route("/v1/events", get(events::events))
        .route("/openapi.json", get(openapi::serve))
        .route("/metrics", get(metrics::metrics))
        .fallback(|| async { RpcError::no_route() })
        .method_not_allowed_fallback(|| async { RpcError::wrong_method() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(answers, Answers::count))
        .with_state(rpc)
}

/// Serves until told to stop; requests in flight have some seconds to be answered.
pub(crate) async fn serve(listener: TcpListener, rpc: Rpc, mut stopping: watch::Receiver<bool>) {
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    gristmill_net::serve(listener, router(rpc), stopped).await;
}
