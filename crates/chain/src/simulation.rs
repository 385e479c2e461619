//! The whole validator under the deterministic runtime: crashes at random points, one validator
//! and four.
//!
//! Every run is a function of its seed. A failing seed is printed; `GRISTMILL_SEED=n` replays it.

use crate::{
    app::now,
    block::{Block, Tx},
    metrics::Metrics,
    pool::{Limits, Pool},
    query::{BlockId, Reader},
    state::{Databases, IoSizes},
    view::View,
    wiring::{self, CHANNELS, QUOTA, Setup, Timing, Validator, max_message_bytes},
};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::marshal::{Identifier, core::Mailbox as Marshal, standard::Standard};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_glue::simulate::{
    action::Crash,
    engine::{EngineDefinition, InitContext},
    exit::ExitCondition,
    plan::PlanBuilder,
    processed::ProcessedHeight,
    property::Property,
    reporter::MonitorReporter,
    tracker::ProgressTracker,
};
use commonware_p2p::simulated::Link;
use commonware_runtime::{Clock as _, Handle, Quota, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{NZUsize, probability};
use gristmill_ledger::{
    Body, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params, Record, Transaction, keys,
    record::{Account, Balance, Stored as _},
    tx::Transfer,
};
use gristmill_proof::{Scheme, Trust};
use gristmill_types::{AccountId, Amount, BlockHash, SecretKey, Signed, TxHash, decode, encode};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

type PublicKey = ed25519::PublicKey;
type Env = deterministic::Context;

const START: Amount = Amount::from_credits(1_000);

fn secret(number: usize) -> SecretKey {
    SecretKey::from_seed(&[u8::try_from(number).unwrap(); 32])
}

fn account(number: usize) -> AccountId {
    secret(number).account()
}

fn issuer() -> AccountId {
    account(100)
}

fn genesis(validators: usize) -> Genesis {
    let balance = |number| GenesisBalance { account: account(number), issuer: issuer(), amount: START };
    Genesis {
        name: "simulation".into(),
        time_ms: 0,
        fee_account: account(101),
        issuers: vec![GenesisIssuer {
            account: issuer(),
            name: "issuer".into(),
            cap: Amount::from_credits(1_000_000),
            daily_limit: Amount::ZERO,
        }],
        balances: (0..validators).map(balance).collect(),
        validators: (0..validators).map(|n| GenesisValidator { key: account(n), address: None }).collect(),
        params: Params::default(),
    }
}

/// What validators reported as final, over all their lives.
#[derive(Default)]
struct Reported {
    blocks: BTreeMap<u64, BlockHash>,
    /// By validator: the highest height, and every transaction.
    heights: BTreeMap<usize, u64>,
    txs: BTreeMap<usize, Vec<TxHash>>,
}

#[derive(Clone)]
struct Definition {
    genesis: Arc<Genesis>,
    trust: Trust,
    reported: Arc<Mutex<Reported>>,
}

/// What a running validator shows to the properties. It outlives a crash, so it must not hold the
/// database, which the next life opens.
struct State {
    index: usize,
    marshal: Marshal<Scheme, Standard<Block>>,
    reader: Reader,
    view: View,
}

impl ProcessedHeight for State {
    async fn processed_height(&self) -> u64 {
        self.marshal.get_processed().await.map_or(0, |processed| processed.height().get())
    }
}

impl Definition {
    fn new(validators: usize) -> Self {
        let genesis = genesis(validators);
        let trust = Trust::from_genesis(&genesis).unwrap();
        Self { genesis: Arc::new(genesis), trust, reported: Arc::default() }
    }

    fn private_key(index: usize) -> ed25519::PrivateKey {
        ed25519::PrivateKey::decode(Copying(secret(index).to_seed().as_slice())).unwrap()
    }

    fn transfer(&self, from: usize, to: usize, nonce: u64) -> Tx {
        let body: Body =
            Transfer { to: account(to), issuer: issuer(), amount: Amount::from_grains(1) }.into();
        let (chain, sender) = (self.trust.chain(), account(from));
        let tx = Transaction { chain, sender, nonce, fee_issuer: issuer(), body };
        Tx::decode(encode(&Signed::sign(tx, &secret(from))).into()).unwrap()
    }

    /// Keeps a few transfers of the validator's own account waiting. Before them one comes that cannot pay
    /// its fee: alone it makes no block.
    async fn load(self, env: Env, index: usize, pool: Pool, databases: Databases<Env>) {
        loop {
            env.sleep(Duration::from_millis(90)).await;
            if !pool.is_empty() {
                continue;
            }
            let _ = pool.insert(self.transfer(60 + index, 0, 0), None, now(&env));
            env.sleep(Duration::from_millis(30)).await;
            let key = gristmill_proof::Key::new(*keys::account(&account(index)).as_bytes());
            let value = databases.read().await.get(&key).await.unwrap();
            let record = value.map(|bytes| decode::<Record>(&bytes).unwrap());
            let nonce = record.as_ref().and_then(Account::of).map_or(0, |account| account.nonce);
            for nonce in nonce..nonce + 5 {
                let _ = pool.insert(self.transfer(index, 50 + index, nonce), None, now(&env));
            }
        }
    }

    /// Writes down what the validator reports as final.
    async fn watch(self, index: usize, view: View) {
        let mut head = view.follow();
        let mut next = view.head().height + 1;
        while head.changed().await.is_ok() {
            let reached = head.borrow_and_update().height;
            for height in next..=reached {
                let applied = view.recent(height).expect("recent blocks are kept");
                let mut reported = self.reported.lock().unwrap();
                let known = reported.blocks.entry(height).or_insert(applied.hash);
                assert_eq!(*known, applied.hash, "two blocks of height {height} were reported as final");
                reported.heights.insert(index, height);
                let hashes = applied.outcomes.iter().map(|outcome| outcome.hash);
                reported.txs.entry(index).or_default().extend(hashes);
            }
            next = next.max(reached + 1);
        }
    }
}

impl EngineDefinition for Definition {
    type PublicKey = PublicKey;
    type Engine = Handle<()>;
    type State = State;

    fn participants(&self) -> Vec<PublicKey> {
        (0..self.genesis.validators.len()).map(|index| Self::private_key(index).public_key()).collect()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        (0..CHANNELS).map(|channel| (channel, QUOTA)).collect()
    }

    fn max_message_size(&self) -> u32 {
        max_message_bytes(u32::try_from(self.genesis.validators.len()).unwrap())
    }

    async fn init(&self, context: InitContext<'_, PublicKey>) -> (Handle<()>, State) {
        let index = context.index;
        let pool = Pool::new(Limits::default());
        let setup = Setup {
            metrics: Metrics::new(1),
            key: Self::private_key(index),
            genesis: self.genesis.clone(),
            trust: self.trust.clone(),
            peers: context.oracle.manager(),
            blocker: context.oracle.control(context.public_key.clone()),
            prefix: format!("v{index}"),
            io: IoSizes::SMALL,
            timing: Timing::idle(Duration::from_millis(500)),
            pool: pool.clone(),
            cores: NZUsize!(1),
        };
        let (key, monitor) = (context.public_key.clone(), context.monitor);
        let env = context.context.child("node");
        let (load, watch) = (env.child("load"), env.child("watch"));
        let validator: Validator<Env> =
            wiring::start(env, setup, context.channels, move |tee| MonitorReporter::new(key, monitor, tee))
                .await;
        assert!(validator.audit.adds_up(), "{:?}", validator.audit);
        let reported = self.reported.lock().unwrap().heights.get(&index).copied().unwrap_or(0);
        // The last blocks may run again, because they are reported before marshal notes that they were
        // processed. They must be there.
        let tip = validator.sources.marshal.get_info(Identifier::Latest).await;
        let found = tip.map_or(0, |(height, _)| height.get());
        tracing::info!(index, found, reported, "a validator lives");
        assert!(
            found >= reported,
            "block {reported} was reported as final, and after a restart {found} is the last"
        );

        let Validator { engine, sources, view, reader, .. } = validator;
        let (marshal, databases) = (sources.marshal, sources.databases);
        load.spawn({
            let definition = self.clone();
            move |env| definition.load(env, index, pool, databases)
        });
        watch.spawn({
            let (definition, view) = (self.clone(), view.clone());
            move |_| definition.watch(index, view)
        });
        (engine, State { index, marshal, reader, view })
    }

    fn start(engine: Handle<()>) -> Handle<()> {
        engine
    }
}

/// Every validator published the height.
#[derive(Clone)]
struct Published(u64, usize);

impl ExitCondition<PublicKey, State> for Published {
    fn name(&self) -> &str {
        "published"
    }

    fn requires_polling(&self) -> bool {
        true
    }

    fn reached<'a>(
        &'a self,
        _: &'a ProgressTracker<PublicKey>,
        states: &'a [&'a State],
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + 'a>> {
        let reached = states.iter().filter(|state| state.view.head().height >= self.0).count();
        Box::pin(async move { Ok(reached >= self.1) })
    }
}

/// Nothing that was reported as final is lost, nothing is applied twice, all agree.
#[derive(Clone)]
struct Sound(Definition);

impl Sound {
    async fn check(&self, state: &State) -> Result<(), String> {
        let index = state.index;
        let (blocks, height, txs) = {
            let reported = self.0.reported.lock().unwrap();
            let height = reported.heights.get(&index).copied().unwrap_or(0);
            (reported.blocks.clone(), height, reported.txs.get(&index).cloned().unwrap_or_default())
        };
        let ask = |error: crate::query::QueryError| format!("validator {index}: {error}");
        for (height, hash) in blocks.range(..=height) {
            let block = state.reader.block(BlockId::Height(*height)).await.map_err(ask)?;
            let found = block.map(|block| block.header.hash());
            if found != Some(*hash) {
                return Err(format!("validator {index}: block {height} is {found:?}, reported was {hash}"));
            }
            let finality = state.reader.finality(*height).await.map_err(ask)?;
            let finality = finality.ok_or(format!("validator {index}: block {height} has no certificate"))?;
            finality
                .verify(&self.0.trust)
                .map_err(|error| format!("validator {index}: {height}: {error}"))?;
        }
        for hash in txs {
            if state.reader.find(&hash).await.map_err(ask)?.is_none() {
                return Err(format!(
                    "validator {index}: transaction {hash} was reported as final and is lost"
                ));
            }
        }
        let (_, audit) = state.reader.audit().await.map_err(ask)?;
        if !audit.adds_up() {
            return Err(format!("validator {index}: {audit:?}"));
        }
        for other in 0..self.0.genesis.validators.len() {
            let names = vec![keys::account(&account(other)), keys::balance(&account(50 + other), &issuer())];
            let records = state.reader.records(names).await.map_err(ask)?;
            let sent = records.iter().flatten().find_map(Account::of).map_or(0, |found| found.nonce);
            let received =
                records.iter().flatten().find_map(Balance::of).map_or(0, |found| found.amount.grains());
            if u128::from(sent) != received {
                return Err(format!(
                    "validator {index}: account {other} sent {sent} times, {received} arrived"
                ));
            }
        }
        Ok(())
    }
}

impl Property<PublicKey, State> for Sound {
    fn name(&self) -> &str {
        "sound"
    }

    fn check<'a>(
        &'a self,
        _: &'a ProgressTracker<PublicKey>,
        states: &'a [&'a State],
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            for state in states {
                Self::check(self, state).await?;
            }
            Ok(())
        })
    }
}

/// Runs a ledger of so many validators to a height, once per seed; returns the crashes.
fn run(validators: usize, height: u64, seeds: std::ops::Range<u64>, crash: Option<Crash<PublicKey>>) -> u64 {
    log();
    let replay = std::env::var("GRISTMILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replay.map_or(seeds, |seed: u64| seed..seed + 1);
    let link = Link {
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(5),
        success_rate: probability!(1.0),
    };
    let mut crashes = 0;
    for seed in seeds {
        println!("{validators} validators, seed {seed}");
        let definition = Definition::new(validators);
        let mut plan = PlanBuilder::new(definition.clone())
            .seed(seed)
            .link(link.clone())
            .exit_condition(Published(height, validators))
            .property(Sound(definition))
            .timeout(Duration::from_secs(120));
        if let Some(crash) = crash.clone() {
            plan = plan.crash(crash);
        }
        match plan.run() {
            Ok(results) => crashes += results.iter().map(|result| result.crashes).sum::<u64>(),
            Err(error) => panic!("seed {seed}: {error}; replay it with GRISTMILL_SEED={seed}"),
        }
    }
    crashes
}

/// With `RUST_LOG`, the engine says what it does.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

fn often() -> Option<Crash<PublicKey>> {
    Some(Crash::Random {
        frequency: Duration::from_millis(730),
        downtime: Duration::from_millis(150),
        count: 1,
    })
}

#[test]
fn one_validator() {
    run(1, 30, 0..1, None);
}

#[test]
fn one_validator_that_crashes() {
    let crashes = run(1, 40, 0..8, often());
    assert!(crashes >= 8, "only {crashes} crashes");
}

#[test]
fn four_validators() {
    run(4, 25, 0..1, None);
}

#[test]
fn four_validators_of_which_some_crash() {
    let frequency = Duration::from_millis(900);
    let crash = Crash::Random { frequency, downtime: Duration::from_millis(400), count: 1 };
    let crashes = run(4, 25, 0..2, Some(crash));
    assert!(crashes >= 2, "only {crashes} crashes");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    log();
    let once = || {
        let definition = Definition::new(1);
        let plan = PlanBuilder::new(definition).seed(3).exit_condition(Published(20, 1));
        let results = plan.crash(often().unwrap()).timeout(Duration::from_secs(60)).run().unwrap();
        results[0].state.clone()
    };
    assert_eq!(once(), once());
}
