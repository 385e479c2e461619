//! `gristmill model claim`: a holder of shares draws what they earned, in the credits of each issuer.
//!
//! The ledger takes a transaction's fee before its effect, from what the sender holds already. So a claim's fee comes
//! from any credits that the wallet has, not from those that it draws.

use super::shares::held;
use crate::{connection::Connection, failure::Failure, home::Home, output::Output, wallet};
use anyhow::{Context as _, Error, Result};
use gristmill_client::{ClientError, Sender, schema::Inclusion};
use gristmill_ledger::{Event, tx::ClaimRoyalty};
use gristmill_types::{AccountId, Amount, LineId, SecretKey};
use serde_json::json;

/// What could be drawn of one issuer's credits.
type Due = (AccountId, Amount);

/// What a claim drew.
struct Drawn {
    issuer: AccountId,
    amount: Amount,
    /// In whose credits its fee was paid.
    fee_issuer: AccountId,
    inclusion: Inclusion,
}

/// What became of claims.
struct Claims<T> {
    drawn: Vec<T>,
    failed: Vec<(Due, Error)>,
}

/// Claims one after the other. One that fails keeps none of the others from being made; a ledger that does not answer
/// does.
async fn each<T>(due: &[Due], mut claim: impl AsyncFnMut(&AccountId) -> Result<T>) -> Claims<T> {
    let mut claims = Claims { drawn: Vec::new(), failed: Vec::new() };
    for of in due {
        match claim(&of.0).await {
            Ok(drawn) => claims.drawn.push(drawn),
            Err(error) => {
                let away = error.downcast_ref().is_some_and(ClientError::is_temporary);
                claims.failed.push((*of, error));
                if away {
                    break;
                }
            }
        }
    }
    claims
}

/// In whose credits to pay the fee of a claim: in those that it draws, if there are some already, or else in others.
fn payable(balances: &[Due], drawn: &AccountId, fee: Amount) -> Option<AccountId> {
    let can = balances.iter().filter(|(_, amount)| *amount >= fee).map(|(issuer, _)| *issuer);
    can.max_by_key(|issuer| issuer == drawn)
}

/// Draws what a wallet earned with a line, in all credits.
pub(super) async fn claim(home: &Home, output: Output, name: &str, wallet: &str) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let key = wallet::load(home, wallet)?;
    let connection = Connection::open(home)?;
    let (account, (line, holding)) = (key.account(), held(&connection, name, key.account()).await?);
    if holding.shares == 0 {
        return Err(Failure::new(format!("`{wallet}` holds no shares of {name}"))
            .next(format!(
                "name the wallet that does, --wallet NAME; see who does: gristmill model shares {name}"
            ))
            .into());
    }
    let fee = connection.genesis.params.fees.claim_royalty;
    let (due, later): (Vec<Due>, Vec<Due>) = holding
        .due
        .iter()
        .copied()
        .filter(|(_, amount)| !amount.is_zero())
        .partition(|(_, amount)| *amount > fee);
    for (issuer, amount) in later {
        output
            .say(&format!("{amount} credits of {} are left for later: claiming costs {fee}", issuer.short()));
    }
    let claims = each(&due, async |issuer| draw(&connection, &key, wallet, line, issuer).await).await;
    if output.is_json() || !claims.drawn.is_empty() || claims.failed.is_empty() {
        show(output, &claims, name, wallet, (line, account))?;
    }
    let Some(((issuer, _), error)) = claims.failed.first() else { return Ok(()) };
    let again = format!("try the others again: gristmill model claim {name} --wallet {wallet}");
    let next = error.downcast_ref().and_then(Failure::advice).unwrap_or(&again);
    let (done, all) = (claims.drawn.len(), due.len());
    Err(Failure::new(format!(
        "{done} of {all} claims were made; in credits of {}: {error:#}",
        issuer.short()
    ))
    .next(next)
    .into())
}

/// One claim.
async fn draw(
    connection: &Connection,
    key: &SecretKey,
    wallet: &str,
    line: LineId,
    issuer: &AccountId,
) -> Result<Drawn> {
    let fee = connection.genesis.params.fees.claim_royalty;
    let account = key.account();
    let state = connection.ledger.account(&account, &connection.issuers()).await?.value;
    let fee_issuer = payable(&state.balances, issuer, fee).ok_or_else(|| {
        Failure::new(format!(
            "`{wallet}` holds too little of any credits: a claim's fee, {fee}, is taken before the claim is paid"
        ))
        .next(format!("send it the first fee: gristmill wallet send {fee} {account}"))
    })?;
    let sender = Sender::new(connection.ledger.clone(), key.clone(), fee_issuer);
    let inclusion = sender.send(ClaimRoyalty { line, issuer: *issuer }).await?;
    let drawn = inclusion.outcome.events.iter().find_map(|event| match event {
        Event::RoyaltyClaimed { amount, .. } => Some(*amount),
        _ => None,
    });
    let amount = drawn.context("the ledger does not say what it paid")?;
    Ok(Drawn { issuer: *issuer, amount, fee_issuer, inclusion })
}

fn show(
    output: Output,
    claims: &Claims<Drawn>,
    name: &str,
    wallet: &str,
    (line, account): (LineId, AccountId),
) -> Result<()> {
    let claimed: Vec<_> = claims
        .drawn
        .iter()
        .map(|of| {
            json!({
                "issuer": of.issuer, "amount": of.amount, "transaction": of.inclusion.outcome.hash,
                "height": of.inclusion.height, "fee": of.inclusion.outcome.fee, "fee_issuer": of.fee_issuer,
            })
        })
        .collect();
    let failed: Vec<_> = claims
        .failed
        .iter()
        .map(|((issuer, due), error)| json!({"issuer": issuer, "due": due, "error": format!("{error:#}")}))
        .collect();
    let value = json!({"name": name, "line": line, "holder": account, "claimed": claimed, "failed": failed});
    output.show(&value, || {
        if claims.drawn.is_empty() {
            return format!("{name} has earned nothing for `{wallet}` that is worth claiming yet");
        }
        let lines = claims.drawn.iter().map(|of| {
            let whose = if of.fee_issuer == of.issuer {
                String::new()
            } else {
                format!(" in credits of {}", of.fee_issuer.short())
            };
            format!(
                "claimed {} credits of royalties from {name} for `{wallet}`, less a fee of {}{whose}, final in block {}",
                of.amount, of.inclusion.outcome.fee, of.inclusion.height
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(byte: u8) -> AccountId {
        SecretKey::from_seed(&[byte; 32]).account()
    }

    #[test]
    fn a_fee_is_paid_from_credits_that_are_there() {
        let fee = Amount::from_grains(10);
        let of = |amounts: [u128; 3]| -> Vec<Due> {
            (1..).zip(amounts).map(|(byte, amount)| (account(byte), Amount::from_grains(amount))).collect()
        };
        for (amounts, paid) in [
            ([10, 10, 10], Some(2)),
            ([0, 10, 0], Some(2)),
            ([50, 9, 0], Some(1)),
            ([9, 9, 10], Some(3)),
            ([9, 9, 9], None),
            ([0, 0, 0], None),
        ] {
            assert_eq!(payable(&of(amounts), &account(2), fee), paid.map(account), "{amounts:?}");
        }
    }

    #[tokio::test]
    async fn a_claim_that_fails_keeps_none_of_the_others() {
        let due: Vec<Due> = (1..=4).map(|byte| (account(byte), Amount::from_grains(20))).collect();
        let run = async |fails: fn() -> Error| {
            let mut asked = 0;
            let claims = each(&due, async |issuer| {
                asked += 1;
                if *issuer == account(2) { Err(fails()) } else { Ok(*issuer) }
            })
            .await;
            let failed: Vec<AccountId> = claims.failed.iter().map(|((issuer, _), _)| *issuer).collect();
            (asked, claims.drawn, failed)
        };
        let refused = || Failure::new("no").into();
        let drawn = [1, 3, 4].map(account).to_vec();
        assert_eq!(run(refused).await, (4, drawn, vec![account(2)]));
        // One that is away is not asked again and again.
        let away = || ClientError::Unreachable { url: String::new(), reason: String::new() }.into();
        assert_eq!(run(away).await, (2, vec![account(1)], vec![account(2)]));
    }
}
