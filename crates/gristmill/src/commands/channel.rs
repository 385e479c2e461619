//! `gristmill channel`: what the gateway has in payment channels, and how it gets out of them.

use crate::{
    connection::Connection,
    endpoint::Endpoint,
    failure::Failure,
    home::Home,
    output::{Output, table},
    wallet,
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_client::{Closing, Sender};
use gristmill_ledger::record::ChannelState;
use gristmill_types::{AccountId, Amount, ChannelId};
use serde_json::{Value, json};

/// Subcommands of `channel`.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// List the gateway's channels: what was put in, spent, is held for requests, is free; and what of the spent is settled
    List,
    /// Close a channel and get back what is free in it: at once if its processor agrees, else when its
    /// grace is over. Answers that are under way end with what came, and an error. Where it closes already, say
    /// how far that is, and end it when it is time
    Close {
        /// Its id, or the first digits of it
        id: String,
        /// The wallet that paid into it
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        wallet: String,
    },
}

impl Channel {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::List => list(home, output).await,
            Self::Close { id, wallet } => close(home, output, &id, &wallet).await,
        }
    }
}

async fn list(home: &Home, output: Output) -> Result<()> {
    let value: Value = Endpoint::new(&home.running()?)?.get("/channels").await?;
    output.show(&value, || {
        let Some(channels) = value["channels"].as_array().filter(|channels| !channels.is_empty()) else {
            return "no channel is open; the next request that is paid opens one".to_owned();
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

/// The channels of the account of which the id begins so. The list is the node's word, the records are proven.
async fn find(connection: &Connection, payer: &AccountId, id: &str) -> Result<ChannelId> {
    let id = id.to_ascii_lowercase();
    let known = connection.ledger.account_info(payer).await?.channels;
    let mut matching = known.iter().filter(|channel| channel.to_string().starts_with(&id));
    match (matching.next(), matching.next()) {
        (Some(channel), None) if id.len() >= 8 => Ok(*channel),
        (None, _) if id.len() == 64 => Ok(id.parse()?),
        _ => Err(Failure::new(format!(
            "`{id}` are not the first 8 digits or more of one channel that is not closed yet"
        ))
        .next("see which there are: gristmill channel list")
        .into()),
    }
}

async fn close(home: &Home, output: Output, id: &str, wallet: &str) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, wallet)?;
    let connection = Connection::open(home)?;
    let channel = find(&connection, &key.account(), id).await?;
    let found = connection.ledger.channel(&channel).await?;
    let Some(records) = found.value.clone() else {
        return Err(Failure::new(format!("the ledger knows no channel {channel}"))
            .next("see which there are: gristmill channel list")
            .into());
    };
    let terms = records.channel.terms;
    if terms.payer != key.account() {
        return Err(Failure::new(format!("channel {} was not paid into by `{wallet}`", channel.short()))
            .next("name the wallet that did: --wallet NAME")
            .into());
    }
    let fees = &connection.genesis.params.fees;
    // To wait costs nothing.
    let fee = match records.channel.state {
        ChannelState::Open => fees.request_close,
        ChannelState::Closing { deadline_ms } => {
            let pending = records.lanes.iter().filter_map(|lane| lane.pending.as_ref());
            let last_ms = pending.map(|pending| pending.deadline_ms).max();
            let claims = if last_ms.is_some() { fees.withdraw } else { Amount::ZERO };
            if deadline_ms.max(last_ms.unwrap_or_default()) > found.clock_ms {
                Amount::ZERO
            } else {
                fees.close_channel.checked_add(claims).unwrap_or(fees.close_channel)
            }
        }
        ChannelState::Closed => Amount::ZERO,
    };
    let has = connection.ledger.balance(&terms.payer, &terms.issuer).await?.value;
    if has < fee {
        return Err(Failure::new(format!(
            "`{wallet}` holds {has} credits, and closing takes a fee of {fee}"
        ))
        .next(format!("send it some from another: gristmill wallet send {fee} {wallet} --from WALLET"))
        .into());
    }
    let sender = Sender::new(connection.ledger.clone(), key, terms.issuer);
    let Closing { closed, left_ms, inclusion } = sender.close_channel(&found.map(|_| records)).await?;
    let state = if closed { "closed" } else { "closing" };
    let value = json!({
        "channel": channel, "processor": terms.payee, "state": state, "left_ms": left_ms,
        "transaction": inclusion.as_ref().map(|of| of.outcome.hash),
        "height": inclusion.as_ref().map(|of| of.height), "fee": inclusion.as_ref().map(|of| of.outcome.fee),
    });
    output.show(&value, || {
        let short = channel.short();
        if closed {
            return format!("channel {short} is closed; what was not claimed in it is back in `{wallet}`");
        }
        let of = if wallet == wallet::CONSUMER { String::new() } else { format!(" --wallet {wallet}") };
        format!(
            "channel {short} closes: its processor claims what it is owed, and may end it at once; after {} min of ledger \
             time nobody has to wait for it any more, then run this again: {}",
            left_ms.div_ceil(60_000),
            output.commands(&format!("gristmill channel close {channel}{of}")),
        )
    })
}
