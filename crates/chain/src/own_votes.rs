//! A validator's own votes, given back to it after a restart.
//!
//! The engine journals its votes before it casts them, but after a restart it does not count those
//! of its journal: it expects the others' votes to carry it on, or the view to time out. A lone
//! validator has no others, and its views last for hours. Killed between its vote and the
//! certificate, it would sleep until then.
//!
//! While the engine replays its journal it reports the votes in it. [`Recall`] keeps those reports,
//! and [`OwnVotes`], in front of the votes that come from the network, delivers them once more as
//! what they are: this validator's signed votes. A vote that was counted is ignored, so delivering
//! one twice, or one that was not needed, changes nothing. With many validators this spares a
//! restarted network one timeout.

use crate::state::Env;
use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::{
    Reporter,
    simplex::types::{Activity, Vote},
};
use commonware_cryptography::{ed25519, sha256::Digest};
use commonware_macros::select;
use commonware_p2p::{Message, Receiver};
use commonware_runtime::IoBuf;
use gristmill_proof::Scheme;
use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// When to deliver them, after the start: the engine first has to be done with its journal.
const DELIVERIES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];

/// Votes that are kept; the journal holds a few per view of the last ten views.
const KEPT: usize = 64;

/// The votes, until the last delivery.
#[derive(Clone, Default)]
pub(crate) struct Votes(Arc<Mutex<Option<VecDeque<IoBuf>>>>);

impl Votes {
    /// An empty list that takes votes.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(VecDeque::new()))))
    }

    fn push(&self, vote: &Vote<Scheme, Digest>) {
        if let Some(votes) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            votes.push_back(vote.encode().into());
            if votes.len() > KEPT {
                votes.pop_front();
            }
        }
    }

    fn copy(&self, last: bool) -> VecDeque<IoBuf> {
        let mut votes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last { votes.take() } else { votes.clone() }.unwrap_or_default()
    }
}

/// Reports to `inner`, and keeps the votes among the reports.
#[derive(Clone)]
pub(crate) struct Recall<R> {
    inner: R,
    votes: Votes,
}

impl<R> Recall<R> {
    /// Stands in front of `inner`.
    pub(crate) const fn new(inner: R, votes: Votes) -> Self {
        Self { inner, votes }
    }
}

impl<R: Reporter<Activity = Activity<Scheme, Digest>>> Reporter for Recall<R> {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        match &activity {
            Activity::Notarize(vote) => self.votes.push(&Vote::Notarize(vote.clone())),
            Activity::Nullify(vote) => self.votes.push(&Vote::Nullify(vote.clone())),
            Activity::Finalize(vote) => self.votes.push(&Vote::Finalize(vote.clone())),
            _ => {}
        }
        self.inner.report(activity)
    }
}

/// The votes that come from the network, and at the set times this validator's own.
pub(crate) struct OwnVotes<E, R> {
    env: E,
    inner: R,
    me: ed25519::PublicKey,
    votes: Votes,
    times: VecDeque<SystemTime>,
    due: VecDeque<IoBuf>,
}

impl<E: Env, R> OwnVotes<E, R> {
    /// Stands in front of `inner`.
    pub(crate) fn new(env: E, inner: R, me: ed25519::PublicKey, votes: Votes) -> Self {
        let start = env.current();
        let times = DELIVERIES.iter().map(|delay| start + *delay).collect();
        Self { env, inner, me, votes, times, due: VecDeque::new() }
    }
}

impl<E, R: fmt::Debug> fmt::Debug for OwnVotes<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnVotes").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<E: Env, R: Receiver<PublicKey = ed25519::PublicKey>> Receiver for OwnVotes<E, R> {
    type Error = R::Error;
    type PublicKey = ed25519::PublicKey;

    async fn recv(&mut self) -> Result<Message<Self::PublicKey>, Self::Error> {
        loop {
            if let Some(vote) = self.due.pop_front() {
                return Ok((self.me.clone(), vote));
            }
            let Some(time) = self.times.front().copied() else { return self.inner.recv().await };
            select! {
                message = self.inner.recv() => return message,
                () = self.env.sleep_until(time) => {
                    self.times.pop_front();
                    self.due = self.votes.copy(self.times.is_empty());
                },
            }
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.inner.capacity()
    }
}
