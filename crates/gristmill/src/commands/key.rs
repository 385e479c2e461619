//! `gristmill wallet key`: spending keys, which may spend from a wallet on channels up to a limit.

use crate::{
    connection::Connection,
    failure::Failure,
    home::Home,
    output::{Output, table},
    up::exchange::LIMITED,
    wallet,
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_client::Sender;
use gristmill_ledger::{
    keys,
    params::MAX_KEY_CHANNELS,
    record::{Channel, ChannelState, SpendingKey, Stored},
    tx::{AuthoriseKey, RevokeKey},
};
use gristmill_types::{AccountId, Amount, ChannelTerms};
use serde_json::{Value, json};

/// What a node lists of an account's channels at most.
const LISTED: usize = 1_000;

/// Subcommands of `wallet key`.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Let a key spend from a wallet on channels, up to a limit; or change its limit
    Create {
        /// The key's name among the wallets, made if there is none. `gateway-vouchers` is the running
        /// exchange's own: from its next start it spends with that key, and no more than the limit; where it
        /// does so already, a changed limit holds at once
        name: String,
        /// The most that it may ever spend, fees included, in credits
        #[arg(long)]
        limit: Amount,
        /// The wallet that it spends from
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        owner: String,
        /// Whose credits [default: the ledger's first issuer]
        #[arg(long)]
        issuer: Option<AccountId>,
    },
    /// List a wallet's spending keys: limit, spent, left
    List {
        /// The wallet
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        owner: String,
    },
    /// Stop a key, and begin to close its channels
    Revoke {
        /// The key's name among the wallets, or its address
        key: String,
        /// The wallet that it spends from
        #[arg(long, default_value = wallet::CONSUMER, value_name = "WALLET")]
        owner: String,
        /// With `gateway-vouchers`: from its next start the exchange's gateway pays with the wallet itself again,
        /// without a limit
        #[arg(long)]
        unlimited: bool,
    },
}

impl Key {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        match self {
            Self::Create { name, limit, owner, issuer } => {
                create(home, output, &name, limit, &owner, issuer).await
            }
            Self::List { owner } => list(home, output, &owner).await,
            Self::Revoke { key, owner, unlimited } => revoke(home, output, &key, &owner, unlimited).await,
        }
    }
}

async fn create(
    home: &Home,
    output: Output,
    name: &str,
    limit: Amount,
    owner: &str,
    issuer: Option<AccountId>,
) -> Result<()> {
    let _turn = wallet::turn(home)?;
    if limit.is_zero() {
        return Err(Failure::new("a key with a limit of 0 could spend nothing")
            .next("give it a limit, for example --limit 50; to stop a key: gristmill wallet key revoke NAME")
            .into());
    }
    let connection = Connection::open(home)?;
    let owner_key = wallet::load(home, owner)?;
    if name == wallet::VOUCHERS && owner != wallet::CONSUMER {
        let text = format!("the exchange's gateway pays from `{}`, not from `{owner}`", wallet::CONSUMER);
        return Err(Failure::new(text).next("leave --owner out, or name another key").into());
    }
    let issuer = issuer.map_or_else(|| connection.issuer(), Ok)?;
    let made = !wallet::names(home)?.iter().any(|known| known == name);
    let key = wallet::load_or_create(home, name)?.account();
    let sender = Sender::new(connection.ledger, owner_key, issuer);
    let inclusion = sender.send(AuthoriseKey { key, issuer, limit }).await?;
    let of_gateway = name == wallet::VOUCHERS;
    let limited = connection.running.limited;
    if of_gateway {
        home.write_secret(LIMITED, b"")?;
    }
    let of_key = keys::spending_key(&sender.account(), &key);
    let record = sender.client().state(&[of_key]).await?.value;
    let spent = record.iter().flatten().find_map(SpendingKey::of).map_or(Amount::ZERO, |of| of.spent);
    let left = limit.saturating_sub(spent);
    let value = json!({
        "name": name, "key": key, "made": made, "owner": sender.account(), "issuer": issuer, "limit": limit,
        "spent": spent, "left": left,
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        let made = if made { format!("made the wallet `{name}`\n") } else { String::new() };
        let next = if of_gateway && limited {
            "\nthe gateway spends with it; what open channels hold is spent beside it"
        } else if of_gateway {
            "\nthe gateway opens channels with it, and with no more than that, from its next start; what open channels hold is spent beside it"
        } else {
            "\na gateway that holds this key may spend with it; the one of this home holds `gateway-vouchers`"
        };
        format!(
            "{made}`{name}` may spend {left} more credits of `{owner}` on channels ({limit} in all), final in block {}\nkey  {key}{next}",
            inclusion.height
        )
    })
}

/// The owner's keys, proven; where the node leaves one out, it is not found here.
async fn keys_of(connection: &Connection, owner: &AccountId) -> Result<Vec<SpendingKey>> {
    let known = connection.ledger.account_info(owner).await?.spending_keys;
    let mut found = Vec::new();
    for some in known.chunks(32) {
        let names: Vec<_> = some.iter().map(|key| keys::spending_key(owner, key)).collect();
        let state = connection.ledger.state(&names).await?;
        found.extend(state.value.iter().flatten().filter_map(SpendingKey::of).cloned());
    }
    Ok(found)
}

async fn list(home: &Home, output: Output, owner: &str) -> Result<()> {
    let connection = Connection::open(home)?;
    let account = wallet::load(home, owner)?.account();
    let names = named(home)?;
    let keys: Vec<Value> = keys_of(&connection, &account)
        .await?
        .iter()
        .map(|of| {
            let name = names.iter().find(|(_, address)| *address == of.key).map(|(name, _)| name);
            json!({
                "key": of.key, "name": name, "issuer": of.issuer, "limit": of.limit, "spent": of.spent,
                "left": of.limit.saturating_sub(of.spent),
            })
        })
        .collect();
    output.show(&json!({"owner": account, "keys": keys}), || {
        if keys.is_empty() {
            let make = output.commands("gristmill wallet key create NAME --limit 50");
            return format!("`{owner}` has no spending keys; make one: {make}");
        }
        let credits = |value: &Value| {
            let grains = value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
            Amount::from_grains(grains).to_string()
        };
        let rows: Vec<Vec<String>> = keys
            .iter()
            .map(|key| {
                vec![
                    key["name"].as_str().unwrap_or("-").to_owned(),
                    credits(&key["limit"]),
                    credits(&key["spent"]),
                    credits(&key["left"]),
                    key["key"].as_str().unwrap_or_default().to_owned(),
                ]
            })
            .collect();
        format!(
            "{}\nof what is left a gateway keeps the fees of some contests, should a processor claim too much; what is in \
             channels counts as spent: see {}",
            table(&["key", "limit", "spent", "left", "address"], &rows),
            output.commands("gristmill channel list")
        )
    })
}

/// The wallets in the home by their addresses.
fn named(home: &Home) -> Result<Vec<(String, AccountId)>> {
    let names = wallet::names(home)?;
    names.into_iter().map(|name| Ok((name.clone(), wallet::load(home, &name)?.account()))).collect()
}

async fn revoke(home: &Home, output: Output, key: &str, owner: &str, unlimited: bool) -> Result<()> {
    let _turn = wallet::turn(home)?;
    let of_gateway = key == wallet::VOUCHERS && owner == wallet::CONSUMER;
    if unlimited && !of_gateway {
        return Err(Failure::new("--unlimited is for the key of the exchange's own gateway")
            .next(format!("gristmill wallet key revoke {} --unlimited", wallet::VOUCHERS))
            .into());
    }
    let connection = Connection::open(home)?;
    let owner_key = wallet::load(home, owner)?;
    let address = match key.parse::<AccountId>() {
        Ok(address) => address,
        Err(_) => wallet::load(home, key)?.account(),
    };
    let account = owner_key.account();
    let known = keys_of(&connection, &account).await?;
    let lift = || -> Result<()> {
        match std::fs::remove_file(home.path(LIMITED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    };
    let lifted = if connection.running.limited {
        RESTARTS
    } else {
        "the gateway pays with the wallet `consumer` itself"
    };
    const RESTARTS: &str =
        "from its next start the gateway pays with the wallet `consumer` itself: stop it, and gristmill up";
    let Some(record) = known.iter().find(|of| of.key == address) else {
        if unlimited && (connection.running.limited || home.path(LIMITED).exists()) {
            lift()?;
            let value = json!({"key": address, "owner": account, "unlimited": true});
            return output.show(&value, || format!("`{key}` was revoked before; {lifted}"));
        }
        return Err(Failure::new(format!("`{key}` is not a spending key of `{owner}`"))
            .next(format!("see which there are: gristmill wallet key list --owner {owner}"))
            .into());
    };
    let (channels, cut) = channels_of(&connection, &account, &address).await?;
    let (closing, left) = channels.split_at(channels.len().min(MAX_KEY_CHANNELS));
    let sender = Sender::new(connection.ledger.clone(), owner_key, record.issuer);
    let inclusion = sender.send(RevokeKey { key: address, channels: closing.to_vec() }).await?;
    if unlimited {
        lift()?;
    }
    let value = json!({
        "key": address, "owner": account, "spent": record.spent, "closing": closing.iter().map(ChannelTerms::id).collect::<Vec<_>>(),
        "unlimited": unlimited, "list_was_cut": cut, "left_open": left.iter().map(ChannelTerms::id).collect::<Vec<_>>(),
        "transaction": inclusion.outcome.hash, "height": inclusion.height, "fee": inclusion.outcome.fee,
    });
    output.show(&value, || {
        let mut text = format!(
            "`{key}` can spend nothing more of `{owner}`; it had spent {} credits. Final in block {}",
            record.spent, inclusion.height
        );
        if !closing.is_empty() {
            text.push_str(&format!(
                "\n{} of its channels are closing; what is left in them comes back when their time is over",
                closing.len()
            ));
        }
        if cut {
            text.push_str(
                "\nthe node did not list all channels of the wallet; others of this key may be open",
            );
        }
        if unlimited {
            text.push_str(&format!("\n{lifted}"));
        }
        if !left.is_empty() {
            text.push_str(&format!("\n{} more stay open; only the owner can close them", left.len()));
        }
        text
    })
}

/// The key's channels that are open, by id.
async fn channels_of(
    connection: &Connection,
    owner: &AccountId,
    key: &AccountId,
) -> Result<(Vec<ChannelTerms>, bool)> {
    let known = connection.ledger.account_info(owner).await?.channels;
    let mut found = Vec::new();
    for some in known.chunks(32) {
        let names: Vec<_> = some.iter().map(keys::channel).collect();
        let state = connection.ledger.state(&names).await?;
        let open = state
            .value
            .iter()
            .flatten()
            .filter_map(Channel::of)
            .filter(|channel| channel.state == ChannelState::Open)
            .map(|channel| channel.terms)
            .filter(|terms| terms.payer == *owner && terms.voucher_key == *key);
        found.extend(open);
    }
    found.sort_by_key(ChannelTerms::id);
    Ok((found, known.len() >= LISTED))
}
