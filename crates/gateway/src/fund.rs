//! Opening channels and topping them up.
//!
//! A transaction is written down before it is sent, and the same bytes are sent again after a
//! crash: the ledger applies it at most once.

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
use gristmill_types::{Amount, ChannelId, ChannelTerms, TxHash};
use std::sync::Arc;

/// So many contests a spending key keeps the fees of.
const CONTESTS: u128 = 64;
/// Transactions of ours that may not be final yet.
pub(crate) const SCHEMA: gristmill_store::Migration =
    gristmill_store::Migration { sql: "CREATE TABLE sent (hash TEXT PRIMARY KEY, tx BLOB NOT NULL) STRICT;" };

impl App {
    /// An open channel to the quote's processor; a new one is opened where there is none.
    pub(crate) async fn channel_for(&self, challenge: &Challenge) -> Result<ChannelId, BuyError> {
        if let Some(channel) = self.open_channel_for(challenge) {
            return Ok(channel);
        }
        // One at a time: requests that come together share the channel that the first one opens.
        let _opening = self.funding.lock().await;
        if let Some(channel) = self.open_channel_for(challenge) {
            return Ok(channel);
        }
        self.open(challenge).await
    }

    fn open_channel_for(&self, challenge: &Challenge) -> Option<ChannelId> {
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

    async fn open(&self, challenge: &Challenge) -> Result<ChannelId, BuyError> {
        let quote = &challenge.quote().body;
        let params = &self.genesis.params;
        let available = self.available(params.fees.open_channel).await?;
        let deposit = self.config.deposit.min(available);
        if deposit < params.min_deposit {
            let needed = params.min_deposit.checked_add(params.fees.open_channel).unwrap_or(deposit);
            return Err(BuyError::Empty { balance: available, needed, processor: quote.processor });
        }
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
        let tx = self.carry_out(open).await?;
        let (channel, transaction) = (terms(tx.body.nonce).id(), tx_hash(&tx));
        self.emit(Event::ChannelOpened { channel, processor: quote.processor, deposit, transaction });
        Ok(channel)
    }

    /// Adds to a channel's deposit: the usual amount, or what is needed, or what the account has.
    pub(crate) async fn top_up(&self, channel: &ChannelId, needed: Amount) -> Result<(), BuyError> {
        let _funding = self.funding.lock().await;
        let terms = {
            let mut accounts = self.accounts.lock();
            let payer = accounts.payer(channel)?;
            if payer.room() >= needed {
                return Ok(());
            }
            *payer.terms()
        };
        let fee = self.genesis.params.fees.top_up;
        let available = self.available(fee).await?;
        if available < needed {
            let needed = needed.checked_add(fee).unwrap_or(needed);
            return Err(BuyError::Empty { balance: available, needed, processor: terms.payee });
        }
        let amount = needed.max(self.config.deposit.min(available));
        let tx = self.carry_out(|_| Body::from(TopUp { terms, amount })).await?;
        self.emit(Event::ChannelToppedUp { channel: *channel, amount, transaction: tx_hash(&tx) });
        Ok(())
    }

    /// Signs a transaction, writes it down, and sees it through. Where somebody else sent for the account
    /// in the meantime, it signs once more: the first had no effect.
    async fn carry_out(&self, body: impl Fn(u64) -> Body) -> Result<SignedTx, BuyError> {
        let mut again = true;
        loop {
            let tx = self.sender.prepare_with(&body).await?;
            self.remember(&tx).await?;
            match self.complete(&tx).await {
                Ok(()) => return Ok(tx),
                Err(BuyError::Ledger(error)) if again && error.is_stale_nonce() => again = false,
                // Account and spending key count from 0 both: the other has opened the same channel before.
                Err(BuyError::Ledger(ClientError::Rejected { rejection, .. }))
                    if again && rejection == Rejection::ChannelExists =>
                {
                    again = false;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the account can put into a channel after the fee.
    async fn available(&self, fee: Amount) -> Result<Amount, BuyError> {
        let (payer, key) = (self.config.payer, self.config.key.account());
        let balance = self.ledger.balance(&payer, &self.config.issuer).await?.value;
        if payer == key {
            return Ok(balance.saturating_sub(fee));
        }
        let of_key = self.ledger.state(&[keys::spending_key(&payer, &key)]).await?.value;
        let left = of_key.iter().flatten().find_map(SpendingKey::of);
        let left = left.map_or(Amount::ZERO, |of| of.limit.saturating_sub(of.spent));
        // Something is left to contest claims with, should the key have to pay for that.
        let fees = &self.genesis.params.fees;
        let contests = fees.show_receipt.checked_mul_div(CONTESTS, 1).unwrap_or_default();
        let left = left.saturating_sub(contests);
        Ok(balance.min(left).saturating_sub(fee))
    }

    async fn remember(&self, tx: &SignedTx) -> Result<(), StoreError> {
        let values = [Value::Text(tx_hash(tx).to_string()), Value::Blob(tx.to_bytes())];
        self.store
            .write(Batch::new().sql("INSERT OR IGNORE INTO sent (hash, tx) VALUES (?1, ?2)", values))
            .await
    }

    /// Sends a transaction that is written down, waits until it is final, and takes in its effect.
    async fn complete(&self, tx: &SignedTx) -> Result<(), BuyError> {
        let hash = tx_hash(tx);
        let result = self.sender.submit(tx).await;
        if let Err(error) = &result
            && error.is_temporary()
        {
            return result.map(drop).map_err(Into::into);
        }
        let taken = match (&result, &tx.body.body) {
            (Ok(_), Body::OpenChannel(open)) => self.take_on(open.terms).await,
            (Ok(_), Body::TopUp(top_up)) => self.observe(&top_up.terms.id()).await,
            _ => Ok(()),
        };
        taken?;
        self.forget(&hash).await?;
        result.map(drop).map_err(Into::into)
    }

    async fn forget(&self, hash: &TxHash) -> Result<(), StoreError> {
        let batch = Batch::new().sql("DELETE FROM sent WHERE hash = ?1", [Value::Text(hash.to_string())]);
        self.store.write(batch).await
    }

    /// Starts the book of a channel that the ledger shows.
    async fn take_on(&self, terms: ChannelTerms) -> Result<(), BuyError> {
        let channel = terms.id();
        if self.accounts.lock().payer(&channel).is_ok() {
            return self.observe(&channel).await;
        }
        let view = self.view(&channel).await?.ok_or(BuyError::NoChannel)?;
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
    pub(crate) async fn resume(self: &Arc<Self>) -> Result<(), BuyError> {
        for bytes in sent(&self.store).await? {
            let tx = decode_tx(&bytes)
                .map_err(|error| BuyError::Damaged(format!("a sent transaction ({error})")))?;
            if let Err(error) = self.complete(&tx).await {
                self.warn(format!(
                    "transaction {} of an earlier run did not take effect: {error}",
                    tx_hash(&tx).short()
                ));
            }
        }
        Ok(())
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
