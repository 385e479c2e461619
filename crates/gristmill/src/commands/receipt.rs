//! `gristmill receipt`: what was bought, and whether it holds.

mod trace;

use crate::{
    endpoint::Endpoint,
    failure::Failure,
    home::Home,
    models,
    output::{Output, dim, table},
};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use gristmill_audit::{Seed, ids_digest};
use gristmill_engine::{
    CandleEmbedder, CandleEngine, CandleOptions, Embedder as _, EmbedderOptions, Engine as _, F32_TOLERANCE,
    Purpose, Replay,
};
use gristmill_gateway::{Checked, Kept, ReceiptEntry, verify};
use gristmill_net::openai::{Prompt, PromptRequest, Shape, read_vectors};
use gristmill_types::{Amount, EMBEDDINGS_CLASS};
use serde_json::{Value, json};
use std::path::PathBuf;

/// How far numbers of vectors may lie apart that two kinds of processors compute.
const VECTOR_TOLERANCE: f32 = 1e-4;

/// Larger files are no receipts.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Subcommands of `receipt`.
#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// List the newest receipts, of all API keys
    List {
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// How many of the newest to leave out
        #[arg(long, default_value_t = 0)]
        skip: u32,
    },
    /// Show one receipt with request and answer; with --json the whole file for `verify`
    Show {
        /// Its id, or the first digits of it
        id: String,
    },
    /// Show when its request passed which stage, at gateway, processor and ledger
    Trace {
        /// Its id, or the first digits of it
        id: String,
    },
    /// Check a receipt file by itself: signatures, request, answer, price. Asks nobody
    Verify {
        /// The file that `gristmill receipt show ID --json` printed
        file: PathBuf,
        /// Compute the answer again with the model in this folder
        #[arg(long, value_name = "DIR")]
        model: Option<PathBuf>,
    },
}

impl Receipt {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::List { limit, skip } => list(home, output, skip, limit).await,
            Self::Show { id } => show(home, output, &id).await,
            Self::Trace { id } => trace::run(home, output, &find(home, &id).await?).await,
            Self::Verify { file, model } => check(output, &file, model).await,
        }
    }
}

/// Receipts of a page.
const PAGE: u32 = 1_000;

/// Reads page after page.
async fn pages(home: &Home, skip: u32, limit: u32) -> Result<Value> {
    let endpoint = Endpoint::new(&home.running()?)?;
    let (mut receipts, mut left) = (Vec::new(), limit);
    loop {
        let from = skip.saturating_add(limit - left);
        let wanted = left.min(PAGE);
        let page: Value = endpoint.get(&format!("/receipts?skip={from}&limit={wanted}")).await?;
        let items = page["receipts"].as_array().cloned().unwrap_or_default();
        left -= u32::try_from(items.len()).unwrap_or(u32::MAX).min(left);
        let last = items.len() < usize::try_from(wanted).unwrap_or(usize::MAX);
        receipts.extend(items);
        if last || left == 0 {
            return Ok(json!({"receipts": receipts, "total": page["total"]}));
        }
    }
}

async fn list(home: &Home, output: Output, skip: u32, limit: u32) -> Result<()> {
    let value = pages(home, skip, limit).await?;
    let now_ms = super::now_ms();
    output.show(&value, || {
        let Some(receipts) = value["receipts"].as_array().filter(|receipts| !receipts.is_empty()) else {
            return match value["total"].as_u64() {
                Some(total) if total > 0 => {
                    format!("there are {total} receipts, and none after the first {skip}")
                }
                _ => output
                    .commands("there are no receipts yet; make one: gristmill ask \"Spell 4217 in Kazakh\""),
            };
        };
        let rows: Vec<Vec<String>> = receipts
            .iter()
            .map(|receipt| {
                let text = |key: &str| receipt[key].as_str().unwrap_or_default();
                let tokens = |key: &str| receipt[key].as_u64().unwrap_or_default().to_string();
                vec![
                    text("id").chars().take(8).collect(),
                    super::age(now_ms.saturating_sub(receipt["created_ms"].as_u64().unwrap_or_default())),
                    text("model").to_owned(),
                    text("processor").chars().take(10).collect(),
                    tokens("prompt_tokens"),
                    tokens("completion_tokens"),
                    text("unit").to_owned(),
                    Amount::from_grains(text("cost").parse().unwrap_or_default()).to_string(),
                    if receipt["kept"] == "whole" && receipt["finish"] != "error" { "" } else { "broke off" }
                        .to_owned(),
                ]
            })
            .collect();
        let listed =
            table(&["receipt", "age", "model", "processor", "in", "out", "unit", "credits", ""], &rows);
        match value["total"].as_u64() {
            Some(total) if total > rows.len() as u64 => {
                let left = if skip == 0 { String::new() } else { format!(" without {skip}") };
                format!("{listed}\nthe newest {}{left}, of {total}; more: --limit {total}", rows.len())
            }
            _ => listed,
        }
    })
}

/// The receipt of which the id begins so.
async fn find(home: &Home, id: &str) -> Result<ReceiptEntry> {
    let id = id.to_ascii_lowercase();
    if !(8..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::new(format!("`{id}` is no id of a receipt, nor its first 8 digits or more"))
            .next("see which there are: gristmill receipt list")
            .into());
    }
    let entry: Option<ReceiptEntry> =
        Endpoint::new(&home.running()?)?.find(&format!("/receipts/{id}")).await?;
    let entry = entry.ok_or_else(|| {
        Failure::new(format!("there is no receipt {id}, or more than one begins so"))
            .next("see which there are: gristmill receipt list")
    })?;
    Ok(entry)
}

async fn show(home: &Home, output: Output, id: &str) -> Result<()> {
    let entry = find(home, id).await?;
    output.show(&entry, || {
        let unit = entry.unit().plural();
        format!(
            "receipt    {}\nmodel      {} (version {})\nprocessor  {}\npayer      {}\nused       {} {unit} in, {} {unit} out\n\
             cost       {} credits\nspent      {} credits on lane {} of channel {}\nkept       {}\n\n{}\n\n{}",
            entry.id,
            entry.model,
            entry.quote.body.model,
            entry.terms.payee,
            entry.terms.payer,
            entry.prompt_tokens,
            entry.completion_tokens,
            entry.cost,
            entry.receipt.body.spent,
            entry.receipt.body.lane,
            entry.receipt.body.channel.short(),
            kept(entry.kept),
            dim(&entry.request),
            shown(&entry),
        )
    })
}

/// The answer; of vectors, which nobody reads, the beginning.
fn shown(entry: &ReceiptEntry) -> std::borrow::Cow<'_, str> {
    const BEGIN: usize = 64;
    match entry.answer.get(..BEGIN) {
        Some(begin) if entry.output_ids.is_empty() && read_vectors(&entry.answer).is_ok() => {
            format!("{begin}… (vectors of {} bytes in base64; all of it: --json)", entry.answer.len()).into()
        }
        _ => entry.answer.as_str().into(),
    }
}

fn kept(kept: Kept) -> &'static str {
    match kept {
        Kept::Whole => "request and answer, as the receipt commits to them",
        Kept::Broken => "the request, and what arrived of the answer before it broke off",
        Kept::Nothing => "neither request nor answer: the gateway was interrupted",
    }
}

async fn check(output: Output, file: &std::path::Path, model: Option<PathBuf>) -> Result<()> {
    let length = std::fs::metadata(file).map_err(|error| {
        Failure::new(format!("cannot read the file {}: {error}", file.display()))
            .next("write it first: gristmill receipt show ID --json > receipt.json")
    })?;
    let length = length.len();
    let unreadable = |reason: String| {
        Failure::new(format!("{} is no receipt: {reason}", file.display()))
            .next("write one with: gristmill receipt show ID --json > receipt.json")
    };
    if length > MAX_FILE_BYTES {
        return Err(unreadable(format!("it has {length} bytes")).into());
    }
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let entry: ReceiptEntry = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let checked = verify(&entry).map_err(|error| {
        Failure::new(format!("the receipt does not hold: {error}"))
            .next("it was altered, or was never given; ask its processor for the original")
    })?;
    let recomputed = match model {
        Some(folder) => Some(recompute(&entry, &checked, folder).await?),
        None => None,
    };
    let value = json!({"holds": true, "receipt": checked, "recomputed": recomputed});
    output.show(&value, || {
        let computed = match recomputed {
            None if !checked.recomputable => {
                "claimed: another server computed it, so nobody can compute it again; counts and price hold".to_owned()
            }
            None if !checked.answer_proven => "not proven by the receipt: it broke off, or is not here".to_owned(),
            None => "not computed again; with the model: --model DIR".to_owned(),
            Some(tokens) => format!("all {tokens} tokens computed again, and equal"),
        };
        format!(
            "the receipt holds\nprocessor  {}\npayer      {}\nledger     {}\nmodel      version {} ({})\ncost       {} credits{}\nrequest    {}\nanswer     {computed}",
            checked.processor,
            checked.payer,
            checked.chain,
            checked.model,
            checked.engine,
            checked.cost,
            if checked.cost_proven { "" } else { ", by the file's word; the receipt proves the lane's sum only" },
            if checked.request_proven { "as it was sent" } else { "not proven by the receipt" },
        )
    })
}

/// Makes the vectors again; returns the number of tokens of their texts.
async fn embed_again(entry: &ReceiptEntry, folder: &std::path::Path) -> Result<usize> {
    let request = PromptRequest::parse(entry.request.as_bytes(), Shape::Embeddings)?;
    let Prompt::Inputs(texts) = &request.prompt else { anyhow::bail!("the request holds no texts") };
    let embedder = CandleEmbedder::open(folder, &EmbedderOptions::default())?;
    let class = entry.quote.body.engine.strip_prefix(EMBEDDINGS_CLASS).unwrap_or_default();
    same_arithmetic(class, &embedder.info().class)?;
    let inputs: Result<Vec<_>, _> = texts.iter().map(|text| embedder.tokenizer().encode(text)).collect();
    let made = embedder.embed(inputs?)?.wait().await.map_err(|error| anyhow::anyhow!(error))?;
    let given = read_vectors(&entry.answer)?;
    // On another kind of processor the last bits may differ.
    let near = |a: &[f32], b: &[f32]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= VECTOR_TOLERANCE)
    };
    if given.len() == made.len() && given.iter().zip(&made).all(|(a, b)| near(a, b)) {
        return Ok(entry.prompt_ids.len());
    }
    Err(Failure::new("the vectors are not what this model makes of the texts")
        .next("the processor answered with another model; keep the receipt as evidence")
        .into())
}

/// Refuses to compare answers of engines that round differently: an honest one would look forged.
fn same_arithmetic(seller: &str, here: &str) -> Result<()> {
    if seller == here {
        return Ok(());
    }
    let text = format!(
        "the answer was computed as `{seller}`, and this machine computes the model as `{here}`: they round differently, so that their tokens cannot be compared"
    );
    Err(Failure::new(text)
        .next("verify it on a machine with the processor's kind of CPU, or without --model: signatures, counts and price hold by themselves")
        .into())
}

/// Computes the answer again from prompt, seed and model; returns the number of tokens.
async fn recompute(entry: &ReceiptEntry, checked: &Checked, folder: PathBuf) -> Result<usize> {
    if !checked.recomputable {
        let text = format!(
            "the answer cannot be computed again: its engine is `{}`, a server whose sampling is not known; that this model answered is the processor's claim",
            checked.engine
        );
        return Err(Failure::new(text)
            .next("check it without --model: signatures, counts and price hold by themselves")
            .into());
    }
    if checked.kept != Kept::Whole {
        let text = "the answer cannot be computed again: it broke off, and not all of it is here";
        return Err(Failure::new(text)
            .next("check it without --model: signatures and price hold by themselves")
            .into());
    }
    models::check(&folder, &checked.model)?;
    if Purpose::of(&folder)? == Purpose::Embeddings {
        return embed_again(entry, &folder).await;
    }
    let engine = CandleEngine::open(&folder, &CandleOptions::default())?;
    same_arithmetic(&checked.engine, &engine.info().class)?;
    let audit = entry.receipt.body.audit.as_ref().context("the receipt has no audit commitment")?;
    if entry.output_ids.is_empty() {
        return Ok(0);
    }
    let replay = Replay {
        prompt_ids: entry.prompt_ids.clone(),
        output_ids: entry.output_ids.clone(),
        sampling: audit.sampling.clone(),
        seed: Seed::from_commitment(
            audit,
            &ids_digest(&entry.prompt_ids),
            &entry.quote.body.hash(),
            &entry.quote.body.model,
        ),
    };
    let recomputed = engine.recompute(replay)?.wait().await.map_err(|error| anyhow::anyhow!(error))?;
    let tolerance = if engine.info().exact { 0.0 } else { F32_TOLERANCE };
    match recomputed.first_mismatch(tolerance) {
        None => Ok(entry.output_ids.len()),
        Some(position) => Err(Failure::new(format!(
            "token {position} of the answer is not what this model draws under the receipt's seed"
        ))
        .next("the processor answered with another model or sampler; keep the receipt as evidence")
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_were_rounded_otherwise_accuse_nobody() {
        assert!(same_arithmetic("candle-q8_0-3fa94c01", "candle-q8_0-3fa94c01").is_ok());
        for other in ["candle-q8_0-00000000", "candle-f32", ""] {
            let said = same_arithmetic("candle-q8_0-3fa94c01", other).unwrap_err().to_string();
            assert!(said.contains("cannot be compared") && !said.contains("evidence"), "{said}");
        }
    }
}
