//! Processors that answer with what they should not: the gateway says so, nothing of it reaches the client,
//! and nothing more is paid than what arrived before.

use crate::{
    disputes::eventually,
    way::{Fate, Way},
};
use anyhow::{Context as _, Result, ensure};
use gristmill_engine::{
    Done, Embedder, EmbedderInfo, Embedding, Engine, EngineInfo, Event, Generation, Job, Load, Logprobs,
    Recomputation, Replay, StartError, TokenLogprob,
};
use gristmill_net::openai::ApiError;
use gristmill_processor::Compute;
use gristmill_sim::{Consumer, Exchange, InstantEngine, ModelOptions, Options, Script};
use gristmill_tokenizer::Tokenizer;
use gristmill_types::Finish;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

const MODEL: &str = "sim/liar";

/// What goes over the wire for a job.
type Says = fn(&Tokenizer) -> Vec<Event>;

/// An engine that says anything.
struct Liar {
    honest: InstantEngine,
    says: Says,
}

impl Engine for Liar {
    fn info(&self) -> &EngineInfo {
        self.honest.info()
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.honest.tokenizer()
    }

    fn load(&self) -> Load {
        self.honest.load()
    }

    fn start(&self, job: Job) -> Result<Generation, StartError> {
        let prompt_tokens = u32::try_from(job.prompt_ids.len()).unwrap();
        let events = (self.says)(self.tokenizer());
        let (sender, receiver) = mpsc::channel(events.len() + 1);
        let mut output_tokens = 0;
        let mut last =
            Done { finish: Finish::Stop, prompt_tokens, output_tokens, error: None, refused: false };
        for event in events {
            match event {
                Event::Done(done) => last = done,
                Event::Piece { ref ids, .. } => {
                    output_tokens += u32::try_from(ids.len()).unwrap();
                    sender.try_send(event).unwrap();
                }
            }
        }
        sender.try_send(Event::Done(Done { prompt_tokens, output_tokens, ..last })).unwrap();
        Ok(Generation::new(receiver, prompt_tokens, || {}))
    }

    fn recompute(&self, _: Replay) -> Result<Recomputation, StartError> {
        Err(StartError::Unsupported("prove anything"))
    }
}

fn piece(tokenizer: &Tokenizer, text: &str) -> Event {
    Event::Piece { ids: tokenizer.encode(text).unwrap(), text: text.to_owned(), logprobs: Vec::new() }
}

/// A token of so many log probabilities.
fn rated(tokenizer: &Tokenizer, count: usize, top: usize) -> Event {
    let id = tokenizer.encode("a").unwrap()[0];
    let rating = TokenLogprob { id, logprob: -0.5 };
    let logprobs = vec![Logprobs { drawn: rating, top: vec![rating; top] }; count];
    Event::Piece { ids: vec![id], text: "a".to_owned(), logprobs }
}

fn broken(error: &str) -> Event {
    let error = Some(error.to_owned());
    Event::Done(Done { finish: Finish::Error, prompt_tokens: 0, output_tokens: 0, error, refused: false })
}

async fn exchange(says: Says) -> Result<Exchange> {
    let honest = InstantEngine::starter(Script::default())?;
    Exchange::start(Options::new(vec![ModelOptions::new(MODEL, Arc::new(Liar { honest, says }))])).await
}

fn refused(answer: Result<Value>) -> Result<String> {
    let error = answer.err().context("it is refused")?;
    Ok(error.downcast::<ApiError>()?.message)
}

/// What the key has spent, when all lanes are in order; what was sold is listed.
async fn spent(consumer: &Consumer) -> Result<u128> {
    for _ in 0..100 {
        let (key, channels) = (consumer.get("/key").await?, consumer.get("/channels").await?);
        if channels["channels"][0]["in_doubt"] == 0 {
            return Ok(key["spent"].as_str().context("spent")?.parse()?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the lanes stay in doubt")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_not_passed_on() -> Result<()> {
    let cases: [(Says, &str); 6] = [
        (|of| vec![piece(of, "forty"), rated(of, 0, 0)], ""),
        (
            |of| match piece(of, "forty") {
                Event::Piece { ids, logprobs, .. } => {
                    vec![Event::Piece { ids, text: "fifty".to_owned(), logprobs }]
                }
                done => vec![done],
            },
            "the token ids do not decode to the text",
        ),
        (
            |of| {
                let end = of.bundle().eos_ids[0];
                let end = Event::Piece { ids: vec![end], text: String::new(), logprobs: Vec::new() };
                vec![piece(of, "forty"), end, piece(of, "two")]
            },
            "tokens came after the end",
        ),
        (|of| vec![rated(of, 1, 2)], ""),
        (|of| vec![rated(of, 1, 2), rated(of, 0, 0)], "gives no log probabilities"),
        (|of| vec![rated(of, 1, 3)], "more log probabilities than were asked for"),
    ];
    for (says, about) in cases {
        let exchange = exchange(says).await?;
        let consumer = exchange.consumer()?;
        let mut request = consumer.request("Spell 42");
        if about.contains("log probabilities") {
            request["logprobs"] = json!(true);
            request["top_logprobs"] = json!(2);
        }
        let answer = consumer.chat(&request).await;
        if about.is_empty() {
            answer?;
        } else {
            let message = refused(answer)?;
            assert!(message.contains("broke the protocol") && message.contains(about), "{message}");
            // What does not fit was not taken: the receipt says more than what is kept of the answer.
            eventually(|| async {
                let listed = consumer.get("/receipts").await?;
                ensure!(listed["receipts"][0]["kept"] == "broken", "{listed}");
                Ok(())
            })
            .await?;
        }
        assert!(spent(&consumer).await? < 1_000_000, "the prompt, and a token or two");
        exchange.stop().await?;
    }
    Ok(())
}

/// What had come is paid, and whoever asked is told so: in the error where nothing else came, in the usage where
/// other choices did.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_failure_is_told_with_its_price() -> Result<()> {
    let exchange = exchange(|of| vec![piece(of, "forty"), broken("it caught fire")]).await?;
    let consumer = exchange.consumer()?;
    let request = consumer.request("Spell 42");
    let message = refused(consumer.chat(&request).await)?;
    let listed = consumer.get("/receipts").await?;
    let sold = &listed["receipts"][0];
    let (id, cost) = (sold["id"].as_str().context("an id")?, sold["cost"].as_str().context("a cost")?);
    let credits = gristmill_types::Amount::from_grains(cost.parse()?);
    assert!(message.contains("it caught fire"), "{message}");
    assert!(message.ends_with(&format!("is paid for: {credits} credits, receipt {id}.")), "{message}");
    assert_eq!(spent(&consumer).await?, cost.parse::<u128>()?);
    // The same in a stream, behind the text.
    let mut stream = consumer.stream(&request).await?;
    let (mut text, error) = (
        String::new(),
        loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => anyhow::bail!("no error came"),
                Err(error) => break error.to_string(),
            }
        },
    );
    text.push_str(&error);
    assert!(text.contains("is paid for"), "{text}");
    let http = gristmill_net::http::client()?;
    let url = format!("{}/metrics", exchange.base_url().trim_end_matches("/v1"));
    let metrics = http.get(url).send().await?.text().await?;
    let counted = format!("gristmill_gateway_spent_grains_total {}", 2 * cost.parse::<u64>()?);
    assert!(metrics.lines().any(|line| line == counted), "{counted}");
    exchange.stop().await
}

/// An embedder that gives any vectors.
struct FalseEmbedder {
    info: EmbedderInfo,
    tokenizer: Arc<Tokenizer>,
    vectors: Vec<Vec<f32>>,
}

impl Embedder for FalseEmbedder {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn load(&self) -> Load {
        Load::default()
    }

    fn embed(&self, _: Vec<Vec<u32>>) -> Result<Embedding, StartError> {
        let (sender, receiver) = oneshot::channel();
        sender.send(Ok(self.vectors.clone())).unwrap();
        Ok(Embedding::new(receiver))
    }
}

/// The approval that the processor holds, once the honest one is there.
async fn approval(exchange: &Exchange, consumer: &Consumer) -> Result<Value> {
    let listed = consumer.get("/channels").await?;
    let id = listed["channels"][0]["id"].as_str().context("an id")?;
    let url = format!("{}/v1/channels/{id}", exchange.processor_url());
    let http = gristmill_net::http::client()?;
    for _ in 0..10 {
        let text = http.get(&url).send().await?.text().await?;
        let copy: Value = serde_json::from_str(&text)?;
        if !copy["lanes"][0]["approval"].is_null() {
            return Ok(copy["lanes"][0]["approval"].clone());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Value::Null)
}

/// A model that gives these vectors, whatever it is asked.
pub(crate) fn embeds(vectors: Vec<Vec<f32>>) -> Result<ModelOptions> {
    let any = Arc::new(InstantEngine::starter(Script::default())?);
    let tokenizer = Arc::clone(any.tokenizer());
    let info = EmbedderInfo {
        class: "instant".to_owned(),
        exact: true,
        context_tokens: 512,
        vocab: u32::try_from(tokenizer.vocab_size())?,
        dimensions: 8,
        normalised: false,
        parameters: 0,
        max_inputs: 1_000,
        max_queued: 4,
    };
    let compute = Compute::Embeddings(Arc::new(FalseEmbedder { info, tokenizer, vectors }));
    Ok(ModelOptions { compute, ..ModelOptions::new(MODEL, any) })
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_are_none_are_not_approved() -> Result<()> {
    let long = 16 << 10;
    for (vectors, about) in [
        (vec![vec![0.5; 8]; 2], ""),
        (vec![vec![0.5; 8]; 1], "1 vectors for 2 texts"),
        (vec![vec![0.5; 8]; 3], "goes on where all vectors were given"),
        (vec![vec![0.5; long]; 2], "more than 65536 bytes"),
        (vec![vec![0.5; 8], vec![0.5; 7]], "different lengths"),
        (vec![vec![f32::NAN; 8]; 2], "no number"),
    ] {
        let exchange = Exchange::start(Options::new(vec![embeds(vectors)?])).await?;
        let consumer = exchange.consumer()?;
        let request = json!({"model": MODEL, "input": ["forty", "two"]});
        let answer = consumer.send("/embeddings", &request).await;
        if about.is_empty() {
            assert_eq!(answer?["data"].as_array().map(Vec::len), Some(2));
        } else {
            let message = refused(answer)?;
            assert!(message.contains(about), "{message}");
            // The lane is in order, and an approval would be on its way.
            spent(&consumer).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let approved = approval(&exchange, &consumer).await?;
        assert_eq!(approved.is_null(), !about.is_empty(), "{about}: {approved}");
        exchange.stop().await?;
    }
    Ok(())
}

/// A commit has a bound, and an answer of vectors may be longer: it is paid and listed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_not_kept_with_its_receipt() -> Result<()> {
    let count = 450;
    let exchange = Exchange::start(Options::new(vec![embeds(vec![vec![0.5; 12_000]; count])?])).await?;
    let consumer = exchange.consumer()?;
    let request = json!({"model": MODEL, "input": vec!["forty"; count], "encoding_format": "base64"});
    // Longer than this client reads.
    drop(consumer.send("/embeddings", &request).await);
    eventually(|| async {
        let listed = consumer.get("/receipts").await?;
        ensure!(listed["receipts"][0]["kept"] == "nothing", "{listed}");
        ensure!(listed["receipts"][0]["cost"] != "0", "{listed}");
        Ok(())
    })
    .await?;
    exchange.stop().await
}

/// The answer breaks off before its receipt: what came is judged by what the processor has.
#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_break_off_are_approved_if_they_are_any() -> Result<()> {
    let (good, none) = (vec![vec![0.5; 8]; 3], vec![vec![f32::NAN; 8]; 3]);
    // All came but the receipt; or the client goes away when one has come.
    for (vectors, pieces, approved) in [(&none, 3, false), (&good, 3, true), (&good, 1, true)] {
        let approvals = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&approvals);
        let way = Way::open(move |of| {
            if of.is_approval() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let left = AtomicUsize::new(pieces);
            match of.is_order() {
                true => Fate::Events(Arc::new(move |event| match event {
                    event if event.contains("payment-receipt") => Fate::Refused,
                    // A vector is a line.
                    event if !event.contains("\\n\"") => Fate::Pass,
                    _ if left.load(Ordering::SeqCst) == 0 => Fate::Silent,
                    _ => {
                        left.fetch_sub(1, Ordering::SeqCst);
                        Fate::Pass
                    }
                })),
                false => Fate::Pass,
            }
        })
        .await?;
        let mut options = Options::new(vec![embeds(vectors.clone())?]);
        options.processor = Box::new(|config| config.approval_patience = Duration::from_secs(3_600));
        let exchange = Exchange::start(options).await?;
        way.before_processor(&exchange).await?;
        let consumer = exchange.consumer()?;
        // Long enough to be worth settling.
        let texts = ["one", "two", "three"].map(|text| text.repeat(20));
        let request = json!({"model": MODEL, "input": texts});
        let asked = consumer.send("/embeddings", &request);
        match tokio::time::timeout(Duration::from_secs(2), asked).await {
            Ok(answer) => assert!(pieces == 3 && answer.is_err(), "{pieces} came: {answer:?}"),
            Err(_) => assert!(pieces == 1, "nobody waits any more"),
        }
        eventually(|| async {
            let (listed, channels) = (consumer.get("/receipts").await?, consumer.get("/channels").await?);
            let channel = &channels["channels"][0];
            let paid = channel["settled"] == channel["spent"];
            ensure!(
                listed["total"] == 1 && channel["spent"] != "0" && paid == approved,
                "{listed} {channel}"
            );
            Ok(())
        })
        .await?;
        if !approved {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(approvals.load(Ordering::SeqCst), 0, "what came is none");
        }
        exchange.stop().await?;
    }
    Ok(())
}
