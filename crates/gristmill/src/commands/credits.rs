//! `gristmill credits`: issuing credits, and paying money for them.

use super::now_ms;
use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
    wallet,
};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use gristmill_client::Sender;
use gristmill_ledger::{
    keys,
    params::DAY_MS,
    record::{Redemption, Stored},
    tx::{CancelRedemption, Mint, PayRedemption, RequestRedemption, StateReserve},
};
use gristmill_types::{AccountId, Amount, Digest, sha256};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The wallet of the local exchange's issuer.
const ISSUER: &str = "issuer";

/// Subcommands of `credits`.
#[derive(Debug, Subcommand)]
pub(crate) enum Credits {
    /// Issue credits for a deposit of money, as the ledger's issuer
    Issue {
        /// How many credits
        amount: Amount,
        /// The receiver's address, or the name of a wallet of this home
        #[arg(long, default_value = wallet::CONSUMER, value_name = "ADDRESS")]
        to: String,
        /// What the money is known by, for example a bank reference; each can be issued for once
        #[arg(long)]
        deposit: String,
    },
    /// Lock credits, for which their issuer shall pay money; if it does not, they can be taken back
    Redeem {
        /// How many credits
        amount: Amount,
        /// What the issuer knows the payment by. Everybody can read it: no names or account numbers
        #[arg(long)]
        reference: String,
        /// The wallet that holds them
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        from: String,
        /// Whose credits [default: the ledger's first issuer]
        #[arg(long)]
        issuer: Option<AccountId>,
        /// How many days the issuer has to pay [default: the shortest that the ledger allows]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=30))]
        days: Option<u64>,
    },
    /// List redemptions that wait, as their holder or as the issuer
    Redemptions {
        /// Holder or issuer
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        wallet: String,
    },
    /// Burn locked credits that you will pay for, as their issuer; send the money once this is final
    Pay {
        /// The number of the redemption
        number: u64,
        /// Its holder's address, where several holders have a redemption of this number
        #[arg(long)]
        holder: Option<AccountId>,
    },
    /// Take locked credits back, after the issuer's time is over
    Cancel {
        /// The number of the redemption
        number: u64,
        /// The wallet that locked them
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        from: String,
    },
    /// State the money behind the credits at the end of a day, as their issuer
    Reserve {
        /// How much there is, as credits
        amount: Amount,
        /// The file that says so, for example a bank's statement; its hash goes on the ledger
        #[arg(long)]
        document: PathBuf,
    },
}

impl Credits {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::Issue { amount, to, deposit } => issue(home, output, amount, &to, &deposit).await,
            Self::Redeem { amount, reference, from, issuer, days } => {
                redeem(home, output, amount, reference, &from, issuer, days).await
            }
            Self::Redemptions { wallet } => list(home, output, &wallet).await,
            Self::Pay { number, holder } => pay(home, output, number, holder).await,
            Self::Cancel { number, from } => cancel(home, output, number, &from).await,
            Self::Reserve { amount, document } => reserve(home, output, amount, &document).await,
        }
    }
}

async fn issue(home: &Home, output: Output, amount: Amount, to: &str, deposit: &str) -> Result<()> {
    let _turn = wallet::turn(home)?;
    if deposit.is_empty() || deposit.len() > 256 {
        return Err(Failure::new("a deposit's reference has 1 to 256 bytes")
            .next("for example: gristmill credits issue 100 --deposit bank-2026-11-23-0042")
            .into());
    }
    let connection = Connection::open(home)?;
    let key = wallet::load(home, ISSUER)?;
    let to = wallet::account(home, to)?;
    let issuer = key.account();
    let sender = Sender::new(connection.ledger, key, issuer);
    let reference = sha256(&[b"gristmill/deposit/v1", deposit.as_bytes()]);
    let inclusion = sender.send(Mint { deposit: reference, to, amount }).await?;
    let value = json!({
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "issuer": issuer, "to": to,
        "amount": amount, "deposit": deposit, "deposit_id": reference, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!(
            "issued {amount} credits to {} for deposit `{deposit}`, final in block {}",
            to.short(),
            inclusion.height
        )
    })
}

async fn redeem(
    home: &Home,
    output: Output,
    amount: Amount,
    reference: String,
    from: &str,
    issuer: Option<AccountId>,
    days: Option<u64>,
) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, from)?;
    let connection = Connection::open(home)?;
    let issuer = issuer.map_or_else(|| connection.issuer(), Ok)?;
    let params = &connection.genesis.params;
    let wait_ms = days.map_or(params.min_redemption_ms, |days| days.saturating_mul(DAY_MS));
    if wait_ms < params.min_redemption_ms {
        let days = params.min_redemption_ms.div_ceil(DAY_MS);
        return Err(Failure::new("that is less time than this ledger gives an issuer")
            .next(format!("give it --days {days} or more"))
            .into());
    }
    if amount < params.min_deposit {
        return Err(Failure::new(format!("the smallest redemption is {} credits", params.min_deposit))
            .next("redeem more at once")
            .into());
    }
    // A transaction that is rejected costs its fee all the same; and taking credits back costs one, too.
    let fees = &params.fees;
    let fee = fees.request_redemption.checked_add(fees.cancel_redemption).context("fees overflow")?;
    let has = connection.ledger.balance(&key.account(), &issuer).await?.value;
    if amount.checked_add(fee).is_none_or(|needed| needed > has) {
        return Err(Failure::new(format!(
            "`{from}` holds {has} credits; redeeming {amount} takes fees of {fee} as well, for now and for taking them back"
        ))
        .next("redeem less, or see what there is: gristmill wallet show")
        .into());
    }
    let sender = Sender::new(connection.ledger, key, issuer);
    let request = RequestRedemption { issuer, amount, reference: reference.clone(), wait_ms };
    let inclusion = sender.send(request).await?;
    let number = inclusion.outcome.events.iter().find_map(|event| match event {
        gristmill_ledger::Event::RedemptionRequested { number, deadline_ms, .. } => {
            Some((*number, *deadline_ms))
        }
        _ => None,
    });
    let (number, deadline_ms) = number.context("the ledger does not say what it locked")?;
    let value = json!({
        "number": number, "holder": sender.account(), "issuer": issuer, "amount": amount,
        "reference": reference, "deadline_ms": deadline_ms, "transaction": inclusion.outcome.hash,
        "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!(
            "locked {amount} credits as redemption {number}, final in block {}\nif {} has not paid after {} hours, take them back: {}",
            inclusion.height,
            issuer.short(),
            wait_ms / 3_600_000,
            output.commands(&format!("gristmill credits cancel {number} --from {from}")),
        )
    })
}

async fn list(home: &Home, output: Output, name: &str) -> Result<()> {
    let account = wallet::load(home, name)?.account();
    let connection = Connection::open(home)?;
    let known = connection.ledger.account_info(&account).await?.redemptions;
    let now_ms = connection.ledger.status().await?.time_ms.max(now_ms());
    let mut found: Vec<Redemption> = Vec::new();
    for some in known.chunks(32) {
        let names: Vec<_> = some.iter().map(|of| keys::redemption(&of.holder, of.number)).collect();
        let state = connection.ledger.state(&names).await?;
        found.extend(state.value.iter().flatten().filter_map(Redemption::of).cloned());
    }
    let value: Vec<Value> = found.iter().map(|of| json!(of)).collect();
    output.show(&json!({"account": account, "time_ms": now_ms, "redemptions": value}), || {
        if found.is_empty() {
            return format!("no redemption waits for `{name}`");
        }
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|of| {
                let left = of.deadline_ms.saturating_sub(now_ms) / 3_600_000;
                let left = if of.deadline_ms <= now_ms { "over".to_owned() } else { format!("{left} h") };
                let (number, amount) = (of.number.to_string(), of.amount.to_string());
                vec![number, of.holder.to_string(), amount, left, of.reference.clone()]
            })
            .collect();
        table(&["number", "holder", "credits", "time left", "reference"], &rows)
    })
}

async fn pay(home: &Home, output: Output, number: u64, holder: Option<AccountId>) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, ISSUER)?;
    let connection = Connection::open(home)?;
    let issuer = key.account();
    let waiting = connection.ledger.account_info(&issuer).await?.redemptions;
    let mut matching =
        waiting.iter().filter(|of| of.number == number && holder.is_none_or(|it| of.holder == it));
    let (holder, others) = match (matching.next(), holder) {
        (Some(of), _) => (of.holder, matching.next().is_some()),
        (None, Some(holder)) => (holder, false),
        (None, None) => {
            return Err(Failure::new(format!("no redemption {number} of your credits waits"))
                .next("see which do: gristmill credits redemptions --wallet issuer")
                .into());
        }
    };
    if others {
        return Err(Failure::new(format!("several holders have a redemption {number}"))
            .next("say whose: --holder ADDRESS; see gristmill credits redemptions --wallet issuer")
            .into());
    }
    let locked = redemption(&connection, &holder, number).await?;
    if locked.issuer != issuer {
        return Err(Failure::new(format!("redemption {number} is of credits of {}", locked.issuer))
            .next("only their issuer pays them")
            .into());
    }
    let sender = Sender::new(connection.ledger, key, issuer);
    let inclusion = sender.send(PayRedemption { holder, number }).await?;
    let value = json!({
        "number": number, "holder": holder, "issuer": issuer, "amount": locked.amount,
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!(
            "{} credits of {holder} are burned, final in block {}\nnow send the money for `{}`",
            locked.amount, inclusion.height, locked.reference,
        )
    })
}

async fn redemption(connection: &Connection, holder: &AccountId, number: u64) -> Result<Redemption> {
    let state = connection.ledger.state(&[keys::redemption(holder, number)]).await?;
    state.value.iter().flatten().find_map(Redemption::of).cloned().ok_or_else(|| {
        Failure::new(format!(
            "{} has no redemption {number}: it was paid, taken back, or never was",
            holder.short()
        ))
        .next("see which wait: gristmill credits redemptions")
        .into()
    })
}

async fn cancel(home: &Home, output: Output, number: u64, from: &str) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, from)?;
    let connection = Connection::open(home)?;
    let locked = redemption(&connection, &key.account(), number).await?;
    let now_ms = now_ms();
    if now_ms < locked.deadline_ms {
        let hours = (locked.deadline_ms - now_ms).div_ceil(3_600_000);
        return Err(Failure::new(format!("its issuer has {hours} more hours to pay redemption {number}"))
            .next("take the credits back after that")
            .into());
    }
    let sender = Sender::new(connection.ledger, key, locked.issuer);
    let inclusion = sender.send(CancelRedemption { issuer: locked.issuer, number }).await?;
    let value = json!({
        "number": number, "holder": sender.account(), "issuer": locked.issuer, "amount": locked.amount,
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        format!("{} credits are back in `{from}`, final in block {}", locked.amount, inclusion.height)
    })
}

async fn reserve(home: &Home, output: Output, amount: Amount, document: &std::path::Path) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let content = std::fs::read(document).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", document.display()))
            .next("name the file that says how much there is")
    })?;
    let hash: Digest = sha256(&[&content]);
    let key = wallet::load(home, ISSUER)?;
    let connection = Connection::open(home)?;
    let day = connection.ledger.status().await?.time_ms.max(now_ms()) / DAY_MS;
    let issuer = key.account();
    let supplies = connection.ledger.supply().await?.supplies;
    let outstanding = supplies.iter().find(|supply| supply.issuer == issuer).map(|supply| supply.total);
    let sender = Sender::new(connection.ledger, key, issuer);
    let inclusion = sender.send(StateReserve { amount, day, document: hash }).await?;
    let value = json!({
        "issuer": issuer, "amount": amount, "day": day, "document": hash, "outstanding": outstanding,
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        let behind = match outstanding {
            Some(outstanding) if outstanding > amount => format!(
                "\nthat is less than the {outstanding} credits that are out; everybody can see both: {}",
                output.commands("gristmill ledger supply"),
            ),
            _ => String::new(),
        };
        format!(
            "stated a reserve of {amount} credits, by the document {hash}, final in block {}{behind}",
            inclusion.height
        )
    })
}
