//! A processor of its own beside that of `up`, with a wallet and books of its own, whose one model is
//! an upstream.

use crate::{
    commands::pages,
    connection::Connection,
    failure::Failure,
    home::{Home, is_locked},
    output::Output,
    up::{damage::records_failure, exchange::find},
    wallet,
};
use anyhow::{Context as _, Result};
use gristmill_client::{Client, ClientError, Sender};
use gristmill_engine::Engine as _;
use gristmill_ledger::{
    keys,
    record::{Line, Processor, Stored},
    tx::{RegisterForeign, Transfer},
};
use gristmill_processor::{Compute, Config, Handle, ServedModel, StartError};
use gristmill_types::{
    AccountId, Amount, Digest, Manifest, ManifestFile, ModelId, Prices, SecretKey, sha256,
};
use gristmill_upstream::Upstream;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    sync::Arc,
    time::Duration,
};

/// Where the sellers' folders are.
const SELLERS: &str = "sellers";
/// Wallets that the exchange on this home uses itself.
const OF_EXCHANGE: [&str; 7] =
    ["consumer", wallet::VOUCHERS, "issuer", "modeler", "processor", "processor-receipts", "validator"];
const ANNOUNCED: &str = "run.json";
const LOCK: &str = "lock";
/// What an engine must be, in the model's record: any server that claims the name.
const ENGINE: &str = "upstream-openai";
/// Starts that a gift for fees lasts for, with the settlements between.
const STARTS: u32 = 100;
/// How often the gift is tried again, and the pause before each.
const GIFT_TRIES: u32 = 5;
const GIFT_PAUSE: Duration = Duration::from_millis(200);

/// What is offered.
pub(super) struct Offer<'a> {
    /// The model's name on the ledger.
    pub(super) name: &'a str,
    pub(super) licence: &'a str,
    pub(super) prices: Prices,
}

/// Where a running seller listens, for `status`; gone when it stops in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Announced {
    /// The endpoint of its processor.
    pub(crate) processor: String,
    /// The name of what it sells.
    pub(crate) model: String,
}

/// A seller that runs, or ended without a word.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) wallet: String,
    pub(crate) announced: Announced,
    pub(crate) runs: bool,
}

/// The home's sellers that run, or ended without withdrawing their offers.
pub(crate) fn known(home: &Home) -> Vec<Known> {
    let folders = std::fs::read_dir(home.path(SELLERS)).into_iter().flatten().flatten();
    let mut known: Vec<Known> = folders
        .filter_map(|folder| {
            let announced =
                serde_json::from_slice(&std::fs::read(folder.path().join(ANNOUNCED)).ok()?).ok()?;
            let wallet = folder.file_name().into_string().ok()?;
            Some(Known { wallet, announced, runs: is_locked(&folder.path().join(LOCK)) })
        })
        .collect();
    known.sort_by(|one, other| one.wallet.cmp(&other.wallet));
    known
}

/// A running seller.
pub(super) struct Seller {
    pub(super) processor: Handle,
    pub(super) account: AccountId,
    key: SecretKey,
    ledger: Client,
    issuer: AccountId,
    wallet: String,
    /// What it sells.
    offered: Option<ModelId>,
    /// Held while it runs.
    _lock: File,
}

/// The version that a name of an upstream's model stands for. There are no files whose content could
/// name it: whoever sells under this name sells this version, and claims to.
pub(super) fn manifest(name: &str, tokenizer: Digest) -> Manifest {
    let file = ManifestFile {
        path: "upstream".to_owned(),
        bytes: name.len() as u64,
        sha256: sha256(&[b"gristmill/upstream/v1", name.as_bytes()]),
    };
    Manifest::new(vec![file], tokenizer)
}

impl Seller {
    /// Starts it: funded, with its books, and nothing on offer yet.
    pub(super) async fn start(
        home: &Home,
        connection: &Connection,
        wallet: &str,
        port: u16,
        output: Output,
    ) -> Result<Self> {
        let place = format!("{SELLERS}/{wallet}");
        let folder = home.folder(&place)?;
        let lock = lock(&folder, wallet)?;
        let known = folder.join("processor.db").exists();
        let key = |name: &str| {
            // Once there are books, a key that is missing was lost.
            if known { wallet::load_of_exchange(home, name) } else { wallet::load_or_create(home, name) }
        };
        let (key, receipts) = (key(wallet)?, key(&format!("{wallet}-receipts"))?);
        let account = key.account();
        if !known {
            check_new(connection, &account, &folder, wallet).await?;
        }
        let issuer = connection.issuer()?;
        fund(home, connection, &key, issuer, output).await?;
        let port_file = format!("{place}/port");
        let port = choose_port(port, home, &port_file);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = Config::new(listen, folder, key.clone(), receipts, issuer);
        let (ledger, genesis) = (connection.ledger.clone(), connection.genesis.clone());
        let processor = gristmill_processor::start(config, ledger.clone(), genesis).await.map_err(
            |error| match error {
                StartError::Listen { address, source } => {
                    Failure::new(format!("cannot listen on {address}: {source}"))
                        .next("choose another port: --port PORT")
                        .into()
                }
                error => failure(home, wallet, &error),
            },
        )?;
        home.write_secret(&port_file, processor.address().port().to_string().as_bytes())?;
        Ok(Self {
            processor,
            account,
            key,
            ledger,
            issuer,
            wallet: wallet.to_owned(),
            offered: None,
            _lock: lock,
        })
    }

    /// Puts the one model on offer that it sells from now on. What an earlier run left on offer is withdrawn.
    pub(super) async fn offer(
        &mut self,
        home: &Home,
        engine: Upstream,
        offer: &Offer<'_>,
    ) -> Result<ModelId> {
        let tokenizer = Arc::clone(engine.tokenizer());
        let manifest = manifest(offer.name, tokenizer.digest());
        let model = manifest.id();
        self.register(&manifest, offer).await?;
        self.withdraw(Some(&model)).await?;
        let announced = Announced {
            processor: format!("http://{}", self.processor.address()),
            model: offer.name.to_owned(),
        };
        let announced = serde_json::to_vec(&announced)?;
        self.offered = Some(model);
        let (compute, name) = (Compute::Answers(Arc::new(engine)), offer.name.to_owned());
        self.processor
            .serve(ServedModel { id: model, name, compute, tokenizer, prices: offer.prices })
            .await?;
        home.write_secret(&format!("{SELLERS}/{}/{ANNOUNCED}", self.wallet), &announced)?;
        Ok(model)
    }

    /// Withdraws all that the account has on offer, but this; gives how many offers that were.
    pub(super) async fn withdraw(&self, but: Option<&ModelId>) -> Result<usize, ClientError> {
        let (offers, _) = pages::offers(&self.ledger).await?;
        let own = offers
            .iter()
            .filter(|offer| offer.processor == self.account && but.is_none_or(|but| *but != offer.model));
        let mut withdrawn = 0;
        // The list is the node's word; of this one it is known.
        for model in self.offered.iter().filter(|_| but.is_none()) {
            self.processor.withdraw(model).await?;
            withdrawn += 1;
        }
        for offer in own.filter(|offer| self.offered != Some(offer.model)) {
            self.processor.withdraw(&offer.model).await?;
            withdrawn += 1;
        }
        Ok(withdrawn)
    }

    /// Registers the model as foreign, unless the ledger knows it.
    async fn register(&self, manifest: &Manifest, offer: &Offer<'_>) -> Result<()> {
        let (ledger, id) = (&self.ledger, manifest.id());
        if is_registered(ledger, manifest, offer.name).await? {
            return Ok(());
        }
        let body = |salt| RegisterForeign {
            model: id,
            name: offer.name.to_owned(),
            licence: offer.licence.to_owned(),
            tokenizer: manifest.tokenizer(),
            engine: ENGINE.to_owned(),
            size_bytes: manifest.bytes(),
            salt,
        };
        let sender = Sender::new(ledger.clone(), self.key.clone(), self.issuer);
        match sender.publish(body).await {
            Ok(_) => Ok(()),
            // Another seller may have registered the same in this moment.
            Err(ClientError::Rejected { .. }) if find(ledger, &id).await?.is_some() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("registering the model as {}", offer.name)),
        }
    }
}

/// Whether the ledger knows the model. Fails where the name belongs to another.
pub(super) async fn is_registered(ledger: &Client, manifest: &Manifest, name: &str) -> Result<bool> {
    if let Err(error) = gristmill_ledger::check_name(name) {
        return Err(Failure::new(error.to_string()).next("sell it under another name: --name NAME").into());
    }
    if find(ledger, &manifest.id()).await?.is_some() {
        return Ok(true);
    }
    let line = ledger.state(&[keys::line(&keys::line_id(name))]).await?.value;
    if line.iter().flatten().any(|record| Line::of(record).is_some()) {
        return Err(Failure::new(format!("the name {name} belongs to another model on this ledger"))
            .next("sell it under another name: --name NAME")
            .into());
    }
    Ok(false)
}

/// Whether the wallet may be a seller's. The name is checked before a folder is made of it.
pub(super) fn check_wallet(home: &Home, wallet: &str) -> Result<()> {
    wallet::file(home, wallet)?;
    if OF_EXCHANGE.contains(&wallet) {
        return Err(Failure::new(format!("the wallet `{wallet}` is the exchange's own"))
            .next("sell with another, which is made if it is missing: --wallet NAME")
            .into());
    }
    Ok(())
}

/// Whether the wallet has sold before.
pub(super) fn has_sold(home: &Home, wallet: &str) -> bool {
    home.path(&format!("{SELLERS}/{wallet}")).join("processor.db").exists()
}

/// Takes the announcement back: its offer is withdrawn.
pub(super) fn retract(home: &Home, wallet: &str) {
    drop(std::fs::remove_file(home.path(&format!("{SELLERS}/{wallet}/{ANNOUNCED}"))));
}

/// Why the seller does not start, or stopped.
pub(super) fn failure(home: &Home, wallet: &str, error: &StartError) -> anyhow::Error {
    let folder = home.path(&format!("{SELLERS}/{wallet}"));
    records_failure(&folder, error, error.is_damage(), error.is_full())
}

/// Refuses to begin new books for an account that has had some: they would not know what it is owed.
async fn check_new(
    connection: &Connection,
    account: &AccountId,
    folder: &std::path::Path,
    wallet: &str,
) -> Result<()> {
    let found = connection.ledger.state(&[keys::processor(account)]).await?.value;
    if found.iter().flatten().any(|record| Processor::of(record).is_some()) {
        return Err(Failure::new(format!(
            "{} is missing, though the ledger knows the wallet `{wallet}` as a processor; new records would not know \
             what it is owed",
            folder.join("processor.db").display()
        ))
        .next("restore the folder from a backup, or sell with another wallet: --wallet NAME")
        .into());
    }
    Ok(())
}

/// One process for one wallet: its books are not shared.
fn lock(folder: &std::path::Path, wallet: &str) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    file.try_lock().map_err(|_| {
        Failure::new(format!("another `gristmill sell` sells with the wallet `{wallet}`"))
            .next("stop it with Ctrl-C, which withdraws its offer too; or sell with a wallet of its own: --wallet NAME")
    })?;
    Ok(file)
}

/// The port that was asked for, that of the last run where it is free, or any free one: an endpoint
/// that stays need not be registered again.
fn choose_port(wanted: u16, home: &Home, file: &str) -> u16 {
    let last = std::fs::read_to_string(home.path(file)).ok().and_then(|text| text.trim().parse().ok());
    match (wanted, last) {
        (0, Some(last)) if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, last)).is_ok() => last,
        (wanted, _) => wanted,
    }
}

/// Sees that the account can pay the ledger's fees. A newcomer's is empty; the treasury of the exchange
/// on this home gives it some.
async fn fund(
    home: &Home,
    connection: &Connection,
    account: &SecretKey,
    issuer: AccountId,
    output: Output,
) -> Result<()> {
    let fees = &connection.genesis.params.fees;
    let once = [
        fees.register_processor,
        fees.commit_model,
        fees.register_foreign,
        fees.post_offer,
        fees.settle,
        fees.withdraw_offer,
    ];
    let needed =
        once.iter().try_fold(Amount::ZERO, |sum, fee| sum.checked_add(*fee)).context("fees overflow")?;
    let to = account.account();
    let has = connection.ledger.balance(&to, &issuer).await?.value;
    if has >= needed {
        return Ok(());
    }
    let gift = needed.checked_mul_div(u128::from(STARTS), 1).context("fees overflow")?;
    let treasury = wallet::load(home, "issuer").map_err(|_| {
        Failure::new(format!("the account {to} has {has} credits; the ledger's fees need {needed}"))
            .next(format!("send it some: gristmill wallet send {gift} {to}"))
    })?;
    let mut tries = 0;
    loop {
        // Anew each time: another seller may be given something in this moment.
        let sender = Sender::new(connection.ledger.clone(), treasury.clone(), issuer);
        match sender.send(Transfer { to, issuer, amount: gift }).await {
            Ok(_) => break,
            Err(_) if tries < GIFT_TRIES => tries += 1,
            Err(error) => return Err(error).context("the treasury cannot give the fees"),
        }
        tokio::time::sleep(GIFT_PAUSE * tries).await;
    }
    output.say(&format!("funded     {gift} credits from the exchange's treasury, for the ledger's fees"));
    Ok(())
}
