//! A node: a validator on its own runtime, and the RPC server on the caller's.
//!
//! The validator runs on Commonware's tokio runtime, which owns its threads; everything else in the
//! process uses ordinary tokio and reaches the validator through channels. A data folder belongs to
//! one node at a time, and to one ledger for good.

use crate::{
    admission::Admission,
    app::block_hash,
    damage::{self, HeadMark, Reported},
    metrics::Metrics,
    pool::{Limits, Pool, Refusal},
    query::Reader,
    rpc,
    state::IoSizes,
    view::{Head, View},
    wiring::{self, CHANNELS, QUOTA, Setup, Timing, Validator, max_message_bytes},
};
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{marshal::Identifier, types::Height};
use commonware_cryptography::{ChaCha20Poly1305, Digestible as _, Signer as _, ed25519};
use commonware_p2p::{Address, AddressableManager as _, authenticated::lookup};
use commonware_runtime::{Runner as _, Supervisor as _, tokio as runtime};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZUsize, ordered::Map};
use gristmill_ledger::{Audit, Genesis, SignedTx};
use gristmill_proof::{ProofError, Trust};
use gristmill_types::{AccountId, ChainId, SecretKey, decode, encode};
use std::{
    fs::{self, File, TryLockError},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// The name of the thread that a node runs on. Where its files are damaged it panics there, and the node
/// ends with the reason.
pub const THREAD: &str = "gristmill-chain";

/// How a node is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// Where its RPC server listens; port 0 takes a free one.
    pub rpc: SocketAddr,
    /// Where it listens to other validators. A validator alone needs none and listens on a free
    /// port of the loopback interface.
    pub p2p: Option<SocketAddr>,
    /// Cores that the validator may use.
    pub cores: NonZeroUsize,
}

impl Config {
    /// A node in this folder, with an RPC server on a free port of the loopback interface.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let rpc = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { data_dir: data_dir.into(), rpc, p2p: None, cores }
    }
}

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The folder cannot be used.
    #[error("the data folder {path} cannot be used: {error}; check that it exists and is writable", path = path.display())]
    Folder {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another node runs on the folder.
    #[error("another node is running on {path}; stop it first or choose another folder", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds another ledger.
    #[error("{path} holds the ledger {found}, not {expected}; choose another folder or the right genesis", path = path.display())]
    OtherLedger {
        /// The folder.
        path: PathBuf,
        /// The ledger in it.
        found: ChainId,
        /// The ledger of the genesis.
        expected: ChainId,
    },
    /// The genesis cannot start a ledger.
    #[error("the genesis is not usable: {0}")]
    Genesis(#[from] gristmill_ledger::GenesisError),
    /// The genesis' validators are no committee.
    #[error("the genesis is not usable: {0}")]
    Committee(#[from] ProofError),
    /// A validator's address cannot be dialled.
    #[error("the validator {validator} has no address of the form IP:PORT in the genesis")]
    Address {
        /// The validator.
        validator: AccountId,
    },
    /// The key is not a validator's.
    #[error(
        "the key {key} is not one of the genesis' validators; use the key that the ledger was created with"
    )]
    NotAValidator {
        /// The account of the key.
        key: AccountId,
    },
    /// The RPC address cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another port or stop the program that uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The validator ended by itself.
    #[error("the validator stopped: {0}")]
    Stopped(String),
}

/// The ledger's node.
pub struct Node;

/// A running node.
pub struct NodeHandle {
    address: SocketAddr,
    admission: Admission,
    reader: Reader,
    view: View,
    pool: Pool,
    audit: Audit,
    recomputed: u64,
    stop_validator: oneshot::Sender<()>,
    stop_rpc: watch::Sender<bool>,
    stopped: watch::Receiver<Option<String>>,
    thread: JoinHandle<()>,
    server: tokio::task::JoinHandle<()>,
}

/// What the validator's thread hands over when it is up.
struct Started {
    reader: Reader,
    view: View,
    audit: Audit,
    recomputed: u64,
}

impl Node {
    /// Starts a node and waits until it answers. The key is a validator's of the genesis.
    pub async fn start(config: Config, genesis: Genesis, key: SecretKey) -> Result<NodeHandle, NodeError> {
        genesis.check()?;
        let trust = Trust::from_genesis(&genesis)?;
        if !genesis.validators.iter().any(|validator| validator.key == key.account()) {
            return Err(NodeError::NotAValidator { key: key.account() });
        }
        let addresses = addresses(&genesis)?;
        let lock = lock(&config.data_dir, trust.chain())?;
        let path = config.data_dir.join("head");
        let (head_mark, reported) =
            HeadMark::open(&path).map_err(|error| NodeError::Folder { path, error })?;
        let listener = tokio::net::TcpListener::bind(config.rpc)
            .await
            .map_err(|error| NodeError::Listen { address: config.rpc, error })?;
        let address =
            listener.local_addr().map_err(|error| NodeError::Listen { address: config.rpc, error })?;

        let pool = Pool::new(Limits::default());
        let metrics = Metrics::new(genesis.validators.len());
        let folder = config.data_dir.clone();
        let genesis = Arc::new(genesis);
        let rules = Arc::new(genesis.rules());
        let key = ed25519::PrivateKey::decode(Copying(key.to_seed().as_slice()))
            .map_err(|_| NodeError::NotAValidator { key: key.account() })?;
        let plan = Plan {
            config,
            genesis: genesis.clone(),
            trust,
            key,
            addresses,
            pool: pool.clone(),
            metrics: metrics.clone(),
            reported,
        };
        let (started_sender, started) = oneshot::channel();
        let (stop_validator, stop) = oneshot::channel();
        let (stopped_sender, mut stopped) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || run(plan, lock, started_sender, stop, &stopped_sender))
            .map_err(|error| NodeError::Stopped(error.to_string()))?;
        let Ok(Started { reader, view, audit, recomputed }) = started.await else {
            let _ = stopped.wait_for(Option::is_some).await;
            return Err(stopped_error(&stopped));
        };
        let admission =
            Admission::start(pool.clone(), rules).map_err(|error| NodeError::Stopped(error.to_string()))?;
        let (stop_rpc, stopping) = watch::channel(false);
        let app = rpc::Rpc::new(
            genesis,
            admission.clone(),
            reader.clone(),
            view.clone(),
            pool.clone(),
            (metrics, folder),
            stopping.clone(),
        );
        let server = tokio::spawn(rpc::serve(listener, app, stopping));
        tokio::spawn(head_mark.keep(view.follow()));
        Ok(NodeHandle {
            address,
            admission,
            reader,
            view,
            pool,
            audit,
            recomputed,
            stop_validator,
            stop_rpc,
            stopped,
            thread,
            server,
        })
    }
}

impl NodeHandle {
    /// Where the RPC server listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The RPC server's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the scan of the state at start found.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The last final block.
    pub fn head(&self) -> Head {
        self.view.head()
    }

    /// Follows the last final block.
    pub fn follow(&self) -> watch::Receiver<Head> {
        self.view.follow()
    }

    /// Reads the chain in this process.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Transactions that wait or are not final yet.
    pub fn waiting(&self) -> usize {
        self.pool.len()
    }

    /// Submits many transactions without HTTP and returns how many the mempool took; waits while it
    /// has no room.
    pub async fn submit_many(&self, txs: &[SignedTx]) -> Result<usize, Refusal> {
        self.admission.submit_many(txs).await
    }

    /// Resolves if the validator ends by itself, with the reason.
    pub fn failed(&self) -> impl Future<Output = NodeError> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            let _ = stopped.wait_for(Option::is_some).await;
            stopped_error(&stopped)
        }
    }

    /// Blocks of which it was missing what they did, and was computed again, when the node started.
    pub const fn recomputed(&self) -> u64 {
        self.recomputed
    }

    /// Stops the node. Everything that was reported as final is durable already.
    pub async fn stop(self) {
        self.pool.stop();
        let _ = self.stop_rpc.send(true);
        drop(self.server.await);
        let _ = self.stop_validator.send(());
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn stopped_error(stopped: &watch::Receiver<Option<String>>) -> NodeError {
    let reason = stopped.borrow().clone();
    NodeError::Stopped(reason.unwrap_or_else(|| "it ended without a word".into()))
}

/// Where the validators are. One validator alone is nowhere.
fn addresses(genesis: &Genesis) -> Result<Vec<(ed25519::PublicKey, SocketAddr)>, NodeError> {
    let alone = genesis.validators.len() == 1;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = |validator: &gristmill_ledger::GenesisValidator| {
        let unknown = NodeError::Address { validator: validator.key };
        let Ok(key) = ed25519::PublicKey::decode(Copying(validator.key.as_bytes())) else {
            return Err(unknown);
        };
        let address = validator.address.as_deref().and_then(|address| address.parse().ok());
        address.or(alone.then_some(nowhere)).map(|address| (key, address)).ok_or(unknown)
    };
    genesis.validators.iter().map(address).collect()
}

/// Takes the folder for this node and this ledger.
fn lock(folder: &Path, chain: ChainId) -> Result<File, NodeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| NodeError::Folder { path, error }
    };
    create(folder).map_err(failed(folder))?;
    let path = folder.join("lock");
    let lock = File::options().create(true).append(true).open(&path).map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NodeError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
    }
    let path = folder.join("ledger");
    match fs::read(&path) {
        Ok(bytes) => {
            let found: ChainId = decode(&bytes).map_err(|_| NodeError::Folder {
                path: path.clone(),
                error: std::io::Error::other("it does not name a ledger"),
            })?;
            if found != chain {
                return Err(NodeError::OtherLedger { path: folder.to_owned(), found, expected: chain });
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_whole(folder, &path, &encode(&chain)).map_err(failed(&path))?;
        }
        Err(error) => return Err(failed(&path)(error)),
    }
    Ok(lock)
}

/// Makes a folder and those above it, as far as they are missing, on disk when it returns. After a power cut
/// a folder whose name is not on disk is gone with all that is in it.
fn create(folder: &Path) -> std::io::Result<()> {
    let above = above_missing(folder);
    fs::create_dir_all(folder)?;
    above.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// The folders that get a new entry when this one is made.
fn above_missing(folder: &Path) -> Vec<&Path> {
    let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let above = missing.filter_map(Path::parent);
    above.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).collect()
}

/// Writes a file whole or not at all, and on disk when it returns.
fn write_whole(folder: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let staged = path.with_extension("incoming");
    fs::write(&staged, content)?;
    fs::File::open(&staged)?.sync_all()?;
    fs::rename(&staged, path)?;
    fs::File::open(folder)?.sync_all()
}

struct Plan {
    config: Config,
    genesis: Arc<Genesis>,
    trust: Trust,
    key: ed25519::PrivateKey,
    addresses: Vec<(ed25519::PublicKey, SocketAddr)>,
    pool: Pool,
    metrics: Metrics,
    /// The last block that the node noted as reported.
    reported: Option<Reported>,
}

/// The validator's thread. The lock lives as long as the validator.
fn run(
    plan: Plan,
    lock: File,
    started: oneshot::Sender<Started>,
    stop: oneshot::Receiver<()>,
    stopped: &watch::Sender<Option<String>>,
) {
    let config = runtime::Config::new()
        .with_worker_threads(plan.config.cores.get())
        .with_storage_directory(plan.config.data_dir.join("chain"))
        .with_tcp_nodelay(Some(true));
    let validate = || runtime::Runner::new(config).start(|env| validate(env, plan, started, stop));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(validate));
    drop(lock);
    let reason = match ended {
        Ok(()) => "it was asked to".to_owned(),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a task failed".to_owned()),
    };
    stopped.send_replace(Some(damage::reason(&reason)));
}

async fn validate(
    env: runtime::Context,
    plan: Plan,
    started: oneshot::Sender<Started>,
    stop: oneshot::Receiver<()>,
) {
    let Plan { config, genesis, trust, key, addresses, pool, metrics, reported } = plan;
    let count = u32::try_from(addresses.len()).expect("a committee is bounded");
    let alone = addresses.len() == 1;
    let mine =
        addresses.iter().find(|(validator, _)| *validator == key.public_key()).map(|(_, address)| *address);
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = if alone { free } else { config.p2p.or(mine).unwrap_or(free) };
    let handshake = Sake {
        signer: key.clone(),
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    let network_config = lookup::Config::local(
        Cups::<_, ChaCha20Poly1305>::new(handshake, cups::Version::V1),
        trust.chain().as_bytes(),
        listen,
        NZUsize!(addresses.len().max(2)),
        max_message_bytes(count),
        NZUsize!(1_000),
    );
    let (mut network, mut oracle) = lookup::Network::new(env.child("network"), network_config);
    let peers: Vec<(ed25519::PublicKey, Address)> =
        addresses.into_iter().map(|(key, address)| (key, address.into())).collect();
    let peers: Map<_, _> = peers.try_into().expect("the genesis was checked for doubles");
    let _ = oracle.track(0, peers);
    let channels = (0..CHANNELS).map(|channel| network.register(channel, QUOTA)).collect();
    let _network = network.start();

    let setup = Setup {
        key,
        genesis,
        timing: Timing::of(trust.committee().keys().len()),
        trust,
        peers: oracle.clone(),
        blocker: oracle,
        prefix: "v".to_owned(),
        io: IoSizes::NODE,
        pool,
        metrics,
        cores: config.cores,
    };
    let Validator { engine, sources, reader, view, audit, recomputed } =
        wiring::start(env.child("validator"), setup, channels, |tee| tee).await;
    tokio::pin!(stop);
    let mut engine = engine;
    // Alone, the first block needs nobody else: who starts the node can use the ledger at once. After a
    // crash the last final blocks may run again; until they have, answers would be older than what was
    // reported as final.
    let mut head = view.follow();
    if alone {
        let tip = sources.marshal.get_info(Identifier::Latest).await;
        let tip = tip.map_or(0, |(height, _)| height.get()).max(1);
        if let Some(reported) = reported {
            // Nobody else could give the missing blocks back.
            let block = sources.marshal.get_block(Height::new(reported.height)).await;
            let found = block.map(|block| block_hash(&block.inner().digest()));
            assert!(
                found == Some(reported.hash),
                "block {} with the hash {} was reported as final, and is missing: the files are damaged or older",
                reported.height,
                reported.hash
            );
        }
        tokio::select! {
            _ = head.wait_for(|head| head.height >= tip) => {}
            _ = &mut stop => return,
            ended = &mut engine => panic!("consensus ended: {ended:?}"),
        }
    }
    if started.send(Started { reader, view, audit, recomputed }).is_err() {
        return;
    }
    tokio::select! {
        // Also when the sender is dropped.
        _ = stop => {}
        ended = engine => panic!("consensus ended: {ended:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_with_a_new_entry_is_synced() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let ledger = home.join("a/b/ledger");
        assert_eq!(above_missing(&ledger), [&home.join("a/b"), &home.join("a"), home]);
        create(&ledger).unwrap();
        assert!(ledger.is_dir());
        assert!(above_missing(&ledger).is_empty());
        assert_eq!(
            above_missing(Path::new("no-such-folder/ledger")),
            [Path::new("no-such-folder"), Path::new(".")]
        );
    }
}
