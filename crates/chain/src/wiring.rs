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
    app::{App, Headers, now},
    block::Block,
    index::{Index, archive_config},
    metrics::Metrics,
    on_demand::OnDemand,
    own_votes::{OwnVotes, Recall, Votes},
    pool::Pool,
    publish::{BACKLOG, Publisher, Tee},
    query::{Reader, Sources, serve},
    restore::restore,
    settings::{Settings, epocher},
    state::{Databases, Env, IoSizes},
    view::View,
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
    simplex,
};
use commonware_cryptography::{
    Digested, Digestible as _, Signer as _, certificate::Verifier as _, ed25519, sha256::Digest,
};
use commonware_glue::stateful::{self, Stateful, SyncPlan, db::DatabaseSet as _};
use commonware_p2p::{Blocker, Provider, Receiver, Sender, max_message_size};
use commonware_runtime::{Handle, Quota};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::NZU32;
use gristmill_ledger::{Audit, Genesis};
use gristmill_proof::{Certificate, Header, Scheme, Trust};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Channels of the network that a validator uses: votes, certificates, missing certificates,
/// missing blocks, new blocks.
pub(crate) const CHANNELS: u64 = 5;

/// Messages per second that a peer may send on a channel.
pub(crate) const QUOTA: Quota = Quota::per_second(NZU32!(4_096));

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
    /// What is counted.
    pub metrics: Metrics,
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
    /// Blocks whose outcomes were missing and were computed again.
    #[cfg_attr(test, allow(dead_code))]
    pub recomputed: u64,
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
    let Setup { key, genesis, trust, peers, blocker, prefix, io, timing, pool, metrics, cores } = setup;
    let me = key.public_key();
    let scheme = Scheme::signer(trust.chain().as_bytes(), trust.committee().keys().clone(), key)
        .expect("the caller checked that the key is a validator's");
    let settings = Settings { prefix, io, cache: io.cache(), strategy: env.strategy(cores) };
    let [votes, certificates, fetch, backfill, broadcast] =
        <[_; 5]>::try_from(channels).unwrap_or_else(|_| panic!("a validator has {CHANNELS} channels"));

    let resolver_settings = Settings::resolver(&me, &peers, &blocker);
    let resolver = marshal_resolver::init(env.child("marshal_resolver"), resolver_settings, backfill);
    let (dissemination, buffer) =
        buffered::Engine::new(env.child("broadcast"), settings.broadcast(&me, &peers));
    dissemination.start(broadcast);

    let genesis_block = genesis_block::<E>(&genesis, &trust);
    let genesis_digest = genesis_block.digest();
    // Every validator executes every block from the beginning; copying a peer's state instead comes
    // with followers.
    let plan = SyncPlan::init(env.child("plan"), settings.prefix.clone()).await;
    let start = plan.marshal_start(Digested::precomputed(genesis_block.clone(), genesis_digest));
    let (finalizations, blocks) = archives(&env, &settings).await;
    let (marshal_actor, marshal, floor) = MarshalActor::<_, Standard<Block>, _, _, _, _, _>::init(
        env.child("marshal"),
        finalizations,
        blocks,
        settings.marshal(&scheme, start),
    )
    .await;

    let headers = Headers::default();
    let (applied_sender, applied) = mpsc::channel(BACKLOG);
    let (delivery_sender, deliveries) = mpsc::channel(BACKLOG);
    let app = App::new(
        genesis.clone(),
        genesis_block.clone(),
        headers.clone(),
        (pool.clone(), metrics.clone()),
        applied_sender,
        settings.strategy.clone(),
    );
    let (stateful_actor, stateful) = Stateful::new(
        env.child("stateful"),
        settings.stateful(app.clone(), pool.clone(), (marshal.clone(), floor), plan),
    );
    let deferred = Deferred::new(env.child("deferred"), stateful.clone(), marshal.clone(), epocher());
    marshal_actor.start(wrap(Tee::new(stateful.clone(), delivery_sender)), buffer, resolver);
    stateful_actor.start();

    let index = Index::open(env.child("outcomes"), &settings.prefix, io, &settings.cache)
        .await
        .expect("the index of outcomes cannot be opened");
    let databases = stateful.subscribe_databases().await;
    let sources = Sources { databases, marshal: marshal.clone(), index: index.clone(), headers };
    let (view, audit, recomputed) = restore(&sources, &genesis_block, &genesis).await;
    metrics.scanned(view.head().height, &audit);
    let publisher = Publisher { index, view: view.clone(), pool: pool.clone(), metrics, deliveries, applied };
    let reader = attend(&env, publisher, sources.clone());

    let gate = OnDemand::new(
        env.child("on_demand"),
        deferred.clone(),
        app,
        marshal,
        (pool, view.clone()),
        timing.idle,
    );
    let own_votes = Votes::new();
    let reporter = Recall::new(deferred.clone(), own_votes.clone());
    let votes = (votes.0, OwnVotes::new(env.child("own_votes"), votes.1, me, own_votes));
    let engine_settings =
        settings.engine(scheme, genesis_digest, timing, blocker, (gate, deferred, reporter));
    // The engine owns the root context: aborting its handle aborts every child started above.
    let engine = simplex::Engine::new(env, engine_settings).start(votes, certificates, fetch);
    Validator { engine, sources, view, reader, audit, recomputed }
}

type Finalizations<E> = prunable::Archive<EightCap, E, Digest, Certificate>;
type Blocks<E> = prunable::Archive<EightCap, E, Digest, Arc<Block>>;

/// Opens the archives of certificates and blocks, which keep everything.
async fn archives<E: Env>(env: &E, settings: &Settings) -> (Finalizations<E>, Blocks<E>) {
    let Settings { prefix, io, cache, .. } = settings;
    let codec = Scheme::certificate_codec_config_unbounded();
    let config = archive_config(prefix, "finalizations", *io, cache, codec);
    let finalizations = prunable::Archive::init(env.child("finalizations"), config)
        .await
        .expect("the archive of certificates cannot be opened");
    let config = archive_config(prefix, "blocks", *io, cache, ());
    let blocks = prunable::Archive::init(env.child("blocks"), config)
        .await
        .expect("the archive of blocks cannot be opened");
    (finalizations, blocks)
}

/// Starts what serves the outside: publishing, answering questions, giving up late transactions.
fn attend<E: Env>(env: &E, publisher: Publisher<E>, sources: Sources<E>) -> Reader {
    let (reader, queries) = Reader::new(publisher.view.clone());
    env.child("queries").spawn(move |env| serve(env, sources, queries));
    let pool = publisher.pool.clone();
    env.child("expiry").spawn(move |env| async move {
        loop {
            env.sleep(Duration::from_secs(1)).await;
            pool.expire(now(&env));
        }
    });
    env.child("publisher").spawn(move |_| publisher.run());
    reader
}
