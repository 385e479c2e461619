//! A request up to its first signature: counted, capped, on a lane, and its reservation on disk.

use crate::{accounts::Queued, app::App, error::BuyError, fund::Adding, market::Seller, peer::Peer};
use gristmill_channel::{Ask, KeyId, PayerError, Plan};
use gristmill_net::{
    openai::{ApiError, LimitedBy, Prompt, PromptRequest, SamplingDefaults},
    pay::Challenge,
};
use gristmill_tokenizer::{ChatMessage, Tokenizer, unit};
use gristmill_types::{Amount, ChannelId, Sampling, Usage};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long a request waits for a lane where all are taken, and how often it looks.
const LANE_PATIENCE: Duration = Duration::from_secs(15);
const LANE_PAUSE: Duration = Duration::from_millis(50);
/// What is reserved for requests to come is no more than one part in so many of what the key has left.
const AHEAD_PARTS: u128 = 16;
/// How often a request adds to its channel's deposit: requests that find room at once may take what it added.
const TOP_UPS: u32 = 3;

/// All that is fixed before anything is signed.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) challenge: Arc<Challenge>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) prompt_ids: Vec<u32>,
    pub(crate) request: PromptRequest,
    pub(crate) sampling: Sampling,
    ask: Ask,
    /// What to reserve beyond it, for requests that follow.
    ahead: Amount,
    /// Whether the client set a limit of output tokens: then it is not cut.
    limited: bool,
    /// For want of what we did.
    pub(crate) limited_by: Option<LimitedBy>,
}

/// A request on its lane, with its cap reserved on disk. Unless an order is made of it, the lane is given
/// up again: nothing was signed.
pub(crate) struct Reserved {
    app: Arc<App>,
    /// Taken out when it is ordered.
    place: Option<(Prepared, Place)>,
}

/// Where a request is paid.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) channel: ChannelId,
    pub(crate) lane: u32,
    /// What the lane had come to before.
    pub(crate) before: (Usage, Amount),
}

impl Reserved {
    /// The request as it was reserved.
    pub(crate) fn prepared(&self) -> Option<&Prepared> {
        self.place.as_ref().map(|(prepared, _)| prepared)
    }

    /// Takes the place: from now on its owner sees to the lane.
    pub(crate) fn take(mut self) -> Option<(Prepared, Place)> {
        self.place.take()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some((_, place)) = &self.place
            && let Ok(payer) = self.app.accounts.lock().payer(&place.channel)
            && let Err(error) = payer.cancel(place.lane)
        {
            tracing::error!(%error, "a lane could not be given up");
        }
    }
}

/// Gets quote and tokenizer, counts the prompt, and fixes the sampling.
pub(crate) async fn prepare(
    app: &Arc<App>,
    request: &PromptRequest,
    seller: &Seller,
    peer: &Peer,
) -> Result<Prepared, BuyError> {
    let limited = request.max_tokens.is_some();
    let mut request = PromptRequest {
        model: seller.model.to_string(),
        n: 1,
        stream: true,
        stream_options: None,
        ..request.clone()
    };
    let challenge = app.market.challenge(app, seller, peer, &request).await?;
    let quote = &challenge.quote().body;
    request.check_purpose(quote.is_for_embeddings())?;
    request.check_engine(quote.is_recomputable())?;
    let tokenizer = app.market.tokenizer(peer, &quote.tokenizer).await?;
    let prompt_ids = match &request.prompt {
        Prompt::Messages(messages) => {
            let said = messages.iter().map(|message| ChatMessage {
                role: message.role.as_str().to_owned(),
                content: message.content.clone(),
            });
            tokenizer.encode_chat(&said.collect::<Vec<_>>())?
        }
        Prompt::Text(text) => tokenizer.encode(text)?,
        Prompt::Inputs(texts) => {
            let each: Result<Vec<_>, _> = texts.iter().map(|text| tokenizer.encode(text)).collect();
            each?.concat()
        }
    };
    if prompt_ids.is_empty() {
        return Err(ApiError::invalid("prompt", "The prompt has no tokens; give some text.").into());
    }
    let prompt_tokens = u32::try_from(prompt_ids.len()).unwrap_or(u32::MAX);
    let unit = unit(&tokenizer.digest());
    let sampling = request.sampling(prompt_tokens, unit, &quote.limits, &SamplingDefaults::default())?;
    // Said explicitly, so that both sides mean the same.
    request.max_tokens = Some(sampling.max_tokens);
    let ask = Ask {
        input_tokens: u64::from(prompt_tokens),
        max_output_tokens: u64::from(sampling.max_tokens),
        max_millis: 10_000 + u64::from(sampling.max_tokens) * 100,
    };
    let ahead = app.config.ahead;
    Ok(Prepared {
        challenge,
        tokenizer,
        prompt_ids,
        request,
        sampling,
        ask,
        ahead,
        limited,
        limited_by: None,
    })
}

/// Holds each of `n` answers to its share of what one request may cost and of what the key has left.
pub(crate) fn share(app: &App, key: &KeyId, prepared: &mut Prepared, n: u32) -> Result<(), BuyError> {
    let part = |amount: Amount| amount.checked_mul_div(1, u128::from(n.max(1))).unwrap_or(Amount::ZERO);
    let most = app.config.max_request;
    match prepared.fits(part(most)) {
        Some(ask) if ask.max_output_tokens == prepared.ask.max_output_tokens => {}
        Some(ask) if !prepared.limited => prepared.limit_to(ask, LimitedBy::Request),
        _ => {
            let fewer = if n > 1 { "tokens or answers" } else { "tokens" };
            return Err(ApiError::invalid(
                "max_tokens",
                format!(
                    "The request could cost more than {most} credits, the most that this gateway pays for one; ask for fewer {fewer}."
                ),
            )
            .into());
        }
    }
    if n == 1 {
        return Ok(());
    }
    // What one of them held beyond its need, the others could lack.
    prepared.ahead = Amount::ZERO;
    if !prepared.limited {
        let room = app.accounts.lock().key(key).map_or(Amount::ZERO, |of| of.room());
        if let Some(ask) = prepared.fits(part(room))
            && ask.max_output_tokens < prepared.ask.max_output_tokens
        {
            prepared.limit_to(ask, LimitedBy::Key);
        }
    }
    Ok(())
}

/// Finds or funds a channel, takes a lane, reserves the request's cap, and waits until that is
/// durable. A request without a limit of its own is cut to what the key's budget can pay.
pub(crate) async fn reserve(
    app: &Arc<App>,
    key: KeyId,
    mut prepared: Prepared,
    gone: &CancellationToken,
) -> Result<Reserved, BuyError> {
    let (mut trimmed, mut cut) = (false, false);
    let until = Instant::now() + LANE_PATIENCE;
    let mut place = None;
    loop {
        if gone.is_cancelled() {
            return Err(BuyError::Gone);
        }
        if app.open_channel_for(&prepared.challenge).is_none() {
            // None is opened for a key that could not pay from it.
            let room = app.accounts.lock().key(&key).map_or(Amount::ZERO, |of| of.room());
            if !prepared.is_paid_by(room) {
                if !trimmed {
                    trimmed = true;
                    app.accounts.trim().await?;
                    continue;
                }
                return Err(prepared.too_dear(app, &key, prepared.cost(), room));
            }
        }
        let channel = app.channel_for(&prepared.challenge, prepared.least()).await?;
        let started = match start(app, key, &prepared, &channel).await {
            Err(BuyError::Payer(PayerError::DepositTooSmall { .. })) => {
                start_funded(app, key, &mut prepared, &channel).await
            }
            other => other,
        };
        match started {
            Ok((lane, before, queued)) => {
                let place = Place { channel, lane, before };
                let reserved = Reserved { app: Arc::clone(app), place: Some((prepared, place)) };
                queued.durable().await?;
                return Ok(reserved);
            }
            // It began to close in this moment: there is, or will be, another.
            Err(BuyError::Payer(PayerError::Closed)) if Instant::now() < until => {}
            // The processor gives up idle lanes when they become scarce.
            Err(BuyError::Payer(PayerError::NoLane)) if Instant::now() < until => {
                if place.is_none() {
                    place = app.waiting.try_acquire().ok();
                }
                if place.is_none() {
                    return Err(PayerError::NoLane.into());
                }
                tokio::time::sleep(LANE_PAUSE).await;
            }
            Err(BuyError::Payer(PayerError::BudgetTooSmall { .. })) if !trimmed => {
                trimmed = true;
                app.accounts.trim().await?;
            }
            Err(BuyError::Payer(PayerError::BudgetTooSmall { needed, room })) => {
                let ask = prepared.fits(room).filter(|_| !cut && !prepared.limited);
                let Some(ask) = ask else { return Err(prepared.too_dear(app, &key, needed, room)) };
                cut = true;
                prepared.limit_to(ask, LimitedBy::Key);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A lane, what it had come to before, and the reservation on its way to the disk.
type Started = (u32, (Usage, Amount), Queued);

/// Starts a request on a channel whose deposit is too small for it, and adds to that as needed. Requests that come
/// together do so one after the other, or one would take what another has added for itself.
async fn start_funded(
    app: &Arc<App>,
    key: KeyId,
    prepared: &mut Prepared,
    channel: &ChannelId,
) -> Result<Started, BuyError> {
    let turn = app.funding_turn().await?;
    let (mut tries, mut trimmed, mut cut) = (0, false, prepared.limited);
    // What to add where not all that the answer could cost is there.
    let mut adds = [Adding::Part, Adding::All].into_iter();
    let window = u64::from(prepared.challenge.quote().body.limits.window_tokens);
    let window = window.min(prepared.ask.max_output_tokens);
    loop {
        let (needed, room) = match start(app, key, prepared, channel).await {
            Err(BuyError::Payer(PayerError::DepositTooSmall { needed, room })) if tries < TOP_UPS => {
                (needed, room)
            }
            other => return other,
        };
        // Nothing is brought into a channel for a key that could not pay for a token of it.
        let of_key = app.accounts.lock().key(&key).map_or(Amount::ZERO, |of| of.room());
        if prepared.fits(of_key).is_none() {
            return Err(PayerError::BudgetTooSmall { needed, room: of_key }.into());
        }
        match app.top_up(&turn, channel, needed).await {
            // Lanes that are idle hold some ahead of their next requests.
            Err(BuyError::Empty { .. }) if !trimmed => {
                trimmed = true;
                app.accounts.trim().await?;
            }
            Err(error @ BuyError::Empty { .. }) if cut => return Err(error),
            Err(error @ BuyError::Empty { .. }) => {
                // The account has not that much: the answer is cut to what is in the channel, be that only a part of
                // what the account has. All of it is brought there where an answer would have no window otherwise.
                let all = room.checked_add(app.addable().await?).unwrap_or(room);
                if prepared.fits(all).is_none() {
                    return Err(error);
                }
                let enough = |ask: &Ask| ask.max_output_tokens >= window;
                let ask = match (prepared.fits(room), adds.next()) {
                    (Some(ask), None | Some(Adding::All)) if enough(&ask) => ask,
                    (_, Some(adding)) => {
                        app.add(&turn, channel, adding, room).await?;
                        continue;
                    }
                    (Some(ask), None) => ask,
                    (None, None) => return Err(error),
                };
                cut = true;
                prepared.limit_to(ask, LimitedBy::Account);
            }
            Ok(()) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn start(
    app: &Arc<App>,
    key: KeyId,
    prepared: &Prepared,
    channel: &ChannelId,
) -> Result<Started, BuyError> {
    let started = app.accounts.change(|state| {
        // It may have been revoked since the request came.
        if !state.names().is_active(&key) {
            return Err(ApiError::wrong_key().into());
        }
        let room = state.key(&key).map_or(Amount::ZERO, |of| of.room());
        let plan = Plan {
            quote: prepared.challenge.quote(),
            budget: key,
            room,
            ask: prepared.ask,
            max_amount: Amount::from_grains(u128::MAX),
            // Else a few requests at once would hold all that a small key has, and more than they can cost.
            ahead: prepared.ahead.min(room.checked_mul_div(1, AHEAD_PARTS).unwrap_or_default()),
            now_ms: app.now_ms(),
        };
        let payer = state.payer(channel)?;
        let started = payer.start(&plan)?;
        let before = (payer.receipted(started.lane), payer.owed(started.lane)?);
        state.record(channel, started.lane, started.pending)?;
        Ok((started.lane, before))
    });
    let ((lane, before), queued) = started.await?;
    Ok((lane, before, queued))
}

impl Prepared {
    /// The same with as many output tokens as so much pays for.
    fn fits(&self, room: Amount) -> Option<Ask> {
        self.ask.affordable(&self.challenge.quote().body.prices, &Usage::default(), room)
    }

    fn limit_to(&mut self, ask: Ask, by: LimitedBy) {
        self.limited_by = Some(by);
        let tokens = u32::try_from(ask.max_output_tokens).unwrap_or(u32::MAX);
        self.ask = ask;
        self.sampling.max_tokens = tokens;
        self.request.max_tokens = Some(tokens);
    }

    /// The same request for one of several answers: with a seed, each has a seed of its own.
    pub(crate) fn choice(&self, index: u32) -> Self {
        let seed = self.request.seed.map(|seed| seed.wrapping_add(i64::from(index)));
        let request = PromptRequest { seed, ..self.request.clone() };
        Self { request, ..self.clone() }
    }

    /// Whether so much pays for it, where it can be cut for a part of it.
    fn is_paid_by(&self, room: Amount) -> bool {
        if self.limited { self.cost() <= room } else { self.fits(room).is_some() }
    }

    /// Whether the key could pay for so many of it, if none of its other requests held anything.
    pub(crate) fn is_paid_times(&self, app: &App, key: &KeyId, n: u32) -> bool {
        let of = app.accounts.lock().key(key);
        let left = of.map_or(Amount::ZERO, |of| of.limit.saturating_sub(of.spent));
        left.checked_mul_div(1, u128::from(n.max(1))).is_some_and(|part| self.is_paid_by(part))
    }

    /// What it costs at least: where it can be cut, with one token of an answer.
    fn least(&self) -> Amount {
        let tokens = if self.limited { self.ask.max_output_tokens } else { 1 };
        let ask = Ask { max_output_tokens: tokens, ..self.ask };
        ask.cost(&self.challenge.quote().body.prices).unwrap_or(Amount::from_grains(u128::MAX))
    }

    /// What it costs at most.
    fn cost(&self) -> Amount {
        self.ask.cost(&self.challenge.quote().body.prices).unwrap_or(Amount::from_grains(u128::MAX))
    }

    /// Places what was cut before anew: it may be cut again.
    pub(crate) fn again(&mut self, limited_by: Option<LimitedBy>) {
        self.limited &= limited_by.is_none();
        self.limited_by = limited_by;
    }

    /// Why the key's budget does not suffice.
    fn too_dear(&self, app: &App, key: &KeyId, needed: Amount, room: Amount) -> BuyError {
        let of = app.accounts.lock().key(key);
        let later = of.map_or(room, |of| of.limit.saturating_sub(of.spent));
        match of {
            Some(of) if self.is_paid_by(later) && !of.held.is_zero() => {
                BuyError::Held { needed, room, held: of.held }
            }
            _ => PayerError::BudgetTooSmall { needed, room }.into(),
        }
    }

    /// Holds it to the limit that it has by now.
    pub(crate) fn settled(mut self) -> Self {
        self.limited = true;
        self
    }
}
