//! `gristmill model shares` and `transfer`: who owns a model line, and what it earned.

use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
    wallet,
};
use anyhow::{Context as _, Result};
use gristmill_client::Sender;
use gristmill_ledger::{
    due, keys,
    params::SHARES,
    record::{Accrual, Line, Pool, Shares, Stored},
    tx::TransferShares,
};
use gristmill_types::{AccountId, Amount, LineId};
use serde_json::json;

/// What a holder has of a line.
pub(super) struct Holding {
    holder: AccountId,
    pub(super) shares: u64,
    /// What it could draw, by issuer.
    pub(super) due: Vec<(AccountId, Amount)>,
}

/// The line of this name, which must have an owner.
pub(super) async fn line_named(connection: &Connection, name: &str) -> Result<LineId> {
    let line = keys::line_id(name);
    let state = connection.ledger.state(&[keys::line(&line)]).await?;
    match state.value.iter().flatten().find_map(Line::of) {
        Some(known) if known.owner.is_some() => Ok(line),
        Some(_) => {
            Err(Failure::new(format!("`{name}` is a foreign model: nobody owns it, and it earns no royalty"))
                .next("see the models that do: gristmill model list")
                .into())
        }
        None => Err(Failure::new(format!("there is no model `{name}` on the ledger"))
            .next("see which there are: gristmill model list")
            .into()),
    }
}

/// What these accounts have of the line, proven in one state for each.
pub(super) async fn holdings(
    connection: &Connection,
    line: &LineId,
    holders: &[AccountId],
) -> Result<Vec<Holding>> {
    let issuers = connection.issuers();
    let mut all = Vec::new();
    for holder in holders {
        let mut found = Holding { holder: *holder, shares: 0, due: Vec::new() };
        for some in issuers.chunks(32) {
            let mut names = vec![keys::shares(line, holder)];
            names.extend(some.iter().map(|issuer| keys::pool(line, issuer)));
            names.extend(some.iter().map(|issuer| keys::accrual(line, issuer, holder)));
            let state = connection.ledger.state(&names).await?.value;
            let records = || state.iter().flatten();
            found.shares = records().find_map(Shares::of).map_or(0, |of| of.shares);
            for pool in records().filter_map(Pool::of) {
                let drawn = records().filter_map(Accrual::of).find(|of| of.issuer == pool.issuer);
                let amount = due(pool, drawn, found.shares).context("the ledger's records do not fit")?;
                found.due.push((pool.issuer, amount));
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// The line of this name, and what an account has of it.
pub(super) async fn held(
    connection: &Connection,
    name: &str,
    account: AccountId,
) -> Result<(LineId, Holding)> {
    let line = line_named(connection, name).await?;
    let found = holdings(connection, &line, &[account]).await?.pop();
    Ok((line, found.context("one was asked for")?))
}

/// Prints who holds a line, and what waits for each.
pub(super) async fn show(home: &Home, output: Output, name: &str) -> Result<()> {
    let connection = Connection::open(home)?;
    let line = line_named(&connection, name).await?;
    let page = connection.ledger.holders(&line, 0, 1_000).await?;
    let mut all = holdings(&connection, &line, &page.holders).await?;
    all.sort_by_key(|of| std::cmp::Reverse(of.shares));
    let listed: u64 = all.iter().map(|of| of.shares).sum();
    let holders: Vec<_> = all
        .iter()
        .map(|of| {
            let due: Vec<_> =
                of.due.iter().map(|(issuer, amount)| json!({"issuer": issuer, "amount": amount})).collect();
            json!({"holder": of.holder, "shares": of.shares, "due": due})
        })
        .collect();
    let value = json!({
        "name": name, "line": line, "shares": SHARES, "listed": listed, "holders": holders,
        "total_holders": page.total,
    });
    output.show(&value, || {
        let rows: Vec<Vec<String>> = all
            .iter()
            .map(|of| {
                let percent = format!("{}.{:04} %", of.shares / 10_000, of.shares % 10_000);
                let due: Vec<String> = of.due.iter().map(|(_, amount)| amount.to_string()).collect();
                let due = if due.is_empty() { "0".to_owned() } else { due.join(", ") };
                vec![of.holder.to_string(), of.shares.to_string(), percent, due]
            })
            .collect();
        let mut text = table(&["holder", "shares", "part", "unclaimed credits"], &rows);
        if listed != SHARES {
            text.push_str(&format!(
                "\nthese are {listed} of {SHARES} shares; the others are not listed here"
            ));
        }
        text
    })
}

/// Gives shares away; both sides are paid what they earned before.
pub(super) async fn transfer(
    home: &Home,
    output: Output,
    name: &str,
    shares: u64,
    to: AccountId,
    wallet: &str,
) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, wallet)?;
    let connection = Connection::open(home)?;
    let (account, (line, holding)) = (key.account(), held(&connection, name, key.account()).await?);
    if holding.shares < shares || shares == 0 {
        return Err(Failure::new(format!(
            "`{wallet}` holds {} of {SHARES} shares of {name}",
            holding.shares
        ))
        .next(format!("transfer 1 to {}; see who holds them: gristmill model shares {name}", holding.shares))
        .into());
    }
    let mut issuers: Vec<AccountId> = holding.due.iter().map(|(issuer, _)| *issuer).collect();
    issuers.sort_unstable();
    let issuer = connection.issuer()?;
    let sender = Sender::new(connection.ledger, key, issuer);
    let inclusion = sender.send(TransferShares { line, to, shares, issuers }).await?;
    let value = json!({
        "name": name, "line": line, "from": account, "to": to, "shares": shares,
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!(
            "{shares} of {SHARES} shares of {name} are {}'s, final in block {}; both of you were paid what you had earned",
            to.short(),
            inclusion.height
        )
    })
}
