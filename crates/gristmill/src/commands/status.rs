//! `gristmill status`: whether the exchange runs and is well, in one screen.

use crate::{connection::Connection, endpoint::Endpoint, home::Home, output::Output, wallet};
use anyhow::Result;
use clap::Args;
use gristmill_types::Amount;
use serde_json::{Value, json};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let connection = Connection::open(home)?;
        let ledger = connection.ledger.status().await?;
        let supply = connection.ledger.supply().await?;
        let endpoint = Endpoint::new(&connection.running)?;
        let key: Value = endpoint.get("/key").await?;
        let channels: Value = endpoint.get("/channels").await?;
        let receipts: Value = endpoint.get("/receipts?limit=0").await?;
        let issuer = connection.issuer()?;
        let mut balances = serde_json::Map::new();
        for name in [wallet::CONSUMER, "processor", "modeler"] {
            let account = wallet::load(home, name)?.account();
            let balance = connection.ledger.balance(&account, &issuer).await?;
            balances.insert(name.to_owned(), json!(balance.value));
        }
        let in_doubt = channels["channels"]
            .as_array()
            .map_or(0, |list| list.iter().filter_map(|channel| channel["in_doubt"].as_u64()).sum::<u64>());
        let deposited =
            channels["channels"].as_array().into_iter().flatten().fold(0, |sum: u128, channel| {
                let grains =
                    |key: &str| channel[key].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
                sum.saturating_add(grains("deposit")).saturating_sub(grains("settled"))
            });
        let in_channels = Amount::from_grains(deposited);
        let well = supply.adds_up && in_doubt == 0;
        let running = &connection.running;
        let value = json!({
            "well": well,
            "pid": running.pid,
            "base_url": running.base_url,
            "model": running.model,
            "ledger": ledger,
            "supply_adds_up": supply.adds_up,
            "balances": balances,
            "in_channels": in_channels,
            "key": key,
            "lanes_in_doubt": in_doubt,
            "receipts": receipts["total"],
        });
        output.show(&value, || {
            let credits = |value: &Value| {
                Amount::from_grains(value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()).to_string()
            };
            let money = if supply.adds_up { "adds up" } else { "does not add up" };
            format!(
                "exchange   {}, process {}\nendpoint   {}\nledger     block {}, {} transactions waiting; money {money}\n\
                 consumer   {} credits, and {in_channels} in channels\nprocessor  {} credits\nmodeler    {} credits, and what `gristmill model show {}` says is unclaimed\n\
                 key        spent {} of {} credits\nreceipts   {}; lanes to reconcile: {in_doubt}",
                if well { "well" } else { "needs attention" },
                running.pid,
                running.base_url,
                ledger.height,
                ledger.waiting,
                credits(&value["balances"][wallet::CONSUMER]),
                credits(&value["balances"]["processor"]),
                credits(&value["balances"]["modeler"]),
                running.model,
                credits(&value["key"]["spent"]),
                credits(&value["key"]["limit"]),
                value["receipts"],
            )
        })
    }
}
