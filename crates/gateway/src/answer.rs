//! Answers to OpenAI clients: whole, or in chunks; one, or several at a time.

use crate::{
    app::App,
    error::BuyError,
    logprobs::{Token, written},
    purchase::{Bought, Step},
    steps::Steps,
};
use bytes::Bytes;
use gristmill_net::{
    http::RequestId,
    openai::{
        Answer, ApiError, Choice, ChoiceError, Chunk, Delta, Extension, FinishReason, Partial, PromptRequest,
        Shape, Usage,
    },
    sse,
};
use gristmill_types::AccountId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;

/// Chunks that wait for a slow client at most. While they wait, nothing more is read from the
/// processor, and nothing more is paid.
const STREAM_BUFFER: usize = 16;

/// What an answer is headed with.
pub(crate) struct Heading {
    pub(crate) id: RequestId,
    pub(crate) created: u64,
    /// As the client asked for it.
    pub(crate) model: String,
    pub(crate) processor: AccountId,
    pub(crate) include_usage: bool,
    pub(crate) shape: Shape,
}

impl Heading {
    pub(crate) fn new(app: &App, id: RequestId, request: &PromptRequest, processor: AccountId) -> Self {
        Self {
            id,
            created: app.now_ms() / 1_000,
            model: request.model.clone(),
            processor,
            include_usage: request.include_usage(),
            shape: request.shape(),
        }
    }

    fn chunk(&self, index: u32, delta: Delta, finish: Option<FinishReason>) -> Chunk {
        let id = self.id.of(self.shape);
        let mut chunk = Chunk::new(self.shape, &id, self.created, &self.model, delta, finish);
        if let Some(choice) = chunk.choices.first_mut() {
            choice.index = index;
        }
        chunk
    }
}

/// What became of all choices together.
struct Sum {
    choices: u32,
    /// Choices that did not end yet.
    open: Vec<u32>,
    /// Choices that came to their end.
    whole: u32,
    /// All that was paid for, that of choices that broke off too.
    bought: Vec<Bought>,
    errors: Vec<ChoiceError>,
    /// What came of those that broke off without a receipt.
    unsettled: Vec<Usage>,
    /// The first failure.
    error: Option<BuyError>,
}

impl Sum {
    fn of(choices: u32) -> Self {
        Self {
            choices,
            open: (0..choices).collect(),
            whole: 0,
            bought: Vec::new(),
            errors: Vec::new(),
            unsettled: Vec::new(),
            error: None,
        }
    }

    fn fail(&mut self, index: u32, error: BuyError) {
        self.open.retain(|of| *of != index);
        self.errors.push(ChoiceError { index, message: error.to_string() });
        match &error {
            BuyError::Cut { bought, .. } => self.bought.push((**bought).clone()),
            BuyError::Unsettled { partial, .. } => self.unsettled.push(partial.usage),
            _ => {}
        }
        self.error.get_or_insert(error);
    }

    fn end(&mut self, index: u32, bought: Bought) {
        self.open.retain(|of| *of != index);
        self.whole += 1;
        self.bought.push(bought);
    }

    fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// The error of a request of which no choice came to its end.
    fn failed(&mut self) -> Option<BuyError> {
        if self.whole == 0 { self.error.take() } else { None }
    }

    /// The prompt is paid for with each choice, so it counts with each.
    fn usage(&self) -> Usage {
        let sum = |of: fn(&Bought) -> u64| self.bought.iter().map(of).fold(0, u64::saturating_add);
        let cost =
            self.bought.iter().try_fold(gristmill_types::Amount::ZERO, |sum, of| sum.checked_add(of.cost));
        let unit = self.bought.first().map(|of| of.unit).unwrap_or_default();
        Usage::new(sum(|of| of.prompt_tokens), sum(|of| of.completion_tokens), unit, cost)
    }

    /// The error of a request that failed, with what came all the same.
    fn error(&self, error: BuyError, heading: &Heading, choices: Vec<Choice>) -> ApiError {
        let error = ApiError::from(error);
        let came = |of: fn(&Usage) -> u64| self.unsettled.iter().map(of).fold(0, u64::saturating_add);
        let (prompt, completion) = (came(|of| of.prompt_tokens), came(|of| of.completion_tokens));
        let usage = match (self.bought.as_slice(), self.unsettled.as_slice()) {
            ([], []) => return error,
            ([], [first, ..]) => Usage::new(prompt, completion, first.unit, None),
            _ => {
                let of = self.usage();
                let (prompt, completion) = (
                    prompt.saturating_add(of.prompt_tokens),
                    completion.saturating_add(of.completion_tokens),
                );
                Usage { cost: of.cost, ..Usage::new(prompt, completion, of.unit, None) }
            }
        };
        let (message, gristmill) = (error.message.clone(), self.extension(heading.processor));
        error.cut(message, Partial { choices, usage, gristmill })
    }

    /// What stands in for the step of a choice that neither ended nor failed: whatever ran it is gone.
    fn lost(&self) -> (u32, Result<Step, BuyError>) {
        let index = self.open.first().copied().unwrap_or_default();
        (index, Err(ApiError::internal("The gateway lost the answer.").into()))
    }

    fn extension(&self, processor: AccountId) -> Extension {
        let receipts: Vec<_> = self.bought.iter().map(|of| of.receipt).collect();
        Extension {
            receipt: receipts.first().copied(),
            receipts: if self.choices > 1 { receipts } else { Vec::new() },
            processor: Some(processor),
            limited_by: self.bought.iter().find_map(|of| of.limited_by),
            errors: if self.choices > 1 { self.errors.clone() } else { Vec::new() },
            ..Extension::default()
        }
    }
}

/// The whole answer. `gone` resolves when the client goes away.
pub(crate) async fn whole(
    mut steps: Steps,
    heading: Heading,
    gone: impl Future<Output = ()>,
) -> Result<Answer, ApiError> {
    let mut gone = std::pin::pin!(gone);
    let mut sum = Sum::of(steps.choices());
    let mut said: Vec<(String, Vec<Token>, FinishReason)> =
        (0..steps.choices()).map(|_| (String::new(), Vec::new(), FinishReason::Error)).collect();
    while !sum.is_over() {
        let step = tokio::select! {
            step = steps.next() => step,
            () = &mut gone => return Err(BuyError::Gone.into()),
        };
        let (index, step) = step.unwrap_or_else(|| sum.lost());
        let Some(of) = usize::try_from(index).ok().and_then(|index| said.get_mut(index)) else { continue };
        match step {
            Ok(Step::Text(text, tokens)) => {
                of.0.push_str(&text);
                of.1.extend(tokens);
            }
            Ok(Step::End(bought)) => {
                of.2 = bought.finish;
                sum.end(index, bought);
            }
            Err(error) => sum.fail(index, error),
        }
    }
    let failed = sum.failed();
    let choices = (0_u32..).zip(said).map(|(index, (text, tokens, finish))| {
        let mut choice = Choice::new(heading.shape, index, text, finish);
        choice.logprobs = written(heading.shape, &tokens);
        choice
    });
    let choices = choices.collect();
    if let Some(error) = failed {
        return Err(sum.error(error, &heading, choices));
    }
    let id = heading.id.of(heading.shape);
    let mut answer = Answer::new(heading.shape, id, heading.created, heading.model.clone(), choices);
    answer.usage = Some(sum.usage());
    answer.gristmill = Some(sum.extension(heading.processor));
    Ok(answer)
}

/// The answer as a stream. `patience` is how long a client may take to read what is on its way to it.
pub(crate) fn stream(steps: Steps, heading: Heading, patience: Duration) -> axum::response::Response {
    let (events, stream) = mpsc::channel(STREAM_BUFFER);
    tokio::spawn(pump(steps, heading, Reader { events, patience }).in_current_span());
    sse::response(ReceiverStream::new(stream), sse::KEEP_ALIVE)
}

/// The client of a stream.
struct Reader {
    events: mpsc::Sender<Bytes>,
    patience: Duration,
}

impl Reader {
    /// A client that stands still is one that went away.
    async fn send(&self, event: Bytes) -> Option<()> {
        tokio::time::timeout(self.patience, self.events.send(event)).await.ok()?.ok()
    }
}

/// Sends until the end; none where the client went away. The purchases notice then.
async fn pump(mut steps: Steps, heading: Heading, reader: Reader) -> Option<()> {
    let mut sum = Sum::of(steps.choices());
    if heading.shape == Shape::Chat {
        for index in 0..sum.choices {
            let role = Delta { role: Some("assistant".to_owned()), content: Some(String::new()) };
            reader.send(heading.chunk(index, role, None).to_event()).await?;
        }
    }
    while !sum.is_over() {
        let step = tokio::select! {
            step = steps.next() => step,
            () = reader.events.closed() => return None,
        };
        let (index, step) = step.unwrap_or_else(|| sum.lost());
        let finish = match step {
            Ok(Step::Text(text, tokens)) => {
                let mut chunk = heading.chunk(index, Delta { content: Some(text), role: None }, None);
                if let Some(choice) = chunk.choices.first_mut() {
                    choice.logprobs = written(heading.shape, &tokens);
                }
                reader.send(chunk.to_event()).await?;
                continue;
            }
            Ok(Step::End(bought)) => {
                let finish = bought.finish;
                sum.end(index, bought);
                finish
            }
            Err(error) => {
                sum.fail(index, error);
                FinishReason::Error
            }
        };
        if sum.is_over() && sum.whole == 0 {
            break;
        }
        for event in end(&heading, index, finish, &sum) {
            reader.send(event).await?;
        }
    }
    if let Some(error) = sum.failed() {
        reader.send(sse::format("", &sum.error(error, &heading, Vec::new()).body())).await?;
    }
    reader.send(sse::done()).await
}

/// The chunk that ends a choice; behind the last of them, the usage. With `include_usage` it comes in a
/// chunk of its own without choices, as OpenAI does it; without, in the chunk that ends the last choice,
/// since many clients fail at a chunk without choices that they did not ask for.
fn end(heading: &Heading, index: u32, finish: FinishReason, sum: &Sum) -> Vec<Bytes> {
    let mut chunk = heading.chunk(index, Delta::default(), Some(finish));
    if !sum.is_over() {
        return vec![chunk.to_event()];
    }
    let (usage, extension) = (sum.usage(), sum.extension(heading.processor));
    if !heading.include_usage {
        chunk.usage = Some(usage);
        chunk.gristmill = Some(extension);
        return vec![chunk.to_event()];
    }
    let id = heading.id.of(heading.shape);
    let mut last = Chunk::of_usage(heading.shape, &id, heading.created, &heading.model, usage);
    last.gristmill = Some(extension);
    vec![chunk.to_event(), last.to_event()]
}
