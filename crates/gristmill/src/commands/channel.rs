//! `gristmill channel`: what the gateway has in payment channels.

use crate::{
    endpoint::Endpoint,
    home::Home,
    output::{Output, table},
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_types::Amount;
use serde_json::Value;

/// Subcommands of `channel`.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// List the gateway's channels: what was put in, spent, is held for requests, is free; and what of the spent is settled
    List,
}

impl Channel {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let Self::List = self;
        let value: Value = Endpoint::new(&home.running()?)?.get("/channels").await?;
        output.show(&value, || {
            let Some(channels) = value["channels"].as_array().filter(|channels| !channels.is_empty()) else {
                return "no channel was opened yet; the first request opens one".to_owned();
            };
            let rows: Vec<Vec<String>> = channels
                .iter()
                .map(|channel| {
                    let text = |key: &str| channel[key].as_str().unwrap_or_default();
                    let credits =
                        |key: &str| Amount::from_grains(text(key).parse().unwrap_or_default()).to_string();
                    vec![
                        text("id").chars().take(8).collect(),
                        text("processor").chars().take(10).collect(),
                        text("state").to_owned(),
                        credits("deposit"),
                        credits("spent"),
                        credits("held"),
                        credits("free"),
                        credits("settled"),
                    ]
                })
                .collect();
            table(&["channel", "processor", "state", "deposit", "spent", "held", "free", "settled"], &rows)
        })
    }
}
