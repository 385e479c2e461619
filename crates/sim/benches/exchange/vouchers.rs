//! What payment by the token costs without a network: vouchers signed, verified and made durable, and
//! what brings them to the ledger. On one core, beside the bare signature.

use crate::report::{Figure, Report, median};
use anyhow::{Context as _, Result, anyhow, ensure};
use futures::{StreamExt as _, stream::FuturesUnordered};
use gristmill_channel::{
    Accepted, Ask, KeyId, LedgerView, Payee, Payer, Plan, ReceiptParts, Received, Spend,
};
use gristmill_ledger::{
    Body, CheckedTx, Executor, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator, Outcome, Params,
    Rules, Transaction, keys,
    tx::{ClaimProof, CommitModel, OpenChannel, PublishModel, Settle, SettleClaim, ShowReceipt},
};
use gristmill_store::{Batch, Store};
use gristmill_types::{
    AccountId, Amount, Approval, ChannelTerms, Claim, DataPolicy, Digest, Limits, ModelId, Prices, PublicKey,
    Quote, QuoteHash, Receipt, SecretKey, Signed, StateKey, Usage, Voucher, encode, sha256,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc, time::Instant};

const GROUP: &str = "vouchers";
/// Streams that are paid at the same time.
const LANES: u32 = 64;
/// Tokens of a window; a voucher comes when half of it is used.
const WINDOW: u32 = 64;
/// Of the rate of the bare signature check.
const AIM: f64 = 0.5;

/// What is measured in a process of its own, which may use one core only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OneCore {
    /// Per second.
    verified: f64,
    vouchers: f64,
    /// Microseconds.
    signature: f64,
    check: f64,
    receipt: f64,
    approvals_alone: f64,
    approvals_of_sixteen: f64,
    voucher_claim: f64,
    shown: f64,
}

pub(crate) fn measure(report: &mut Report, folder: &Path) -> Result<()> {
    let this = std::env::current_exe()?;
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(&this).arg("--one-core").arg(folder);
    if report.quick {
        command.arg("--quick");
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            report.note(format!("without taskset ({error}) the vouchers are measured on more than one core"));
            Command::new(&this)
                .arg("--one-core")
                .arg(folder)
                .args(report.quick.then_some("--quick"))
                .output()?
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}{}", text, String::from_utf8_lossy(&output.stderr));
    let found: OneCore = serde_json::from_str(&text).context("reading the figures")?;
    let figure = Figure::new(GROUP, "one core: vouchers signed, verified and durable", found.vouchers, "/s");
    report.add(figure.beside("verify_strict alone", found.verified).at_least(AIM * found.verified));
    let add = |report: &mut Report, name: &str, micros: f64| {
        report.add(Figure::new(GROUP, name, micros, "µs").beside("one verify_strict", found.check));
    };
    report.add(Figure::new(GROUP, "one core: one signature", found.signature, "µs"));
    add(report, "one core: a receipt signed, checked, approved, the approval checked", found.receipt);
    add(report, "ledger: a settlement of one approval", found.approvals_alone);
    add(report, "ledger: an approval among sixteen", found.approvals_of_sixteen);
    add(report, "ledger: a voucher with its receipt, made pending", found.voucher_claim);
    add(report, "ledger: a receipt shown against a pending claim", found.shown);
    Ok(())
}

/// In the process of its own: prints the figures.
pub(crate) fn one_core(folder: &Path, quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rounds = if quick { 40 } else { 400 };
    let (signature, check) = bare(if quick { 500 } else { 10_000 })?;
    let vouchers = runtime.block_on(durable(folder, rounds))?;
    let receipt = receipts(if quick { 100 } else { 2_000 })?;
    let ledger = Costs::measure(if quick { 20 } else { 200 })?;
    let found = OneCore {
        verified: 1e6 / check,
        vouchers,
        signature,
        check,
        receipt,
        approvals_alone: ledger.alone,
        approvals_of_sixteen: ledger.of_sixteen,
        voucher_claim: ledger.voucher,
        shown: ledger.shown,
    };
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn grains(grains: u128) -> Amount {
    Amount::from_grains(grains)
}

fn terms(genesis: &Genesis) -> ChannelTerms {
    ChannelTerms {
        chain: genesis.chain_id(),
        payer: secret(1).account(),
        payee: secret(2).account(),
        issuer: secret(5).account(),
        voucher_key: secret(3).account(),
        receipt_key: secret(4).account(),
        grace_ms: 900_000,
        open_nonce: 0,
    }
}

fn quote(terms: &ChannelTerms) -> Quote {
    Quote {
        chain: terms.chain,
        processor: terms.payee,
        receipt_key: terms.receipt_key,
        model: MODEL,
        issuer: terms.issuer,
        prices: Prices {
            input_per_mtok: Amount::from_credits(10),
            output_per_mtok: Amount::from_credits(20),
            ..Prices::default()
        },
        tokenizer: Digest::new([0; 32]),
        limits: Limits {
            context_tokens: u32::MAX,
            output_tokens: u32::MAX,
            window_tokens: WINDOW,
            window_ms: 1_000,
        },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: u64::MAX,
        nonce_root: Digest::new([0; 32]),
        engine: "bench".into(),
    }
}

const MODEL: ModelId = ModelId::new([7; 32]);

/// Microseconds of a signature and of its check.
fn bare(count: u64) -> Result<(f64, f64)> {
    let key = secret(3);
    let public = PublicKey::try_from(&key.account()).map_err(|_| anyhow!("a key"))?;
    let claim = |seq| Claim {
        chain: sha256(&[b"chain"]).into(),
        channel: sha256(&[b"channel"]).into(),
        lane: 1,
        seq,
        model: MODEL,
        quote: QuoteHash::new([9; 32]),
        usage: Usage { output_tokens: seq, ..Usage::default() },
        amount: grains(u128::from(seq)),
    };
    let started = Instant::now();
    let signed: Vec<_> = (1..=count).map(|seq| Signed::sign(Voucher(claim(seq)), &key)).collect();
    let signature = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    let started = Instant::now();
    for voucher in &signed {
        voucher.verify_strict(&public).map_err(|_| anyhow!("a voucher does not verify"))?;
    }
    Ok((signature, started.elapsed().as_secs_f64() * 1e6 / count as f64))
}

/// A payer and a payee on one channel, with a request on each lane.
struct Sides {
    payer: Payer,
    payee: Payee,
    quote: Quote,
    lanes: Vec<u32>,
}

impl Sides {
    fn open() -> Result<Self> {
        let terms = terms(&genesis());
        let view = LedgerView::opened(Amount::from_credits(1_000_000_000));
        let (payer, _) = Payer::open(terms, view.clone(), secret(3))?;
        let (payee, _) = Payee::open(terms, view)?;
        Ok(Self { payer, payee, quote: quote(&terms), lanes: Vec::new() })
    }

    /// Starts a request on one more lane.
    fn start(&mut self) -> Result<u32> {
        let signed = Signed::sign(self.quote.clone(), &secret(2));
        let ask = Ask { input_tokens: 20, max_output_tokens: 100_000_000, max_millis: 0 };
        let plan = Plan {
            quote: &signed,
            budget: KeyId(Digest::new([1; 32])),
            room: grains(u128::MAX),
            ask,
            max_amount: grains(u128::MAX),
            ahead: Amount::ZERO,
            now_ms: 1_000,
        };
        let started = self.payer.start(&plan)?;
        if let Some(pending) = started.pending {
            self.payer.confirm(pending);
        }
        let (lane, nothing, body) = (started.lane, Digest::new([0; 32]), sha256(&[b"{}"]));
        let voucher = self.payer.voucher(lane)?;
        let order = self.payer.order(lane, body, nothing, nothing)?;
        if let Accepted::New(pending) = self.payee.accept(&voucher, |_| Some(self.quote.clone()), 0)? {
            self.payee.confirm(pending);
        }
        let pending = self.payee.order(&order, &body, ask, 1_000)?;
        self.payee.confirm(pending);
        self.lanes.push(lane);
        Ok(lane)
    }

    /// Half a window is delivered, so that the next voucher is due.
    fn deliver(&mut self, lane: u32) -> Result<()> {
        let tokens = u64::from(WINDOW / 2);
        ensure!(self.payee.spend(lane, tokens, 0)? == Spend::Paid, "the payee waits for a voucher");
        ensure!(self.payer.delivered(lane, tokens, 0)?, "no voucher is due");
        Ok(())
    }
}

/// Vouchers per second through both machines and the payee's store, sixty-four streams at a time, as the
/// processor writes them: the next voucher of a stream comes when the last one is durable.
async fn durable(folder: &Path, rounds: usize) -> Result<f64> {
    let store = Store::open(folder.join("vouchers.db"), &[])?;
    let mut sides = Sides::open()?;
    for _ in 0..LANES {
        sides.start()?;
    }
    let lanes = sides.lanes.clone();
    let mut waiting = FuturesUnordered::new();
    let (mut ready, mut left) = (lanes, rounds * LANES as usize);
    let count = left;
    let started = Instant::now();
    while left > 0 {
        for lane in std::mem::take(&mut ready) {
            sides.deliver(lane)?;
            let voucher = sides.payer.voucher(lane)?;
            let accepted = sides.payee.accept(&voucher, |_| Some(sides.quote.clone()), 0)?;
            let Accepted::New(pending) = accepted else { anyhow::bail!("a duplicate") };
            let ticket = store.slot().await?.write(Batch::new().append("channel", pending.bytes()));
            waiting.push(async move {
                ticket.await?;
                anyhow::Ok((lane, pending))
            });
        }
        let (lane, pending) = waiting.next().await.context("somebody waits")??;
        sides.payee.confirm(pending);
        left -= 1;
        if waiting.len() < LANES as usize && left >= LANES as usize {
            ready.push(lane);
        }
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Microseconds from the end of an answer to the approval in the payee's hands, without the disk.
fn receipts(count: usize) -> Result<f64> {
    let mut micros = Vec::new();
    for _ in 0..count {
        // A new channel each: a lane is used by one request at a time here.
        let mut sides = Sides::open()?;
        let lane = sides.start()?;
        sides.deliver(lane)?;
        let nothing = Digest::new([0; 32]);
        let parts = ReceiptParts { request: nothing, response: nothing, last: true, audit: None };
        let started = Instant::now();
        let (receipt, pending) = sides.payee.receipt(lane, parts, &secret(4))?;
        sides.payee.confirm(pending);
        let Received::New(pending) = sides.payer.receipt(&receipt)? else { anyhow::bail!("not new") };
        sides.payer.confirm(pending);
        let approval = sides.payer.approve(lane)?;
        let Accepted::New(pending) = sides.payee.approve(&approval)? else { anyhow::bail!("not new") };
        sides.payee.confirm(pending);
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&micros))
}

fn genesis() -> Genesis {
    let issuer = secret(5).account();
    let balance = |key: u8| GenesisBalance {
        account: secret(key).account(),
        issuer,
        amount: Amount::from_credits(1_000_000),
    };
    Genesis {
        name: "bench".into(),
        time_ms: 1,
        fee_account: secret(6).account(),
        issuers: vec![GenesisIssuer {
            account: issuer,
            name: "bench".into(),
            cap: Amount::from_credits(1_000_000_000),
            daily_limit: Amount::from_credits(1),
        }],
        balances: vec![balance(1), balance(2)],
        validators: vec![GenesisValidator { key: secret(6).account(), address: None }],
        params: Params::default(),
    }
}

/// A ledger in memory: what a validator computes for a transaction, without consensus and disk.
struct Ledger {
    rules: Arc<Rules>,
    state: BTreeMap<StateKey, Vec<u8>>,
    height: u64,
    nonces: BTreeMap<AccountId, u64>,
}

impl Ledger {
    fn new() -> Self {
        let genesis = genesis();
        let state = genesis.records().iter().map(|record| (record.key(), encode(record))).collect();
        Self { rules: Arc::new(genesis.rules()), state, height: 0, nonces: BTreeMap::new() }
    }

    /// Checks a transaction, its sender's signature too, runs it, and says how many microseconds that took.
    fn run(&mut self, sender: u8, body: impl Into<Body>) -> Result<f64> {
        let key = secret(sender);
        let nonce = self.nonces.entry(key.account()).or_default();
        let tx = Transaction {
            chain: self.rules.chain,
            sender: key.account(),
            nonce: *nonce,
            fee_issuer: secret(5).account(),
            body: body.into(),
        };
        *nonce += 1;
        self.height += 1;
        let signed = Signed::sign(tx, &key);
        let context = gristmill_ledger::Context {
            chain: self.rules.chain,
            height: self.height,
            time_ms: 1 + self.height,
            clock_ms: self.height,
            epoch: 0,
        };
        let started = Instant::now();
        let public = PublicKey::try_from(&signed.body.sender).map_err(|_| anyhow!("a key"))?;
        signed.verify_strict(&public).map_err(|_| anyhow!("a signature"))?;
        let checked = CheckedTx::new(signed, &self.rules)?;
        let mut executor = Executor::new(Arc::clone(&self.rules), context);
        executor.load(checked.reads().iter().map(|key| (*key, self.state.get(key).cloned())));
        let outcome: Outcome = executor.apply(&checked)?;
        let changes = executor.finish();
        let micros = started.elapsed().as_secs_f64() * 1e6;
        outcome.result()?;
        for (key, bytes) in changes {
            match bytes {
                Some(bytes) => self.state.insert(key, bytes),
                None => self.state.remove(&key),
            };
        }
        Ok(micros)
    }
}

/// Microseconds of what brings vouchers to the ledger.
struct Costs {
    alone: f64,
    of_sixteen: f64,
    voucher: f64,
    shown: f64,
}

impl Costs {
    fn measure(rounds: u64) -> Result<Self> {
        let mut ledger = Ledger::new();
        let terms = terms(&genesis());
        ledger.run(1, OpenChannel { terms, deposit: Amount::from_credits(100_000) })?;
        let salt = Digest::new([8; 32]);
        let publish = PublishModel {
            model: MODEL,
            name: "bench/model".into(),
            licence: "MIT".into(),
            royalty_bps: 1_000,
            parents: Vec::new(),
            tokenizer: Digest::new([0; 32]),
            engine: "bench".into(),
            size_bytes: 1,
            salt,
        };
        ledger.run(2, CommitModel::to(&terms.payee, &publish.clone().into()))?;
        ledger.run(2, publish)?;
        let lines = vec![keys::line_id("bench/model")];
        let claim = |lane, seq: u64| Claim {
            chain: terms.chain,
            channel: terms.id(),
            lane,
            seq,
            model: MODEL,
            quote: QuoteHash::new([9; 32]),
            usage: Usage { output_tokens: seq, ..Usage::default() },
            amount: grains(u128::from(seq) * 1_000),
        };
        let approved = |lane, seq| SettleClaim {
            lines: lines.clone(),
            proof: ClaimProof::Approval(Signed::sign(Approval(claim(lane, seq)), &secret(3))),
            receipt: None,
        };
        let receipt = |lane, seq, less: u128| {
            let claim = claim(lane, seq);
            let body = Receipt {
                chain: claim.chain,
                channel: claim.channel,
                lane,
                seq,
                voucher: Voucher(claim).hash(),
                model: claim.model,
                quote: claim.quote,
                usage: claim.usage,
                spent: grains(claim.amount.grains() - less),
                request: Digest::new([0; 32]),
                response: Digest::new([0; 32]),
                last: true,
                audit: None,
            };
            Box::new(Signed::sign(body, &secret(4)))
        };
        let mut times: [Vec<f64>; 4] = Default::default();
        for seq in 1..=rounds {
            let settle = |claims| Settle { terms, claims, floor: None };
            times[0].push(ledger.run(2, settle(vec![approved(0, seq)]))?);
            let sixteen = (1..17).map(|lane| approved(lane, seq)).collect();
            times[1].push(ledger.run(2, settle(sixteen))? / 16.0);
            let voucher = SettleClaim {
                lines: lines.clone(),
                proof: ClaimProof::Voucher(Signed::sign(Voucher(claim(20, seq)), &secret(3))),
                receipt: Some(receipt(20, seq, 1)),
            };
            times[2].push(ledger.run(2, settle(vec![voucher]))?);
            times[3].push(ledger.run(1, ShowReceipt { terms, receipt: receipt(20, seq, 2) })?);
        }
        let [alone, of_sixteen, voucher, shown] = times.map(|times| median(&times));
        Ok(Self { alone, of_sixteen, voucher, shown })
    }
}
