//! One paid request, from its first token to its receipt.
//!
//! Each piece is counted against the durable voucher before it is sent. When the promise is used up,
//! the consumer is asked for the next voucher and the engine pauses; if none comes, the request ends
//! with what was delivered.

use crate::{
    app::App, books::Book, config::ServedModel, error::Refused, event::Event, progress::Progress,
    serve::param_of, traces,
};
use bytes::Bytes;
use gristmill_audit::{SaltedHasher, salted_ids_digest};
use gristmill_channel::{Payee, PayeeError, Phase, ReceiptParts, Spend};
use gristmill_engine::{Event as Generated, Generation, Logprobs};
use gristmill_net::{
    Base64,
    http::RequestId,
    openai::{ApiError, Chunk, Delta, Extension, FinishReason, Logprob, Shape, TopLogprob},
    pay::{
        PaymentReceipt, PlacedOrder,
        stream::{Item, NeedVoucher, Start},
    },
};
use gristmill_types::{
    Amount, AuditCommitment, Digest, Finish, ProcessorNonce, Receipt, Sampling, Signable as _, Signed, Usage,
};
use std::{sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// A request whose voucher and order are durable.
pub(crate) struct Delivery {
    pub(crate) app: Arc<App>,
    pub(crate) book: Arc<Book>,
    pub(crate) lane: u32,
    /// What the lane had come to before.
    pub(crate) before: (Usage, Amount),
    /// The salted digest of the request's body.
    pub(crate) request: Digest,
    pub(crate) placed: PlacedOrder,
    pub(crate) challenge_id: String,
    pub(crate) model: Arc<ServedModel>,
    pub(crate) prompt_ids: Digest,
    pub(crate) prompt_tokens: u32,
    pub(crate) shape: Shape,
    pub(crate) sampling: Sampling,
    pub(crate) nonce: Option<ProcessorNonce>,
    pub(crate) id: RequestId,
    pub(crate) progress: Progress,
}

/// What was delivered so far.
struct Delivered {
    text: SaltedHasher,
    ids: Vec<u32>,
    metered: Instant,
}

/// Why a stream to the consumer ended early.
enum Ended {
    /// The consumer went away.
    Gone,
    /// The order's cap is reached.
    Capped,
    /// Nothing more is paid for.
    Unpaid(ApiError),
    /// The processor stops.
    Stopped,
    /// Something failed here.
    Failed(ApiError),
}

impl From<PayeeError> for Ended {
    fn from(error: PayeeError) -> Self {
        tracing::error!(%error, "a delivery could not be metered");
        Self::Failed(ApiError::internal("The processor could not meter the answer; it ends here."))
    }
}

/// Sends the answer and its receipt.
pub(crate) async fn deliver(delivery: Delivery, mut generation: Generation, events: mpsc::Sender<Bytes>) {
    let salt = delivery.placed.order.body.salt;
    let mut delivered =
        Delivered { text: SaltedHasher::new(&salt), ids: Vec::new(), metered: Instant::now() };
    let outcome = tokio::select! {
        outcome = delivery.stream(&mut generation, &mut delivered, &events) => outcome,
        () = delivery.app.stop.answers.cancelled() => Err(Ended::Stopped),
    };
    // The engine stops at once and its place is free.
    drop(generation);
    let (finish, failed) = match outcome {
        Ok(finish) => (finish, None),
        Err(Ended::Gone) => (Finish::Cancelled, None),
        Err(Ended::Capped) => (Finish::Length, None),
        Err(Ended::Unpaid(error)) => (Finish::Cancelled, Some(error)),
        Err(Ended::Stopped) => {
            let error = ApiError::unavailable("The processor stops; the answer ends here.", 30);
            (Finish::Cancelled, Some(error))
        }
        Err(Ended::Failed(error)) => (Finish::Error, Some(error)),
    };
    // The receipt is on disk before the end is said: whoever reads slowly delays nobody's claim.
    let receipt = delivery.receipt(delivered, finish).await;
    let last = failed.map_or_else(|| delivery.last_chunk(finish), Item::Failed);
    delivery.send(&events, last).await.ok();
    match receipt {
        Ok(receipt) => {
            delivery.app.emit(Event::Served {
                request: delivery.id.to_string(),
                payer: delivery.placed.terms.payer,
                model: delivery.model.id,
                usage: receipt.usage_of_request,
                unit: gristmill_tokenizer::unit(&delivery.model.tokenizer.digest()),
                cost: receipt.cost_of_request,
            });
            let signed = Item::Receipt(Box::new(delivery.payment_receipt(receipt.signed)));
            delivery.send(&events, signed).await.ok();
        }
        Err(refused) => {
            tracing::error!(?refused, request = %delivery.id, "no receipt could be written");
        }
    }
    delivery.send(&events, Item::Done).await.ok();
}

/// A receipt, with what it adds to the one before.
struct Signing {
    signed: Signed<Receipt>,
    usage_of_request: Usage,
    cost_of_request: Amount,
}

impl Delivery {
    async fn send(&self, events: &mpsc::Sender<Bytes>, item: Item) -> Result<(), Ended> {
        let bytes = self.written(&item)?;
        self.place(events).await?.send(bytes);
        Ok(())
    }

    fn written(&self, item: &Item) -> Result<Bytes, Ended> {
        item.to_event().map_err(|error| Ended::Failed(ApiError::internal(error.to_string())))
    }

    /// Room for one event more.
    async fn place<'a>(&self, events: &'a mpsc::Sender<Bytes>) -> Result<mpsc::Permit<'a, Bytes>, Ended> {
        // A reader that stands still gives its place free.
        match tokio::time::timeout(self.app.config.reader_patience, events.reserve()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Ended::Gone),
        }
    }

    fn chunk(&self, delta: Delta, finish: Option<FinishReason>) -> Chunk {
        Chunk::new(
            self.shape,
            &self.id.of(self.shape),
            self.app.now_ms() / 1_000,
            &self.model.id.to_string(),
            delta,
            finish,
        )
    }

    fn last_chunk(&self, finish: Finish) -> Item {
        Item::Chunk(Box::new(self.chunk(Delta::default(), Some(finish.into()))))
    }

    async fn stream(
        &self,
        generation: &mut Generation,
        delivered: &mut Delivered,
        events: &mpsc::Sender<Bytes>,
    ) -> Result<Finish, Ended> {
        let start = Start {
            request_id: self.id.to_string(),
            prompt_tokens: self.prompt_tokens,
            processor_nonce: self.nonce.clone().map(Base64),
        };
        self.send(events, Item::Start(start)).await?;
        loop {
            let event = tokio::select! {
                event = generation.next() => event,
                () = events.closed() => return Err(Ended::Gone),
            };
            match event {
                Some(Generated::Piece { ids, text, logprobs }) => {
                    self.progress.token();
                    // What is counted and committed to is sent, whatever ends the answer meanwhile.
                    let place = self.place(events).await?;
                    self.pay(u64::try_from(ids.len()).unwrap_or(u64::MAX), delivered, events).await?;
                    delivered.text.update(text.as_bytes());
                    delivered.ids.extend_from_slice(&ids);
                    let delta = Delta { content: Some(text), ..Delta::default() };
                    let mut chunk = self.chunk(delta, None);
                    let logprobs = logprobs.iter().map(wire).collect();
                    chunk.gristmill = Some(Extension { ids, logprobs, ..Extension::default() });
                    place.send(self.written(&Item::Chunk(Box::new(chunk)))?);
                }
                Some(Generated::Done(done)) => {
                    return match done.error {
                        Some(error) if done.refused => {
                            Err(Ended::Failed(ApiError::invalid(param_of(self.shape), error)))
                        }
                        Some(error) => Err(Ended::Failed(ApiError::internal(error))),
                        None => Ok(done.finish),
                    };
                }
                None => return Err(Ended::Failed(ApiError::internal("the engine gave no end"))),
            }
        }
    }

    /// Counts tokens against the voucher, asking for the next one where it does not suffice.
    async fn pay(
        &self,
        tokens: u64,
        delivered: &mut Delivered,
        events: &mpsc::Sender<Bytes>,
    ) -> Result<(), Ended> {
        let mut changes = self.book.changes();
        let deadline = tokio::time::Instant::now() + self.app.config.voucher_patience;
        let mut asked = None;
        loop {
            changes.borrow_and_update();
            let millis = u64::try_from(delivered.metered.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (required, accepted, deposit) = {
                let mut payee = self.book.payee();
                // The payer asked for its deposit back: what was delivered is claimed, nothing more is.
                if payee.view().phase != Phase::Open {
                    return Err(Ended::Unpaid(ApiError::channel_closing()));
                }
                match payee.spend(self.lane, tokens, millis)? {
                    Spend::Paid => {
                        if let Some(since) = asked {
                            self.progress.went_on(Instant::elapsed(&since), true);
                        }
                        delivered.metered = Instant::now();
                        return Ok(());
                    }
                    Spend::CapReached => return Err(Ended::Capped),
                    Spend::NeedVoucher { required, .. } => {
                        (required, payee.promised(self.lane), payee.view().deposit)
                    }
                }
            };
            if asked.is_none() {
                asked = Some(Instant::now());
                self.progress.stalled();
                let channel = self.placed.terms.id();
                let need = NeedVoucher { channel, lane: self.lane, required, accepted, deposit };
                self.send(events, Item::NeedVoucher(need)).await?;
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| Ended::Gone)?,
                () = events.closed() => return Err(Ended::Gone),
                () = tokio::time::sleep_until(deadline) => {
                    let patience = self.app.config.voucher_patience;
                    self.progress.went_on(patience, false);
                    return Err(Ended::Unpaid(ApiError::processor_failed(format!(
                        "No further voucher came within {} s; the answer ends here.",
                        patience.as_secs_f64()
                    ))));
                }
            }
        }
    }

    /// Signs the last receipt of the request and makes it durable.
    async fn receipt(&self, delivered: Delivered, finish: Finish) -> Result<Signing, Refused> {
        let order = &self.placed.order.body;
        let audit = AuditCommitment {
            prompt_ids: self.prompt_ids,
            output_ids: salted_ids_digest(&order.salt, &delivered.ids),
            sampling: self.sampling.clone(),
            consumer_nonce: order.consumer_nonce,
            processor_nonce: self.nonce.clone(),
            finish,
        };
        self.sign(delivered.text.finish(), Some(audit), finish).await
    }

    async fn sign(
        &self,
        response: Digest,
        audit: Option<AuditCommitment>,
        finish: Finish,
    ) -> Result<Signing, Refused> {
        let parts = ReceiptParts { request: self.request, response, last: true, audit };
        let sign = |payee: &mut Payee| {
            let (receipt, pending) = payee.receipt(self.lane, parts, &self.app.config.receipt_key)?;
            Ok((receipt, vec![pending]))
        };
        let note = |signed: &Signed<Receipt>| {
            let trace = self.progress.receipt(&signed.body.digest(), signed.body.channel, self.lane);
            traces::insert(signed, &trace)
        };
        let (signed, queued) = self.book.change_noting(sign, note).await?;
        queued.durable().await?;
        let (usage_before, cost_before) = self.before;
        let usage_of_request = since(&signed.body.usage, &usage_before);
        let cost_of_request = signed.body.spent.saturating_sub(cost_before);
        self.progress.finished(finish, &usage_of_request, cost_of_request);
        Ok(Signing { usage_of_request, cost_of_request, signed })
    }

    /// Ends a request that never began: nothing was drawn for it, so there is nothing to compute again.
    pub(crate) async fn abandon(&self) -> Result<(), Refused> {
        let nothing = SaltedHasher::new(&self.placed.order.body.salt).finish();
        self.sign(nothing, None, Finish::Error).await.map(drop)
    }

    fn payment_receipt(&self, signed: Signed<Receipt>) -> PaymentReceipt {
        PaymentReceipt {
            challenge_id: self.challenge_id.clone(),
            channel: signed.body.channel,
            lane: signed.body.lane,
            accepted: self.book.payee().promised(self.lane),
            spent: signed.body.spent,
            time_ms: self.app.now_ms(),
            signed: Some(signed),
        }
    }
}

/// A token's log probabilities as they travel; the token itself is among the ids.
fn wire(of: &Logprobs) -> Logprob {
    let top = of.top.iter().map(|token| TopLogprob { id: token.id, logprob: token.logprob });
    Logprob { logprob: of.drawn.logprob, top: top.collect() }
}

/// The counters' difference.
fn since(now: &Usage, before: &Usage) -> Usage {
    Usage {
        input_tokens: now.input_tokens.saturating_sub(before.input_tokens),
        output_tokens: now.output_tokens.saturating_sub(before.output_tokens),
        millis: now.millis.saturating_sub(before.millis),
        requests: now.requests.saturating_sub(before.requests),
    }
}
