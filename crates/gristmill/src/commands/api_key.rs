//! `gristmill api-key`: who may buy through the running exchange, and for how much.

use crate::{
    endpoint::Endpoint,
    failure::Failure,
    home::Home,
    output::{Output, quoted, table},
};
use anyhow::Result;
use clap::Subcommand;
use gristmill_types::Amount;
use reqwest::Method;
use serde_json::{Value, json};

/// Subcommands of `api-key`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make an API key, and show it: it is not kept, and cannot be shown again
    Create {
        /// What to call it, for example the name of a department or a program
        name: String,
        /// The most that may ever be bought with it, in credits
        #[arg(long, value_name = "CREDITS")]
        budget: Amount,
    },
    /// List the API keys: budget, spent, left
    List,
    /// Change what may be bought with an API key
    Budget {
        /// Its name, or the first 8 digits or more of its id
        key: String,
        /// The most that may ever be bought with it, in credits: no less than what was bought so far
        #[arg(value_name = "CREDITS")]
        budget: Amount,
    },
    /// Refuse an API key from now on. Answers under way end as they were paid for
    Revoke {
        /// Its name, or the first 8 digits or more of its id
        key: String,
    },
}

impl ApiKey {
    pub(crate) async fn run(self, home: &Home, output: Output) -> Result<()> {
        let running = home.running()?;
        let endpoint = Endpoint::new(&running)?;
        match self {
            Self::Create { name, budget } => {
                let body = json!({"name": name, "limit": budget});
                let made: Value = endpoint.call(Method::POST, "/keys", Some(&body)).await?;
                output.show(&made, || {
                    format!(
                        "`{name}` may buy for {budget} credits, at {}\nkey  {}\nit is not kept here, and is not shown again",
                        running.base_url,
                        made["key"].as_str().unwrap_or_default()
                    )
                })
            }
            Self::List => {
                let value: Value = endpoint.get("/keys").await?;
                output.show(&value, || text(&value))
            }
            Self::Budget { key, budget } => {
                let id = find(&endpoint, &key).await?;
                let body = json!({"limit": budget});
                let now: Value = endpoint.call(Method::PATCH, &format!("/keys/{id}"), Some(&body)).await?;
                output.show(&now, || {
                    format!(
                        "`{key}` may buy for {} credits more, {budget} in all",
                        credits(&now["remaining"])
                    )
                })
            }
            Self::Revoke { key } => {
                let id = find(&endpoint, &key).await?;
                let ended: Value = endpoint.call(Method::DELETE, &format!("/keys/{id}"), None).await?;
                output.show(&ended, || {
                    format!(
                        "`{key}` is refused from now on; it had spent {} credits",
                        credits(&ended["spent"])
                    )
                })
            }
        }
    }
}

fn credits(value: &Value) -> Amount {
    Amount::from_grains(value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// The id of a key that is in use, by its name or by the beginning of its id.
async fn find(endpoint: &Endpoint, key: &str) -> Result<String> {
    let value: Value = endpoint.get("/keys").await?;
    let active = || value["keys"].as_array().into_iter().flatten().filter(|of| of["revoked_ms"].is_null());
    let id = |of: &Value| of["id"].as_str().unwrap_or_default().to_owned();
    if let Some(of) = active().find(|of| of["name"] == *key) {
        return Ok(id(of));
    }
    let begin = key.to_ascii_lowercase();
    let found: Vec<String> = active().map(id).filter(|id| key.len() >= 8 && id.starts_with(&begin)).collect();
    match found.as_slice() {
        [id] => Ok(id.clone()),
        _ => Err(Failure::new(format!("no API key in use is called {}", quoted(key)))
            .next("see which there are: gristmill api-key list")
            .into()),
    }
}

fn text(value: &Value) -> String {
    let keys = value["keys"].as_array().cloned().unwrap_or_default();
    let now_ms = super::now_ms();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let since = |member: &str| key[member].as_u64().map(|at| super::age(now_ms.saturating_sub(at)));
            vec![
                key["name"].as_str().unwrap_or("-").to_owned(),
                credits(&key["limit"]).to_string(),
                credits(&key["spent"]).to_string(),
                credits(&key["held"]).to_string(),
                credits(&key["remaining"]).to_string(),
                since("created_ms").unwrap_or_default(),
                since("revoked_ms").map_or(String::new(), |ago| format!("revoked {ago} ago")),
                key["id"].as_str().unwrap_or_default().chars().take(8).collect(),
            ]
        })
        .collect();
    table(&["key", "budget", "spent", "held", "left", "age", "", "id"], &rows)
}
