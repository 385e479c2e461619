//! `gristmill market`: what is on offer.

use super::pages;
use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
};
use anyhow::Result;
use clap::Args;
use gristmill_ledger::record;
use gristmill_tokenizer::unit;
use gristmill_types::Unit;
use serde_json::{Value, json};

/// Arguments of `market`.
#[derive(Debug, Args)]
pub(crate) struct Market {
    /// Only offers of this model, by name
    model: Option<String>,
}

impl Market {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let connection = Connection::open(home)?;
        let (offers, total) = pages::offers(&connection.ledger).await?;
        let (models, _) = pages::models(&connection.ledger).await?;
        let (processors, _) = pages::processors(&connection.ledger).await?;
        let read = offers.len();
        let mut list = Vec::new();
        for offer in &offers {
            let Some(info) = models.iter().find(|info| info.model.model == offer.model) else {
                continue;
            };
            if self.model.as_ref().is_some_and(|name| *name != info.model.name) {
                continue;
            }
            let endpoints = processors
                .iter()
                .find(|processor| processor.processor == offer.processor)
                .map(|processor| processor.endpoints.clone());
            list.push(json!({
                "model": info.model.name,
                "version": info.model.model,
                "number": info.model.version,
                "royalty_bps": info.model.royalty_bps,
                "licence": info.model.licence,
                "processor": offer.processor,
                "endpoints": endpoints,
                "prices": offer.prices,
                "unit": unit(&info.model.tokenizer),
                "trust": trust(&info.model),
                "issuers": offer.issuers,
            }));
        }
        if let Some(name) = self.model.as_ref().filter(|_| list.is_empty()) {
            return Err(Failure::new(format!("nobody offers a model `{name}`"))
                .next("see what is on offer: gristmill market")
                .into());
        }
        output.show(&json!({"offers": list, "total": total}), || {
            format!("{}{}", text(&list), pages::cut(read, total))
        })
    }
}

/// What a consumer can check of an answer: whether this model gave it, or only what it cost.
pub(crate) fn trust(model: &record::Model) -> &'static str {
    match unit(&model.tokenizer) {
        Unit::Token => "recomputable",
        Unit::Byte => "claimed",
    }
}

fn text(list: &[Value]) -> String {
    if list.is_empty() {
        return "nothing is on offer".to_owned();
    }
    let credits = |offer: &Value, price: &str| {
        let grains = offer["prices"][price].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
        gristmill_types::Amount::from_grains(grains).to_string()
    };
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|offer| {
            let royalty = offer["royalty_bps"].as_u64().unwrap_or_default();
            vec![
                offer["model"].as_str().unwrap_or_default().to_owned(),
                offer["number"].to_string(),
                credits(offer, "input_per_mtok"),
                credits(offer, "output_per_mtok"),
                offer["unit"].as_str().unwrap_or_default().to_owned(),
                offer["trust"].as_str().unwrap_or_default().to_owned(),
                format!("{}.{:02} %", royalty / 100, royalty % 100),
                offer["processor"].as_str().unwrap_or_default().chars().take(10).collect(),
                offer["licence"].as_str().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    let headings = [
        "model",
        "version",
        "credits/M in",
        "credits/M out",
        "unit",
        "trust",
        "royalty",
        "processor",
        "licence",
    ];
    table(&headings, &rows)
}
