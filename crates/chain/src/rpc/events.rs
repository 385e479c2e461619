//! The stream of what final blocks did.

use super::{
    Rpc,
    error::{Query, RpcError},
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use gristmill_client::schema::{BlockEvent, BlockEvents, ErrorBody, EventsQuestion};
use std::convert::Infallible;
use tokio::sync::OwnedSemaphorePermit;

/// Where a follower is.
struct Follower {
    rpc: Rpc,
    next: u64,
    _permit: OwnedSemaphorePermit,
}

/// Follow what final blocks do, as server-sent events.
///
/// One event `block` per block, in order and without gaps; its id is the height, its data a
/// `BlockEvents`. A block appears when it is final and durable.
#[utoipa::path(
    get, path = "/v1/events", tag = "ledger", params(EventsQuestion),
    responses(
        (status = 200, description = "A stream of `block` events", body = BlockEvent, content_type = "text/event-stream"),
        (status = 400, description = "Not a height", body = ErrorBody),
        (status = 503, description = "Too many followers", body = ErrorBody),
    )
)]
pub(super) async fn events(
    State(rpc): State<Rpc>,
    Query(question): Query<EventsQuestion>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, RpcError> {
    let last = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            let id = value.to_str().ok().and_then(|id| id.trim().parse::<u64>().ok());
            Some(id.ok_or_else(|| RpcError::bad_request("`Last-Event-ID` is not a height"))?)
        }
    };
    let head = rpc.0.view.head().height;
    let next = last.or(question.from.map(|from| from.saturating_sub(1))).unwrap_or(head).saturating_add(1);
    let permit = rpc.0.followers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| RpcError::busy("too many clients follow events"))?;
    let follower = Follower { rpc, next, _permit: permit };
    let stream = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Follower {
    /// The next block's event; `None` ends the stream, and the client resumes.
    async fn next(&mut self) -> Option<Event> {
        let mut head = self.rpc.0.view.follow();
        let mut stopping = self.rpc.0.stopping.clone();
        tokio::select! {
            reached = head.wait_for(|head| head.height >= self.next) => {
                reached.ok()?;
            }
            _ = stopping.wait_for(|stop| *stop) => return None,
        }
        let applied = match self.rpc.0.reader.applied(self.next).await {
            Ok(applied) => applied?,
            Err(error) => {
                tracing::warn!(%error, height = self.next, "an event stream ends early");
                return None;
            }
        };
        self.next += 1;
        let events = BlockEvents {
            height: applied.height,
            block: applied.hash,
            time_ms: applied.time_ms,
            clock_ms: applied.clock_ms,
            outcomes: applied.outcomes.clone(),
        };
        Event::default().event("block").id(applied.height.to_string()).json_data(events).ok()
    }
}
