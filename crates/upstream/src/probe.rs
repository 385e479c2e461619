//! What an upstream can do, found out before anything is offered.
//!
//! 1. `GET /v1/models`: which models there are, and how large their context is. May fail: then the
//!    model has to be named.
//! 2. A chat of a few tokens, streaming: whether it answers at all, in events or whole; which name it
//!    knows the limit of tokens by; whether it ends its stream with `[DONE]`, counts, or thinks aloud.
//! 3. A text completion of one token: whether there are any.

use crate::{
    Address, ApiKey, Patience, UpstreamError,
    answer::{LIMITS, said},
    chunk::Said,
    connection::{Http, MAX_ANSWER_BYTES},
};
use futures::StreamExt as _;
use gristmill_net::{http::read_body, sse};
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long lists and the like may take.
const SOON: Duration = Duration::from_secs(10);
/// Models of a list that are looked at.
const MAX_MODELS: usize = 1_000;
const MAX_NAME_BYTES: usize = 256;
/// How long the mark at the end of a stream, and counts, are waited for.
const REST: Duration = Duration::from_secs(1);
/// Tokens of the answer that is asked for.
const TOKENS: u32 = 8;

/// What the limit of output tokens is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// `max_tokens`, which nearly all know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's newer models insist on.
    MaxCompletionTokens,
    /// None that works.
    Unknown,
}

impl Limit {
    pub(crate) const OLD: &str = LIMITS[0];

    /// The parameter's name.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::MaxTokens => Some(LIMITS[0]),
            Self::MaxCompletionTokens => Some(LIMITS[1]),
            Self::Unknown => None,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The models that it lists.
    pub models: Vec<String>,
    /// Why it lists none, if it failed to.
    pub unlisted: Option<String>,
    /// The model that answers.
    pub model: String,
    /// Its context in tokens, if told.
    pub context_tokens: Option<u32>,
    /// Whether answers come in events while they are written.
    pub streams: bool,
    /// Whether the stream has a mark at its end.
    pub marks_end: bool,
    /// Whether it says why an answer ends.
    pub explains: bool,
    /// Whether it counts tokens without being asked.
    pub counts: bool,
    /// Whether it thinks apart from its answer.
    pub reasons: bool,
    /// What it calls the limit of output tokens.
    pub limit: Limit,
    /// Whether it completes texts, too.
    pub completes: bool,
    /// How long the first words took.
    pub first: Duration,
}

/// One listed model.
struct Listed {
    id: String,
    context: Option<u32>,
}

/// The names of the models that a server lists.
pub async fn list_models(address: &Address, patience: Duration) -> Result<Vec<String>, UpstreamError> {
    let http = Http::new(address.clone(), None)?;
    let listed = tokio::time::timeout(patience, list(&http)).await;
    let unreachable = |reason: String| UpstreamError::Unreachable { address: address.to_string(), reason };
    let listed = listed.map_err(|_| unreachable("it takes too long".to_owned()))?;
    Ok(listed.map_err(|failed| unreachable(failed.words))?.into_iter().map(|model| model.id).collect())
}

/// Finds out what an upstream can do. `wanted` is the model to sell.
pub async fn probe(
    address: &Address,
    key: Option<&ApiKey>,
    wanted: Option<&str>,
    patience: Patience,
) -> Result<Report, UpstreamError> {
    let http = Http::new(address.clone(), key.cloned())?;
    let place = || address.to_string();
    let listed = tokio::time::timeout(SOON, list(&http)).await;
    let (listed, unlisted) = match listed {
        Ok(Ok(listed)) => (listed, None),
        Ok(Err(Failed { status: Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), words })) => {
            return Err(UpstreamError::Denied { address: place(), reason: words });
        }
        // Nobody is there: no other question is worth asking.
        Ok(Err(Failed { status: None, words })) => {
            return Err(UpstreamError::Unreachable { address: place(), reason: words });
        }
        Ok(Err(Failed { words, .. })) => (Vec::new(), Some(words)),
        Err(_) => (Vec::new(), Some("it takes too long".to_owned())),
    };
    let models: Vec<String> = listed.iter().map(|model| model.id.clone()).collect();
    let model = choose(wanted, &models, unlisted.as_deref())?;
    let told = listed.iter().find(|of| of.id == model).and_then(|of| of.context);
    let context_tokens = match told {
        Some(context) => Some(context),
        None => tokio::time::timeout(SOON, props(&http)).await.ok().flatten(),
    };
    let mut report = Report {
        models,
        unlisted,
        model,
        context_tokens,
        streams: false,
        marks_end: false,
        explains: false,
        counts: false,
        reasons: false,
        limit: Limit::default(),
        completes: false,
        first: Duration::ZERO,
    };
    chat(&http, &mut report, patience).await?;
    report.completes =
        tokio::time::timeout(patience.first, completes(&http, &report.model)).await == Ok(true);
    Ok(report)
}

fn choose(wanted: Option<&str>, models: &[String], unlisted: Option<&str>) -> Result<String, UpstreamError> {
    match (wanted, models) {
        (Some(wanted), _) if unlisted.is_some() || models.iter().any(|of| of == wanted) => {
            Ok(wanted.to_owned())
        }
        (Some(wanted), _) => {
            Err(UpstreamError::UnknownModel { wanted: wanted.to_owned(), models: models.to_vec() })
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            Err(UpstreamError::NoModel { models: models.to_vec(), reason: unlisted.map(str::to_owned) })
        }
    }
}

/// A question that was not answered.
struct Failed {
    /// None where nobody answers.
    status: Option<StatusCode>,
    words: String,
}

async fn json_of(http: &Http, url: String) -> Result<Value, Failed> {
    let silent = |words: String| Failed { status: None, words };
    let answer = http.get(url).send().await.map_err(|error| silent(http.reason(error)))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Failed { status: Some(status), words: http.refusal(answer).await.words });
    }
    let broken = |words: String| Failed { status: Some(status), words };
    let body = read_body(answer.bytes_stream(), MAX_ANSWER_BYTES).await;
    let body = body.map_err(|error| broken(http.words(&error.to_string())))?;
    serde_json::from_slice(&body).map_err(|_| broken("its answer is no JSON".to_owned()))
}

async fn list(http: &Http) -> Result<Vec<Listed>, Failed> {
    let value = json_of(http, http.address.api("/models")).await?;
    let Some(data) = value["data"].as_array() else {
        return Err(Failed {
            status: Some(StatusCode::OK),
            words: "its answer is no list of models".to_owned(),
        });
    };
    let named = data.iter().filter_map(|model| {
        let id = model["id"].as_str().filter(|id| !id.is_empty() && id.len() <= MAX_NAME_BYTES)?;
        Some(Listed { id: id.to_owned(), context: context(model) })
    });
    Ok(named.take(MAX_MODELS).collect())
}

/// The context that a list tells, in the names that are in use.
fn context(model: &Value) -> Option<u32> {
    let names =
        ["max_model_len", "loaded_context_length", "context_length", "context_window", "max_context_length"];
    let told = names.iter().map(|name| &model[*name]).chain([&model["meta"]["n_ctx"]]);
    told.filter_map(Value::as_u64).find_map(whole)
}

fn whole(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

/// llama.cpp's server tells its context beside the API.
async fn props(http: &Http) -> Option<u32> {
    let value = json_of(http, http.address.beside("/props")).await.ok()?;
    value["default_generation_settings"]["n_ctx"].as_u64().and_then(whole)
}

/// A chat of a few tokens.
async fn chat(http: &Http, report: &mut Report, patience: Patience) -> Result<(), UpstreamError> {
    let place = || http.address.to_string();
    let failed = |reason: String| UpstreamError::Misbehaved { address: http.address.to_string(), reason };
    let mut refused = None;
    for limit in [Limit::MaxTokens, Limit::MaxCompletionTokens, Limit::Unknown] {
        let mut body = json!({
            "model": report.model, "stream": true,
            "messages": [{"role": "user", "content": "Say OK."}],
        });
        if let Some(name) = limit.name() {
            body[name] = json!(TOKENS);
        }
        let started = Instant::now();
        let asked = tokio::time::timeout(patience.first, http.post("/chat/completions", &body).send()).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(UpstreamError::Unreachable { address: place(), reason: http.reason(error) });
            }
            Err(_) => return Err(failed(format!("nothing came within {} s", patience.first.as_secs_f64()))),
        };
        match answer.status() {
            status if status.is_success() => {
                report.limit = limit;
                report.streams = sse::is_event_stream(answer.headers().get(header::CONTENT_TYPE));
                return listen(http, answer, report, patience, started).await.map_err(failed);
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = http.refusal(answer).await.words;
                return Err(UpstreamError::Denied { address: place(), reason });
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                let words = http.refusal(answer).await.words;
                refused.get_or_insert(words);
            }
            _ => return Err(failed(http.refusal(answer).await.words)),
        }
    }
    Err(failed(refused.unwrap_or_default()))
}

/// Hears an answer out, as far as it goes.
async fn listen(
    http: &Http,
    answer: reqwest::Response,
    report: &mut Report,
    patience: Patience,
    started: Instant,
) -> Result<(), String> {
    let mut events = said(http, answer);
    let (mut begun, mut ended) = (false, false);
    // What it says beyond is as good as what it said.
    let most = usize::try_from(TOKENS).unwrap_or(8) * 16;
    for _ in 0..most {
        let wait = match (begun, ended) {
            (_, true) => patience.between.min(REST),
            (true, false) => patience.between,
            (false, false) => patience.first,
        };
        let said = match tokio::time::timeout(wait, events.next()).await {
            Ok(Some(said)) => said?,
            Ok(None) | Err(_) if ended => return Ok(()),
            Ok(None) => return Err("its answer broke off before the end".to_owned()),
            Err(_) => return Err(format!("nothing more came within {} s", wait.as_secs_f64())),
        };
        let Said { text, reasoned, usage, finish, done, failed } = said;
        if let Some(words) = failed {
            return Err(http.words(&words));
        }
        if !begun && (reasoned || !text.is_empty()) {
            (begun, report.first) = (true, started.elapsed());
        }
        report.reasons |= reasoned;
        report.counts |= usage;
        report.explains |= finish.is_some();
        ended |= finish.is_some() || done;
        if done {
            report.marks_end = report.streams;
            return Ok(());
        }
    }
    Ok(())
}

/// Whether it completes texts.
async fn completes(http: &Http, model: &str) -> bool {
    let body = json!({"model": model, "prompt": "1", Limit::OLD: 1, "stream": true});
    // A server may close a connection just as it is used again; that says nothing of texts.
    let answer = match http.post("/completions", &body).send().await {
        Ok(answer) => answer,
        Err(_) => match http.post("/completions", &body).send().await {
            Ok(answer) => answer,
            Err(_) => return false,
        },
    };
    if !answer.status().is_success() {
        return false;
    }
    let mut events = said(http, answer);
    match events.next().await {
        Some(Ok(said)) => said.failed.is_none(),
        _ => false,
    }
}
