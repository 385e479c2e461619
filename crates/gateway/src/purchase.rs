//! One request, bought: from the start of its answer to the approved receipt.
//!
//! What arrives is checked before it is passed on: the ids must decode to the text, the counts are
//! our own, and the receipt must commit to exactly what arrived.

use crate::{
    app::App,
    approvals::approval,
    buy::Ordered,
    error::BuyError,
    event::Event,
    logprobs::{Token, Tokens},
    progress::Progress,
    traffic::Said,
};
use futures::{Stream, StreamExt as _};
use gristmill_channel::{PayerError, Phase, Received};
use gristmill_net::{
    openai::{
        ApiError, CHANNEL_CLOSING, Extension, FinishReason, LimitedBy, Logprob, Partial, PromptRequest, Usage,
    },
    pay::{
        Action, PaymentReceipt,
        stream::{Item, Start},
    },
    sse,
};
use gristmill_tokenizer::{Tokenizer, Transcript, unit};
use gristmill_types::{AccountId, Amount, ChannelId, Digest, Receipt, Signable as _, Unit};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::Instrument as _;

/// A processor may ask for a voucher this often.
const ASKED_TOO_OFTEN: Duration = Duration::from_millis(50);

/// Bytes of one vector's line at most, thus twelve thousand dimensions.
const LONGEST_VECTOR: usize = 64 << 10;

type Events = Pin<Box<dyn Stream<Item = Result<sse::Event, sse::ReadError<reqwest::Error>>> + Send>>;

/// What the next step of a purchase brought.
#[derive(Debug)]
pub(crate) enum Step {
    /// More text, checked and counted, and the tokens that it came from, where they were asked for.
    Text(String, Vec<Token>),
    /// The end: everything is settled between the two sides.
    End(Bought),
}

/// What was bought.
#[derive(Clone, Debug)]
pub struct Bought {
    /// The receipt for it.
    pub receipt: Digest,
    /// Why the answer ended.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// What these tokens are.
    pub unit: Unit,
    /// What it cost.
    pub cost: Amount,
    /// What cut it, where that was a limit of ours.
    pub limited_by: Option<LimitedBy>,
}

impl Bought {
    /// The same as what came of an answer that failed.
    pub(crate) fn partial(&self) -> Partial {
        Partial {
            choices: Vec::new(),
            usage: Usage::new(self.prompt_tokens, self.completion_tokens, self.unit, Some(self.cost)),
            gristmill: Extension { receipt: Some(self.receipt), ..Extension::default() },
        }
    }
}

/// A request under way. Dropping it early ends the stream.
pub(crate) struct Purchase {
    of: Ordered,
    events: Events,
    tokenizer: Arc<Tokenizer>,
    transcript: Transcript,
    /// Kept where log probabilities were asked for.
    tokens: Option<Tokens>,
    /// How many of the likeliest tokens were asked for.
    top: u8,
    /// No more tokens can come.
    over: bool,
    progress: Arc<Progress>,
    started: bool,
    /// Whether something of the answer has come.
    begun: bool,
    failure: Option<BuyError>,
    limited_by: Option<LimitedBy>,
    /// Its error was given out: whoever has it counts it, or places the request anew.
    failed: bool,
    metered: Instant,
    asked: Instant,
}

impl Purchase {
    /// `answer` has begun.
    pub(crate) fn new(
        of: Ordered,
        request: &PromptRequest,
        tokenizer: Arc<Tokenizer>,
        transcript: Transcript,
        progress: Arc<Progress>,
        limited_by: Option<LimitedBy>,
        answer: reqwest::Response,
    ) -> Self {
        Self {
            of,
            events: Box::pin(sse::read(answer.bytes_stream(), sse::MAX_EVENT_BYTES)),
            transcript,
            tokens: request.top_logprobs.map(|_| Tokens::new(Arc::clone(&tokenizer))),
            top: request.top_logprobs.unwrap_or(0),
            tokenizer,
            over: false,
            progress,
            started: false,
            begun: false,
            failure: None,
            limited_by,
            failed: false,
            metered: Instant::now(),
            // The first wish is heeded at once.
            asked: Instant::now().checked_sub(ASKED_TOO_OFTEN).unwrap_or_else(Instant::now),
        }
    }

    /// The next step. After an error or the end there is none.
    ///
    /// Run it to its end: what is written down half way must be confirmed. A client that goes away is
    /// told through `gone`, which is heeded only where nothing is under way.
    pub(crate) async fn next(&mut self, gone: impl Future<Output = ()>) -> Result<Step, BuyError> {
        let step = self.step(gone).await.map_err(|error| self.unsettled(error));
        match &step {
            Ok(Step::Text(..)) => self.progress.text(),
            Ok(Step::End(of)) => {
                self.of.app.market.trust(&self.of.peer.processor());
                self.progress.paid(of);
            }
            Err(error) => {
                self.of.app.blame(error);
                self.of.app.refuses(error, self.progress.id());
                self.failed = !matches!(error, BuyError::Gone);
            }
        }
        step
    }

    /// What has come and was not receipted: the client has paid for it, or will.
    fn unsettled(&self, error: BuyError) -> BuyError {
        if !self.begun || matches!(error, BuyError::Gone | BuyError::Cut { .. }) {
            return error;
        }
        let (prompt, came) = (self.of.traffic.prompt_ids.len(), self.of.traffic.ids.len());
        let usage = Usage::new(prompt as u64, came as u64, unit(&self.tokenizer.digest()), None);
        let gristmill = Extension { processor: Some(self.of.peer.processor()), ..Extension::default() };
        BuyError::Unsettled {
            error: Box::new(error),
            partial: Box::new(Partial { choices: Vec::new(), usage, gristmill }),
        }
    }

    async fn step(&mut self, gone: impl Future<Output = ()>) -> Result<Step, BuyError> {
        let mut gone = std::pin::pin!(gone);
        let ending = self.of.app.ending.clone();
        // The client's time is not the processor's: it runs from here. Only what is bought is life; comments,
        // and events that are not known, could go on for ever, and the lane and its budget with them.
        let mut patience = self.patience();
        let mut deadline = tokio::time::Instant::now() + patience;
        loop {
            // Events that come without a pause are no life either.
            if tokio::time::Instant::now() >= deadline {
                return Err(self.silent(patience));
            }
            let event = tokio::select! {
                event = tokio::time::timeout_at(deadline, self.events.next()) => event,
                () = &mut gone => return Err(BuyError::Gone),
                () = ending.cancelled() => return Err(BuyError::Stopping),
            };
            let event = match event {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => {
                    // No vector is as long as that.
                    self.of.traffic.overlong |= matches!(error, sse::ReadError::TooLong(_));
                    return Err(self.cut_off(&error.to_string()));
                }
                Ok(None) => return Err(self.cut_off("the stream ended without a receipt")),
                Err(_) => return Err(self.silent(patience)),
            };
            let item = Item::read(&event)
                // Without the reason: that may repeat what was asked, and is logged.
                .map_err(|_| self.misbehaved("an event of its stream does not read"))?;
            match item {
                Item::Start(start) => self.start(start)?,
                Item::Chunk(chunk) => {
                    let finish = chunk.choices.first().and_then(|choice| choice.finish_reason);
                    self.of.traffic.finish = finish.or(self.of.traffic.finish);
                    let Extension { ids, logprobs, .. } = chunk.gristmill.clone().unwrap_or_default();
                    if ids.is_empty() && chunk.text().is_empty() {
                        continue;
                    }
                    self.check_logprobs(&ids, &logprobs)?;
                    self.take(&ids, chunk.text())?;
                    let tokens = self.tokens_of(&ids, &logprobs, chunk.text())?;
                    self.begun = true;
                    patience = self.patience();
                    deadline = tokio::time::Instant::now() + patience;
                    if !chunk.text().is_empty() {
                        return Ok(Step::Text(chunk.text().to_owned(), tokens));
                    }
                }
                // More often than this it asks for nothing but our work.
                Item::NeedVoucher(_) if self.asked.elapsed() < ASKED_TOO_OFTEN => {}
                Item::NeedVoucher(need) => {
                    if self.pay_on(need.required)? {
                        deadline = tokio::time::Instant::now() + patience;
                    }
                }
                // The first one counts.
                Item::Failed(_) if self.failure.is_some() => {}
                Item::Failed(error) => {
                    let (app, channel) = (Arc::clone(&self.of.app), self.of.channel);
                    let before = tokio::time::Instant::now();
                    self.failure = Some(failed(&app, &channel, self.of.peer.processor(), error).await);
                    // The ledger's time is not the processor's.
                    deadline += before.elapsed();
                }
                Item::Receipt(receipt) => {
                    let bought = self.receipt(*receipt).await?;
                    return match self.failure.take().or_else(|| self.incomplete(&bought)) {
                        Some(error) => Err(error.cut(bought)),
                        None => Ok(Step::End(bought)),
                    };
                }
                Item::Done => return Err(self.cut_off("the stream ended without a receipt")),
                Item::Unknown => {}
            }
        }
    }

    fn misbehaved(&self, what: impl std::fmt::Display) -> BuyError {
        BuyError::Misbehaved { processor: self.of.peer.processor(), what: what.to_string() }
    }

    fn silent(&mut self, patience: Duration) -> BuyError {
        self.cut_off(&format!("nothing of it came within {} s", patience.as_secs_f64()))
    }

    fn cut_off(&mut self, reason: &str) -> BuyError {
        self.failure.take().unwrap_or_else(|| BuyError::Unreachable {
            processor: self.of.peer.processor(),
            reason: format!("the answer broke off: {reason}"),
        })
    }

    /// What our side of the channel refuses is the processor's doing, unless it says something of us.
    fn refused(processor: AccountId, error: PayerError) -> BuyError {
        match error {
            PayerError::Closed
            | PayerError::UnknownLane { .. }
            | PayerError::NoRequest { .. }
            | PayerError::BeyondReservation { .. }
            | PayerError::InDoubt { .. } => error.into(),
            error => BuyError::Misbehaved { processor, what: error.to_string() },
        }
    }

    /// An end that is none though nobody said that it failed.
    fn incomplete(&self, bought: &Bought) -> Option<BuyError> {
        if bought.finish == FinishReason::Error {
            return Some(self.misbehaved("it ends its answer early and does not say why"));
        }
        let texts = self.of.traffic.embeds.filter(|_| !self.of.traffic.is_whole(0))?;
        Some(self.misbehaved(format!("its vectors of {texts} texts end early")))
    }

    fn start(&mut self, start: Start) -> Result<(), BuyError> {
        if self.started {
            return Err(self.misbehaved("it started twice"));
        }
        let own = u32::try_from(self.of.traffic.prompt_ids.len()).unwrap_or(u32::MAX);
        if start.prompt_tokens != own {
            return Err(self.misbehaved(format!(
                "it counts {} prompt tokens where its tokenizer gives {own}",
                start.prompt_tokens
            )));
        }
        let nonce = start.processor_nonce.map(|nonce| nonce.0);
        if let Some(draw) = &mut self.of.traffic.draw {
            if let Some(what) = draw.wrong_nonce(nonce.as_ref()) {
                return Err(self.misbehaved(format!("it reveals {what}")));
            }
            draw.revealed = Some(nonce);
        }
        self.started = true;
        self.progress.started(&start.request_id);
        Ok(())
    }

    /// Checks what arrived, counts it, and pays ahead for the next window when it is time.
    fn take(&mut self, ids: &[u32], text: &str) -> Result<(), BuyError> {
        if !self.started {
            return Err(self.misbehaved("text came before the start"));
        }
        if let Some(inputs) = self.of.traffic.embeds {
            if !ids.is_empty() {
                return Err(self.misbehaved("tokens came where vectors were asked for"));
            }
            if self.of.traffic.text.len() + text.len() > longest_vectors(&self.of.traffic.text, inputs) {
                self.of.traffic.overlong = true;
                return Err(self.misbehaved("it goes on where all vectors were given"));
            }
        } else if self.own_text(ids, text.len())? != text {
            return Err(self.misbehaved("the token ids do not decode to the text"));
        }
        let tokens = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let millis = u64::try_from(self.metered.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.metered = Instant::now();
        let voucher = {
            let mut accounts = self.of.app.accounts.lock();
            let payer = accounts.payer(&self.of.channel)?;
            let delivered = payer.delivered(self.of.lane, tokens, millis);
            if delivered.map_err(|error| Self::refused(self.of.peer.processor(), error))? {
                Some(payer.voucher(self.of.lane)?)
            } else {
                None
            }
        };
        self.of.traffic.ids.extend_from_slice(ids);
        self.of.traffic.text.push_str(text);
        if let Some(voucher) = voucher {
            self.progress.window(self.of.traffic.ids.len(), voucher.body.0.amount);
            self.send(Action::Voucher(voucher));
        }
        Ok(())
    }

    /// Whether the log probabilities are as many as were asked for. What lacks them is not what was bought,
    /// and is not counted.
    fn check_logprobs(&self, ids: &[u32], logprobs: &[Logprob]) -> Result<(), BuyError> {
        if self.tokens.is_none() {
            return Ok(());
        }
        if ids.len() != logprobs.len() {
            return Err(self.misbehaved("it gives no log probabilities, which were asked for"));
        }
        if logprobs.iter().any(|of| of.top.len() > usize::from(self.top)) {
            return Err(self.misbehaved("it gives more log probabilities than were asked for"));
        }
        Ok(())
    }

    /// The tokens whose text is out now.
    fn tokens_of(&mut self, ids: &[u32], logprobs: &[Logprob], text: &str) -> Result<Vec<Token>, BuyError> {
        let Some(tokens) = &mut self.tokens else { return Ok(Vec::new()) };
        for (id, logprob) in ids.iter().zip(logprobs) {
            tokens.push(*id, logprob)?;
        }
        Ok(tokens.out(text))
    }

    /// The text of these ids by our own decoder. What is held back at the end of an answer comes out
    /// with its last token; which token that is only the processor knows where a limit ends it.
    fn own_text(&mut self, ids: &[u32], expected_bytes: usize) -> Result<String, BuyError> {
        let mut own = String::new();
        for id in ids {
            if self.over {
                return Err(self.misbehaved("tokens came after the end of the answer"));
            }
            if self.tokenizer.is_eos(*id) {
                own.push_str(&self.transcript.finish()?.text);
                self.over = true;
            } else {
                let next = self.transcript.push(*id)?;
                own.push_str(&next.text);
                self.over = next.stop;
            }
        }
        if !self.over && own.len() < expected_bytes {
            own.push_str(&self.transcript.finish()?.text);
            self.over = true;
        }
        Ok(own)
    }

    /// How long the processor may take for what comes next of the answer.
    fn patience(&self) -> Duration {
        let config = &self.of.app.config;
        if self.begun { config.next_patience } else { config.first_patience }
    }

    /// The processor says that the window is used up: pay on if that is so by our own count. True if more is
    /// promised than before.
    fn pay_on(&mut self, required: Amount) -> Result<bool, BuyError> {
        self.asked = Instant::now();
        let (voucher, more) = {
            let mut accounts = self.of.app.accounts.lock();
            let payer = accounts.payer(&self.of.channel)?;
            match payer.voucher_for(self.of.lane, required) {
                Ok(voucher) => (Some(voucher), true),
                // It was signed before and may have been lost on the way.
                Err(PayerError::NotDue { .. }) => (payer.latest(self.of.lane).cloned(), false),
                Err(error) => return Err(Self::refused(self.of.peer.processor(), error)),
            }
        };
        if let Some(voucher) = voucher {
            self.send(Action::Voucher(voucher));
        }
        Ok(more)
    }

    /// Sends without holding up the stream. A voucher that gets lost is asked for again; an approval is
    /// sent again, and once more at the next start.
    fn send(&self, action: Action) {
        let (peer, challenge) = (self.of.peer.clone(), Arc::clone(&self.of.challenge));
        let metrics = Arc::clone(&self.of.app.metrics);
        let pauses: &[u64] = if matches!(action, Action::Approve(_)) { &[0, 1, 5] } else { &[0] };
        self.of.app.tasks.spawn(
            async move {
                for pause in pauses {
                    tokio::time::sleep(Duration::from_secs(*pause)).await;
                    match peer.pay(&challenge, &action).await {
                        Ok(()) => return,
                        Err(error) => {
                            metrics.payments_lost.inc();
                            tracing::debug!(%error, "a payment did not arrive");
                        }
                    }
                }
            }
            .in_current_span(),
        );
    }

    /// Verifies the receipt, writes it down, approves it.
    async fn receipt(&mut self, receipt: PaymentReceipt) -> Result<Bought, BuyError> {
        let Some(signed) = receipt.signed else { return Err(self.misbehaved("its receipt is not signed")) };
        let complete = self.check_commitments(&signed.body);
        let id = signed.body.digest();
        let cost = signed.body.spent.saturating_sub(self.of.traffic.before.1);
        let (now_ms, processor) = (self.of.app.now_ms(), self.of.peer.processor());
        let ((), queued) = self
            .of
            .app
            .accounts
            .change(|state| {
                let payer = state.payer(&self.of.channel)?;
                // An answer that the receipt does not commit to is not approved.
                let taken = if complete.is_ok() { payer.receipt(&signed) } else { payer.dispute(&signed) };
                let taken = taken.map_err(|error| Self::refused(processor, error))?;
                // The lane is in order, whatever it is approved with: from here on others use it.
                self.of.settled = !payer.in_flight().contains(&self.of.lane);
                let pending = match taken {
                    Received::New(pending) | Received::Evidence(pending) => Some(pending),
                    Received::Duplicate => None,
                };
                let entry = self.of.traffic.entry(payer, &signed, now_ms);
                state.record(&self.of.channel, self.of.lane, pending)?;
                if let Some(entry) = entry {
                    self.of.traffic.insert(&entry, state);
                }
                Ok(())
            })
            .await?;
        queued.durable().await?;
        complete?;
        let approval = approval(self.of.app.accounts.lock().payer(&self.of.channel)?, self.of.lane)?;
        if let Some(approval) = approval {
            self.send(Action::Approve(approval));
        }
        let finish = self.of.traffic.finish.unwrap_or(FinishReason::Error);
        let bought = Bought {
            receipt: id,
            finish,
            prompt_tokens: self.of.traffic.prompt_ids.len() as u64,
            completion_tokens: self.of.traffic.ids.len() as u64,
            unit: unit(&self.tokenizer.digest()),
            cost,
            limited_by: self.limited_by.filter(|_| finish == FinishReason::Length),
        };
        self.of.app.emit(Event::Paid {
            receipt: id,
            model: self.of.traffic.model.clone(),
            processor,
            prompt_tokens: bought.prompt_tokens,
            completion_tokens: bought.completion_tokens,
            unit: bought.unit,
            cost,
        });
        Ok(bought)
    }

    /// The receipt commits to what was sent and to what arrived.
    fn check_commitments(&self, receipt: &Receipt) -> Result<(), BuyError> {
        match self.of.traffic.said(receipt, true) {
            Said::Right => Ok(()),
            Said::NoVectors(what) => Err(self.misbehaved(what)),
            Said::Nothing => Err(self.misbehaved("its receipt commits to no computation")),
            Said::Otherwise(what) => Err(self.misbehaved(format!("its receipt commits to {what}"))),
        }
    }
}

/// Why an answer failed, by its processor's word. Whether our channel closes, we know ourselves.
async fn failed(app: &App, channel: &ChannelId, processor: AccountId, error: ApiError) -> BuyError {
    if error.code.as_deref() == Some(CHANNEL_CLOSING) && app.look_at(channel).await.is_ok() {
        let open = app.accounts.lock().payer(channel).is_ok_and(|payer| payer.view().phase == Phase::Open);
        if !open {
            return PayerError::Closed.into();
        }
    }
    BuyError::Answered { processor, error: Box::new(error) }
}

/// How much text the vectors of so many inputs make at most: all are as long as the first.
fn longest_vectors(given: &str, inputs: usize) -> usize {
    match given.find('\n') {
        Some(end) => inputs.saturating_mul(end + 1),
        None => LONGEST_VECTOR,
    }
}

impl Drop for Purchase {
    fn drop(&mut self) {
        if !self.failed {
            self.progress.given_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buy::at_fault;

    /// What only the processor can have done wrong is its fault; what is ours is not.
    #[test]
    fn breaches_of_the_protocol_are_the_processors() {
        let processor = AccountId::new([7; 32]);
        let (required, computed) = (Amount::from_grains(2), Amount::from_grains(1));
        for error in [
            PayerError::InflatedRequired { required, computed },
            PayerError::WrongCost { spent: required, cost: computed },
            PayerError::WrongReceipt,
            PayerError::ReceiptOverVoucher,
            PayerError::BadSignature,
            PayerError::Meter(gristmill_channel::MeterError::BeyondCap),
        ] {
            let words = error.to_string();
            let error = Purchase::refused(processor, error);
            assert_eq!(at_fault(&error), Some(processor), "{words}");
            assert!(error.to_string().contains(&words), "{error}");
        }
        for error in [PayerError::Closed, PayerError::NoRequest { lane: 1 }] {
            assert_eq!(at_fault(&Purchase::refused(processor, error)), None);
        }
    }

    #[test]
    fn vectors_are_as_long_as_the_first() {
        assert_eq!(longest_vectors("", 1_000), LONGEST_VECTOR);
        assert_eq!(longest_vectors("AAAA", 1_000), LONGEST_VECTOR);
        assert_eq!(longest_vectors("AAAAAAA=\nAA", 3), 27);
    }
}
