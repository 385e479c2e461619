//! The ledger as consensus sees it: how a block is built, checked, replayed and finished.
//!
//! Building and checking run the same [`execute`]. Checking a block as a voter adds the rules that
//! a header must keep ([`follows`]), the signatures, and that the state root is the one that came
//! out. The engine compares the operations' root itself, but not the state root, so that is ours.
//!
//! A block that was asked for because transactions wait is not built if the ledger refuses all of them:
//! blocks are kept for ever, and nobody would have paid for it.

use crate::{
    block::{Block, Keys, MAX_BLOCK_TXS, MAX_BODY_BYTES, Tx, verify_signatures},
    index::Applied,
    metrics::Metrics,
    pool::{Pool, Refusal, Taken, Verdict},
    publish::BACKLOG,
    state::{Batch, Databases, Env, Execution, Refused, Sealed, execute, execute_genesis, sync_target},
};
use commonware_consensus::{
    Heightable as _, Viewable as _,
    marshal::ancestry::Ancestry,
    types::{Height, Round},
};
use commonware_cryptography::{Digestible as _, sha256::Digest};
use commonware_glue::stateful::{
    Application, Finality, Input, Proposed,
    db::{DatabaseSet, Merkleized as _},
};
use commonware_parallel::Rayon;
use commonware_storage::qmdb::sync::Target;
use futures::StreamExt as _;
use gristmill_ledger::{Context, Genesis, Invalid, Outcome, Rules, clock::next_clock};
use gristmill_proof::{ConsensusContext, Header, Scheme};
use gristmill_types::{BlockHash, StateKey};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// How far a block's time may be ahead of a voter's clock before the voter waits.
const TOLERATED_AHEAD: Duration = Duration::from_secs(2);

/// Headers kept to find the one that a state root belongs to.
const RECENT_HEADERS: usize = 64;

/// What executing a block that is not final yet came to.
struct Executed {
    height: u64,
    view: u64,
    outcomes: Vec<Outcome>,
    changes: Vec<(StateKey, Option<Vec<u8>>)>,
}

/// Blocks that this node was asked for and built, which are remembered: one of a round that was given up may
/// still be built while another is asked for.
const RECENT_ROUNDS: usize = 4;

/// A block that this node was asked for.
struct Asked {
    round: Round,
    may_be_empty: bool,
    /// It was not built, because it would have been empty.
    declined: bool,
}

/// Headers of the blocks whose state is or is about to be the database's, by state root.
#[derive(Clone, Default)]
pub struct Headers(Arc<Mutex<VecDeque<Header>>>);

impl Headers {
    /// A header whose state is applied next.
    pub fn push(&self, header: Header) {
        let mut headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        headers.push_back(header);
        if headers.len() > RECENT_HEADERS {
            headers.pop_front();
        }
    }

    /// The header with this state root.
    pub fn find(&self, state_root: &Digest) -> Option<Header> {
        let headers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        headers.iter().rev().find(|header| header.state_root == *state_root).cloned()
    }
}

/// What all clones of the application share.
pub(crate) struct Shared {
    /// The genesis.
    pub genesis: Arc<Genesis>,
    /// What execution needs of it.
    pub rules: Arc<Rules>,
    /// The block before the first.
    pub genesis_block: Block,
    /// The hash of the committee of the next epoch, which every header carries.
    pub next_committee: Digest,
    /// Recent headers.
    pub headers: Headers,
    /// Where transactions come from.
    pub pool: Pool,
    /// What is counted.
    pub metrics: Metrics,
    /// Where applied blocks are announced.
    pub applied: mpsc::Sender<Arc<Applied>>,
    /// Spreads work over cores.
    pub strategy: Rayon,
    executed: Mutex<BTreeMap<Digest, Executed>>,
    asked: Mutex<VecDeque<Asked>>,
    built: Mutex<VecDeque<Block>>,
    keys: Mutex<Keys>,
    /// The last blocks that were applied; some may not be published yet.
    recent: Mutex<VecDeque<Arc<Applied>>>,
}

/// The ledger's application.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl App {
    /// An application over its parts.
    pub fn new(
        genesis: Arc<Genesis>,
        genesis_block: Block,
        headers: Headers,
        (pool, metrics): (Pool, Metrics),
        applied: mpsc::Sender<Arc<Applied>>,
        strategy: Rayon,
    ) -> Self {
        let rules = Arc::new(genesis.rules());
        let next_committee = genesis_block.header.next_committee;
        let (executed, asked, built) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (keys, recent) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared {
            genesis,
            rules,
            genesis_block,
            next_committee,
            headers,
            pool,
            metrics,
            applied,
            strategy,
            executed,
            asked,
            built,
            keys,
            recent,
        }))
    }

    fn context(&self, header: &ConsensusContext, height: Height, time_ms: u64, clock_ms: u64) -> Context {
        let epoch = header.round.epoch().get();
        Context { chain: self.0.rules.chain, height: height.get(), time_ms, clock_ms, epoch }
    }

    /// A block will be asked for in the round, which may be empty or not.
    pub(crate) fn ask(&self, round: Round, may_be_empty: bool) {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|asked| asked.round != round);
        push(&mut asked, Asked { round, may_be_empty, declined: false });
    }

    /// Whether the block of the round was not built because it would have been empty.
    pub(crate) fn declined(&self, round: Round) -> bool {
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().any(|asked| asked.round == round && asked.declined)
    }

    /// Declines an empty block of the round, if it was not to be empty.
    fn decline(&self, round: Round) -> bool {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.iter_mut().find(|asked| asked.round == round && !asked.may_be_empty) {
            Some(asked) => {
                asked.declined = true;
                true
            }
            None => false,
        }
    }

    /// The block, if it is one of those that were built last.
    pub(crate) fn built(&self, digest: &Digest) -> Option<Block> {
        let built = self.0.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.iter().find(|block| block.digest() == *digest).cloned()
    }

    fn remember(&self, block: &Block, executed: Executed) {
        self.0.executed.lock().unwrap_or_else(PoisonError::into_inner).insert(block.digest(), executed);
    }

    /// Takes what the block came to, and forgets everything that lost against it.
    fn recall(&self, block: &Block) -> Option<Arc<Applied>> {
        let mut all = self.0.executed.lock().unwrap_or_else(PoisonError::into_inner);
        let executed = all.remove(&block.digest());
        all.retain(|_, other| other.height > block.header.height.get());
        let Executed { outcomes, changes, .. } = executed?;
        let applied = Arc::new(Applied::new(block, outcomes, changes));
        // Before the lock on the executed blocks is given up, so that no block is in neither list.
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(applied.clone());
        if recent.len() > BACKLOG {
            recent.pop_front();
        }
        Some(applied)
    }

    /// A transaction that was submitted again may be in a block that nobody outside knows yet.
    fn included(&self, tx: &Tx, reason: &Invalid) -> Option<Verdict> {
        let is_it = |outcome: &Outcome| outcome.hash == tx.hash();
        let all = self.0.executed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((digest, executed)) = all.iter().find(|(_, executed)| executed.outcomes.iter().any(is_it))
        {
            return Some(Verdict::Included { height: executed.height, view: executed.view, block: *digest });
        }
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = recent.iter().find(|applied| applied.outcomes.iter().any(is_it))?;
        Some(Verdict::Final { height: applied.height, refusal: Refusal::invalid(reason) })
    }

    /// What becomes of a transaction that is not in the block.
    fn verdict(&self, tx: &Tx, refused: Refused) -> (usize, Verdict) {
        let verdict = match &refused.reason {
            Invalid::Nonce { expected, got } if got > expected => Verdict::Ahead { expected: *expected },
            reason => self.included(tx, reason).unwrap_or_else(|| Verdict::Never(Refusal::invalid(reason))),
        };
        (refused.position, verdict)
    }

    async fn run<E: Env>(&self, batch: Batch<E>, context: Context, txs: &[Tx]) -> Option<Execution<E>> {
        if context.height == 1 {
            execute_genesis(batch, &self.0.genesis).await
        } else {
            execute(batch, &self.0.rules, context, txs).await
        }
    }

    /// Whether a header keeps the rules that need nothing but its parent.
    fn follows(&self, parent: &Header, header: &Header) -> bool {
        header.height == parent.height.next()
            && header.next_committee == self.0.next_committee
            && next_clock(parent.time_ms, parent.clock_ms, header.time_ms) == Ok(header.clock_ms)
    }

    /// Seals a block over what executing its transactions came to.
    fn seal<E: Env>(
        &self,
        cx: ConsensusContext,
        parent: &Block,
        times: (u64, u64),
        body: Vec<Tx>,
        sealed: &Sealed<E>,
    ) -> Block {
        let (ops_root, range) = sync_target::<E>(sealed);
        let header = Header {
            context: cx,
            parent: parent.digest(),
            height: parent.header.height.next(),
            time_ms: times.0,
            clock_ms: times.1,
            next_committee: self.0.next_committee,
            body_root: Block::body_root(&body),
            state_root: sealed.root(),
            ops_root,
            range,
        };
        Block { header, body: body.into() }
    }
}

fn push<T>(recent: &mut VecDeque<T>, item: T) {
    if recent.len() >= RECENT_ROUNDS {
        recent.pop_front();
    }
    recent.push_back(item);
}

/// The runtime's clock as time since 1970.
pub(crate) fn now<E: Env>(context: &E) -> Duration {
    context.current().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<E: Env> Application<E> for App {
    type SigningScheme = Scheme;
    type Context = ConsensusContext;
    type Block = Block;
    type Databases = Databases<E>;
    type Captured = ();
    type Provider = Pool;
    type Input = ();

    fn sync_targets(block: &Block) -> <Self::Databases as DatabaseSet<E>>::SyncTargets {
        Target::new(block.header.ops_root, block.header.range.clone())
    }

    async fn genesis(&mut self) -> Block {
        self.0.genesis_block.clone()
    }

    async fn propose(
        &mut self,
        (env, cx): (E, ConsensusContext),
        ancestry: impl Ancestry<Block>,
        batch: Batch<E>,
        input: Input<(), Pool>,
    ) -> Option<Proposed<Self, E>> {
        let parent = Box::pin(ancestry).next().await?;
        let parent = parent.inner();
        let time = now(&env);
        let time_ms = millis(time).max(parent.header.time_ms.saturating_add(1));
        let clock_ms = next_clock(parent.header.time_ms, parent.header.clock_ms, time_ms).ok()?;
        let height = parent.header.height.next();
        let view = cx.view().get();
        // Waiting for transactions is the automaton's business: this never waits, because the engine
        // holds back the parent's finalization until it is done.
        let mut taken = match height.get() {
            1 => Taken::nothing(&input.provider),
            _ => input.provider.take(MAX_BLOCK_TXS, MAX_BODY_BYTES, time),
        };
        let context = self.context(&cx, height, time_ms, clock_ms);
        let execution = self.run::<E>(batch, context, taken.txs()).await?;
        let verdicts: Vec<_> = execution
            .refused
            .into_iter()
            .filter_map(|refused| Some(self.verdict(taken.txs().get(refused.position)?, refused)))
            .collect();
        let body = taken.refuse(verdicts, time);
        if body.is_empty() && self.decline(cx.round) {
            return None;
        }
        let block = self.seal::<E>(cx, parent, (time_ms, clock_ms), body, &execution.sealed);
        let executed =
            Executed { height: height.get(), view, outcomes: execution.outcomes, changes: execution.changes };
        self.remember(&block, executed);
        taken.propose(height.get(), view, block.digest());
        push(&mut self.0.built.lock().unwrap_or_else(PoisonError::into_inner), block.clone());
        Some(Proposed { block, merkleized: execution.sealed })
    }

    async fn process(
        &mut self,
        (mut env, cx): (E, ConsensusContext),
        ancestry: impl Ancestry<Block>,
        batch: Batch<E>,
        finality: Finality,
    ) -> Option<Sealed<E>> {
        let mut ancestry = Box::pin(ancestry);
        let block = ancestry.next().await?;
        let block = block.inner();
        let header = &block.header;
        if finality == Finality::Candidate {
            let parent = ancestry.next().await?;
            let first_is_empty = header.height.get() > 1 || block.body.is_empty();
            if header.context != cx || !self.follows(&parent.inner().header, header) || !first_is_empty {
                return None;
            }
            let unseen: Vec<Tx> =
                block.body.iter().filter(|tx| !self.0.pool.knows(&tx.hash())).cloned().collect();
            let signed = {
                let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
                verify_signatures(&mut env, &unseen, &mut keys, &self.0.strategy)
            };
            if !signed {
                return None;
            }
            // A verdict must not depend on this node's clock, so a block from the future is not
            // refused: it has to wait.
            let ahead = Duration::from_millis(header.time_ms).saturating_sub(now(&env));
            if ahead > TOLERATED_AHEAD {
                env.sleep(ahead - TOLERATED_AHEAD).await;
            }
        }
        let context = self.context(&header.context, header.height, header.time_ms, header.clock_ms);
        let execution = self.run::<E>(batch, context, &block.body).await?;
        if !execution.refused.is_empty() || execution.sealed.root() != header.state_root {
            return None;
        }
        let Execution { sealed, outcomes, changes, .. } = execution;
        self.remember(
            block,
            Executed { height: header.height.get(), view: cx.view().get(), outcomes, changes },
        );
        Some(sealed)
    }

    async fn capture(
        &mut self,
        _: (E, ConsensusContext),
        block: &Block,
        _: &Sealed<E>,
        _: <Self::Databases as DatabaseSet<E>>::Readers,
    ) {
        // Before the state changes, so that whoever reads a new root finds its header.
        self.0.headers.push(block.header.clone());
    }

    /// May run twice for a block after a crash; everything that follows from it is idempotent.
    async fn finalized(
        &mut self,
        _: (E, ConsensusContext),
        block: &Block,
        (): (),
        _: <Self::Databases as DatabaseSet<E>>::Readers,
    ) {
        let applied = self.recall(block).expect("a block is executed before it is applied");
        self.0.pool.finalized(block.height().get(), &block.digest(), &block.body);
        self.0.metrics.block(&block.body, &applied);
        // Closed only when the node stops.
        let _ = self.0.applied.send(applied).await;
    }
}

/// A header's hash as the rest of the project writes it.
pub(crate) fn block_hash(digest: &Digest) -> BlockHash {
    BlockHash::new(digest.0)
}
