//! `gristmill model`: publishing and looking up models.

use super::{claim, market::trust, pages, shares};
use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    models,
    output::{Output, table},
    up::exchange::{Publication, find, publish},
    wallet,
};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use gristmill_client::Sender;
use gristmill_engine::Purpose;
use gristmill_ledger::{
    check_licence, check_name, keys,
    record::{self, Line, Shares, Stored},
};
use gristmill_tokenizer::unit;
use gristmill_types::{AccountId, ModelId};
use serde_json::json;
use std::path::PathBuf;

/// Subcommands of `model`.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Publish a model folder (Hugging Face layout) as a version; the local processor then serves it
    Publish {
        /// The folder: config.json, tokenizer.json, tokenizer_config.json, model.safetensors
        folder: PathBuf,
        /// The line's name, for example acme/speller; a name that you own gets a new version
        /// [default: local/ and the folder's name]
        #[arg(long)]
        name: Option<String>,
        /// The licence, as an SPDX expression. What a version says stays
        #[arg(long, default_value = "LicenseRef-Unknown")]
        licence: String,
        /// The royalty in hundredths of a percent: 1000 is 10 %
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(0..=10_000))]
        royalty_bps: u16,
        /// A version that it was made from, by id; the royalty includes what its parents' lines get.
        /// Up to four times
        #[arg(long = "parent", value_name = "VERSION")]
        parents: Vec<ModelId>,
        /// The wallet that publishes, and receives the shares
        #[arg(long, default_value = "modeler", value_name = "WALLET")]
        wallet: String,
    },
    /// Show who holds a model's shares, and what each has not claimed yet
    Shares {
        /// The model's name
        model: String,
    },
    /// Claim the royalties that a wallet's shares have earned
    Claim {
        /// The model's name
        model: String,
        /// The wallet that holds shares
        #[arg(long, default_value = "modeler", value_name = "WALLET")]
        wallet: String,
    },
    /// Transfer shares, and with them their part of the royalties from now on. Who publishes later versions,
    /// and their royalty, stays with the line's owner
    Transfer {
        /// The model's name
        model: String,
        /// How many of the 1 000 000 shares
        shares: u64,
        /// The receiver's address (gm1…), or the name of a wallet of this home
        to: String,
        /// The wallet that gives them
        #[arg(long, default_value = "modeler", value_name = "WALLET")]
        wallet: String,
    },
    /// List the models on the ledger
    List,
    /// Show a model: its versions, its royalties, who owns it
    Show {
        /// Its name or a version's id
        model: String,
    },
}

impl Model {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::Publish { folder, name, licence, royalty_bps, mut parents, wallet } => {
                parents.sort_unstable();
                parents.dedup();
                let name = match name {
                    Some(name) => name,
                    None => default_name(&folder)?,
                };
                let purpose = Purpose::of(&folder).map_err(|error| unservable(&folder, &error.into()))?;
                let publication =
                    Publication { name: &name, licence: &licence, royalty_bps, parents, purpose };
                publish_folder(home, output, &folder, &publication, &wallet).await
            }
            Self::Shares { model } => shares::show(home, output, &model).await,
            Self::Claim { model, wallet } => claim::claim(home, output, &model, &wallet).await,
            Self::Transfer { model, shares, to, wallet: from } => {
                let to = wallet::account(home, &to)?;
                shares::transfer(home, output, &model, shares, to, &from).await
            }
            Self::List => list(home, output).await,
            Self::Show { model } => show(home, output, &model).await,
        }
    }
}

fn unservable(folder: &std::path::Path, error: &anyhow::Error) -> Failure {
    Failure::new(format!("{} cannot be served: {error:#}", folder.display())).next(
        "give a Llama-family model with config.json, tokenizer.json, tokenizer_config.json and model.safetensors, or a \
         BERT of sentence-transformers with modules.json beside them",
    )
}

/// `local/`, and the folder's name as a model's name can be spelt.
fn default_name(folder: &std::path::Path) -> Result<String> {
    let folder = folder.canonicalize().map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", folder.display())).next("name the model's folder")
    })?;
    let last = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    Ok(format!("local/{}", last.chars().map(plain).take(48).collect::<String>()))
}

async fn publish_folder(
    home: &Home,
    output: Output,
    folder: &std::path::Path,
    publication: &Publication<'_>,
    wallet: &str,
) -> Result<()> {
    let key = wallet::load(home, wallet)?;
    let connection = Connection::open(home)?;
    let issuer = connection.issuer()?;
    let sender = Sender::new(connection.ledger.clone(), key, issuer);
    check_publication(&connection, &sender.account(), publication).await?;
    check_fees(&connection, &sender.account(), issuer, wallet).await?;
    output.say("loading the model, to see that it can be served");
    // What does not load is not published: nobody could serve it.
    drop(models::open(folder).map_err(|error| unservable(folder, &error))?);
    output.say("copying it into the home");
    let manifest = models::install(home, folder)?;
    let turn = crate::wallet::turn(home)?;
    let new = publish(&connection.ledger, &sender, &manifest, publication).await?;
    drop(turn);
    let record = find(&connection.ledger, &manifest.id()).await?.context("the model is not on the ledger")?;
    let as_said = record.name == publication.name
        && record.licence == publication.licence
        && record.royalty_bps == publication.royalty_bps
        && record.parents == publication.parents
        && record.publisher == sender.account();
    if !as_said {
        return Err(Failure::new(format!(
            "this content was published before, as {} by {} under {} with a royalty of {}.{:02} %; what a version says stays",
            record.name,
            record.publisher,
            record.licence,
            record.royalty_bps / 100,
            record.royalty_bps % 100,
        ))
        .next(format!("use it as it is: gristmill ask --model {} \"…\"", record.name))
        .into());
    }
    let name = &record.name;
    let value = json!({
        "model": manifest.id(), "name": name, "new": new, "bytes": manifest.bytes(),
        "files": manifest.files(), "publisher": record.publisher,
    });
    output.show(&value, || {
        let then = match publication.purpose {
            Purpose::Answers => output.commands(&format!("gristmill ask --model {name} \"…\"")),
            Purpose::Embeddings => format!("POST /v1/embeddings with the model {name}"),
        };
        let what = if new { "published" } else { "was published before" };
        format!(
            "{name} {what}: version {} ({} bytes), licence {}\nthe running exchange serves it in a moment; then: {then}",
            manifest.id(),
            manifest.bytes(),
            record.licence,
        )
    })
}

/// A publication that cannot be paid for would fail after the long work.
async fn check_fees(
    connection: &Connection,
    publisher: &AccountId,
    issuer: AccountId,
    wallet: &str,
) -> Result<()> {
    let fees = &connection.genesis.params.fees;
    let needed = fees.commit_model.checked_add(fees.publish_model).context("fees overflow")?;
    let has = connection.ledger.balance(publisher, &issuer).await?.value;
    if has >= needed {
        return Ok(());
    }
    Err(Failure::new(format!("`{wallet}` holds {has} credits; publishing takes fees of {needed}"))
        .next(format!("send it some: gristmill wallet send {needed} {wallet}"))
        .into())
}

/// What the ledger would reject is not sent: a rejected publication has shown its content to everybody.
async fn check_publication(
    connection: &Connection,
    publisher: &AccountId,
    publication: &Publication<'_>,
) -> Result<()> {
    for (checked, option) in [
        (check_name(publication.name), "--name acme/speller"),
        (check_licence(publication.licence), "--licence Apache-2.0"),
    ] {
        checked.map_err(|error| Failure::new(error.to_string()).next(format!("for example {option}")))?;
    }
    let own = keys::line_id(publication.name);
    let mut names = vec![keys::line(&own)];
    names.extend(publication.parents.iter().map(keys::model));
    let found = connection.ledger.state(&names).await?.value;
    let line = found.iter().flatten().find_map(Line::of);
    if line.is_some_and(|line| line.owner != Some(*publisher)) {
        return Err(Failure::new(format!("the name {} belongs to somebody else", publication.name))
            .next("choose another name: --name NAME")
            .into());
    }
    let parents: Vec<_> = found.iter().flatten().filter_map(record::Model::of).collect();
    if parents.len() != publication.parents.len() {
        return Err(Failure::new("a parent is not on the ledger")
            .next("name versions by their ids: gristmill model show NAME")
            .into());
    }
    let mut parts: std::collections::BTreeMap<_, u16> = std::collections::BTreeMap::new();
    for part in parents.iter().flat_map(|parent| &parent.royalties).filter(|part| part.line != own) {
        let known = parts.entry(part.line).or_default();
        *known = part.bps.max(*known);
    }
    let least: u32 = parts.values().map(|bps| u32::from(*bps)).sum();
    if least > u32::from(publication.royalty_bps) || parts.len() >= gristmill_ledger::params::MAX_ROYALTIES {
        return Err(Failure::new(format!(
            "the parents' {} lines get {}.{:02} % in all, which the royalty of {}.{:02} % has to include",
            parts.len(),
            least / 100,
            least % 100,
            publication.royalty_bps / 100,
            publication.royalty_bps % 100,
        ))
        .next("give --royalty-bps a higher number, or name fewer parents")
        .into());
    }
    Ok(())
}

async fn list(home: &Home, output: Output) -> Result<()> {
    let connection = Connection::open(home)?;
    let (models, total) = pages::models(&connection.ledger).await?;
    output.show(&json!({"models": models, "total": total}), || {
        let rows: Vec<Vec<String>> = models
            .iter()
            .map(|info| {
                let model = &info.model;
                vec![
                    model.name.clone(),
                    model.version.to_string(),
                    model.model.short(),
                    format!("{}.{:02} %", model.royalty_bps / 100, model.royalty_bps % 100),
                    info.offers.to_string(),
                    model.licence.clone(),
                ]
            })
            .collect();
        let listed = table(&["model", "version", "id", "royalty", "offers", "licence"], &rows);
        format!("{listed}{}", pages::cut(models.len(), total))
    })
}

async fn show(home: &Home, output: Output, wanted: &str) -> Result<()> {
    let connection = Connection::open(home)?;
    let (models, _) = pages::models(&connection.ledger).await?;
    let id: Option<ModelId> = wanted.parse().ok();
    let mut versions: Vec<_> =
        models.into_iter().filter(|info| info.model.name == wanted || Some(info.model.model) == id).collect();
    versions.sort_by_key(|info| info.model.version);
    let Some(newest) = versions.last() else {
        return Err(Failure::new(format!("there is no model `{wanted}` on the ledger"))
            .next("see which there are: gristmill model list")
            .into());
    };
    let (line, publisher) = (newest.model.line, newest.model.publisher);
    let mut names = vec![keys::shares(&line, &publisher)];
    names.extend(connection.issuers().iter().map(|issuer| keys::pool(&line, issuer)));
    let state = connection.ledger.state(&names).await?;
    let shares = state.value.iter().flatten().filter_map(Shares::of).map(|shares| shares.shares).sum::<u64>();
    let pools: Vec<_> =
        state.value.iter().flatten().filter_map(gristmill_ledger::record::Pool::of).cloned().collect();
    let value = json!({
        "name": newest.model.name, "line": line, "publisher": publisher, "publisher_shares": shares,
        "unit": unit(&newest.model.tokenizer), "trust": trust(&newest.model), "foreign": newest.model.foreign,
        "versions": versions, "royalties": pools, "height": state.height,
    });
    output.show(&value, || {
        let royalties: Vec<String> = pools.iter().map(|pool| pool.balance.to_string()).collect();
        let mut lines = vec![
            format!("model      {}", newest.model.name),
            if newest.model.foreign {
                format!("owner      none; registered by {publisher}")
            } else {
                format!("publisher  {publisher} ({shares} of {} shares)", gristmill_ledger::params::SHARES)
            },
            format!("unit       prices are for a million {}", unit(&newest.model.tokenizer).plural()),
            match trust(&newest.model) {
                "claimed" => {
                    "trust      claimed: that this model answers cannot be checked; counts and prices can"
                        .to_owned()
                }
                _ => {
                    "trust      recomputable: whoever has the model can compute each answer again".to_owned()
                }
            },
            format!("licence    {}", newest.model.licence),
            format!("royalty    {}.{:02} %", newest.model.royalty_bps / 100, newest.model.royalty_bps % 100),
            format!(
                "unclaimed  {} credits of royalties",
                if royalties.is_empty() { "0".to_owned() } else { royalties.join(", ") }
            ),
        ];
        lines.extend(
            versions.iter().map(|info| format!("version {}  {}", info.model.version, info.model.model)),
        );
        lines.join("\n")
    })
}
