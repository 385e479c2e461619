//! Bringing what was earned to the ledger.
//!
//! Approved claims pay at once and go together once a channel has been quiet for a moment, and on one
//! that is never quiet every now and then, also while the lane's next request runs. A receipt
//! that nobody approves is claimed with its voucher after some patience; it carries the receipt, so
//! it claims what was spent and no grain more, and is withdrawn when the ledger's grace is over. A
//! closing channel takes no further tokens (see `deliver.rs`), is settled at once, and is closed when
//! nothing is running or pending on it any more; its book is forgotten then.

mod memory;

use crate::{app::App, books::Book, error::Refused, event::Event, traces};
use gristmill_channel::{LedgerView, Payee, PayeeError, Phase, ReceiptParts, Settlement};
use gristmill_client::{ChannelRecords, ClientError, ledger_view, schema::Inclusion};
use gristmill_ledger::{
    Event as LedgerEvent, keys,
    params::{MAX_CLAIMS, MAX_TX_BYTES},
    record::{Model, Stored},
    tx::{ClaimProof, CloseChannel, MaturedLane, RaiseFloor, Settle, SettleClaim, Withdraw},
};
use gristmill_metrics::{count, gauge};
use gristmill_types::{Amount, ChannelId, ChannelTerms, Digest, LineId, ModelId, encode};
use memory::{Memory, PendingClaim, total};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often the books are looked over.
const ROUND: Duration = Duration::from_millis(250);
/// How often it is looked whether the last approvals have come.
const APPROVAL_LOOK: Duration = Duration::from_millis(20);
/// How often a channel with something pending on the ledger is read again.
const REREAD: Duration = Duration::from_secs(5);
/// Bytes of claims in one transaction at most; the rest of its bound is for terms and envelope.
const BATCH_BYTES: usize = MAX_TX_BYTES - 4 * 1024;
/// With fewer fresh lanes left the floor is raised even where nothing is worth claiming.
const LANES_LOW: u32 = 8;
/// A fee for that may be this part of what the channel has paid, each time.
const ROOM_DIVISOR: u128 = 8;
/// The fee may be this part of a settlement at most, unless the channel is closing.
const FEE_DIVISOR: u128 = 2;

/// What a look at a channel came to.
enum Round {
    Open,
    /// The channel is closed and forgotten.
    Over,
}

/// Runs until the processor stops.
pub(crate) async fn run(app: Arc<App>) {
    let mut memories: HashMap<ChannelId, Memory> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            () = app.stop.all.cancelled() => break,
        }
        let mut pending = Amount::ZERO;
        for book in app.books.all() {
            let channel = book.payee().id();
            let memory = memories.entry(channel).or_default();
            pending = total([pending, memory.pending_on(&book)].into_iter());
            if memory.retry_at.is_some_and(|at| Instant::now() < at) {
                continue;
            }
            memory.retry_at = None;
            match round(&app, &book, memory, false).await {
                Ok(Round::Open) => {}
                Ok(Round::Over) => drop(memories.remove(&channel)),
                Err(error) => {
                    tracing::warn!(%channel, ?error, "a channel could not be settled; trying again");
                    app.metrics.settle_errors.inc();
                    memory.retry_at = Some(Instant::now() + REREAD);
                }
            }
        }
        app.metrics.pending.set(gauge(pending.grains()));
    }
}

/// Waits until every receipt that is worth something has its approval.
pub(crate) async fn all_approved(app: &Arc<App>) {
    let waits = |book: &Arc<Book>| book.payee().claims_to_settle().iter().any(|of| of.owed > of.at_once);
    while app.books.all().iter().any(waits) {
        tokio::time::sleep(APPROVAL_LOOK).await;
    }
}

/// Settles whatever is approved, for a clean stop.
pub(crate) async fn settle_all(app: &Arc<App>) {
    for book in app.books.all() {
        let channel = book.payee().id();
        if let Err(error) = round(app, &book, &mut Memory::default(), true).await {
            tracing::warn!(%channel, ?error, "a channel is left unsettled; the next start settles it");
        }
    }
}

async fn round(app: &Arc<App>, book: &Arc<Book>, memory: &mut Memory, now: bool) -> Result<Round, Refused> {
    let phase = book.payee().view().phase;
    if phase == Phase::Closed {
        answer_open_vouchers(app, book).await?;
        return Ok(if app.books.forget(book).await? { Round::Over } else { Round::Open });
    }
    answer_open_vouchers(app, book).await?;
    let closing = matches!(phase, Phase::Closing { .. });
    let unread = memory.read.is_none_or(|at| at.elapsed() >= REREAD);
    let something = closing || !memory.pending.is_empty() || !book.payee().claims_to_settle().is_empty();
    if memory.read.is_none() && something || unread && (closing || !memory.pending.is_empty()) {
        reread(app, book, memory).await?;
    }
    withdraw_matured(app, book, memory).await?;
    settle(app, book, memory, closing, now || closing).await?;
    let idle = book.payee().is_idle();
    let claims = book.payee().claims_to_settle();
    let left = !memory.news(claims, closing).is_empty();
    if closing && idle && !left && memory.pending.is_empty() && memory.read.is_some() {
        close(app, book, memory).await?;
    }
    Ok(Round::Open)
}

/// Claims what is approved, when it is time or `now`, and what waited in vain for its approval.
async fn settle(
    app: &Arc<App>,
    book: &Arc<Book>,
    memory: &mut Memory,
    closing: bool,
    now: bool,
) -> Result<(), Refused> {
    let at = Instant::now();
    let claims = {
        let payee = book.payee();
        let claims = memory.news(payee.claims_to_settle(), closing);
        memory.note(&claims, payee.view(), at);
        claims
    };
    let patience = if closing { Duration::ZERO } else { app.config.approval_patience };
    let mut late = memory.late(&claims, patience, closing, at);
    let part = |of: &Settlement| if late.contains(&of.lane) { of.owed } else { of.at_once };
    let owed = total(claims.iter().filter(|of| late.contains(&of.lane)).map(part));
    let at_once = total(claims.iter().filter(|of| !late.contains(&of.lane)).map(part));
    let (scarce, unfinished) = {
        let payee = book.payee();
        (!closing && payee.lanes_left() < LANES_LOW, payee.retiring() > payee.view().floor)
    };
    let fee = app.genesis.params.fees.settle.grains();
    let worth = |amount: Amount| closing || amount.grains() >= fee.saturating_mul(FEE_DIVISOR).max(1);
    if !worth(owed) {
        late.clear();
    }
    let approved = !at_once.is_zero() && worth(at_once) && (now || memory.is_due(&app.config, at));
    if approved || !late.is_empty() {
        submit_claims(app, book, &claims, &late, memory).await?;
        return reread(app, book, memory).await;
    }
    if (scarce || unfinished) && memory.tried.is_none_or(|tried| tried.elapsed() >= REREAD) {
        memory.tried = Some(at);
        make_room(app, book, memory, &claims, unfinished).await?;
    }
    Ok(())
}

/// Raises the floor for a payer that waits for a lane and therefore brings nothing that would be worth
/// a fee. Whoever wants that has to have paid several times as much on the channel.
async fn make_room(
    app: &Arc<App>,
    book: &Arc<Book>,
    memory: &mut Memory,
    claims: &[Settlement],
    unfinished: bool,
) -> Result<(), Refused> {
    let fee = app.genesis.params.fees.settle.grains();
    let (earned, freed) = {
        let payee = book.payee();
        let view = payee.view();
        (view.settled.grains(), payee.retirable(app.now_ms()).saturating_sub(view.floor))
    };
    let affordable =
        earned >= fee.saturating_mul(ROOM_DIVISOR).saturating_mul(memory.rooms.saturating_add(1));
    let approved = claims.iter().any(|claim| !claim.at_once.is_zero());
    if !affordable || !(approved || unfinished || freed >= LANES_LOW) {
        return Ok(());
    }
    if approved {
        submit_claims(app, book, claims, &BTreeSet::new(), memory).await?;
    } else {
        submit(app, book, Vec::new(), memory).await.map_err(ledger)?;
    }
    memory.rooms = memory.rooms.saturating_add(1);
    reread(app, book, memory).await
}

/// A voucher that came too late, or whose request a crash cut off, gets a receipt, so that the payer
/// knows where the lane stands.
async fn answer_open_vouchers(app: &Arc<App>, book: &Arc<Book>) -> Result<(), Refused> {
    let lanes = book.payee().unanswered();
    for lane in lanes {
        let nothing = Digest::new([0; 32]);
        let parts = ReceiptParts { request: nothing, response: nothing, last: true, audit: None };
        let ((), queued) = book
            .change(|payee| {
                if !payee.unanswered().contains(&lane) {
                    return Ok(((), Vec::new()));
                }
                let (_, pending) = payee.receipt(lane, parts, &app.config.receipt_key)?;
                Ok(((), vec![pending]))
            })
            .await?;
        queued.durable().await?;
    }
    Ok(())
}

async fn submit_claims(
    app: &Arc<App>,
    book: &Arc<Book>,
    claims: &[Settlement],
    late: &BTreeSet<u32>,
    memory: &mut Memory,
) -> Result<(), Refused> {
    let mut items = Vec::new();
    for claim in claims {
        let lines = app.lines_of(&claim.voucher.body.0.model).await?;
        let item = match (&claim.approval, late.contains(&claim.lane)) {
            (Some(approval), false) => {
                SettleClaim { lines, proof: ClaimProof::Approval(approval.clone()), receipt: None }
            }
            (_, true) => SettleClaim {
                lines,
                proof: ClaimProof::Voucher(claim.voucher.clone()),
                receipt: Some(Box::new(claim.receipt.clone())),
            },
            (None, false) => continue,
        };
        items.push(item);
    }
    for claims in batches(items) {
        if let Err(error) = submit(app, book, claims.clone(), memory).await {
            // One bad claim must not hold up the others: each is tried alone, once.
            if !error.is_final() {
                return Err(ledger(error));
            }
            for claim in claims {
                let of = *claim.proof.claim();
                match submit(app, book, vec![claim], memory).await {
                    Ok(()) => {}
                    Err(error) if error.is_final() => {
                        memory.refused.insert((of.lane, of.seq));
                        app.emit(Event::Warning {
                            message: format!(
                                "the ledger refused a claim on lane {} of channel {}: {error}",
                                of.lane,
                                of.channel.short()
                            ),
                        });
                    }
                    Err(error) => return Err(ledger(error)),
                }
            }
        }
    }
    memory.brought(claims, late);
    Ok(())
}

/// Claims in transactions that the ledger takes: bounded in number and in bytes.
fn batches(items: Vec<SettleClaim>) -> Vec<Vec<SettleClaim>> {
    let mut batches: Vec<Vec<SettleClaim>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = encode(&item).len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_CLAIMS && bytes + length <= BATCH_BYTES => {
                bytes += length;
                batch.push(item);
            }
            _ => {
                bytes = length;
                batches.push(vec![item]);
            }
        }
    }
    batches
}

async fn submit(
    app: &Arc<App>,
    book: &Arc<Book>,
    claims: Vec<SettleClaim>,
    memory: &mut Memory,
) -> Result<(), ClientError> {
    let terms = *book.payee().terms();
    // Lanes are given up where the ledger will be told: not while no fee can be paid.
    let floor = if memory.warned { None } else { app.retire(book).await.unwrap_or_default() };
    if claims.is_empty() && floor.is_none() {
        return Ok(());
    }
    let sent = app.sender.send(Settle { terms, claims, floor }).await;
    if let Err(error) = &sent
        && error.code() == Some("cannot_pay_fee")
        && !std::mem::replace(&mut memory.warned, true)
    {
        let account = app.account();
        app.emit(Event::Warning {
            message: format!(
                "what was earned cannot be settled: {error}. Send some credits to {account} soon: once a payer asks to \
                 close its channel, what is not claimed in time goes back to it"
            ),
        });
    }
    app.report(&terms, &sent?).await;
    memory.warned = false;
    Ok(())
}

async fn withdraw_matured(app: &Arc<App>, book: &Arc<Book>, memory: &mut Memory) -> Result<(), Refused> {
    let clock_ms = app.ledger_clock_ms();
    let due = memory.pending.iter().filter(|of| of.deadline_ms <= clock_ms);
    let lanes: Vec<MaturedLane> =
        due.map(|of| MaturedLane { lane: of.lane, lines: of.lines.clone() }).collect();
    if lanes.is_empty() {
        return Ok(());
    }
    let terms = *book.payee().terms();
    let inclusion = app.sender.send(Withdraw { terms, lanes }).await.map_err(ledger)?;
    app.report(&terms, &inclusion).await;
    reread(app, book, memory).await
}

async fn close(app: &Arc<App>, book: &Arc<Book>, memory: &mut Memory) -> Result<(), Refused> {
    let terms = *book.payee().terms();
    let Some(records) = app.records(&terms.id()).await? else { return Ok(()) };
    let lanes = records.channel.open_lanes().collect();
    app.sender.send(CloseChannel { terms, lanes }).await.map_err(ledger)?;
    reread(app, book, memory).await
}

async fn reread(app: &Arc<App>, book: &Arc<Book>, memory: &mut Memory) -> Result<(), Refused> {
    let channel = book.payee().id();
    let Some(records) = app.records(&channel).await? else { return Ok(()) };
    memory.read = Some(Instant::now());
    let pending = records.lanes.iter().filter_map(|of| {
        let pending = of.pending.as_ref()?;
        let (through, amount) = (pending.through(), pending.effective());
        let lines = of.royalties.iter().map(|part| part.line).collect();
        Some(PendingClaim { lane: of.lane, lines, through, amount, deadline_ms: pending.deadline_ms })
    });
    memory.pending = pending.collect();
    observe(book, ledger_view(&records)).await
}

async fn observe(book: &Arc<Book>, view: LedgerView) -> Result<(), Refused> {
    let observe = |payee: &mut Payee| match payee.observe(view) {
        Ok(pending) => Ok(((), pending.into_iter().collect())),
        // Another task has seen a later block in the meantime.
        Err(PayeeError::StaleView) => Ok(((), Vec::new())),
        Err(error) => Err(error),
    };
    let ((), queued) = book.change(observe).await?;
    queued.durable().await
}

/// A failure of the ledger is nobody's fault at this end.
pub(crate) fn ledger(error: ClientError) -> Refused {
    tracing::warn!(%error, "the ledger did not do as asked");
    Refused::Request(gristmill_net::openai::ApiError::unavailable(
        "The ledger does not answer as expected.",
        5,
    ))
}

impl App {
    /// What the ledger says of a channel, proven.
    pub(crate) async fn records(&self, channel: &ChannelId) -> Result<Option<ChannelRecords>, Refused> {
        let found = self.ledger.channel(channel).await.map_err(ledger)?;
        self.clock_ms.fetch_max(found.clock_ms, Ordering::Relaxed);
        Ok(found.value)
    }

    /// The ledger's view of a channel with these terms; none if it has no such channel.
    pub(crate) async fn ledger_view(&self, terms: &ChannelTerms) -> Result<Option<LedgerView>, Refused> {
        Ok(self.records(&terms.id()).await?.as_ref().map(ledger_view))
    }

    /// Takes in what the ledger says of a channel now.
    pub(crate) async fn refresh(&self, book: &Arc<Book>) -> Result<(), Refused> {
        let terms = *book.payee().terms();
        match self.ledger_view(&terms).await? {
            Some(view) => observe(book, view).await,
            None => Ok(()),
        }
    }

    /// The lines that the royalties of a model version go to, from the ledger's proven record.
    async fn lines_of(&self, model: &ModelId) -> Result<Vec<LineId>, Refused> {
        if let Some(lines) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).get(model) {
            return Ok(lines.clone());
        }
        let found = self.ledger.state(&[keys::model(model)]).await.map_err(ledger)?.value;
        let royalties = found.iter().flatten().filter_map(Model::of).map(|model| &model.royalties).next();
        let royalties = royalties.ok_or_else(|| {
            Refused::Request(gristmill_net::openai::ApiError::internal("The model is not on the ledger."))
        })?;
        let lines: Vec<LineId> = royalties.iter().map(|part| part.line).collect();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(*model, lines.clone());
        Ok(lines)
    }

    /// The floor to raise with the next settlement, where lanes are done with.
    async fn retire(&self, book: &Arc<Book>) -> Result<Option<RaiseFloor>, Refused> {
        let now_ms = self.now_ms();
        let ((), queued) = book.change(|payee| Ok(((), payee.retire(now_ms)?.into_iter().collect()))).await?;
        queued.durable().await?;
        let (channel, floor, to) = {
            let payee = book.payee();
            (payee.id(), payee.view().floor, payee.retiring())
        };
        if to <= floor {
            return Ok(None);
        }
        let Some(records) = self.records(&channel).await? else { return Ok(None) };
        // A lane with a pending claim cannot be given up.
        let to = records.channel.pending_lanes().next().map_or(to, |pending| to.min(pending));
        if to <= records.channel.lane_floor {
            return Ok(None);
        }
        let remove = records.channel.open_lanes().filter(|lane| *lane < to).collect();
        Ok(Some(RaiseFloor { to, remove }))
    }

    /// Tells the owner what a transaction paid.
    async fn report(&self, terms: &ChannelTerms, inclusion: &Inclusion) {
        let [mut earned, mut royalty, mut owed, mut bonded] = [Amount::ZERO; 4];
        let add = |sum: &mut Amount, part: Amount| *sum = sum.checked_add(part).unwrap_or(*sum);
        for event in &inclusion.outcome.events {
            if let LedgerEvent::ClaimPaid { earned: e, owed: o, bonded: b, royalties, .. } = event {
                add(&mut earned, *e);
                add(&mut owed, *o);
                add(&mut bonded, *b);
                royalties.iter().for_each(|part| add(&mut royalty, part.amount));
            }
        }
        let fee = inclusion.outcome.fee;
        self.metrics.fees.inc_by(count(fee.grains()));
        if earned.is_zero() && royalty.is_zero() {
            return;
        }
        self.metrics.earned.inc_by(count(earned.grains()));
        self.metrics.royalties.inc_by(count(royalty.grains()));
        let (height, transaction) = (inclusion.height, inclusion.outcome.hash);
        tracing::info!(channel = %terms.id(), %transaction, height, %earned, %royalty, %fee, "settled");
        if let Err(error) = traces::settled(&self.store, inclusion).await {
            tracing::warn!(%error, "a settlement is not noted in its requests' traces");
        }
        let channel = terms.id();
        self.emit(Event::Settled { channel, transaction, earned, owed, bonded, royalty, fee });
    }
}

#[cfg(test)]
mod tests;
