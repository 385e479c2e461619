//! Receipts that are kept, and what anybody can check of one without asking anyone.

use crate::{
    accounts::State,
    error::{BuyError, StartError},
    event::Event,
    traces,
};
use gristmill_audit::{Seed, ids_digest, salted_digest, salted_ids_digest, verify_nonce};
use gristmill_channel::KeyId;
use gristmill_net::{openai::FinishReason, trace::Trace};
use gristmill_store::{
    Migration, Store, StoreError,
    rusqlite::{self, OptionalExtension as _, params, types::Value},
};
use gristmill_types::{
    AccountId, Amount, ChannelTerms, Digest, PublicKey, Quote, Receipt, Signable as _, Signed, Unit, Usage,
    Voucher, sha256,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The gateway's own tables.
pub(crate) const SCHEMA: Migration = Migration {
    sql: "CREATE TABLE receipts (
        id TEXT PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        entry TEXT NOT NULL
    ) STRICT;
    CREATE INDEX receipts_by_time ON receipts (created_ms);",
};

/// A checksum beside each entry. Those of earlier versions have none.
pub(crate) const SUMS: Migration = Migration { sql: "ALTER TABLE receipts ADD COLUMN sum BLOB;" };

/// The id of the API key that paid. Receipts without one are the operator's alone:
/// their lane was over when they came, or they are of earlier versions.
pub(crate) const PAYERS: Migration = Migration {
    sql: "ALTER TABLE receipts ADD COLUMN api_key TEXT;
    CREATE INDEX receipts_by_key ON receipts (api_key, created_ms);",
};

/// Bytes of request and answer that are kept with a receipt at most, and of the entry as it is written: a commit
/// has a bound, and who sells decides how long an answer is.
const MAX_KEPT_BYTES: usize = 24 << 20;
const MAX_ENTRY_BYTES: usize = 48 << 20;

/// Entries that are checked at each start at most, the newest. All others are when they are read.
const CHECKED: u32 = 20_000;

/// How much of an exchange is kept beside what both sides signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// The request and the answer that the receipt commits to.
    Whole,
    /// The request, and of the answer what arrived before it broke off.
    Broken,
    /// Neither: the gateway itself was interrupted, or they were too long.
    Nothing,
}

/// A receipt with all that it is checked against: request, answer, and what both sides signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The digest of the receipt.
    pub id: Digest,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    /// How much of request and answer is here.
    pub kept: Kept,
    /// The model's name as it was asked for.
    pub model: String,
    /// What the request cost.
    pub cost: Amount,
    /// What was spent on the lane before it.
    pub spent_before: Amount,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// The request's body as the processor got it.
    pub request: String,
    /// The answer's text.
    pub answer: String,
    /// The prompt's token ids.
    pub prompt_ids: Vec<u32>,
    /// The answer's token ids.
    pub output_ids: Vec<u32>,
    /// The salt of the receipt's digests.
    pub salt: Digest,
    /// What the channel is about.
    pub terms: ChannelTerms,
    /// The processor's quote.
    pub quote: Signed<Quote>,
    /// The last voucher of the request.
    pub voucher: Signed<Voucher>,
    /// The processor's receipt.
    pub receipt: Signed<Receipt>,
}

impl Entry {
    /// Writes the entry in the commit under way.
    pub(crate) fn insert(&self, state: &mut State, trace: Option<&Trace>) {
        let text = self.written();
        let created = i64::try_from(self.created_ms).unwrap_or(i64::MAX);
        let id = self.id.to_string();
        let body = &self.receipt.body;
        let lane = state.payer(&body.channel).and_then(|payer| Ok(payer.lane_use(body.lane)?));
        let key = lane.ok().and_then(|of| of.budget).map(|key| key.0.to_string());
        let sum = sum(&id, created, &text, key.as_deref());
        state.sql(
            "INSERT OR IGNORE INTO receipts (id, created_ms, entry, sum, trace, api_key)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            vec![
                Value::Text(id),
                Value::Integer(created),
                Value::Text(text),
                Value::Blob(sum),
                traces::written(trace),
                key.map_or(Value::Null, Value::Text),
            ],
        );
    }

    /// As it is written down: without request and answer, where these are too long.
    fn written(&self) -> String {
        let written = |entry: &Self| serde_json::to_string(entry).unwrap_or_default();
        if self.request.len().saturating_add(self.answer.len()) <= MAX_KEPT_BYTES {
            let whole = written(self);
            if whole.len() <= MAX_ENTRY_BYTES {
                return whole;
            }
        }
        written(&Self {
            kept: Kept::Nothing,
            request: String::new(),
            answer: String::new(),
            prompt_ids: Vec::new(),
            output_ids: Vec::new(),
            ..self.clone()
        })
    }

    /// What its tokens are.
    pub fn unit(&self) -> Unit {
        gristmill_tokenizer::unit(&self.quote.body.tokenizer)
    }

    /// What the owner is told.
    pub(crate) fn paid(&self) -> Event {
        Event::Paid {
            receipt: self.id,
            model: self.model.clone(),
            processor: self.terms.payee,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            unit: self.unit(),
            cost: self.cost,
        }
    }

    /// A line of a listing.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            id: self.id,
            created_ms: self.created_ms,
            kept: self.kept,
            model: self.model.clone(),
            processor: self.terms.payee,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            unit: self.unit(),
            cost: self.cost,
            finish: self.receipt.body.audit.as_ref().map_or(FinishReason::Error, |audit| audit.finish.into()),
        }
    }
}

/// A receipt in a listing.
#[derive(Serialize, ToSchema)]
pub(crate) struct Summary {
    /// The digest of the receipt.
    #[schema(value_type = String)]
    id: Digest,
    /// Unix time in milliseconds.
    created_ms: u64,
    /// How much of request and answer is kept.
    kept: Kept,
    /// The model's name as it was asked for.
    model: String,
    /// Who answered.
    #[schema(value_type = String)]
    processor: AccountId,
    /// Tokens of the prompt.
    prompt_tokens: u64,
    /// Tokens of the answer.
    completion_tokens: u64,
    /// What these tokens are.
    #[schema(value_type = String)]
    unit: Unit,
    /// What the request cost, in grains.
    #[schema(value_type = String)]
    cost: Amount,
    /// Why the answer ended, by the receipt: `error` for one that broke off, or never began.
    finish: FinishReason,
}

/// The newest receipts but so many, newest first, of all keys or only of one. An entry may have megabytes: one is in
/// memory at a time.
pub(crate) async fn list(
    store: &Store,
    only: Option<KeyId>,
    skip: u32,
    limit: u32,
) -> Result<Vec<Summary>, BuyError> {
    let listed = store.read(move |connection| {
        let mut query = connection.prepare(&newest(only))?;
        let summaries = query.query_map(params![column(only), limit, skip], row)?;
        let summaries = summaries.map(|row| row.map(|row| parse(&row).map(|entry| entry.summary())));
        summaries.collect::<rusqlite::Result<Vec<_>>>()
    });
    listed.await?.into_iter().collect()
}

fn newest(only: Option<KeyId>) -> String {
    let (columns, of_key) = (COLUMNS, of_key(only));
    format!(
        "SELECT {columns} FROM receipts WHERE {of_key} ORDER BY created_ms DESC, rowid DESC LIMIT ?2 OFFSET ?3"
    )
}

const COLUMNS: &str = "id, created_ms, entry, sum, api_key";

/// The condition on rows of a key, which is the first parameter, or of all. As one for both it would use no index.
pub(crate) const fn of_key(only: Option<KeyId>) -> &'static str {
    if only.is_some() { "api_key = ?1" } else { "?1 IS NULL" }
}

/// A key as the rows name it.
pub(crate) fn column(key: Option<KeyId>) -> Option<String> {
    key.map(|key| key.0.to_string())
}

/// Whether the newest entries are as they were written.
pub(crate) fn check(store: &Store) -> Result<(), StartError> {
    let damaged = store.read_blocking(|connection| {
        let mut query = connection.prepare(&newest(None))?;
        let mut rows = query.query(params![None::<String>, CHECKED, 0])?;
        while let Some(found) = rows.next()? {
            // A row that is no row any more is damaged as well.
            match row(found) {
                Ok(row) if row.is_right() => {}
                Ok(row) => return Ok(Some(row.id)),
                Err(_) => return Ok(Some("one of them".to_owned())),
            }
        }
        Ok(None)
    })?;
    damaged.map_or(Ok(()), |id| {
        Err(StartError::Records { log: "receipts".to_owned(), reason: format!("{id} is damaged") })
    })
}

/// An entry as it is stored.
struct Row {
    id: String,
    created_ms: i64,
    text: String,
    sum: Option<Vec<u8>>,
    api_key: Option<String>,
}

impl Row {
    fn is_right(&self) -> bool {
        let right = || sum(&self.id, self.created_ms, &self.text, self.api_key.as_deref());
        self.sum.as_ref().is_none_or(|found| *found == right())
    }
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        created_ms: row.get(1)?,
        text: row.get(2)?,
        sum: row.get(3)?,
        api_key: row.get(4)?,
    })
}

/// The checksum of a stored entry. That of one without a key is as earlier versions wrote it.
fn sum(id: &str, created_ms: i64, text: &str, api_key: Option<&str>) -> Vec<u8> {
    let created_ms = created_ms.to_le_bytes();
    let mut parts = vec![&b"gristmill/receipt-entry/v1"[..], id.as_bytes(), &created_ms, text.as_bytes()];
    parts.extend(api_key.map(str::as_bytes));
    sha256(&parts).as_bytes()[..16].to_vec()
}

/// A receipt by its id, or by the beginning of it where that is unique.
pub(crate) async fn find(store: &Store, only: Option<KeyId>, id: &str) -> Result<Option<Entry>, BuyError> {
    let hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !hex || id.len() < 8 {
        return Ok(None);
    }
    // No digit is above `f`.
    let (from, to) = (id.to_owned(), format!("{id}g"));
    let found = store.read(move |connection| -> Result<Option<Row>, _> {
        let (columns, of_key) = (COLUMNS, of_key(only));
        let query = format!("SELECT {columns} FROM receipts WHERE {of_key} AND id >= ?2 AND id < ?3 LIMIT 2");
        let mut query = connection.prepare(&query)?;
        let mut rows = query.query(params![column(only), from, to])?;
        let first: Option<Row> = rows.next()?.map(row).transpose()?;
        Ok(if rows.next().optional()?.flatten().is_some() { None } else { first })
    });
    found.await?.map(|row| parse(&row)).transpose()
}

/// How many there are.
pub(crate) async fn count(store: &Store, only: Option<KeyId>) -> Result<u64, StoreError> {
    let count: i64 = store
        .read(move |connection| {
            let query = format!("SELECT count(*) FROM receipts WHERE {}", of_key(only));
            connection.query_row(&query, [column(only)], |row| row.get(0))
        })
        .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

fn parse(row: &Row) -> Result<Entry, BuyError> {
    if !row.is_right() {
        return Err(BuyError::Damaged(format!("the receipt {}", row.id)));
    }
    serde_json::from_str(&row.text).map_err(|error| BuyError::Damaged(format!("a receipt ({error})")))
}

/// Why a receipt does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A key that is none.
    #[error("{0} is not a usable public key")]
    Key(&'static str),
    /// A signature.
    #[error("the signature of the {0} does not verify")]
    Signature(&'static str),
    /// Two parts that contradict each other.
    #[error("the {0} does not match")]
    Mismatch(&'static str),
}

/// What a receipt that holds says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The receipt.
    pub id: Digest,
    /// The ledger that it is for.
    pub chain: gristmill_types::ChainId,
    /// Who answered, and signed quote and receipt.
    pub processor: AccountId,
    /// Who paid, and signed the voucher.
    pub payer: AccountId,
    /// The model version.
    pub model: gristmill_types::ModelId,
    /// What computed it, by the quote.
    pub engine: String,
    /// Whether whoever has the model can compute the answer again. Otherwise that this model answered is
    /// the processor's claim, and the receipt proves counts and price.
    pub recomputable: bool,
    /// What its tokens are.
    pub unit: Unit,
    /// Spent on the lane up to and with this request.
    pub spent: Amount,
    /// Of that, this request.
    pub cost: Amount,
    /// Whether that follows from what is there: the request's own tokens at the quote's prices. It does not
    /// where the answer broke off, or where time is priced.
    pub cost_proven: bool,
    /// How much of request and answer is there.
    pub kept: Kept,
    /// Whether the receipt commits to the request that is there.
    pub request_proven: bool,
    /// Whether it commits to the answer that is there. What arrived of one that broke off is not proven.
    pub answer_proven: bool,
    /// What the draws came from: with the model's files, the answer can be computed again.
    pub seed: Option<String>,
}

/// Checks a receipt by itself: every signature, and that request, answer, tokens, price, nonce and
/// channel are those that were signed. Asks nobody; whose keys the accounts are is for the reader to
/// know.
pub fn verify(entry: &Entry) -> Result<Checked, VerifyError> {
    let key = |account: &AccountId, what| PublicKey::try_from(account).map_err(|_| VerifyError::Key(what));
    let same = |holds: bool, what| if holds { Ok(()) } else { Err(VerifyError::Mismatch(what)) };
    let Entry { terms, quote, voucher, receipt, .. } = entry;
    let (offered, claim, said) = (&quote.body, &voucher.body.0, &receipt.body);
    let signed =
        |ok: Result<(), _>, what| ok.map_err(|_: gristmill_types::BadSignature| VerifyError::Signature(what));
    signed(quote.verify_strict(&key(&terms.payee, "the payee")?), "quote")?;
    signed(voucher.verify_strict(&key(&terms.voucher_key, "the voucher key")?), "voucher")?;
    signed(receipt.verify_strict(&key(&terms.receipt_key, "the receipt key")?), "receipt")?;

    same(entry.id == said.digest(), "receipt's id")?;
    same(offered.processor == terms.payee && offered.receipt_key == terms.receipt_key, "quote's processor")?;
    same(offered.chain == terms.chain && offered.issuer == terms.issuer, "quote's ledger or issuer")?;
    for (chain, channel, quote_hash, model, lane, what) in [
        (
            claim.chain,
            claim.channel,
            claim.quote,
            claim.model,
            claim.lane,
            "voucher's channel, lane, model or quote",
        ),
        (
            said.chain,
            said.channel,
            said.quote,
            said.model,
            said.lane,
            "receipt's channel, lane, model or quote",
        ),
    ] {
        let right = chain == terms.chain
            && channel == terms.id()
            && quote_hash == offered.hash()
            && model == offered.model
            && lane == claim.lane;
        same(right, what)?;
    }
    same(said.voucher == voucher.body.hash() && said.seq == claim.seq, "voucher that the receipt answers")?;
    same(said.spent <= claim.amount && claim.usage.covers(&said.usage), "promise of the voucher")?;
    same(offered.prices.cost(&said.usage) == Some(said.spent), "price of the usage")?;
    same(entry.spent_before.checked_add(entry.cost) == Some(said.spent), "cost of the request")?;
    let seed = exchange(entry)?;
    let cost_proven = entry.kept == Kept::Whole && offered.prices.per_msec.is_zero();
    if cost_proven {
        let used = said.usage;
        let before = Usage {
            input_tokens: used.input_tokens.checked_sub(entry.prompt_tokens).unwrap_or(u64::MAX),
            output_tokens: used.output_tokens.checked_sub(entry.completion_tokens).unwrap_or(u64::MAX),
            requests: used.requests.checked_sub(1).unwrap_or(u64::MAX),
            ..used
        };
        same(offered.prices.cost(&before) == Some(entry.spent_before), "cost of the request's tokens")?;
    }
    Ok(Checked {
        id: entry.id,
        chain: terms.chain,
        processor: terms.payee,
        payer: terms.payer,
        model: offered.model,
        engine: offered.engine.clone(),
        recomputable: offered.is_recomputable(),
        unit: entry.unit(),
        spent: said.spent,
        cost: entry.cost,
        cost_proven,
        kept: entry.kept,
        request_proven: seed.is_some(),
        answer_proven: entry.kept == Kept::Whole,
        seed: seed.map(|seed| hex::encode(seed.as_bytes())),
    })
}

/// Checks as much of request and answer as is kept; returns the seed of the draws.
fn exchange(entry: &Entry) -> Result<Option<Seed>, VerifyError> {
    let same = |holds: bool, what| if holds { Ok(()) } else { Err(VerifyError::Mismatch(what)) };
    let (offered, said) = (&entry.quote.body, &entry.receipt.body);
    // After a crash the processor states what it is owed, and commits to nothing.
    let audit = match (&said.audit, entry.kept) {
        (Some(audit), Kept::Whole | Kept::Broken) => audit,
        (None, Kept::Whole) => return Err(VerifyError::Mismatch("audit commitment")),
        (_, Kept::Nothing) => {
            // Nothing speaks for what would be here.
            let nothing = entry.request.is_empty()
                && entry.answer.is_empty()
                && entry.prompt_ids.is_empty()
                && entry.output_ids.is_empty();
            same(nothing, "request or answer, of which nothing should be here")?;
            return Ok(None);
        }
        (None, Kept::Broken) => return Ok(None),
    };
    same(said.request == salted_digest(&entry.salt, entry.request.as_bytes()), "request")?;
    same(audit.prompt_ids == salted_ids_digest(&entry.salt, &entry.prompt_ids), "prompt's tokens")?;
    if let Some(nonce) = &audit.processor_nonce {
        same(verify_nonce(&offered.nonce_root, nonce), "processor's nonce")?;
    }
    let all_ids = audit.output_ids == salted_ids_digest(&entry.salt, &entry.output_ids);
    if entry.kept == Kept::Whole || all_ids {
        same(said.response == salted_digest(&entry.salt, entry.answer.as_bytes()), "answer")?;
        same(all_ids, "answer's tokens")?;
        // A prompt counts with the first delivery: where nothing came, it was for nothing.
        let nothing_came = entry.output_ids.is_empty() && entry.prompt_tokens == 0 && entry.cost.is_zero();
        same(
            nothing_came || entry.prompt_tokens == entry.prompt_ids.len() as u64,
            "number of prompt tokens",
        )?;
        same(entry.completion_tokens == entry.output_ids.len() as u64, "number of answer tokens")?;
    }
    Ok(Some(Seed::from_commitment(audit, &ids_digest(&entry.prompt_ids), &offered.hash(), &offered.model)))
}
