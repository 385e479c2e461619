//! The settings of the engine's parts: names of what is stored, sizes, and times.
//!
//! Names and section sizes are part of the format on disk; times and mailboxes are not.

use crate::{
    app::App,
    block::Block,
    pool::Pool,
    state::{self, Env, IoSizes, NoPeerState},
    wiring::Timing,
};
use commonware_broadcast::buffered;
use commonware_consensus::{
    CertifiableAutomaton, Relay, Reporter,
    marshal::{
        self, Start,
        core::{Floor as ProcessedFloor, Mailbox as Marshal},
        resolver::p2p as marshal_resolver,
        standard::Standard,
    },
    simplex::{
        self, SkipBudget,
        config::{Floor, ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
        types::Activity,
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{
    Digested, Sha256, certificate::ConstantProvider, ed25519::PublicKey, sha256::Digest,
};
use commonware_glue::stateful::{self, SyncPlan, db::SyncEngineConfig};
use commonware_p2p::{Blocker, Provider};
use commonware_parallel::Rayon;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_utils::{NZDuration, NZU64, NZUsize};
use gristmill_proof::{ConsensusContext, Scheme};
use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// The committee never changes yet, so the first epoch does not end.
const EPOCH_LENGTH: NonZeroU64 = NZU64!(u64::MAX);
const MAILBOX: NonZeroUsize = NZUsize!(128);
/// Blocks that marshal delivers ahead of their acknowledgement.
const PENDING_BLOCKS: NonZeroUsize = NZUsize!(16);
/// Views behind the last final one that stay in memory and in the journal.
const VIEWS_KEPT: ViewDelta = ViewDelta::new(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const FETCH_RETRY: Duration = Duration::from_millis(100);

/// How heights make epochs.
pub(crate) const fn epocher() -> FixedEpocher {
    FixedEpocher::new(EPOCH_LENGTH)
}

/// What all parts share.
pub(crate) struct Settings {
    /// In front of the names of everything that is stored.
    pub(crate) prefix: String,
    /// Buffers and caches.
    pub(crate) io: IoSizes,
    /// The page cache, one for all.
    pub(crate) cache: CacheRef,
    /// Spreads work over cores.
    pub(crate) strategy: Rayon,
}

/// The engine's settings with these callbacks.
pub(crate) type EngineSettings<B, A, R, F> =
    simplex::Config<Scheme, RoundRobin<Sha256>, B, Digest, A, R, F, Rayon>;

impl Settings {
    /// Fetching blocks and certificates that are missing.
    pub(crate) fn resolver<P, B>(
        me: &PublicKey,
        peers: &P,
        blocker: &B,
    ) -> marshal_resolver::Config<PublicKey, P, B>
    where
        P: Provider<PublicKey = PublicKey> + Clone,
        B: Blocker<PublicKey = PublicKey> + Clone,
    {
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: peers.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_RETRY,
            priority_requests: false,
            priority_responses: false,
        }
    }

    /// Spreading new blocks.
    pub(crate) fn broadcast<P>(&self, me: &PublicKey, peers: &P) -> buffered::Config<PublicKey, (), P, Rayon>
    where
        P: Provider<PublicKey = PublicKey> + Clone,
    {
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 10,
            priority: false,
            codec_config: (),
            peer_provider: peers.clone(),
            strategy: self.strategy.clone(),
        }
    }

    /// Keeping and ordering blocks.
    pub(crate) fn marshal(
        &self,
        scheme: &Scheme,
        start: Start<Scheme, Digest, Digested<Block>>,
    ) -> marshal::Config<ConstantProvider<Scheme, Epoch>, FixedEpocher, Rayon, Block, Digested<Block>> {
        marshal::Config {
            provider: ConstantProvider::new(scheme.clone()),
            epocher: epocher(),
            start,
            partition_prefix: self.prefix.clone(),
            mailbox_size: MAILBOX,
            view_retention: VIEWS_KEPT,
            prunable_items_per_section: NZU64!(1_024),
            page_cache: self.cache.clone(),
            replay_buffer: self.io.buffer,
            key_write_buffer: self.io.buffer,
            value_write_buffer: self.io.buffer,
            block_codec_config: (),
            max_repair: NZUsize!(10),
            max_pending_acks: PENDING_BLOCKS,
            strategy: self.strategy.clone(),
        }
    }

    /// Executing blocks.
    pub(crate) fn stateful<E: Env>(
        &self,
        app: App,
        pool: Pool,
        marshal: (Marshal<Scheme, Standard<Block>>, ProcessedFloor),
        plan: SyncPlan<E, Scheme, Standard<Block>>,
    ) -> stateful::Config<E, App, Standard<Block>, NoPeerState<E>, Rayon> {
        stateful::Config {
            application: app,
            db_config: state::config(&self.prefix, self.io, &self.cache, self.strategy.clone()),
            provider: pool,
            marshal,
            mailbox_size: MAILBOX,
            plan,
            resolvers: NoPeerState::default(),
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(1_024),
                apply_batch_size: NZU64!(1_024),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: None,
            strategy: self.strategy.clone(),
        }
    }

    /// Agreeing on blocks.
    pub(crate) fn engine<B, A, R, F>(
        self,
        scheme: Scheme,
        genesis: Digest,
        timing: Timing,
        blocker: B,
        (automaton, relay, reporter): (A, R, F),
    ) -> EngineSettings<B, A, R, F>
    where
        B: Blocker<PublicKey = PublicKey>,
        A: CertifiableAutomaton<Context = ConsensusContext, Digest = Digest>,
        R: Relay,
        F: Reporter<Activity = Activity<Scheme, Digest>>,
    {
        simplex::Config {
            scheme,
            elector: RoundRobin::default(),
            blocker,
            automaton,
            relay,
            reporter,
            strategy: self.strategy,
            partition: format!("{}-simplex", self.prefix),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: Floor::Genesis(genesis),
            replay_buffer: self.io.buffer,
            write_buffer: self.io.buffer,
            page_cache: self.cache,
            leader_timeout: timing.leader,
            certification_timeout: timing.certification,
            timeout_retry: Duration::from_millis(500),
            view_retention: VIEWS_KEPT,
            skip: SkipPolicy::Enabled { timeout: timing.certification * 3, budget: SkipBudget::Participants },
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_TIMEOUT,
            forward: ForwardPolicy::Disabled,
            track_historical_votes: false,
        }
    }
}
