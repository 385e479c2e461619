//! Calls to one node.

use crate::{
    error::ClientError,
    schema::{
        BlockInfo, Claims, ErrorBody, GenesisAnswer, Holders, Inclusion, Models, Offers, Processors,
        StateAnswer, Status, Submission, SupplyAnswer, TransactionState, TransactionStatus,
    },
};
use gristmill_ledger::{
    Record, SignedTx, decode_tx, keys,
    record::{Account, Balance, Channel, Lane, Stored},
    tx_hash,
};
use gristmill_proof::{BodyProof, Finality, Header, StateProof, Trust};
use gristmill_types::{
    AccountId, Amount, BlockHash, ChainId, ChannelId, LineId, ModelId, StateKey, TxHash, decode,
};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a call may take; a submission waits up to 30 s at the node.
const CALL: Duration = Duration::from_secs(45);
/// How long [`Client::submit_and_wait`] goes on.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// State keys in one question.
const KEYS_AT_ONCE: usize = crate::schema::MAX_KEYS;

/// Something that was proven against a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    /// What was proven.
    pub value: T,
    /// The height of the block whose state it is from.
    pub height: u64,
    /// That block's time, Unix milliseconds.
    pub time_ms: u64,
    /// Ledger time after that block, milliseconds.
    pub clock_ms: u64,
}

impl<T> Verified<T> {
    fn new(value: T, header: &Header) -> Self {
        Self { value, height: header.height.get(), time_ms: header.time_ms, clock_ms: header.clock_ms }
    }

    /// The same proof, seen another way.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Verified<U> {
        let Self { value, height, time_ms, clock_ms } = self;
        Verified { value: change(value), height, time_ms, clock_ms }
    }
}

/// An account's nonce and balances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// The nonce of its next transaction.
    pub nonce: u64,
    /// What it holds of the issuers that were asked for, in that order.
    pub balances: Vec<(AccountId, Amount)>,
}

/// A channel and its lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecords {
    /// The channel.
    pub channel: Channel,
    /// Its lanes that were claimed on.
    pub lanes: Vec<Lane>,
}

/// A client of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    url: String,
    trust: Trust,
    /// The height of the newest block that the node reported as final to this client.
    seen: AtomicU64,
}

fn http() -> Result<reqwest::Client, reqwest::Error> {
    // The program's own choice stands if it made one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).tcp_nodelay(true).build()
}

impl Client {
    /// A client of the node at the URL, which believes what the trust's validators signed.
    pub fn new(url: &str, trust: Trust) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        let fail = |reason: String| ClientError::Url { url: url.clone(), reason };
        let parsed = reqwest::Url::parse(&url).map_err(|error| fail(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(fail("its scheme is neither http nor https".into()));
        }
        let http = http().map_err(|error| fail(error.to_string()))?;
        Ok(Self(Arc::new(Inner { http, url, trust, seen: AtomicU64::new(0) })))
    }

    /// A client of the node at the URL that knows of the ledger only its id: the genesis is fetched
    /// from the node, and must hash to the id.
    pub async fn connect(url: &str, chain: ChainId) -> Result<Self, ClientError> {
        // Whom to trust follows from the genesis, so this one answer is checked by its hash alone.
        let fail = |reason: String| ClientError::Url { url: url.to_owned(), reason };
        let http = http().map_err(|error| fail(error.to_string()))?;
        let answer: GenesisAnswer =
            read(http.get(format!("{}/v1/genesis", url.trim_end_matches('/'))).timeout(CALL), url).await?;
        let found = answer.genesis.chain_id();
        if found != chain {
            return Err(ClientError::OtherLedger { found, expected: chain });
        }
        Self::new(url, Trust::from_genesis(&answer.genesis)?)
    }

    /// The node's URL.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The ledger.
    pub fn chain(&self) -> ChainId {
        self.0.trust.chain()
    }

    /// Whom this client believes.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.0.http.request(method, format!("{}{path}", self.0.url))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.request(Method::GET, path).timeout(CALL), &self.0.url).await
    }

    async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ClientError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::Refused { status: 404, code, .. }) if code == "not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        read(self.request(Method::POST, path).timeout(CALL).json(body), &self.0.url).await
    }

    /// Hands the transaction to the node and returns at once.
    pub async fn submit(&self, tx: &SignedTx) -> Result<TransactionStatus, ClientError> {
        self.post("/v1/transactions", &Submission { tx: hex::encode(tx.to_bytes()) }).await
    }

    /// Submits the transaction and waits until it is final and durable at the node. Goes on over
    /// lost connections and restarts of the node, for two minutes: submitting the same bytes again
    /// is harmless. A rejection by the ledger is an [`Inclusion`] too; see its outcome.
    pub async fn submit_and_wait(&self, tx: &SignedTx) -> Result<Inclusion, ClientError> {
        let hash = tx_hash(tx);
        let body = Submission { tx: hex::encode(tx.to_bytes()) };
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.post::<_, TransactionStatus>("/v1/transactions?wait=final", &body).await {
                Ok(TransactionStatus { inclusion: Some(inclusion), .. }) => {
                    self.0.seen.fetch_max(inclusion.height, Ordering::Relaxed);
                    return Ok(inclusion);
                }
                Ok(_) => ClientError::NotFinal { hash, seconds: started.elapsed().as_secs() },
                Err(error) if error.is_temporary() => error,
                Err(error) => return Err(error),
            };
            if started.elapsed() > PATIENCE {
                return Err(error);
            }
            tracing::debug!(%hash, %error, "not final yet; submitting again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// What the node knows of a transaction.
    pub async fn transaction(&self, hash: &TxHash) -> Result<Option<TransactionStatus>, ClientError> {
        self.find(&format!("/v1/transactions/{hash}")).await
    }

    /// A final transaction, with proof that it is in a final block. `None` if the node does not know
    /// it as final.
    pub async fn included(&self, hash: &TxHash) -> Result<Option<Verified<Inclusion>>, ClientError> {
        let status: Option<TransactionStatus> =
            self.find(&format!("/v1/transactions/{hash}?proof=true")).await?;
        let Some(inclusion) = status.filter(|s| s.state == TransactionState::Final).and_then(|s| s.inclusion)
        else {
            return Ok(None);
        };
        let proof = inclusion.proof.as_ref().ok_or(ClientError::OtherProof)?;
        let finality = Finality::from_bytes(&bytes(&proof.finality)?)?;
        let header = finality.verify(&self.0.trust)?;
        BodyProof::from_bytes(&bytes(&proof.body)?)?.verify(hash, header)?;
        let same = header.height.get() == inclusion.height && header.hash() == inclusion.block;
        let tx = inclusion.tx.as_deref().map(bytes).transpose()?.map(|bytes| decode_tx(&bytes));
        if !same || tx.is_some_and(|tx| !tx.is_ok_and(|tx| tx_hash(&tx) == *hash)) {
            return Err(ClientError::OtherProof);
        }
        Ok(Some(Verified::new(inclusion.clone(), header)))
    }

    /// A block by height. The header is verified; the list of transactions is checked against it.
    pub async fn block(&self, height: u64) -> Result<Option<Verified<BlockInfo>>, ClientError> {
        self.checked_block(self.find(&format!("/v1/blocks/{height}")).await?, |header| {
            header.height.get() == height
        })
    }

    /// A block by hash, verified likewise.
    pub async fn block_by_hash(&self, hash: &BlockHash) -> Result<Option<Verified<BlockInfo>>, ClientError> {
        self.checked_block(self.find(&format!("/v1/blocks/{hash}")).await?, |header| header.hash() == *hash)
    }

    /// The last final block, verified likewise.
    pub async fn latest_block(&self) -> Result<Option<Verified<BlockInfo>>, ClientError> {
        self.checked_block(self.find("/v1/blocks/latest").await?, |_| true)
    }

    fn checked_block(
        &self,
        block: Option<BlockInfo>,
        is_it: impl FnOnce(&Header) -> bool,
    ) -> Result<Option<Verified<BlockInfo>>, ClientError> {
        let Some(block) = block else { return Ok(None) };
        let finality = Finality::from_bytes(&bytes(&block.finality)?)?;
        let header = finality.verify(&self.0.trust)?;
        let root = gristmill_proof::body_root(block.transactions.iter().copied());
        let agrees = header.hash() == block.hash
            && header.height.get() == block.height
            && header.parent_hash() == block.parent
            && (header.time_ms, header.clock_ms, header.epoch())
                == (block.time_ms, block.clock_ms, block.epoch)
            && header.next_committee.0 == *block.next_committee.as_bytes()
            && header.state_root.0 == *block.state_root.as_bytes()
            && header.body_root.0 == *block.body_root.as_bytes()
            && header.body_root == root;
        if !agrees || !is_it(header) {
            return Err(ClientError::OtherProof);
        }
        Ok(Some(Verified::new(block.clone(), header)))
    }

    /// The records under the keys (at most 65), each proven present or absent in the same state.
    pub async fn state(&self, keys: &[StateKey]) -> Result<Verified<Vec<Option<Record>>>, ClientError> {
        Ok(self.state_with_proofs(keys).await?.map(|(records, _)| records))
    }

    /// The same, with the node's answer, for those who pass the proofs on.
    pub async fn state_with_proofs(
        &self,
        keys: &[StateKey],
    ) -> Result<Verified<(Vec<Option<Record>>, StateAnswer)>, ClientError> {
        let names: Vec<String> = keys.iter().take(KEYS_AT_ONCE).map(ToString::to_string).collect();
        // As of now: while the answer is on its way, others may hear of later blocks.
        let seen = self.0.seen.load(Ordering::Relaxed);
        let answer: StateAnswer = self.get(&format!("/v1/state?key={}", names.join(","))).await?;
        let finality = Finality::from_bytes(&bytes(&answer.finality)?)?;
        let header = finality.verify(&self.0.trust)?;
        if header.height.get() < seen {
            return Err(ClientError::Stale { height: header.height.get(), seen });
        }
        if answer.values.len() != keys.len() {
            return Err(ClientError::OtherProof);
        }
        let mut records = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(&answer.values) {
            let proof = StateProof::from_bytes(&bytes(&value.proof)?)?;
            if proof.key != *key {
                return Err(ClientError::OtherProof);
            }
            let record = proof.verify(header)?.map(decode::<Record>).transpose();
            let record = record.map_err(|error| ClientError::Answer(error.to_string()))?;
            // A record names its own place; one that stands elsewhere is not what was asked for.
            if record.as_ref().is_some_and(|record| record.key() != *key) {
                return Err(ClientError::OtherProof);
            }
            records.push(record);
        }
        Ok(Verified::new((records, answer.clone()), header))
    }

    /// The record of one kind under a key, proven.
    async fn record<T: Stored + Clone>(&self, key: StateKey) -> Result<Verified<Option<T>>, ClientError> {
        let state = self.state(&[key]).await?;
        Ok(state
            .map(|records| records.into_iter().flatten().next().and_then(|record| T::of(&record).cloned())))
    }

    /// An account's nonce and what it holds of these issuers' credits (at most 64), proven.
    pub async fn account(
        &self,
        account: &AccountId,
        issuers: &[AccountId],
    ) -> Result<Verified<AccountState>, ClientError> {
        let mut names = vec![keys::account(account)];
        names.extend(issuers.iter().map(|issuer| keys::balance(account, issuer)));
        let state = self.state(&names).await?;
        Ok(state.map(|records| {
            let mut records = records.into_iter();
            let nonce =
                records.next().flatten().and_then(|record| Account::of(&record).map(|account| account.nonce));
            let amounts = records.map(|record| {
                record
                    .and_then(|record| Balance::of(&record).map(|balance| balance.amount))
                    .unwrap_or_default()
            });
            AccountState {
                nonce: nonce.unwrap_or(0),
                balances: issuers.iter().copied().zip(amounts).collect(),
            }
        }))
    }

    /// What an account holds of an issuer's credits, proven.
    pub async fn balance(
        &self,
        account: &AccountId,
        issuer: &AccountId,
    ) -> Result<Verified<Amount>, ClientError> {
        let balance = self.record::<Balance>(keys::balance(account, issuer)).await?;
        Ok(balance.map(|balance| balance.map_or(Amount::ZERO, |balance| balance.amount)))
    }

    /// The nonce of an account's next transaction, proven.
    pub async fn nonce(&self, account: &AccountId) -> Result<Verified<u64>, ClientError> {
        let record = self.record::<Account>(keys::account(account)).await?;
        Ok(record.map(|record| record.map_or(0, |account| account.nonce)))
    }

    /// A channel and its lanes, proven in one state. `None` is proven too.
    pub async fn channel(&self, id: &ChannelId) -> Result<Verified<Option<ChannelRecords>>, ClientError> {
        let mut names = vec![keys::channel(id)];
        loop {
            let state = self.state(&names).await?;
            let Some(channel) = state.value.first().and_then(Option::as_ref).and_then(Channel::of).cloned()
            else {
                return Ok(state.map(|_| None));
            };
            // Lanes may open between two questions; ask until one answer holds them all.
            let wanted: Vec<StateKey> = std::iter::once(keys::channel(id))
                .chain(channel.open_lanes().map(|lane| keys::lane(id, lane)))
                .collect();
            if wanted == names || names.len() >= KEYS_AT_ONCE {
                return Ok(state.map(|records| {
                    let lanes = records.iter().flatten().filter_map(Lane::of).cloned().collect();
                    Some(ChannelRecords { channel, lanes })
                }));
            }
            names = wanted.into_iter().take(KEYS_AT_ONCE).collect();
        }
    }

    /// A page of the final transactions that took, capped or paid claims on a lane, oldest first: the
    /// node's word.
    pub async fn claims(
        &self,
        channel: &ChannelId,
        lane: u32,
        skip: usize,
        limit: usize,
    ) -> Result<Claims, ClientError> {
        self.get(&format!("/v1/channels/{channel}/claims?lane={lane}&skip={skip}&limit={limit}")).await
    }

    /// A page of the model versions: the node's word.
    pub async fn models(&self, skip: usize, limit: usize) -> Result<Models, ClientError> {
        self.get(&format!("/v1/models?skip={skip}&limit={limit}")).await
    }

    /// A page of those who hold shares of a line: the node's word.
    pub async fn holders(&self, line: &LineId, skip: usize, limit: usize) -> Result<Holders, ClientError> {
        self.get(&format!("/v1/lines/{line}/holders?skip={skip}&limit={limit}")).await
    }

    /// A page of the offers, of one model version or of all: the node's word.
    pub async fn offers(
        &self,
        model: Option<&ModelId>,
        skip: usize,
        limit: usize,
    ) -> Result<Offers, ClientError> {
        let model = model.map(|model| format!("&model={model}")).unwrap_or_default();
        self.get(&format!("/v1/offers?skip={skip}&limit={limit}{model}")).await
    }

    /// A page of the processors: the node's word.
    pub async fn processors(&self, skip: usize, limit: usize) -> Result<Processors, ClientError> {
        self.get(&format!("/v1/processors?skip={skip}&limit={limit}")).await
    }

    /// An account with its open channels: the node's word.
    pub async fn account_info(&self, account: &AccountId) -> Result<crate::schema::AccountInfo, ClientError> {
        self.get(&format!("/v1/accounts/{account}")).await
    }

    /// All credits added up: the node's word.
    pub async fn supply(&self) -> Result<SupplyAnswer, ClientError> {
        self.get("/v1/supply").await
    }

    /// How the node is: its word.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// The genesis, checked against the ledger's id.
    pub async fn genesis(&self) -> Result<GenesisAnswer, ClientError> {
        let answer: GenesisAnswer = self.get("/v1/genesis").await?;
        let found = answer.genesis.chain_id();
        if found != self.chain() {
            return Err(ClientError::OtherLedger { found, expected: self.chain() });
        }
        Ok(answer)
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, ClientError> {
    hex::decode(text).map_err(|error| ClientError::Answer(error.to_string()))
}

/// Sends a request and reads its answer, up to a bound.
async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder, url: &str) -> Result<T, ClientError> {
    let unreachable =
        |error: reqwest::Error| ClientError::Unreachable { url: url.to_owned(), reason: reason(&error) };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::Answer(format!("it has more than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()));
    }
    Err(refusal(status, &body))
}

pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let status_number = status.as_u16();
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => ClientError::Refused {
            status: status_number,
            code: error.code,
            message: error.message,
            hint: error.hint,
        },
        Err(_) => ClientError::Refused {
            status: status_number,
            code: "http".into(),
            message: format!("the node answered {status}"),
            hint: None,
        },
    }
}

/// The innermost cause, which says more than the outermost.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
