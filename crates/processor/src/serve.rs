//! One paid request, up to its first token: read, verify, write down, compute.

use crate::{
    app::App,
    books::{Book, record_of},
    config::{Compute, ServedModel},
    deliver::{Delivery, deliver},
    error::Refused,
    progress::Progress,
    quotes::OwnQuote,
    vectors,
};
use axum::response::Response;
use bytes::Bytes;
use gristmill_audit::{Seed, ids_digest, salted_digest, salted_ids_digest, user_seed_nonce};
use gristmill_channel::{Ask, Authentic, LedgerView, Payee, Phase};
use gristmill_engine::{Condition, Generation, Job, Prompt as Words, Source, StartError};
use gristmill_net::{
    http::RequestId,
    openai::{ApiError, Prompt, PromptRequest, SamplingDefaults, Shape},
    pay::{Action, Credential, PlacedOrder, Refusal},
    sse,
};
use gristmill_tokenizer::{ChatMessage, unit};
use gristmill_types::{Digest, ProcessorNonce, Sampling};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;

/// Events of a stream that wait for a slow reader at most.
const STREAM_BUFFER: usize = 16;

/// A request that was read and can be computed.
struct Prepared {
    model: Arc<ServedModel>,
    quote: Arc<OwnQuote>,
    work: Work,
    prompt_ids: Vec<u32>,
    shape: Shape,
    top_logprobs: Option<u8>,
    sampling: Sampling,
    draw: Draw,
    ask: Ask,
    authentic: Authentic,
}

/// What is to be computed.
enum Work {
    /// An answer to a prompt.
    Answer(Source),
    /// A vector of each text, by its tokens.
    Vectors(Vec<Vec<u32>>),
}

/// Where the answer's draws come from.
enum Draw {
    /// From the seed in the request.
    Fixed(Seed),
    /// From nonces of both sides. Ours is revealed once the order is accepted: a leaf is used up then.
    Joint {
        /// The digest of the prompt's tokens.
        prompt: Digest,
    },
}

/// Answers `POST` on the route of a shape.
pub(crate) async fn answer(
    app: &Arc<App>,
    credential: Option<Credential>,
    shape: Shape,
    body: Bytes,
    of: (RequestId, Progress),
) -> Response {
    let mut offer = None;
    let result = serve(app, credential, shape, body, of, &mut offer).await;
    result.unwrap_or_else(|refused| {
        let offers: Vec<_> = offer.iter().map(|quote: &Arc<OwnQuote>| &quote.offer).collect();
        refused.answer(app, &offers)
    })
}

async fn serve(
    app: &Arc<App>,
    credential: Option<Credential>,
    shape: Shape,
    body: Bytes,
    of: (RequestId, Progress),
    offer: &mut Option<Arc<OwnQuote>>,
) -> Result<Response, Refused> {
    // A stop waits for it from here on, or it is refused.
    let _running = app.stop.requests.token();
    if app.stop.orders.is_cancelled() {
        return Err(ApiError::unavailable("The processor stops and takes no more requests.", 30).into());
    }
    let request = PromptRequest::parse(&body, shape)?;
    let unknown = || ApiError::unknown_model(&request.model);
    let model = request.model.parse().ok().and_then(|id| app.shelf.get(&id)).ok_or_else(unknown)?;
    request.check_purpose(matches!(model.compute, Compute::Embeddings(_)))?;
    // Before anybody opens a channel for it.
    if model.compute.condition() == Condition::Down {
        return Err(
            ApiError::unavailable("What computes this model does not answer at the moment.", 5).into()
        );
    }
    *offer = Some(app.quote(&model).await?);
    let credential = credential.ok_or(Refusal::Required)?;
    let Action::Order(placed) = credential.action() else {
        return Err(Refusal::Payload("a request starts with an order".to_owned()).into());
    };
    // A gateway may come with an earlier quote, as long as it lasts.
    let quote = match app.find_quote(&placed.voucher.body.0.quote) {
        Some(quote) if quote.signed.body.model == model.id => quote,
        _ => return Err(Refusal::Forged.into()),
    };
    app.cashier.check(&credential, &quote.offer, app.now_ms())?;
    placed.check_body(&body)?;
    let book = app.book(&placed.terms).await?;
    // Nothing is computed for anybody but the payer.
    let authentic = book.payee().authenticate(&placed.voucher, &placed.order, &placed.order.body.body)?;
    of.1.verified(&placed.terms.id(), placed.voucher.body.0.lane);
    let prepared = prepare(model, quote, &request, placed, authentic)?;
    start(app, book, &credential, placed, prepared, &body, of).await
}

/// Counts the prompt's tokens and fixes all that decides the answer.
fn prepare(
    model: Arc<ServedModel>,
    quote: Arc<OwnQuote>,
    request: &PromptRequest,
    placed: &PlacedOrder,
    authentic: Authentic,
) -> Result<Prepared, Refused> {
    if request.n != 1 {
        let why = "a paid request has one answer; a gateway asks for each on a lane of its own";
        return Err(ApiError::unsupported("n", why).into());
    }
    let source = |prompt| Source { prompt, top_p: request.top_p, top_k: request.top_k, seed: request.seed };
    let (work, encoded) = match &request.prompt {
        Prompt::Messages(messages) => {
            let said = messages.iter().map(|message| ChatMessage {
                role: message.role.as_str().to_owned(),
                content: message.content.clone(),
            });
            let messages: Vec<ChatMessage> = said.collect();
            let encoded = model.tokenizer.encode_chat(&messages);
            (Work::Answer(source(Words::Chat(messages))), encoded)
        }
        Prompt::Text(text) => (Work::Answer(source(Words::Text(text.clone()))), model.tokenizer.encode(text)),
        Prompt::Inputs(texts) => {
            let inputs: Result<Vec<_>, _> = texts.iter().map(|text| model.tokenizer.encode(text)).collect();
            let inputs = inputs.map_err(|error| ApiError::invalid("input", error.to_string()))?;
            let all = inputs.concat();
            (Work::Vectors(inputs), Ok(all))
        }
    };
    let prompt_ids =
        encoded.map_err(|error| ApiError::invalid(param_of(request.shape()), error.to_string()))?;
    request.check_engine(quote.signed.body.is_recomputable())?;
    let limits = &quote.signed.body.limits;
    let prompt_tokens = u32::try_from(prompt_ids.len()).unwrap_or(u32::MAX);
    let sampling = request.sampling(
        prompt_tokens,
        unit(&model.tokenizer.digest()),
        limits,
        &SamplingDefaults::default(),
    )?;
    let ask = Ask {
        input_tokens: u64::from(prompt_tokens),
        max_output_tokens: u64::from(sampling.max_tokens),
        max_millis: max_millis(sampling.max_tokens),
    };
    let prompt = ids_digest(&prompt_ids);
    let consumer_nonce = placed.order.body.consumer_nonce;
    let draw = match request.seed {
        Some(number) => {
            if consumer_nonce != user_seed_nonce(number) {
                return Err(Refusal::Payload(
                    "the order's nonce is not that of the request's seed".to_owned(),
                )
                .into());
            }
            Draw::Fixed(Seed::fixed(&consumer_nonce, &prompt, &model.id))
        }
        None if quote.has_nonce() => Draw::Joint { prompt },
        None => return Err(no_nonce()),
    };
    let (shape, top_logprobs) = (request.shape(), request.top_logprobs);
    Ok(Prepared { model, quote, work, prompt_ids, shape, top_logprobs, sampling, draw, ask, authentic })
}

/// The parameter that holds the prompt.
pub(crate) const fn param_of(shape: Shape) -> &'static str {
    match shape {
        Shape::Chat => "messages",
        Shape::Text => "prompt",
        Shape::Embeddings => "input",
    }
}

/// No request can start under the quote any more.
fn no_nonce() -> Refused {
    Refusal::Expired("its last nonce".to_owned()).into()
}

impl Prepared {
    /// The seed, and the nonce that it takes; none where the quote's last one was used meanwhile.
    fn draw(&self, consumer_nonce: &Digest) -> Option<(Seed, Option<ProcessorNonce>)> {
        match &self.draw {
            Draw::Fixed(seed) => Some((*seed, None)),
            Draw::Joint { prompt } => {
                let (quote, model) = (&self.quote.hash, &self.model.id);
                let nonce = self.quote.nonce()?;
                Some((Seed::joint(&nonce.nonce, consumer_nonce, quote, prompt, model), Some(nonce)))
            }
        }
    }
}

impl Prepared {
    /// Draws, and starts the computation.
    fn begin(&self, consumer_nonce: &Digest) -> Result<(Generation, Option<ProcessorNonce>), Refused> {
        let (seed, nonce) = self.draw(consumer_nonce).ok_or_else(no_nonce)?;
        match self.compute(seed) {
            Ok(generation) => Ok((generation, nonce)),
            Err(error) => {
                // Nobody has seen it, and whoever found no place has paid nothing for it.
                nonce.iter().for_each(|nonce| self.quote.give_back(nonce));
                Err(engine_error(&error, self.shape).into())
            }
        }
    }

    fn compute(&self, seed: Seed) -> Result<Generation, StartError> {
        match (&self.model.compute, &self.work) {
            (Compute::Answers(engine), Work::Answer(source)) => engine.start(Job {
                prompt_ids: self.prompt_ids.clone(),
                sampling: self.sampling.clone(),
                seed,
                window: usize::try_from(self.quote.signed.body.limits.window_tokens).unwrap_or(1),
                stop_at_eos: true,
                top_logprobs: self.top_logprobs,
                source: Some(source.clone()),
            }),
            (Compute::Embeddings(embedder), Work::Vectors(inputs)) => {
                let tokens = u32::try_from(self.prompt_ids.len()).unwrap_or(u32::MAX);
                Ok(vectors::answer(embedder.embed(inputs.clone())?, tokens))
            }
            // It was checked before anything was taken.
            _ => Err(StartError::Unsupported("do what is asked of it")),
        }
    }
}

/// Processing time that a request of so many output tokens may take where time is priced.
fn max_millis(max_tokens: u32) -> u64 {
    10_000 + u64::from(max_tokens) * 100
}

/// Takes voucher and order, computes while they are written down, and delivers when they are durable.
async fn start(
    app: &Arc<App>,
    book: Arc<Book>,
    credential: &Credential,
    placed: &PlacedOrder,
    prepared: Prepared,
    body: &[u8],
    (id, progress): (RequestId, Progress),
) -> Result<Response, Refused> {
    let take = |payee: &mut Payee| {
        let clock_ms = app.ledger_clock_ms();
        let find = |hash: &_| app.find_quote(hash).map(|quote| quote.signed.body.clone());
        let lane = placed.voucher.body.0.lane;
        let mut pending: Vec<_> =
            record_of(payee.accept_authentic(&prepared.authentic, find, clock_ms)?).into_iter().collect();
        let ordered = payee.order_authentic(&prepared.authentic, prepared.ask, app.now_ms());
        match ordered {
            Ok(order) => pending.push(order),
            // The voucher was taken all the same, and its record must not be lost.
            Err(error) => return Ok((Err(error), pending)),
        }
        Ok((Ok(payee.spent(lane)?), pending))
    };
    let (taken, queued) = match book.change(take).await {
        Err(Refused::Payment(Refusal::Deposit(_))) => {
            // The payer may have topped up since.
            app.refresh(&book).await?;
            book.change(take).await?
        }
        other => other?,
    };
    let before = match taken {
        Ok(before) => before,
        Err(error) => {
            queued.durable().await?;
            return Err(error.into());
        }
    };
    let lane = placed.voucher.body.0.lane;
    let (begun, nonce) = match prepared.begin(&placed.order.body.consumer_nonce) {
        Ok((generation, nonce)) => (Ok(generation), nonce),
        Err(refused) => (Err(refused), None),
    };
    progress.engine();
    // The prompt is being computed while this waits for the disk.
    queued.durable().await?;
    progress.reach("durable", None);
    let delivery = Delivery {
        app: Arc::clone(app),
        book,
        lane,
        before,
        request: salted_digest(&placed.order.body.salt, body),
        placed: placed.clone(),
        challenge_id: credential.challenge_id().to_owned(),
        model: Arc::clone(&prepared.model),
        prompt_ids: salted_ids_digest(&placed.order.body.salt, &prepared.prompt_ids),
        prompt_tokens: u32::try_from(prepared.prompt_ids.len()).unwrap_or(u32::MAX),
        shape: prepared.shape,
        sampling: prepared.sampling,
        nonce,
        id,
        progress,
    };
    match begun {
        Ok(generation) => {
            let (events, stream) = mpsc::channel(STREAM_BUFFER);
            app.stop.requests.spawn(deliver(delivery, generation, events).in_current_span());
            Ok(sse::response(ReceiverStream::new(stream), sse::KEEP_ALIVE))
        }
        Err(refused) => {
            // Nothing was delivered: the receipt says so and frees the lane.
            delivery.abandon().await?;
            Err(refused)
        }
    }
}

fn engine_error(error: &StartError, shape: Shape) -> ApiError {
    match error {
        StartError::Busy { .. } => ApiError::unavailable("All places are taken at the moment; try again.", 1),
        StartError::EmptyPrompt
        | StartError::PromptTooLong { .. }
        | StartError::UnknownToken { .. }
        | StartError::NoInput
        | StartError::TooManyInputs { .. }
        | StartError::EmptyInput { .. }
        | StartError::InputTooLong { .. } => ApiError::invalid(param_of(shape), error.to_string()),
        StartError::Text(_) => ApiError::invalid("stop", error.to_string()),
        StartError::Unsupported(_) => ApiError::invalid("model", error.to_string()),
        other => ApiError::internal(other.to_string()),
    }
}

impl App {
    /// The book of the channel with these terms, opened from the ledger's proven state if it is new.
    async fn book(&self, terms: &gristmill_types::ChannelTerms) -> Result<Arc<Book>, Refused> {
        if let Some(book) = self.books.get(&terms.id()) {
            return Ok(book);
        }
        if terms.payee != self.account() || terms.receipt_key != self.receipt_account() {
            return Err(Refusal::Unrelated("the channel pays this processor").into());
        }
        let view = self.ledger_view(terms).await?;
        let view: LedgerView = view.ok_or_else(|| {
            Refusal::NoChannel("the ledger has no such channel, or it is not final yet".to_owned())
        })?;
        if view.phase == Phase::Closed {
            return Err(Refusal::Closed("the channel is closed; open another".to_owned()).into());
        }
        let (payee, first) =
            Payee::open(*terms, view).map_err(|error| Refusal::Payload(error.to_string()))?;
        self.books.open(payee, first).await
    }
}
