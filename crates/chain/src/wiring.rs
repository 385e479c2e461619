//! Wires one validator: consensus, dissemination, state, index, and what stands between them.
//!
//! ```text
//! p2p ── broadcast, resolver ── marshal ── Tee ── Stateful(App) ── state database
//!                                  │        └── Publisher ── index, view, submitters
//!        OwnVotes ──── simplex ── OnDemand ── Deferred
//! ```
//!
//! The same wiring runs on the tokio runtime over authenticated TCP and, in tests, on the
//! deterministic runtime over a simulated network; one validator or many. The order below matters:
//! the network runs before this is called; marshal starts before the engine; nothing is published
//! before the scan at start is done.

use crate::{
    app::{App, Headers, block_hash, now},
    block::Block,
    catalog::Catalog,
    index::{Index, archive_config},
    on_demand::OnDemand,
    own_votes::{OwnVotes, Recall, Votes},
    pool::Pool,
    publish::{BACKLOG, Publisher, Tee},
    query::{Queries, Reader, Sources, serve},
    state::{self, Databases, Env, IoSizes, NoPeerState},
    view::{Head, View},
};
use commonware_broadcast::buffered;
use commonware_consensus::{
    Reporter,
    marshal::{
        self,
        core::Actor as MarshalActor,
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{
        self, SkipBudget,
        config::{Floor, ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
    },
    types::{Epoch, FixedEpocher, Height, ViewDelta},
};
use commonware_cryptography::{
    Digested, Digestible as _, Sha256, Signer as _, certificate::ConstantProvider,
    certificate::Verifier as _, ed25519, sha256::Digest,
};
use commonware_glue::stateful::{
    self, Config as StatefulConfig, Stateful, SyncPlan,
    db::{DatabaseSet as _, SyncEngineConfig},
};
use commonware_p2p::{Blocker, Provider, Receiver, Sender, max_message_size};
use commonware_runtime::{Handle, Quota};
use commonware_storage::archive::prunable;
use commonware_utils::{NZDuration, NZU32, NZU64, NZUsize};
use futures::{StreamExt as _, pin_mut};
use gristmill_ledger::{Audit, Genesis, Record, scan};
use gristmill_proof::{Header, Key, Scheme, Trust, Value};
use gristmill_types::{BlockHash, decode};
use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// Channels of the network that a validator uses: votes, certificates, missing certificates,
/// missing blocks, new blocks.
pub(crate) const CHANNELS: u64 = 5;

/// Messages per second that a peer may send on a channel.
pub(crate) const QUOTA: Quota = Quota::per_second(NZU32!(4_096));

/// The committee never changes yet, so the first epoch does not end.
const EPOCH_LENGTH: NonZeroU64 = NZU64!(u64::MAX);
const MAILBOX: NonZeroUsize = NZUsize!(128);
/// Blocks that marshal delivers ahead of their acknowledgement.
const PENDING_BLOCKS: NonZeroUsize = NZUsize!(16);

/// When to wait and when to give up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a leader without work waits before it makes an empty block.
    pub idle: Duration,
    /// How long a view waits for its leader's block.
    pub leader: Duration,
    /// How long a view waits for its certificate.
    pub certification: Duration,
}

impl Timing {
    /// For a committee of this size. Alone, there is nobody to show a heartbeat.
    pub(crate) const fn of(validators: usize) -> Self {
        let idle = if validators == 1 { Duration::from_hours(6) } else { Duration::from_secs(3) };
        Self::idle(idle)
    }

    /// With this idle time.
    pub(crate) const fn idle(idle: Duration) -> Self {
        Self {
            idle,
            leader: idle.saturating_add(Duration::from_secs(2)),
            certification: idle.saturating_add(Duration::from_secs(4)),
        }
    }
}

/// What a validator is.
pub(crate) struct Setup<P, B> {
    /// Its key, of one of the genesis' validators.
    pub key: ed25519::PrivateKey,
    /// The ledger.
    pub genesis: Arc<Genesis>,
    /// The validators.
    pub trust: Trust,
    /// Who is connected.
    pub peers: P,
    /// Whom to complain to about a peer.
    pub blocker: B,
    /// In front of the names of everything that is stored.
    pub prefix: String,
    /// Buffers and caches.
    pub io: IoSizes,
    /// When to wait.
    pub timing: Timing,
    /// Where transactions come from.
    pub pool: Pool,
    /// Cores to use.
    pub cores: NonZeroUsize,
}

/// A running validator.
pub(crate) struct Validator<E: Env> {
    /// Ends when the validator ends; aborting it aborts everything.
    pub engine: Handle<()>,
    /// What it is made of; simulations look inside.
    #[cfg_attr(not(test), allow(dead_code))]
    pub sources: Sources<E>,
    /// What is final.
    pub view: View,
    /// Reads the chain from anywhere.
    pub reader: Reader,
    /// What the scan at start found.
    pub audit: Audit,
}

/// Most bytes of a message between validators.
pub(crate) fn max_message_bytes(validators: u32) -> u32 {
    max_message_size(&[
        simplex::max_payload_size::<Scheme, Digest>(validators),
        marshal::max_payload_size::<Standard<Block>, Scheme>(validators, &()),
    ])
}

/// The block before the first, which everybody derives from the genesis.
pub(crate) fn genesis_block<E: Env>(genesis: &Genesis, trust: &Trust) -> Block {
    let target = Databases::<E>::initial_sync_targets();
    let committee = trust.committee();
    let leader = committee.keys().iter().next().cloned().expect("a committee is not empty");
    let header =
        Header::genesis(leader, &trust.chain(), genesis.time_ms, committee.hash(), target.root, target.range);
    Block::genesis(header)
}

/// Starts a validator.
///
/// # Panics
///
/// If its storage cannot be opened or is damaged, or the state does not add up. There is no going on
/// from that.
pub(crate) async fn start<E, P, B, S, R, W>(
    env: E,
    setup: Setup<P, B>,
    channels: Vec<(S, R)>,
    wrap: impl FnOnce(Tee<stateful::Mailbox<E, App>>) -> W,
) -> Validator<E>
where
    E: Env,
    P: Provider<PublicKey = ed25519::PublicKey> + Clone,
    B: Blocker<PublicKey = ed25519::PublicKey> + Clone,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
    W: Reporter<Activity = marshal::Update<Block>>,
{
    let Setup { key, genesis, trust, peers, blocker, prefix, io, timing, pool, cores } = setup;
    let me = key.public_key();
    let scheme = Scheme::signer(trust.chain().as_bytes(), trust.committee().keys().clone(), key)
        .expect("the caller checked that the key is a validator's");
    let provider = ConstantProvider::new(scheme.clone());
    let strategy = env.strategy(cores);
    let cache = io.cache();
    let [votes, certificates, fetch, backfill, broadcast] =
        <[_; 5]>::try_from(channels).unwrap_or_else(|_| panic!("a validator has {CHANNELS} channels"));

    let resolver = marshal_resolver::init(
        env.child("marshal_resolver"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: peers.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(100),
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );
    let (dissemination, buffer) = buffered::Engine::new(
        env.child("broadcast"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: 10,
            priority: false,
            codec_config: (),
            peer_provider: peers.clone(),
            strategy: strategy.clone(),
        },
    );
    dissemination.start(broadcast);

    let genesis_block = genesis_block::<E>(&genesis, &trust);
    let genesis_digest = genesis_block.digest();
    // Every validator executes every block from the beginning; copying a peer's state instead comes
    // with followers.
    let plan = SyncPlan::init(env.child("plan"), prefix.clone()).await;
    let certificate_codec = Scheme::certificate_codec_config_unbounded();
    let finalizations = prunable::Archive::init(
        env.child("finalizations"),
        archive_config(&prefix, "finalizations", io, &cache, certificate_codec),
    )
    .await
    .expect("the archive of certificates cannot be opened");
    let blocks =
        prunable::Archive::init(env.child("blocks"), archive_config(&prefix, "blocks", io, &cache, ()))
            .await
            .expect("the archive of blocks cannot be opened");
    let (marshal_actor, marshal, floor) = MarshalActor::<_, Standard<Block>, _, _, _, _, _>::init(
        env.child("marshal"),
        finalizations,
        blocks,
        marshal::Config {
            provider: provider.clone(),
            epocher: FixedEpocher::new(EPOCH_LENGTH),
            start: plan.marshal_start(Digested::precomputed(genesis_block.clone(), genesis_digest)),
            partition_prefix: prefix.clone(),
            mailbox_size: MAILBOX,
            view_retention: ViewDelta::new(10),
            prunable_items_per_section: NZU64!(1_024),
            page_cache: cache.clone(),
            replay_buffer: io.buffer,
            key_write_buffer: io.buffer,
            value_write_buffer: io.buffer,
            block_codec_config: (),
            max_repair: NZUsize!(10),
            max_pending_acks: PENDING_BLOCKS,
            strategy: strategy.clone(),
        },
    )
    .await;

    let headers = Headers::default();
    let (applied_sender, applied) = mpsc::channel(BACKLOG);
    let (delivery_sender, deliveries) = mpsc::channel(BACKLOG);
    let app = App::new(
        genesis,
        genesis_block.clone(),
        headers.clone(),
        pool.clone(),
        applied_sender,
        strategy.clone(),
    );
    let (stateful_actor, stateful) = Stateful::new(
        env.child("stateful"),
        StatefulConfig {
            application: app.clone(),
            db_config: state::config(&prefix, io, &cache, strategy.clone()),
            provider: pool.clone(),
            marshal: (marshal.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: NoPeerState::default(),
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(1_024),
                apply_batch_size: NZU64!(1_024),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: None,
            strategy: strategy.clone(),
        },
    );
    let deferred = Deferred::new(
        env.child("deferred"),
        stateful.clone(),
        marshal.clone(),
        FixedEpocher::new(EPOCH_LENGTH),
    );
    marshal_actor.start(wrap(Tee::new(stateful.clone(), delivery_sender)), buffer, resolver);
    stateful_actor.start();

    let index = Index::open(env.child("outcomes"), &prefix, io, &cache)
        .await
        .expect("the index of outcomes cannot be opened");
    let databases = stateful.subscribe_databases().await;
    let sources =
        Sources { databases: databases.clone(), marshal: marshal.clone(), index: index.clone(), headers };
    let (view, audit) = restore(&sources, &genesis_block).await;
    assert!(
        audit.adds_up(),
        "the stored state does not add up: {}; restore the data folder from a backup or another node",
        audit.faults.first().map_or("an issuer's parts differ from its total", String::as_str)
    );
    let publisher = Publisher { index, view: view.clone(), pool: pool.clone(), deliveries, applied };
    env.child("publisher").spawn(move |_| publisher.run());
    let (reader, queries): (Reader, Queries) = Reader::new(view.clone());
    env.child("queries").spawn({
        let sources = sources.clone();
        move |env| serve(env, sources, queries)
    });

    env.child("expiry").spawn({
        let pool = pool.clone();
        move |env| async move {
            loop {
                env.sleep(Duration::from_secs(1)).await;
                pool.expire(now(&env));
            }
        }
    });

    let gate = OnDemand::new(
        env.child("on_demand"),
        deferred.clone(),
        app,
        marshal.clone(),
        (pool, view.clone()),
        timing.idle,
    );
    let own_votes = Votes::new();
    let reporter = Recall::new(deferred.clone(), own_votes.clone());
    let votes = (votes.0, OwnVotes::new(env.child("own_votes"), votes.1, me, own_votes));
    // The engine owns the root context: aborting its handle aborts every child started above.
    let engine = simplex::Engine::new(
        env,
        simplex::Config {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker,
            automaton: gate,
            relay: deferred,
            reporter,
            strategy,
            partition: format!("{prefix}-simplex"),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: Floor::Genesis(genesis_digest),
            replay_buffer: io.buffer,
            write_buffer: io.buffer,
            page_cache: cache,
            leader_timeout: timing.leader,
            certification_timeout: timing.certification,
            timeout_retry: Duration::from_millis(500),
            view_retention: ViewDelta::new(10),
            skip: SkipPolicy::Enabled { timeout: timing.certification * 3, budget: SkipBudget::Participants },
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_secs(2),
            forward: ForwardPolicy::Disabled,
            track_historical_votes: false,
        },
    );
    let engine = engine.start(votes, certificates, fetch);
    Validator { engine, sources, view, reader, audit }
}

/// Builds the view from what is stored, and audits the state on the way.
async fn restore<E: Env>(sources: &Sources<E>, genesis: &Block) -> (View, Audit) {
    let processed = sources.marshal.get_processed().await.map_or(0, |processed| processed.height().get());
    let header = if processed == 0 {
        genesis.header.clone()
    } else {
        let block = sources.marshal.get_block(Height::new(processed)).await;
        block.expect("marshal keeps every block").inner().header.clone()
    };
    sources.headers.push(header.clone());
    let head = Head {
        height: processed,
        hash: block_hash(&header.digest()),
        time_ms: header.time_ms,
        clock_ms: header.clock_ms,
    };
    let view = View::new(head);
    for height in 1..=processed {
        let unknown = BlockHash::new([0; 32]);
        match sources.index.get(height, unknown).await.expect("the index of outcomes is damaged") {
            Some(applied) => view.learn(&applied),
            None => tracing::warn!(
                height,
                "the outcomes of a block are missing; its transactions cannot be found"
            ),
        }
    }
    let mut catalog = Catalog::default();
    let mut records = Vec::new();
    {
        let database = sources.databases.read().await;
        let stream = database.stream_range(..);
        pin_mut!(stream);
        while let Some(entry) = stream.next().await {
            let (_, value): (Key, Value) = entry.expect("the state cannot be read");
            let record = decode::<Record>(&value).expect("a state value is not a record");
            catalog.insert(record.clone());
            records.push(record);
        }
    }
    let audit = scan(records);
    view.restore(head, catalog);
    (view, audit)
}
