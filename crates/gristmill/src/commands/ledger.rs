//! `gristmill ledger`: blocks, transactions, accounts, supply.

use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
    wallet,
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_ledger::{
    Parts, keys,
    record::{Reserve, Stored},
};
use gristmill_types::{AccountId, Amount, BlockHash, TxHash};
use serde_json::{Value, json};

/// Subcommands of `ledger`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Show a block by height or hash, with its certificate verified
    Block {
        /// Height or hash [default: the last final block]
        block: Option<String>,
    },
    /// Show a transaction, with proof that it is final
    Tx {
        /// Its hash
        hash: TxHash,
    },
    /// Show an account's nonce, balances and channels; nonce and balances are proven
    Account {
        /// Its address (gm1…), or the name of a wallet of this home
        address: String,
    },
    /// Add up all credits over the whole state
    Supply,
}

impl Ledger {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let connection = Connection::open(home)?;
        match self {
            Self::Block { block } => show_block(&connection, output, block.as_deref()).await,
            Self::Tx { hash } => show_tx(&connection, output, &hash).await,
            Self::Account { address } => {
                show_account(&connection, output, &wallet::account(home, &address)?).await
            }
            Self::Supply => show_supply(&connection, output).await,
        }
    }
}

async fn show_block(connection: &Connection, output: Output, wanted: Option<&str>) -> Result<()> {
    let ledger = &connection.ledger;
    let found = match wanted {
        None => ledger.latest_block().await?,
        Some(text) => match (text.parse::<u64>(), text.parse::<BlockHash>()) {
            (Ok(height), _) => ledger.block(height).await?,
            (_, Ok(hash)) => ledger.block_by_hash(&hash).await?,
            _ => {
                return Err(Failure::new(format!("`{text}` is neither a height nor a block's hash"))
                    .next("give a number, or 64 hexadecimal digits: gristmill ledger block 1")
                    .into());
            }
        },
    };
    let Some(block) = found else {
        return Err(Failure::new("the ledger has no such final block")
            .next("see the last one: gristmill ledger block")
            .into());
    };
    let block = block.value;
    output.show(&json!({"verified": true, "block": block}), || {
        let mut lines = vec![
            format!("block      {} at height {}", block.hash, block.height),
            format!("parent     {}", block.parent),
            format!("time       {} ms, ledger time {} ms", block.time_ms, block.clock_ms),
            format!("epoch      {}, next committee {}", block.epoch, block.next_committee),
            format!("state      {}", block.state_root),
            "final      the validators' certificate was verified".to_owned(),
            format!("holds      {} transactions", block.transactions.len()),
        ];
        lines.extend(block.transactions.iter().map(|hash| format!("  {hash}")));
        lines.join("\n")
    })
}

async fn show_tx(connection: &Connection, output: Output, hash: &TxHash) -> Result<()> {
    let Some(found) = connection.ledger.included(hash).await? else {
        return Err(Failure::new(format!("the ledger knows no final transaction {hash}"))
            .next("if it was sent a moment ago, try again; otherwise check the hash")
            .into());
    };
    let (height, time_ms) = (found.height, found.time_ms);
    let inclusion = found.value;
    let tx = inclusion
        .tx
        .as_deref()
        .and_then(|text| hex::decode(text).ok())
        .and_then(|bytes| gristmill_ledger::decode_tx(&bytes).ok());
    let value = json!({
        "verified": true, "hash": hash, "height": height, "time_ms": time_ms, "block": inclusion.block,
        "transaction": tx, "outcome": inclusion.outcome,
    });
    output.show(&value, || {
        let (kind, sender) = tx
            .as_ref()
            .map_or_else(Default::default, |tx| (tx.body.body.kind().to_owned(), tx.body.sender.to_string()));
        let result = match &inclusion.outcome.rejection {
            None => "took effect".to_owned(),
            Some(rejection) => format!("rejected: {rejection}"),
        };
        let mut lines = vec![
            format!("transaction {hash}"),
            format!("kind        {kind}, from {sender}"),
            format!("final       in block {height}, proven"),
            format!("result      {result}, fee {} credits", inclusion.outcome.fee),
        ];
        for event in &inclusion.outcome.events {
            lines.push(format!("  {}", serde_json::to_string(event).unwrap_or_default()));
        }
        lines.join("\n")
    })
}

async fn show_account(connection: &Connection, output: Output, address: &AccountId) -> Result<()> {
    let state = connection.ledger.account(address, &connection.issuers()).await?;
    let info = connection.ledger.account_info(address).await?;
    let balances: Vec<Value> = state
        .value
        .balances
        .iter()
        .map(|(issuer, amount)| json!({"issuer": issuer, "amount": amount}))
        .collect();
    let value = json!({
        "account": address, "nonce": state.value.nonce, "balances": balances, "channels": info.channels,
        "height": state.height, "proven": true,
    });
    output.show(&value, || {
        let mut lines = vec![format!("account  {address}"), format!("nonce    {}", state.value.nonce)];
        for (issuer, amount) in &state.value.balances {
            lines.push(format!(
                "balance  {amount} credits of {}, proven at block {}",
                issuer.short(),
                state.height
            ));
        }
        lines.extend(info.channels.iter().map(|channel| format!("channel  {channel}")));
        lines.join("\n")
    })
}

async fn show_supply(connection: &Connection, output: Output) -> Result<()> {
    let answer = connection.ledger.supply().await?;
    let issuers: Vec<_> = answer.supplies.iter().map(|supply| keys::reserve(&supply.issuer)).collect();
    let found = connection.ledger.state(&issuers).await?.value;
    let reserves: Vec<Reserve> = found.iter().flatten().filter_map(Reserve::of).cloned().collect();
    let sum = |of: fn(&Parts) -> Amount| {
        answer.supplies.iter().fold(0_u128, |sum, supply| sum.saturating_add(of(&supply.parts).grains()))
    };
    let parts = [
        ("balances", sum(|parts| parts.balances)),
        ("channels", sum(|parts| parts.channels)),
        ("royalties", sum(|parts| parts.royalties)),
        ("redemptions", sum(|parts| parts.redemptions)),
        ("bonds", sum(|parts| parts.bonds)),
    ];
    let total = answer.supplies.iter().fold(0_u128, |sum, supply| sum.saturating_add(supply.total.grains()));
    // Added up here as well: the node's word is not enough for this one.
    let adds_up = answer.adds_up && parts.iter().map(|(_, grains)| grains).sum::<u128>() == total;
    let grains = |grains: u128| Amount::from_grains(grains);
    let value = json!({
        "total": grains(total),
        "parts": parts.iter().map(|(name, part)| ((*name).to_owned(), json!(grains(*part)))).collect::<serde_json::Map<_, _>>(),
        "adds_up": adds_up,
        "height": answer.height,
        "issuers": answer.supplies,
        "reserves": reserves,
        "faults": answer.faults,
    });
    output.show(&value, || {
        let mut rows: Vec<Vec<String>> =
            parts.iter().map(|(name, part)| vec![(*name).to_owned(), grains(*part).to_string()]).collect();
        rows.push(vec!["total".to_owned(), grains(total).to_string()]);
        let verdict = if adds_up {
            "it adds up: total = genesis + minted − burned = sum of all holdings".to_owned()
        } else {
            format!("it does not add up: {}", answer.faults.join("; "))
        };
        let mut text = format!("{}\n{verdict} (block {})", table(&["part", "credits"], &rows), answer.height);
        for of in &reserves {
            text.push_str(&format!(
                "\n{} states {} credits of money behind its credits, at the end of day {} since 1970, by the document {}",
                of.issuer.short(),
                of.amount,
                of.day,
                of.document,
            ));
        }
        text
    })
}
