//! One request, placed: from the parsed body to an answer that begins, on a lane that is reserved for it.

use crate::{
    app::App,
    error::BuyError,
    keys::random_digest,
    market::Seller,
    peer::Peer,
    prepare::{Place, Prepared, Reserved, prepare, reserve, share},
    progress::Progress,
    purchase::Purchase,
    steps::{Placed, SILENCE, Steps},
    traffic::{Draw, Traffic},
};
use bytes::Bytes;
use gristmill_audit::user_seed_nonce;
use gristmill_channel::{KeyId, PayerError};
use gristmill_net::{
    http::RequestId,
    openai::{ApiError, LimitedBy, Prompt, PromptRequest},
    pay::{Action, Challenge, PlacedOrder},
};
use gristmill_tokenizer::Transcript;
use gristmill_types::{AccountId, ChannelId, sha256};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// How often a request is placed anew when the processor refuses it before its first token, and the
/// pause before each but the first.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// How long a request for several answers waits for its turn and for all its lanes together.
const SEVERAL_PATIENCE: Duration = Duration::from_secs(30);

/// Sellers that a request is tried with, one after the other.
const SELLERS: usize = 3;

/// Places a request with the cheapest seller that takes it, and waits for its first words: where none come by the
/// seller's fault, the next one is asked. Run it in a task of its own: see [`Purchase::next`].
///
/// Fails where nobody began an answer. `gone` is cancelled when the client goes away.
pub(crate) async fn buy(
    app: &Arc<App>,
    key: KeyId,
    request: &PromptRequest,
    progress: &Arc<Progress>,
    gone: &CancellationToken,
) -> Result<(Seller, Steps), BuyError> {
    let silent_until = request.stream.then(|| Instant::now() + SILENCE);
    let mut failed: Option<BuyError> = None;
    let mut tried: Vec<AccountId> = Vec::new();
    // Nothing is left for a channel: others are asked only where one is open.
    let mut poor = false;
    loop {
        let seller = app.market.seller(&request.model, &app.config.issuer, &tried).await;
        let (next, error) = match (seller, failed.take()) {
            (Ok(seller), Some(before)) if poor && !app.has_channel(&seller.processor) => {
                (Some(seller.processor), before)
            }
            (Ok(seller), before) => {
                if let Some(error) = &before {
                    progress.moved_on(error);
                }
                let error = match begin(app, key, request, &seller, progress, silent_until, gone).await {
                    Ok(steps) => break Ok((seller, steps)),
                    Err(error) => error,
                };
                progress.upstream(&error);
                let empty = matches!(error, BuyError::Empty { .. });
                poor |= empty;
                let fault = at_fault(&error);
                // The channel to another may hold enough.
                let next = fault.or(empty.then_some(seller.processor));
                match before {
                    // What this one costs, or has no room for, is not why the one before it failed.
                    Some(before) if error.is_of_terms() => {
                        progress.passed_over(&error);
                        (next, before)
                    }
                    _ => (next, error),
                }
            }
            // There is no other: what the one before said counts.
            (Err(_), Some(error)) => break Err(error),
            (Err(error), None) => {
                app.blame(&error);
                (at_fault(&error), error)
            }
        };
        let Some(processor) = next else { break Err(error) };
        tried.push(processor);
        if tried.len() >= SELLERS {
            break Err(error);
        }
        failed = Some(error);
    }
    .inspect_err(|error| {
        progress.came_to(error);
    })
}

/// Places a request with the seller, and waits for its first words.
async fn begin(
    app: &Arc<App>,
    key: KeyId,
    request: &PromptRequest,
    seller: &Seller,
    progress: &Arc<Progress>,
    silent_until: Option<Instant>,
    gone: &CancellationToken,
) -> Result<Steps, BuyError> {
    let placed = buy_from(app, key, request, seller, progress, gone).await;
    let placed = placed.inspect_err(|error| app.refuses(error, progress.id()));
    let mut steps = Steps::run(placed.inspect_err(|error| app.blame(error))?);
    steps.begun(silent_until, gone).await?;
    Ok(steps)
}

/// Whose fault an error is, where another seller may do better.
pub(crate) fn at_fault(error: &BuyError) -> Option<AccountId> {
    match error {
        BuyError::Cut { error, .. } | BuyError::Unsettled { error, .. } => match &**error {
            // Who took something for it cannot say that it asks for what it may not.
            BuyError::Answered { processor, .. } => Some(*processor),
            error => at_fault(error),
        },
        BuyError::Unreachable { processor, .. }
        | BuyError::Challenge { processor, .. }
        | BuyError::Refused { processor, .. }
        | BuyError::Misbehaved { processor, .. } => Some(*processor),
        // What it says of the request itself is no fault of its own.
        BuyError::Answered { processor, error } if !is_of_request(error) => Some(*processor),
        _ => None,
    }
}

/// Whether a processor's error says that the request cannot be answered.
fn is_of_request(error: &ApiError) -> bool {
    matches!(error.status.as_u16(), 400 | 413 | 422)
}

/// Places a request with the seller, once for each answer that it asks for, on lanes of their own. All of
/// it is reserved before any of it is ordered.
async fn buy_from(
    app: &Arc<App>,
    key: KeyId,
    request: &PromptRequest,
    seller: &Seller,
    progress: &Arc<Progress>,
    gone: &CancellationToken,
) -> Result<Placed, BuyError> {
    let peer = app.peer(seller);
    progress.ask(seller.processor);
    let mut tries = 0;
    let reserved = loop {
        match reserve_all(app, key, request, (seller, &peer), gone).await {
            Err(error) if may_pass(&error, tries) => {
                progress.retried(&error);
                app.pass(seller, &mut tries).await;
            }
            other => break other?,
        }
    };
    // Each answer is a request of its own to whoever counts them.
    let others = (1..reserved.len()).map(|_| Progress::begin(&app.metrics, progress.id()));
    let counts: Vec<Arc<Progress>> = std::iter::once(Arc::clone(progress)).chain(others).collect();
    counts.iter().skip(1).for_each(|other| other.ask(seller.processor));
    let orders = reserved
        .into_iter()
        .zip(&counts)
        .map(|(reserved, progress)| place(app, key, reserved, (seller, &peer), Arc::clone(progress), gone));
    let mut placed = futures::future::join_all(orders).await;
    if !placed.iter().all(Result::is_err) {
        return Ok(counts.into_iter().zip(placed).collect());
    }
    // None is placed: the first goes on with another seller, or fails as the request does.
    let mut first = Err(BuyError::NoChannel);
    for (index, (progress, placed)) in counts.iter().zip(placed.drain(..)).enumerate() {
        match placed {
            Err(error) if index > 0 => progress.dropped(&error),
            placed => first = placed,
        }
    }
    first.map(|_| Vec::new())
}

/// Whether a refusal may be over when the request is placed anew. Nothing was delivered: the challenge may
/// have ended, the processor gave up the lane, or it heard first that the channel closes.
fn may_pass(error: &BuyError, tries: u32) -> bool {
    let BuyError::Refused { problem, .. } = error else { return false };
    let codes = ["invalid-challenge", "payment-expired", "verification-failed", "session/channel-finalized"];
    tries < TRIES && codes.contains(&problem.code.as_str())
}

impl App {
    /// Whoever is at fault is asked last for a while.
    pub(crate) fn blame(&self, error: &BuyError) {
        if let Some(processor) = at_fault(error) {
            self.market.avoid(processor);
        }
    }

    /// Counts what a processor refuses for what the request asks.
    pub(crate) fn refuses(&self, error: &BuyError, request: &RequestId) {
        if let BuyError::Answered { processor, error } = error
            && is_of_request(error)
        {
            self.market.refused(*processor, request);
        }
    }

    /// Waits for a refusal to pass: the ledger shows us within a moment what the processor did.
    async fn pass(self: &Arc<Self>, seller: &Seller, tries: &mut u32) {
        self.market.forget_challenge(seller);
        tokio::time::sleep(PAUSE * *tries).await;
        self.look_at_payee(&seller.processor).await;
        *tries += 1;
    }
}

/// Reserves every answer that is asked for.
async fn reserve_all(
    app: &Arc<App>,
    key: KeyId,
    request: &PromptRequest,
    (seller, peer): (&Seller, &Peer),
    gone: &CancellationToken,
) -> Result<Vec<Reserved>, BuyError> {
    let mut prepared = prepare(app, request, seller, peer).await?;
    let whole = prepared.clone();
    share(app, &key, &mut prepared, request.n)?;
    if prepared.limited_by == Some(LimitedBy::Key) {
        // Idle lanes hold some for the requests that follow.
        app.accounts.trim().await?;
        prepared = whole;
        share(app, &key, &mut prepared, request.n)?;
    }
    if request.n == 1 {
        return Ok(vec![reserve(app, key, prepared, gone).await?]);
    }
    let several = reserve_several(app, key, prepared, request.n, seller, gone);
    tokio::select! {
        all = tokio::time::timeout(SEVERAL_PATIENCE, several) => all.unwrap_or(Err(PayerError::NoLane.into())),
        () = gone.cancelled() => Err(BuyError::Gone),
    }
}

/// Reserves several answers. Can be dropped at any wait: what is reserved by then is given up.
async fn reserve_several(
    app: &Arc<App>,
    key: KeyId,
    mut prepared: Prepared,
    n: u32,
    seller: &Seller,
    gone: &CancellationToken,
) -> Result<Vec<Reserved>, BuyError> {
    let _turn = app.several.take(&seller.processor, &app.queueing).await.ok_or(PayerError::NoLane)?;
    let mut all: Vec<Reserved> = Vec::new();
    for index in 0..n {
        let (of, choice, gone) = (Arc::clone(app), prepared.choice(index), gone.clone());
        // In a task of its own: what is written down half way must be confirmed.
        let task = tokio::spawn(async move { reserve(&of, key, choice, &gone).await }.in_current_span());
        let reserved = match task.await.map_err(|error| ApiError::internal(error.to_string()))? {
            // What holds it may be the answers before it.
            Err(BuyError::Held { needed, room, .. }) if !prepared.is_paid_times(app, &key, n) => {
                return Err(PayerError::BudgetTooSmall { needed, room }.into());
            }
            other => other?,
        };
        if let (0, Some(first)) = (index, reserved.prepared()) {
            // The others are no longer than the first could be.
            prepared = first.clone().settled();
        }
        all.push(reserved);
    }
    Ok(all)
}

/// Orders one answer; where that is refused and may pass, under a challenge and on a lane of its own.
async fn place(
    app: &Arc<App>,
    key: KeyId,
    reserved: Reserved,
    (seller, peer): (&Seller, &Peer),
    progress: Arc<Progress>,
    gone: &CancellationToken,
) -> Result<Purchase, BuyError> {
    let before = reserved.prepared().map(|of| (of.request.clone(), of.limited_by));
    let (request, limited_by) = before.ok_or(BuyError::NoChannel)?;
    let mut outcome = order(app, reserved, seller, peer, &progress, gone).await;
    let mut tries = 0;
    while let Err(error) = &outcome
        && may_pass(error, tries)
    {
        progress.retried(error);
        app.pass(seller, &mut tries).await;
        let again = async {
            let mut prepared = prepare(app, &request, seller, peer).await?;
            share(app, &key, &mut prepared, 1)?;
            prepared.again(limited_by);
            order(app, reserve(app, key, prepared, gone).await?, seller, peer, &progress, gone).await
        };
        outcome = again.await;
    }
    outcome.inspect_err(|error| {
        app.blame(error);
        app.refuses(error, progress.id());
    })
}

/// Signs the order of a request that is reserved, and posts it.
async fn order(
    app: &Arc<App>,
    reserved: Reserved,
    seller: &Seller,
    peer: &Peer,
    progress: &Arc<Progress>,
    gone: &CancellationToken,
) -> Result<Purchase, BuyError> {
    if gone.is_cancelled() {
        return Err(BuyError::Gone);
    }
    let (salt, nonce) = (random_digest()?, random_digest()?);
    let (prepared, Place { channel, lane, before }) = reserved.take().ok_or(BuyError::NoChannel)?;
    progress.reach("quoted", Some(format!("{} prompt tokens", prepared.prompt_ids.len())));
    progress.reserved(&channel, lane);
    let Prepared { challenge, tokenizer, prompt_ids, request, sampling, limited_by, .. } = prepared;
    let body = Bytes::from(request.to_body());
    let consumer_nonce = request.seed.map_or(nonce, user_seed_nonce);
    let placed = {
        let mut accounts = app.accounts.lock();
        let payer = accounts.payer(&channel)?;
        let voucher = payer.voucher(lane)?;
        let order = payer.order(lane, sha256(&[&body]), consumer_nonce, salt)?;
        PlacedOrder { terms: *payer.terms(), voucher, order }
    };
    let traffic = Traffic {
        model: seller.name.clone(),
        body: body.clone(),
        salt,
        prompt_ids,
        embeds: match &request.prompt {
            Prompt::Inputs(texts) => Some(texts.len()),
            Prompt::Messages(_) | Prompt::Text(_) => None,
        },
        draw: Some(Draw {
            sampling: sampling.clone(),
            consumer_nonce,
            fixed: request.seed.is_some(),
            nonce_root: challenge.quote().body.nonce_root,
            revealed: None,
        }),
        before,
        progress: Some(Arc::clone(progress)),
        ..Traffic::default()
    };
    // From here on the processor may hold a voucher: whatever happens, the lane is brought in order.
    let ordered = Ordered {
        app: Arc::clone(app),
        peer: peer.clone(),
        challenge,
        channel,
        lane,
        traffic,
        settled: false,
    };
    progress.reach("ordered", None);
    let (shape, action) = (request.shape(), Action::Order(Box::new(placed)));
    let answer = peer.order(&ordered.challenge, &action, shape, body, progress.id());
    let late = |_| BuyError::Unreachable {
        processor: peer.processor(),
        reason: "it does not begin its answer".to_owned(),
    };
    let answer = tokio::select! {
        answer = tokio::time::timeout(app.config.first_patience, answer) => answer.map_err(late)??,
        () = gone.cancelled() => return Err(BuyError::Gone),
    };
    progress.reach("accepted", None);
    let transcript = Transcript::new(Arc::clone(&tokenizer), &sampling.stop)?;
    Ok(Purchase::new(ordered, &request, tokenizer, transcript, Arc::clone(progress), limited_by, answer))
}

/// An order on its lane. Dropped before it is settled, its lane is brought in order in the background with
/// the processor's receipt.
pub(crate) struct Ordered {
    pub(crate) app: Arc<App>,
    pub(crate) peer: Peer,
    pub(crate) challenge: Arc<Challenge>,
    pub(crate) channel: ChannelId,
    pub(crate) lane: u32,
    pub(crate) traffic: Traffic,
    /// Its receipt is on disk.
    pub(crate) settled: bool,
}

impl Drop for Ordered {
    fn drop(&mut self) {
        if !self.settled {
            let (traffic, challenge) = (std::mem::take(&mut self.traffic), Arc::clone(&self.challenge));
            self.app.put_in_order(self.peer.clone(), challenge, self.channel, self.lane, traffic);
        }
    }
}
