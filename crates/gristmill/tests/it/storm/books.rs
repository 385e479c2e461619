//! The books: what each client received, the gateway's receipts, channels and budgets, the processor's
//! copy, and the ledger, compared to the grain.
//!
//! A receipt of which the gateway kept the request is compared with that request. After a kill the
//! gateway knows of what was in flight only the processor's last receipt, within what was signed; those
//! receipts are matched with the interrupted requests so that none differs by more than a window.

use super::clients::{Ended, Request, Style};
use crate::exchange::{Exchange, grains};
use futures::StreamExt as _;
use gristmill_client::Client;
use gristmill_ledger::{Event, Genesis, decode_tx};
use gristmill_net::peer::ChannelState;
use gristmill_proof::Trust;
use gristmill_types::{AccountId, Amount, ChannelId};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The window of the quotes, in tokens.
const WINDOW: u64 = 64;
/// No answer of the starter model is longer.
const CONTEXT: u64 = 512;
/// How long the parts may take to agree after a start.
const PATIENCE: Duration = Duration::from_secs(90);
/// What the gateway lists at once.
const LISTED: usize = 1_000;

/// What a reconciliation found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) requests: u64,
    pub(crate) receipts: u64,
    pub(crate) delivered: u64,
    pub(crate) paid: u64,
    /// Paid for requests of which the gateway knows no more than that.
    pub(crate) interrupted: u64,
    /// By how much the paid tokens of interrupted requests differ from those that arrived.
    pub(crate) in_window: u64,
    pub(crate) widest: u64,
    /// Grains in all so far.
    pub(crate) spent: u128,
    pub(crate) settled: u128,
}

impl Found {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.receipts += other.receipts;
        self.delivered += other.delivered;
        self.paid += other.paid;
        self.interrupted += other.interrupted;
        self.in_window += other.in_window;
        (self.spent, self.settled) = (other.spent, other.settled);
    }
}

/// What is known from before.
pub(crate) struct Books {
    keys: Vec<String>,
    genesis: Genesis,
    names: BTreeMap<&'static str, AccountId>,
    ledger: Ledger,
    /// Receipts of earlier rounds, and what they and each key's came to.
    known: BTreeSet<String>,
    bought: u128,
    by_key: Vec<u128>,
    /// Requests whose receipts have not been looked for yet.
    open: Vec<Request>,
}

/// What blocks did, added up.
#[derive(Default)]
struct Ledger {
    next: u64,
    fees: BTreeMap<AccountId, u128>,
    deposits: BTreeMap<ChannelId, u128>,
    paid: BTreeMap<ChannelId, u128>,
    earned: u128,
    royalties: u128,
}

macro_rules! agree {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}

impl Books {
    pub(crate) fn new(exchange: &Exchange, keys: Vec<String>) -> Self {
        let genesis = std::fs::read(exchange.home.join("genesis.json")).unwrap();
        let account = |name| exchange.json(&["wallet", "show", name])["address"].as_str().unwrap().parse();
        let names = ["consumer", "processor", "modeler", "validator"];
        Self {
            by_key: vec![0; keys.len()],
            keys,
            genesis: serde_json::from_slice(&genesis).unwrap(),
            names: names.into_iter().map(|name| (name, account(name).unwrap())).collect(),
            ledger: Ledger { next: 1, ..Ledger::default() },
            known: BTreeSet::new(),
            bought: 0,
            open: Vec::new(),
        }
    }

    pub(crate) fn requested(&mut self, requests: Vec<Request>) {
        self.open.extend(requests);
    }

    /// Figures that a clean stop and a start leave as they are.
    pub(crate) async fn figures(&self, exchange: &Exchange) -> BTreeMap<String, String> {
        let channels = exchange.json(&["channel", "list"]);
        let mut figures: BTreeMap<String, String> = ["consumer", "processor", "modeler"]
            .iter()
            .map(|name| ((*name).to_owned(), exchange.balance(name).to_string()))
            .collect();
        for of in channels["channels"].as_array().unwrap() {
            for figure in ["deposit", "spent", "settled", "in_doubt"] {
                figures.insert(format!("{figure} of {}", of["id"]), of[figure].to_string());
            }
        }
        for (number, key) in self.keys.iter().enumerate() {
            figures.insert(format!("key {number}"), self.key(exchange, key).await["spent"].to_string());
        }
        let listed = exchange.json(&["receipt", "list"]);
        figures.insert("receipts".to_owned(), listed["total"].to_string());
        figures
    }

    async fn key(&self, exchange: &Exchange, key: &str) -> Value {
        let url = format!("{}/key", exchange.base_url());
        let request = gristmill_net::http::client().unwrap().get(url).bearer_auth(key);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Waits until all parts agree, and fails with what does not.
    pub(crate) async fn reconcile(&mut self, exchange: &Exchange) -> Found {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.compare(exchange).await {
                Ok(found) => return found,
                Err(reason) => {
                    assert!(
                        Instant::now() < deadline,
                        "the books disagree: {reason}\nstderr: {}",
                        exchange.stderr()
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn compare(&mut self, exchange: &Exchange) -> Result<Found, String> {
        let channels = exchange.json(&["channel", "list"])["channels"].as_array().unwrap().clone();
        agree!(channels.len() <= 1, "one processor, and {} channels", channels.len());
        agree!(channels.iter().all(|of| of["in_doubt"] == 0), "lanes in doubt: {channels:?}");
        let sum = |figure: &str| channels.iter().map(|of| grains(&of[figure])).sum::<u128>();
        let (spent, settled, deposit) = (sum("spent"), sum("settled"), sum("deposit"));

        let (new, bought) = self.new_receipts(exchange)?;
        agree!(bought == spent, "the receipts come to {bought}, the channels to {spent}");
        let mut of_keys = 0;
        for (number, key) in self.keys.iter().enumerate() {
            let of = self.key(exchange, key).await;
            let (spent, held, limit) = (grains(&of["spent"]), grains(&of["held"]), grains(&of["limit"]));
            agree!(spent + held <= limit, "key {number} spent {spent} and holds {held} of {limit}");
            agree!(self.by_key[number] <= spent, "key {number} spent {spent}, less than its receipts");
            of_keys += spent;
        }
        agree!(of_keys == spent, "the keys spent {of_keys}, the channels {spent}");

        self.ledger_agrees(exchange, &channels, [spent, settled, deposit]).await?;
        let mut found = self.match_requests(exchange, &new).await?;
        (found.spent, found.settled) = (spent, settled);
        self.bought = bought;
        self.known.extend(new.into_iter().map(|of| of["id"].as_str().unwrap().to_owned()));
        self.open.clear();
        Ok(found)
    }

    /// Receipts since the last time, and what all come to.
    fn new_receipts(&self, exchange: &Exchange) -> Result<(Vec<Value>, u128), String> {
        let listed = exchange.json(&["receipt", "list", "--limit", &LISTED.to_string()]);
        let all = listed["receipts"].as_array().unwrap();
        let new = all.iter().filter(|of| !self.known.contains(of["id"].as_str().unwrap()));
        let new: Vec<Value> = new.cloned().collect();
        agree!(new.len() < LISTED, "more receipts in a round than can be listed");
        let total = listed["total"].as_u64().unwrap();
        let expected = (self.known.len() + new.len()) as u64;
        agree!(total == expected, "{total} receipts, {expected} expected: one was lost or came twice");
        let bought = self.bought + new.iter().map(|of| grains(&of["cost"])).sum::<u128>();
        Ok((new, bought))
    }

    /// The ledger's channel, what blocks did, the processor's copy and the balances.
    async fn ledger_agrees(
        &mut self,
        exchange: &Exchange,
        channels: &[Value],
        [spent, settled, deposit]: [u128; 3],
    ) -> Result<(), String> {
        let url = exchange.ready["ledger"].as_str().unwrap();
        let client = Client::new(url, Trust::from_genesis(&self.genesis).unwrap()).unwrap();
        self.ledger.follow(&client, &self.names["processor"]).await?;
        let ledger = &self.ledger;
        let fee = |name| ledger.fees.get(&self.names[name]).copied().unwrap_or_default();
        let settle = self.genesis.params.fees.settle.grains();

        let paid: u128 = ledger.paid.values().sum();
        let put_in: u128 = ledger.deposits.values().sum();
        agree!(paid == settled, "blocks paid {paid}, the gateway says {settled}");
        agree!(put_in == deposit, "blocks put {put_in} into channels, the gateway says {deposit}");
        agree!(spent >= settled, "{settled} is settled of {spent}");
        agree!(spent - settled < 2 * settle, "{settled} is settled of {spent}, the rest is worth a fee");
        for of in channels {
            let id: ChannelId = of["id"].as_str().unwrap().parse().unwrap();
            let records = client.channel(&id).await.map_err(|error| error.to_string())?.value;
            let records = records.ok_or("the ledger has no such channel")?;
            let on_ledger = records.channel.settled.grains();
            agree!(on_ledger == grains(&of["settled"]), "the ledger says {on_ledger}: {of}");
            agree!(records.lanes.iter().all(|lane| lane.pending.is_none()), "a claim is pending: {of}");
            let open: u128 = records.lanes.iter().map(|lane| lane.paid.grains()).sum();
            let said = Self::processor_says(exchange, &id).await + (on_ledger - open);
            agree!(said == grains(&of["spent"]), "the processor says {said}: {of}");
        }

        let begun = |name| {
            let of = |balance: &&gristmill_ledger::GenesisBalance| balance.account == self.names[name];
            self.genesis.balances.iter().filter(of).map(|of| of.amount.grains()).sum::<u128>()
        };
        let fees: u128 = ledger.fees.values().sum();
        for (name, expected) in [
            ("processor", begun("processor") + ledger.earned - fee("processor")),
            ("consumer", begun("consumer") - put_in - fee("consumer")),
            ("modeler", begun("modeler") - fee("modeler")),
            ("validator", begun("validator") + fees),
        ] {
            let found = exchange.balance(name);
            agree!(found == expected, "{name} has {found}, {expected} by the blocks");
        }
        // Every price is a multiple of ten grains, so the royalty of a tenth is exact.
        let royalties = exchange.royalties();
        agree!(royalties == ledger.royalties, "royalties of {royalties}, {} by the blocks", ledger.royalties);
        agree!(royalties == settled / 10, "royalties of {royalties} on {settled}");
        let supply = exchange.json(&["ledger", "supply"]);
        agree!(supply["adds_up"] == true, "{supply}");
        Ok(())
    }

    /// What the processor's receipts say was spent on the channel's open lanes.
    async fn processor_says(exchange: &Exchange, channel: &ChannelId) -> u128 {
        let url = format!("{}/v1/channels/{channel}", exchange.ready["processor"].as_str().unwrap());
        let answer = gristmill_net::http::client().unwrap().get(url).send().await.unwrap();
        let lanes = ChannelState::parse(&answer.bytes().await.unwrap()).unwrap().lanes;
        let receipts = lanes.iter().filter_map(|lane| lane.receipt.as_ref());
        receipts.map(|receipt| receipt.0.body.spent.grains()).sum()
    }

    /// Every receipt is some request's, every answer has its receipt, and what was interrupted differs by
    /// a window at most.
    async fn match_requests(&mut self, exchange: &Exchange, new: &[Value]) -> Result<Found, String> {
        let http = gristmill_net::http::client().unwrap();
        let operator = std::fs::read_to_string(exchange.home.join("operator-key")).unwrap();
        let mut requests: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
        for request in &self.open {
            requests.entry(&request.prompt).or_default().push(request);
        }
        let mut by_key = self.by_key.clone();
        let mut found = Found {
            requests: self.open.len() as u64,
            receipts: new.len() as u64,
            delivered: self.open.iter().map(Request::delivered).sum(),
            ..Found::default()
        };
        let mut unnamed = Vec::new();
        for of in new {
            let tokens = of["completion_tokens"].as_u64().unwrap();
            found.paid += tokens;
            if of["kept"] == "nothing" {
                unnamed.push(tokens);
                continue;
            }
            let url = format!("{}/receipts/{}", exchange.base_url(), of["id"].as_str().unwrap());
            let entry = http.get(url).bearer_auth(operator.trim()).send().await.unwrap();
            let entry: Value = entry.json().await.unwrap();
            let body: Value = serde_json::from_str(entry["request"].as_str().unwrap()).unwrap();
            let prompt = body["messages"][0]["content"].as_str().unwrap();
            let Some(request) = requests.get_mut(prompt).and_then(|of| take(of, &entry)) else {
                return Err(format!("nobody asked `{prompt}`, or it was paid too often"));
            };
            by_key[request.key] += grains(&of["cost"]);
            compare_one(request, &entry, tokens)?;
        }
        found.interrupted = unnamed.iter().sum();
        let left: Vec<&Request> = requests.into_values().flatten().collect();
        if let Some(lost) = left.iter().find(|request| matches!(request.ended, Ended::Whole { .. })) {
            return Err(format!("an answer has no receipt: {lost:?}"));
        }
        (found.in_window, found.widest) = interrupted(&left, unnamed)?;
        self.by_key = by_key;
        Ok(found)
    }
}

/// Takes the choice that a receipt is for: one that says so, or else the one of which most arrived that the
/// receipt's answer goes on from.
fn take<'a>(choices: &mut Vec<&'a Request>, entry: &Value) -> Option<&'a Request> {
    let answer = entry["answer"].as_str().unwrap();
    let fit = |of: &Request| match &of.ended {
        Ended::Whole { receipts, .. } => (receipts.iter().any(|id| entry["id"] == id.as_str()), 0),
        _ => (false, if answer.starts_with(&of.text) { of.text.len() + 1 } else { 0 }),
    };
    let (place, _) = choices.iter().enumerate().max_by_key(|(_, of)| fit(of))?;
    Some(choices.remove(place))
}

/// A receipt whose request the gateway kept.
fn compare_one(request: &Request, entry: &Value, tokens: u64) -> Result<(), String> {
    let answer = entry["answer"].as_str().unwrap();
    if let Ended::Whole { receipts, cost, tokens: told } = &request.ended {
        let same = receipts.iter().any(|receipt| entry["id"] == receipt.as_str())
            && answer == request.text
            && grains(&entry["cost"]) == *cost
            && tokens == *told
            && entry["kept"] == "whole";
        agree!(same, "the client got another answer: {request:?} {entry}");
    }
    agree!(answer.starts_with(&request.text), "the client got `{}`: {entry}", request.text);
    let arrived = entry["output_ids"].as_array().unwrap().len() as u64;
    agree!(arrived <= tokens, "{arrived} tokens arrived, {tokens} are paid: {entry}");
    agree!(tokens <= arrived + WINDOW, "{tokens} are paid, {arrived} arrived: {entry}");
    Ok(())
}

/// Gives each receipt of which nothing was kept to an interrupted request, so that what was paid and what
/// arrived differ by a window at most. Of an answer that comes at once the gateway may have had all.
/// Returns by how much they differ, in all and at most.
fn interrupted(requests: &[&Request], mut paid: Vec<u64>) -> Result<(u64, u64), String> {
    agree!(paid.len() <= requests.len(), "{} receipts for {requests:?}", paid.len());
    paid.resize(requests.len(), 0);
    paid.sort_unstable();
    let bounds = |request: &Request| match request.style {
        Style::Whole | Style::WholeBroken(_) => (0, CONTEXT),
        Style::Stream(_) | Style::StreamBroken(_) => {
            let arrived = request.delivered();
            (arrived.saturating_sub(WINDOW), arrived + WINDOW)
        }
    };
    let mut open: Vec<&Request> = requests.to_vec();
    let (mut all, mut widest) = (0, 0);
    for tokens in paid {
        // Of those that it fits, the one that the later, larger ones fit least.
        let fits = open.iter().enumerate().filter(|(_, of)| (bounds(of).0..=bounds(of).1).contains(&tokens));
        let Some((place, _)) = fits.min_by_key(|(_, of)| bounds(of).1) else {
            return Err(format!("{tokens} tokens are paid that none of these got: {open:?}"));
        };
        let request = open.remove(place);
        if matches!(request.style, Style::Stream(_) | Style::StreamBroken(_)) {
            let differ = request.delivered().abs_diff(tokens);
            (all, widest) = (all + differ, widest.max(differ));
        }
    }
    Ok((all, widest))
}

impl Ledger {
    /// Adds what the blocks since the last look did. Each transaction is proven to be in its block.
    async fn follow(&mut self, client: &Client, processor: &AccountId) -> Result<(), String> {
        let words = |error: gristmill_client::ClientError| error.to_string();
        let latest = client.latest_block().await.map_err(words)?.map_or(0, |block| block.value.height);
        let mut blocks = std::pin::pin!(client.follow(Some(self.next)));
        while self.next <= latest {
            let block = blocks.next().await.ok_or("no block came")?.map_err(words)?;
            agree!(block.height == self.next, "block {} came, not {}", block.height, self.next);
            let mut senders = Vec::new();
            for outcome in &block.outcomes {
                let included = client.included(&outcome.hash).await.map_err(words)?;
                let included = included.ok_or("a transaction of a block is not to be found")?.value;
                let bytes = hex::decode(included.tx.ok_or("a transaction has no bytes")?);
                senders.push(decode_tx(&bytes.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?);
            }
            for (outcome, tx) in block.outcomes.iter().zip(senders) {
                *self.fees.entry(tx.body.sender).or_default() += outcome.fee.grains();
                outcome.events.iter().for_each(|event| self.learn(event, processor));
            }
            self.next += 1;
        }
        Ok(())
    }

    fn learn(&mut self, event: &Event, processor: &AccountId) {
        match event {
            Event::ChannelOpened { channel, deposit, .. } => {
                *self.deposits.entry(*channel).or_default() += deposit.grains();
            }
            Event::ChannelToppedUp { channel, amount, .. } => {
                *self.deposits.entry(*channel).or_default() += amount.grains();
            }
            Event::ClaimPaid { channel, payee, earned, owed, bonded, royalties, .. } => {
                assert!(payee == processor && *owed == Amount::ZERO && *bonded == Amount::ZERO);
                let royalties: u128 = royalties.iter().map(|part| part.amount.grains()).sum();
                *self.paid.entry(*channel).or_default() += earned.grains() + royalties;
                self.earned += earned.grains();
                self.royalties += royalties;
            }
            _ => {}
        }
    }
}
