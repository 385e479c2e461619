//! One validator: transfers and settlements per second until they are final, and how long one
//! transaction takes over HTTP; beside PostgreSQL, which keeps the same books in one database.

use crate::{
    postgres,
    report::{Figure, Report, percentile},
};
use anyhow::{Context as _, Result, ensure};
use gristmill_chain::{Config, Node, NodeHandle};
use gristmill_client::{Client, Sender};
use gristmill_ledger::{
    Body, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Params, SignedTx, Transaction,
    tx::{ClaimProof, OpenChannel, PublishModel, Settle, SettleClaim, Transfer},
};
use gristmill_proof::Trust;
use gristmill_types::{
    AccountId, Amount, Approval, ChannelTerms, Claim, Digest, LineId, ModelId, QuoteHash, SecretKey, Signed,
    Usage,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const GROUP: &str = "ledger, one validator";
const ACCOUNTS: u8 = 64;
const AIM_TRANSFERS: f64 = 50_000.0;
const AIM_FINAL_MS: f64 = 10.0;
/// What each claim adds.
const GRAINS: u128 = 1_000;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn issuer() -> AccountId {
    key(100).account()
}

fn genesis() -> Genesis {
    let balance = |number| GenesisBalance {
        account: key(number).account(),
        issuer: issuer(),
        amount: Amount::from_credits(1_000_000),
    };
    Genesis {
        name: "bench".into(),
        time_ms: 1_700_000_000_000,
        fee_account: key(101).account(),
        issuers: vec![GenesisIssuer {
            account: issuer(),
            name: "bench".into(),
            cap: Amount::from_credits(1_000_000_000),
            daily_limit: Amount::from_credits(1_000_000),
        }],
        balances: (0..ACCOUNTS).map(balance).collect(),
        validators: vec![GenesisValidator { key: key(200).account(), address: None }],
        params: Params::default(),
    }
}

/// A node, and the nonces of its accounts.
struct Ledger {
    node: NodeHandle,
    client: Client,
    nonces: Vec<u64>,
}

pub(crate) async fn measure(report: &mut Report, folder: &Path) -> Result<()> {
    let genesis = genesis();
    let node = Node::start(Config::new(folder.join("ledger")), genesis.clone(), key(200)).await?;
    let client = Client::new(&node.url(), Trust::from_genesis(&genesis)?)?;
    let mut ledger = Ledger { node, client, nonces: Vec::new() };
    let latency = ledger.latency(report.times(300, 60)).await?;
    let (terms, model, line) = ledger.open_channels().await?;
    ledger.count_nonces().await?;
    let transfers = ledger.transfers(report.times(200_000, 20_000)).await?;
    let single = ledger.settlements(&terms, model, line, 1, report.times(32_000, 3_200)).await?;
    let whole = ledger.settlements(&terms, model, line, 16, report.times(32_000, 3_200)).await?;
    ledger.node.stop().await;

    let peer = postgres::measure(folder, report.times(15, 3));
    let mut transfers =
        Figure::new(GROUP, "transfers final per second", transfers, "/s").at_least(AIM_TRANSFERS);
    match &peer {
        Ok(peer) => {
            transfers = transfers
                .beside(format!("{} at 32 clients", peer.version), peer.many)
                .beside(format!("{} at 1 client", peer.version), peer.one);
        }
        Err(error) => report.note(format!("PostgreSQL is left out: {error:#}")),
    }
    report.add(transfers);
    report.add(Figure::new(GROUP, "settlements of one claim final per second", single, "/s"));
    report.add(Figure::new(GROUP, "claims final per second, sixteen in a settlement", whole, "/s"));
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let value = percentile(&latency, percent);
        let mut figure = Figure::new(GROUP, format!("submit to final over HTTP, {name}"), value, "ms")
            .beside("one fdatasync, median", report.machine.fdatasync_ms);
        if let Ok(peer) = &peer {
            figure = figure.beside(format!("a transaction of {}, 1 client", peer.version), 1e3 / peer.one);
        }
        report.add(if percent == 50 { figure.at_most(AIM_FINAL_MS) } else { figure });
    }
    Ok(())
}

impl Ledger {
    fn sender(&self, number: u8) -> Sender {
        Sender::new(self.client.clone(), key(number), issuer())
    }

    async fn latency(&self, count: usize) -> Result<Vec<f64>> {
        let alice = self.sender(0);
        let mut times = Vec::new();
        for round in 0..count as u64 {
            tokio::time::sleep(Duration::from_millis(20 + round % 13)).await;
            let tx = alice.prepare(transfer(1)).await?;
            let started = Instant::now();
            alice.submit(&tx).await?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    /// A model, and a channel from every account to the next.
    async fn open_channels(&self) -> Result<(Vec<ChannelTerms>, ModelId, LineId)> {
        let model = ModelId::new([9; 32]);
        let publish = |salt| PublishModel {
            model,
            name: "bench/model".into(),
            licence: "MIT".into(),
            royalty_bps: 1_000,
            parents: Vec::new(),
            tokenizer: Digest::new([8; 32]),
            engine: "bench".into(),
            size_bytes: 1,
            salt,
        };
        self.sender(0).publish(publish).await?;
        let models = self.client.models(0, 1).await?;
        let line = models.models.first().context("the model is listed")?.model.line;
        let mut all = Vec::new();
        for number in 0..ACCOUNTS {
            let mut terms = None;
            let open = |nonce| {
                let opened = ChannelTerms {
                    chain: self.client.chain(),
                    payer: key(number).account(),
                    payee: key(next(number)).account(),
                    issuer: issuer(),
                    voucher_key: key(number).account(),
                    receipt_key: key(next(number)).account(),
                    grace_ms: Params::default().default_grace_ms,
                    open_nonce: nonce,
                };
                terms = Some(opened);
                Body::from(OpenChannel { terms: opened, deposit: Amount::from_credits(1_000) })
            };
            let sender = self.sender(number);
            let tx = sender.prepare_with(open).await?;
            sender.submit(&tx).await?;
            all.push(terms.context("the channel has terms")?);
        }
        Ok((all, model, line))
    }

    async fn count_nonces(&mut self) -> Result<()> {
        self.nonces.clear();
        for number in 0..ACCOUNTS {
            self.nonces.push(self.client.nonce(&key(number).account()).await?.value);
        }
        Ok(())
    }

    fn sign(&mut self, from: u8, body: impl Into<Body>) -> SignedTx {
        let nonce = &mut self.nonces[usize::from(from)];
        let sender = key(from).account();
        let body = Transaction {
            chain: self.client.chain(),
            sender,
            nonce: *nonce,
            fee_issuer: issuer(),
            body: body.into(),
        };
        *nonce += 1;
        Signed::sign(body, &key(from))
    }

    /// Submits all and waits until all are final; gives the seconds that took.
    async fn run(&self, txs: &[SignedTx]) -> Result<f64> {
        let started = Instant::now();
        let taken = self.node.submit_many(txs).await.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        ensure!(taken == txs.len(), "{taken} of {} transactions were taken", txs.len());
        while self.node.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        for number in 0..ACCOUNTS {
            let nonce = self.client.nonce(&key(number).account()).await?.value;
            ensure!(nonce == self.nonces[usize::from(number)], "not all transactions arrived");
        }
        Ok(seconds)
    }

    async fn transfers(&mut self, count: usize) -> Result<f64> {
        let txs: Vec<SignedTx> = (0..count)
            .map(|index| {
                let from = (index % usize::from(ACCOUNTS)) as u8;
                self.sign(from, transfer(next(from)))
            })
            .collect();
        Ok(count as f64 / self.run(&txs).await?)
    }

    /// Claims per second, so many in each settlement, each with the payer's approval. Every run uses
    /// lanes of its own.
    async fn settlements(
        &mut self,
        terms: &[ChannelTerms],
        model: ModelId,
        line: LineId,
        each: usize,
        count: usize,
    ) -> Result<f64> {
        let first = if each == 1 { 0 } else { 1 };
        let rounds = count / each / terms.len();
        ensure!(rounds > 0, "too few claims for so many channels");
        let mut txs = Vec::new();
        for round in 1..=rounds as u64 {
            for (number, terms) in (0..ACCOUNTS).zip(terms) {
                let claim = |lane| {
                    let amount = Amount::from_grains(u128::from(round) * GRAINS);
                    let claim = Claim {
                        chain: terms.chain,
                        channel: terms.id(),
                        lane,
                        seq: round,
                        model,
                        quote: QuoteHash::new([7; 32]),
                        usage: Usage { output_tokens: round, requests: round, ..Usage::default() },
                        amount,
                    };
                    let proof = ClaimProof::Approval(Signed::sign(Approval(claim), &key(number)));
                    SettleClaim { lines: vec![line], proof, receipt: None }
                };
                let claims = (first..first + each as u32).map(claim).collect();
                txs.push(self.sign(next(number), Settle { terms: *terms, claims, floor: None }));
            }
        }
        let before = self.settled(terms).await?;
        let seconds = self.run(&txs).await?;
        let paid = self.settled(terms).await? - before;
        let expected = (rounds * each * terms.len()) as u128 * GRAINS;
        ensure!(paid == expected, "{paid} grains were settled, not {expected}");
        Ok((rounds * each * terms.len()) as f64 / seconds)
    }

    async fn settled(&self, terms: &[ChannelTerms]) -> Result<u128> {
        let mut sum = 0;
        for terms in terms {
            let found = self.client.channel(&terms.id()).await?.value;
            sum += found.context("the channel is on the ledger")?.channel.settled.grains();
        }
        Ok(sum)
    }
}

const fn next(number: u8) -> u8 {
    (number + 1) % ACCOUNTS
}

fn transfer(to: u8) -> Transfer {
    Transfer { to: key(to).account(), issuer: issuer(), amount: Amount::from_grains(1) }
}
