//! `gristmill credits`: the issuer's side of a local exchange.

use crate::{connection::Connection, failure::Failure, home::Home, output::Output, wallet};
use anyhow::Result;
use clap::Subcommand;
use gristmill_client::Sender;
use gristmill_ledger::tx::Mint;
use gristmill_types::{AccountId, Amount, sha256};
use serde_json::json;

/// Subcommands of `credits`.
#[derive(Debug, Subcommand)]
pub(crate) enum Credits {
    /// Issue credits for a deposit of money, as the ledger's issuer
    Issue {
        /// How many credits
        amount: Amount,
        /// The receiver's address [default: the consumer's wallet]
        #[arg(long)]
        to: Option<AccountId>,
        /// What the money is known by, for example a bank reference; each can be issued for once
        #[arg(long)]
        deposit: String,
    },
}

impl Credits {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let Self::Issue { amount, to, deposit } = self;
        if deposit.is_empty() || deposit.len() > 256 {
            return Err(Failure::new("a deposit's reference has 1 to 256 bytes")
                .next("for example: gristmill credits issue 100 --deposit bank-2026-11-23-0042")
                .into());
        }
        let connection = Connection::open(home)?;
        let key = wallet::load(home, "issuer")?;
        let to = match to {
            Some(to) => to,
            None => wallet::load(home, wallet::CONSUMER)?.account(),
        };
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
}
