//! `gristmill wallet`: keys, balances, transfers.

use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
    wallet,
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_client::Sender;
use gristmill_ledger::tx::Transfer;
use gristmill_types::{AccountId, Amount};
use serde_json::{Value, json};
use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// Subcommands of `wallet`.
#[derive(Debug, Subcommand)]
pub(crate) enum Wallet {
    /// Make a wallet; its recovery phrase is shown once
    Create {
        /// Its name in the home
        name: String,
        /// Take the key from the 24 words of a recovery phrase, read from standard input
        #[arg(long)]
        restore: bool,
    },
    /// Show a wallet's address and balances, or all wallets
    Show {
        /// Which wallet [default: all]
        name: Option<String>,
    },
    /// Send credits to an address
    Send {
        /// How many credits, for example 2.5
        amount: Amount,
        /// The receiver's address (gm1…), or the name of a wallet of this home
        to: String,
        /// The wallet that sends
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        from: String,
        /// Whose credits [default: the ledger's first issuer]
        #[arg(long)]
        issuer: Option<AccountId>,
    },
    /// Let keys spend from a wallet on channels, up to a limit
    #[command(subcommand)]
    Key(super::key::Key),
}

impl Wallet {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::Create { name, restore } => create(home, output, &name, restore),
            Self::Show { name } => show(home, output, name.as_deref()).await,
            Self::Key(key) => key.run(home, output).await,
            Self::Send { amount, to, from, issuer } => {
                send(home, output, amount, wallet::account(home, &to)?, &from, issuer).await
            }
        }
    }
}

fn create(home: &Home, output: Output, name: &str, restore: bool) -> Result<()> {
    let key = if restore {
        let mut words = zeroize::Zeroizing::new(String::new());
        let mut stdin = std::io::stdin().lock().take(4096);
        if std::io::stdin().is_terminal() {
            eprintln!("the 24 words of the recovery phrase, in one line:");
            stdin.read_line(&mut words)?;
        } else {
            stdin.read_to_string(&mut words)?;
        }
        words.make_ascii_lowercase();
        wallet::from_phrase(&words)?
    } else {
        wallet::generate()?
    };
    let path = wallet::store(home, name, &key)?;
    let phrase = if restore { None } else { Some(wallet::phrase(&key)?) };
    let mut value = json!({"name": name, "address": key.account(), "file": path});
    if let Some(phrase) = &phrase {
        value["recovery_phrase"] = json!(phrase.as_str());
    }
    output.show(&value, || {
        let made = format!("wallet {name}\naddress  {}\nfile     {}", key.account(), path.display());
        match &phrase {
            None => made,
            Some(phrase) => format!(
                "{made}\n\nThese words restore the key. They are shown this once; write them down on paper.\n\n  {}\n\n\
                 They are read from standard input: {}",
                phrase.as_str(),
                output.commands("gristmill wallet create NAME --restore"),
            ),
        }
    })
}

/// One wallet's address and, where an exchange runs, its proven balances.
async fn describe(home: &Home, connection: Option<&Connection>, name: &str) -> Result<Value> {
    let account = wallet::load(home, name)?.account();
    let Some(connection) = connection else {
        return Ok(json!({"name": name, "address": account}));
    };
    let state = connection.ledger.account(&account, &connection.issuers()).await?;
    let balances: Vec<Value> = state
        .value
        .balances
        .iter()
        .map(|(issuer, amount)| json!({"issuer": issuer, "amount": amount, "credits": amount.to_string()}))
        .collect();
    Ok(json!({
        "name": name, "address": account, "balances": balances, "height": state.height, "proven": true,
    }))
}

async fn show(home: &Home, output: Output, name: Option<&str>) -> Result<()> {
    // Without a running exchange there are addresses, and no balances.
    let connection = Connection::open(home).ok();
    if let Some(name) = name {
        let value = describe(home, connection.as_ref(), name).await?;
        return output.show(&value, || {
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            format!("wallet {name}\naddress  {}\nbalance  {}", text("address"), balance_text(&value))
        });
    }
    let names = wallet::names(home)?;
    if names.is_empty() {
        return Err(Failure::new(format!("there are no wallets in {}", home.root().display()))
            .next("make one: gristmill wallet create NAME, or start an exchange: gristmill up")
            .into());
    }
    let mut wallets = Vec::new();
    for name in &names {
        wallets.push(describe(home, connection.as_ref(), name).await?);
    }
    output.show(&json!({"wallets": wallets}), || {
        let rows: Vec<Vec<String>> = wallets
            .iter()
            .map(|wallet| {
                let text = |key: &str| wallet[key].as_str().unwrap_or_default().to_owned();
                vec![text("name"), balance_text(wallet), text("address")]
            })
            .collect();
        table(&["wallet", "credits", "address"], &rows)
    })
}

fn balance_text(wallet: &Value) -> String {
    let Some(balances) = wallet["balances"].as_array() else {
        return "unknown while no exchange runs".to_owned();
    };
    let amounts: Vec<String> =
        balances.iter().filter_map(|balance| balance["credits"].as_str()).map(str::to_owned).collect();
    amounts.join(", ")
}

async fn send(
    home: &Home,
    output: Output,
    amount: Amount,
    to: AccountId,
    from: &str,
    issuer: Option<AccountId>,
) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let connection = Connection::open(home)?;
    let key = wallet::load(home, from)?;
    if to == key.account() {
        return Err(Failure::new(format!("`{from}` would send to itself"))
            .next("name another wallet or address, or the one that sends: --from WALLET")
            .into());
    }
    let issuer = issuer.map_or_else(|| connection.issuer(), Ok)?;
    // A transaction that is rejected costs its fee all the same.
    let fee = connection.genesis.params.fees.transfer;
    let has = connection.ledger.balance(&key.account(), &issuer).await?.value;
    if amount.checked_add(fee).is_none_or(|needed| needed > has) {
        return Err(Failure::new(format!(
            "`{from}` holds {has} credits; sending {amount} takes a fee of {fee} as well"
        ))
        .next("send less, or see what there is: gristmill wallet show")
        .into());
    }
    let sender = Sender::new(connection.ledger, key, issuer);
    let inclusion = sender.send(Transfer { to, issuer, amount }).await?;
    let value = json!({
        "transaction": inclusion.outcome.hash,
        "height": inclusion.height,
        "from": sender.account(),
        "to": to,
        "issuer": issuer,
        "amount": amount,
        "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!(
            "sent {amount} credits to {} for a fee of {}, final in block {}\ntransaction {}",
            to.short(),
            inclusion.outcome.fee,
            inclusion.height,
            inclusion.outcome.hash
        )
    })
}
