//! Opening channels and topping them up.
//!
//! A transaction is written down before it is sent, and the same bytes are sent again after a crash, or when the
//! ledger was away: it applies them at most once. No other is signed before it is known what became of them.

use crate::{
    app::App,
    error::{BuyError, StartError},
    event::Event,
};
use gristmill_channel::{LedgerView, Payer, PayerError, Phase};
use gristmill_client::{ClientError, ledger_view};
use gristmill_ledger::{
    Body, Rejection, SignedTx, decode_tx, keys,
    record::{SpendingKey, Stored},
    tx::{OpenChannel, TopUp, tx_hash},
};
use gristmill_net::pay::Challenge;
use gristmill_store::{Batch, Store, StoreError, rusqlite::types::Value};
use gristmill_types::{AccountId, Amount, ChannelId, ChannelTerms, TxHash};
use std::time::Duration;

/// How long what was sent earlier is waited for: a request waits behind it.
const SENT_PATIENCE: Duration = Duration::from_secs(5);
/// The turn to sign and send.
pub(crate) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;
/// So many contests a spending key keeps the fees of.
const CONTESTS: u128 = 64;
/// A channel gets no more of what is there than one part in so many, unless more is needed: there may be others to
/// pay.
const PARTS: u128 = 4;
/// But at least so many times the fee for bringing it there.
const FEES: u128 = 64;
/// Transactions of ours that may not be final yet.
pub(crate) const SCHEMA: gristmill_store::Migration =
    gristmill_store::Migration { sql: "CREATE TABLE sent (hash TEXT PRIMARY KEY, tx BLOB NOT NULL) STRICT;" };

/// What channels can be paid from.
pub(crate) struct Means {
    /// The paying account's balance.
    pub(crate) account: Amount,
    /// Where a spending key signs, what that may spend.
    pub(crate) of_key: Option<Holds>,
}

/// How much to add where that is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adding {
    /// So that a part of what is there is free in the channel.
    Part,
    /// All.
    All,
}

/// What limits what can be put into channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The account's balance.
    Account(Amount),
    /// What a spending key may still spend, and what of that is kept to contest claims.
    Key { left: Amount, kept: Amount },
    /// A spending key that the account has not authorised, or not any more.
    NoKey,
}

impl std::fmt::Display for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(balance) => write!(f, "the account holds {balance} credits"),
            Self::Key { left, kept } => write!(
                f,
                "the spending key's limit leaves {left} credits, of which {} are kept to contest false claims",
                kept.min(left)
            ),
            Self::NoKey => f.write_str("the gateway's spending key is revoked, or was never authorised"),
        }
    }
}

impl Means {
    /// Why they do not suffice.
    fn empty(&self, needed: Amount, processor: AccountId) -> BuyError {
        let of_key = self.of_key.filter(|_| self.account >= needed);
        BuyError::Empty { holds: of_key.unwrap_or(Holds::Account(self.account)), needed, processor }
    }

    pub(crate) fn spendable(&self) -> Amount {
        match self.of_key {
            None => self.account,
            Some(Holds::Account(balance)) => balance,
            Some(Holds::Key { left, kept }) => left.saturating_sub(kept).min(self.account),
            Some(Holds::NoKey) => Amount::ZERO,
        }
    }
}

/// What to bring into a channel where nothing says that more is needed.
fn portion(available: Amount, usual: Amount, fee: Amount) -> Amount {
    let part = available.checked_mul_div(1, PARTS).unwrap_or(Amount::ZERO);
    let worth_it = fee.checked_mul_div(FEES, 1).unwrap_or(part);
    part.max(worth_it).min(usual).min(available)
}

impl App {
    /// An open channel to the quote's processor; where there is none, a new one is opened, unless what there is does
    /// not suffice for so much in it.
    pub(crate) async fn channel_for(
        &self,
        challenge: &Challenge,
        least: Amount,
    ) -> Result<ChannelId, BuyError> {
        if let Some(channel) = self.open_channel_for(challenge) {
            return Ok(channel);
        }
        // Requests that come together share the channel that the first one opens.
        let turn = self.funding_turn().await?;
        if let Some(channel) = self.open_channel_for(challenge) {
            return Ok(channel);
        }
        self.open(&turn, challenge, least).await
    }

    /// One opening or top-up at a time, and none while an earlier one may yet become final: what it brings would be
    /// paid for twice.
    pub(crate) async fn funding_turn(&self) -> Result<Turn<'_>, BuyError> {
        let turn = self.funding.lock().await;
        self.complete_sent(&turn).await?;
        Ok(turn)
    }

    pub(crate) fn open_channel_for(&self, challenge: &Challenge) -> Option<ChannelId> {
        let quote = &challenge.quote().body;
        let accounts = self.accounts.lock();
        accounts
            .payers_to(&quote.processor)
            .filter(|payer| {
                payer.view().phase == Phase::Open
                    && payer.terms().receipt_key == quote.receipt_key
                    && payer.terms().issuer == quote.issuer
            })
            .max_by_key(|payer| payer.terms().open_nonce)
            .map(Payer::id)
    }

    async fn open(
        &self,
        turn: &Turn<'_>,
        challenge: &Challenge,
        least: Amount,
    ) -> Result<ChannelId, BuyError> {
        let quote = &challenge.quote().body;
        let params = &self.genesis.params;
        let fee = params.fees.open_channel;
        let means = self.means().await?;
        let available = means.spendable().saturating_sub(fee);
        let least = least.max(params.min_deposit);
        if available < least {
            let needed = least.checked_add(fee).unwrap_or(least);
            return Err(means.empty(needed, quote.processor));
        }
        let deposit = portion(available, self.config.deposit, fee).max(least);
        let terms = |open_nonce| ChannelTerms {
            chain: self.ledger.chain(),
            payer: self.config.payer,
            payee: quote.processor,
            issuer: quote.issuer,
            voucher_key: self.accounts.voucher_key().account(),
            receipt_key: quote.receipt_key,
            grace_ms: params.default_grace_ms,
            open_nonce,
        };
        let open = |nonce| Body::from(OpenChannel { terms: terms(nonce), deposit });
        let tx = self.carry_out(turn, open).await?;
        let (channel, transaction) = (terms(tx.body.nonce).id(), tx_hash(&tx));
        self.emit(Event::ChannelOpened { channel, processor: quote.processor, deposit, transaction });
        Ok(channel)
    }

    /// Adds to a channel's deposit, so that as much as is needed is free in it: the usual amount, or what the account
    /// has, or what is missing.
    pub(crate) async fn top_up(
        &self,
        turn: &Turn<'_>,
        channel: &ChannelId,
        needed: Amount,
    ) -> Result<(), BuyError> {
        let (terms, missing) = {
            let mut accounts = self.accounts.lock();
            let payer = accounts.payer(channel)?;
            (*payer.terms(), needed.saturating_sub(payer.room()))
        };
        if missing.is_zero() {
            return Ok(());
        }
        let fee = self.genesis.params.fees.top_up;
        let means = self.means().await?;
        let available = means.spendable().saturating_sub(fee);
        if available < missing {
            let needed = missing.checked_add(fee).unwrap_or(missing);
            return Err(means.empty(needed, terms.payee));
        }
        let amount = missing.max(portion(available, self.config.deposit, fee));
        self.send_top_up(turn, terms, amount).await
    }

    /// Adds what there is to a channel in which so much is free, though it is less than is needed.
    pub(crate) async fn add(
        &self,
        turn: &Turn<'_>,
        channel: &ChannelId,
        adding: Adding,
        free: Amount,
    ) -> Result<(), BuyError> {
        let (fee, available) = (self.genesis.params.fees.top_up, self.addable().await?);
        let amount = match adding {
            Adding::Part => Some(portion(available, self.config.deposit, fee)).filter(|part| *part > free),
            Adding::All => Some(available),
        };
        let terms = *self.accounts.lock().payer(channel)?.terms();
        match amount.filter(|amount| !amount.is_zero()) {
            Some(amount) => self.send_top_up(turn, terms, amount).await,
            None => Ok(()),
        }
    }

    /// What a top-up could bring at most.
    pub(crate) async fn addable(&self) -> Result<Amount, BuyError> {
        Ok(self.means().await?.spendable().saturating_sub(self.genesis.params.fees.top_up))
    }

    /// Whether a channel to the processor is open.
    pub(crate) fn has_channel(&self, processor: &AccountId) -> bool {
        self.accounts.lock().payers_to(processor).any(|payer| payer.view().phase == Phase::Open)
    }

    async fn send_top_up(
        &self,
        turn: &Turn<'_>,
        terms: ChannelTerms,
        amount: Amount,
    ) -> Result<(), BuyError> {
        let tx = self.carry_out(turn, |_| Body::from(TopUp { terms, amount })).await?;
        self.emit(Event::ChannelToppedUp { channel: terms.id(), amount, transaction: tx_hash(&tx) });
        Ok(())
    }

    /// Signs a transaction, writes it down, and sees it through. Where somebody else sent for the account
    /// in the meantime, it signs once more: the first had no effect.
    async fn carry_out(&self, turn: &Turn<'_>, body: impl Fn(u64) -> Body) -> Result<SignedTx, BuyError> {
        let mut again = true;
        loop {
            let tx = self.sender.prepare_with(&body).await?;
            self.remember(&tx).await?;
            let Err(error) = self.complete(turn, &tx, Duration::MAX).await? else { return Ok(tx) };
            // Account and spending key count from 0 both: the other has opened the same channel before.
            let exists = |error: &ClientError| {
                matches!(error, ClientError::Rejected { rejection: Rejection::ChannelExists, .. })
            };
            if !(again && (error.is_stale_nonce() || exists(&error))) {
                return Err(error.into());
            }
            again = false;
        }
    }

    /// What there is to put into channels.
    pub(crate) async fn means(&self) -> Result<Means, ClientError> {
        let (payer, key) = (self.config.payer, self.config.key.account());
        let account = self.ledger.balance(&payer, &self.config.issuer).await?.value;
        if payer == key {
            return Ok(Means { account, of_key: None });
        }
        let of_key = self.ledger.state(&[keys::spending_key(&payer, &key)]).await?.value;
        let Some(of) = of_key.iter().flatten().find_map(SpendingKey::of) else {
            return Ok(Means { account, of_key: Some(Holds::NoKey) });
        };
        // Something is left to contest claims with, should the key have to pay for that.
        let fees = &self.genesis.params.fees;
        let kept = fees.show_receipt.checked_mul_div(CONTESTS, 1).unwrap_or_default();
        Ok(Means { account, of_key: Some(Holds::Key { left: of.limit.saturating_sub(of.spent), kept }) })
    }

    async fn remember(&self, tx: &SignedTx) -> Result<(), StoreError> {
        let values = [Value::Text(tx_hash(tx).to_string()), Value::Blob(tx.to_bytes())];
        self.store
            .write(Batch::new().sql("INSERT OR IGNORE INTO sent (hash, tx) VALUES (?1, ?2)", values))
            .await
    }

    /// Sends a transaction that is written down, waits until it is final, and takes in its effect. Says why it
    /// had none; fails where it stays written down, because it may have one yet.
    async fn complete(
        &self,
        _turn: &Turn<'_>,
        tx: &SignedTx,
        patience: Duration,
    ) -> Result<Result<(), ClientError>, BuyError> {
        let result = match tokio::time::timeout(patience, self.sender.submit(tx)).await {
            Err(_) => {
                return Err(ClientError::NotFinal { hash: tx_hash(tx), seconds: patience.as_secs() }.into());
            }
            Ok(Err(error)) if error.is_temporary() => return Err(error.into()),
            Ok(result) => result.map(drop),
        };
        match (&result, &tx.body.body) {
            (Ok(()), Body::OpenChannel(open)) => self.take_on(open.terms).await?,
            (Ok(()), Body::TopUp(top_up)) => self.observe_known(&top_up.terms.id()).await?,
            _ => {}
        }
        self.forget(&tx_hash(tx)).await?;
        Ok(result)
    }

    /// Completes what was sent before and is still written down.
    async fn complete_sent(&self, turn: &Turn<'_>) -> Result<(), BuyError> {
        for bytes in sent(&self.store).await? {
            let tx = decode_tx(&bytes)
                .map_err(|error| BuyError::Damaged(format!("a sent transaction ({error})")))?;
            // A ledger that does not even take it is not waited for.
            if let Err(error) = self.ledger.submit(&tx).await
                && error.is_temporary()
            {
                return Err(error.into());
            }
            let error = match self.complete(turn, &tx, SENT_PATIENCE).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(BuyError::Ledger(error)) if error.is_temporary() => return Err(error.into()),
                Err(error @ BuyError::Store(_)) => return Err(error),
                // It stays written down, and keeps no other from being completed.
                Err(error) => error.to_string(),
            };
            let of = tx_hash(&tx).short();
            self.warn(format!("transaction {of}, sent earlier, did not take effect: {error}"));
        }
        Ok(())
    }

    async fn forget(&self, hash: &TxHash) -> Result<(), StoreError> {
        let batch = Batch::new().sql("DELETE FROM sent WHERE hash = ?1", [Value::Text(hash.to_string())]);
        self.store.write(batch).await
    }

    /// Starts the book of a channel that the ledger shows.
    async fn take_on(&self, terms: ChannelTerms) -> Result<(), BuyError> {
        let channel = terms.id();
        if self.knows(&channel) {
            return self.observe_known(&channel).await;
        }
        let view = self.view(&channel).await?.ok_or(BuyError::NoChannel)?;
        if view.phase == Phase::Closed {
            return Ok(());
        }
        let (payer, first) = Payer::open(terms, view, self.accounts.voucher_key().clone())?;
        let ((), queued) = self
            .accounts
            .change(|state| {
                state.open(payer, first);
                Ok(())
            })
            .await?;
        queued.durable().await
    }

    fn knows(&self, channel: &ChannelId) -> bool {
        self.accounts.lock().payer(channel).is_ok()
    }

    /// Takes in what the ledger says of a channel, unless it was closed and is forgotten.
    async fn observe_known(&self, channel: &ChannelId) -> Result<(), BuyError> {
        match self.observe(channel).await {
            Err(BuyError::NoChannel) if !self.knows(channel) => Ok(()),
            other => other,
        }
    }

    /// What the ledger says of a channel, proven.
    pub(crate) async fn view(&self, channel: &ChannelId) -> Result<Option<LedgerView>, BuyError> {
        Ok(self.ledger.channel(channel).await?.value.as_ref().map(ledger_view))
    }

    /// Takes in what the ledger says of a channel of ours.
    pub(crate) async fn observe(&self, channel: &ChannelId) -> Result<(), BuyError> {
        let view = self.view(channel).await?.ok_or(BuyError::NoChannel)?;
        let (overclaimed, queued) = self
            .accounts
            .change(|state| {
                let (observed, pending) = match state.payer(channel)?.observe(view) {
                    // Another task has seen a later block in the meantime.
                    Err(PayerError::StaleView) => return Ok(Vec::new()),
                    other => other?,
                };
                if let Some(pending) = pending {
                    state.record_whole(channel, pending);
                }
                for (lane, _) in &observed.overclaimed {
                    // A lane that is not known here has nobody's budget.
                    if state.payer(channel)?.lane_use(*lane).is_ok() {
                        state.record(channel, *lane, None)?;
                    }
                }
                for of in &observed.retired {
                    state.close_lane(channel, of)?;
                }
                if state.payer(channel)?.view().phase == Phase::Closed {
                    state.forget(channel);
                    self.forget_orphans(channel);
                }
                Ok(observed.overclaimed)
            })
            .await?;
        queued.durable().await?;
        for (lane, amount) in overclaimed {
            self.warn(format!(
                "the processor was paid {amount} credits on lane {lane} of channel {}, more than its receipts say; it counts as spent",
                channel.short()
            ));
        }
        Ok(())
    }

    /// Sends again what may not have been final when the gateway last stopped.
    pub(crate) async fn resume(&self) -> Result<(), BuyError> {
        let turn = self.funding.lock().await;
        match self.complete_sent(&turn).await {
            Err(error @ (BuyError::Store(_) | BuyError::Damaged(_))) => Err(error),
            Err(error) => {
                self.warn(format!("a transaction of an earlier run may not be final yet: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Whether what was sent is as it was written.
pub(crate) fn check(store: &Store) -> Result<(), StartError> {
    let rows: Vec<(String, Vec<u8>)> = store.read_blocking(|connection| {
        let mut query = connection.prepare("SELECT hash, tx FROM sent")?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })?;
    let right =
        |(hash, tx): &(String, Vec<u8>)| decode_tx(tx).is_ok_and(|tx| hash.parse() == Ok(tx_hash(&tx)));
    match rows.iter().find(|row| !right(row)) {
        None => Ok(()),
        Some((hash, _)) => {
            let reason = format!("the transaction {hash} is damaged");
            Err(StartError::Records { log: "sent".to_owned(), reason })
        }
    }
}

async fn sent(store: &Store) -> Result<Vec<Vec<u8>>, StoreError> {
    store
        .read(|connection| {
            let mut query = connection.prepare("SELECT tx FROM sent ORDER BY rowid")?;
            query.query_map([], |row| row.get(0))?.collect()
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_gets_a_part_of_what_is_there() {
        let grains = Amount::from_grains;
        for (available, usual, fee, expected) in [
            (1_000, 100, 1, 100),
            (1_000, 500, 1, 250),
            // Not worth the fee otherwise.
            (1_000, 500, 5, 320),
            (100, 500, 5, 100),
            (0, 500, 5, 0),
        ] {
            assert_eq!(
                portion(grains(available), grains(usual), grains(fee)),
                grains(expected),
                "{available}"
            );
        }
    }
}
