//! A ledger in memory: genesis, some accounts, and a block for every transaction.
//!
//! The unit tests beside the transactions use it too (as `crate::world`), so it names the crate by
//! its package name.

#![allow(dead_code, reason = "each user of this file needs another part of it")]

use gristmill_ledger::{
    Body, CheckedTx, Context, Event, Executor, Fees, Genesis, GenesisBalance, GenesisIssuer,
    GenesisValidator, Invalid, Outcome, Params, Record, Rejection, Rules, SignedTx, Transaction, keys,
    record::{Account, Balance, Channel, Lane, Model, Stored},
    scan,
    tx::{ClaimProof, CommitModel, OpenChannel, PublishModel, RegisterForeign, SettleClaim},
};
use gristmill_types::{
    AccountId, Amount, Approval, ChannelTerms, Claim, Digest, LineId, ModelId, QuoteHash, Receipt, SecretKey,
    Signed, StateKey, Usage, Voucher, VoucherHash, decode, encode,
};
use std::{collections::BTreeMap, sync::Arc};

/// The fee of every transaction.
pub(crate) const FEE: u128 = 10;
/// The grace period of the channels.
pub(crate) const GRACE_MS: u64 = 900_000;
/// The royalty of the published model, in basis points.
pub(crate) const ROYALTY_BPS: u16 = 1_000;

pub(crate) fn grains(grains: u128) -> Amount {
    Amount::from_grains(grains)
}

/// Everybody in the tests, by number.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

pub(crate) fn id(number: u8) -> AccountId {
    key(number).account()
}

pub(crate) const ISSUER: u8 = 1;
pub(crate) const OTHER_ISSUER: u8 = 2;
pub(crate) const TREASURY: u8 = 3;
pub(crate) const PAYER: u8 = 4;
pub(crate) const PAYEE: u8 = 5;
pub(crate) const MODELER: u8 = 6;
pub(crate) const STRANGER: u8 = 7;
/// Holds nothing at genesis.
pub(crate) const POOR: u8 = 8;
pub(crate) const VOUCHER_KEY: u8 = 20;
pub(crate) const RECEIPT_KEY: u8 = 21;

/// What everybody but the poor holds of the issuer's credits at genesis.
pub(crate) const START: u128 = 1_000_000_000;

pub(crate) const MODEL: ModelId = ModelId::new([1; 32]);
pub(crate) const FOREIGN: ModelId = ModelId::new([2; 32]);
/// The salt of every publication.
pub(crate) const SALT: Digest = Digest::new([7; 32]);
pub(crate) const QUOTE: QuoteHash = QuoteHash::new([9; 32]);

pub(crate) fn line() -> LineId {
    keys::line_id("acme/speller")
}

pub(crate) fn foreign_line() -> LineId {
    keys::line_id("public/weights")
}

pub(crate) fn genesis() -> Genesis {
    let holders = [ISSUER, TREASURY, PAYER, PAYEE, MODELER, STRANGER];
    Genesis {
        name: "test".into(),
        time_ms: 1_000,
        fee_account: id(TREASURY),
        issuers: [ISSUER, OTHER_ISSUER]
            .map(|number| GenesisIssuer {
                account: id(number),
                name: format!("issuer {number}"),
                cap: grains(1 << 100),
                daily_limit: grains(1 << 99),
            })
            .into(),
        balances: holders
            .map(|number| GenesisBalance { account: id(number), issuer: id(ISSUER), amount: grains(START) })
            .into(),
        validators: vec![GenesisValidator { key: id(30), address: None }],
        params: Params { fees: Fees::flat(grains(FEE)), min_deposit: grains(100), ..Params::default() },
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rules: Arc<Rules>,
    pub(crate) state: BTreeMap<StateKey, Vec<u8>>,
    pub(crate) context: Context,
    /// Whether the whole state is scanned after every block.
    pub(crate) scans: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::from(&genesis())
    }

    pub(crate) fn from(genesis: &Genesis) -> Self {
        genesis.check().unwrap();
        let state = genesis.records().iter().map(|record| (record.key(), encode(record))).collect();
        let context = Context {
            chain: genesis.chain_id(),
            height: 1,
            time_ms: genesis.time_ms + 1,
            clock_ms: 1,
            epoch: 0,
        };
        Self { rules: Arc::new(genesis.rules()), state, context, scans: true }
    }

    /// With a published and a foreign model.
    pub(crate) fn with_models() -> Self {
        let mut world = Self::new();
        world.commit(MODELER, publish("acme/speller", MODEL));
        world.must(MODELER, publish("acme/speller", MODEL));
        world.commit(MODELER, register_foreign("public/weights", FOREIGN));
        world.must(MODELER, register_foreign("public/weights", FOREIGN));
        world
    }

    /// With models and an open channel.
    pub(crate) fn with_channel(deposit: u128) -> (Self, ChannelTerms) {
        let mut world = Self::with_models();
        let terms = world.terms(PAYER, PAYEE);
        world.must(PAYER, OpenChannel { terms, deposit: grains(deposit) });
        (world, terms)
    }

    /// Commits to a publication.
    pub(crate) fn commit(&mut self, publisher: u8, payload: impl Into<Body>) {
        self.must(publisher, CommitModel::to(&id(publisher), &payload.into()));
    }

    pub(crate) fn nonce(&self, sender: &AccountId) -> u64 {
        self.get::<Account>(&keys::account(sender)).map_or(0, |account| account.nonce)
    }

    pub(crate) fn get<T: Stored + Clone>(&self, key: &StateKey) -> Option<T> {
        let record: Record = decode(self.state.get(key)?).unwrap();
        Some(T::of(&record).unwrap().clone())
    }

    pub(crate) fn balance(&self, number: u8) -> u128 {
        self.balance_of(number, ISSUER)
    }

    pub(crate) fn balance_of(&self, number: u8, issuer: u8) -> u128 {
        self.get::<Balance>(&keys::balance(&id(number), &id(issuer))).map_or(0, |b| b.amount.grains())
    }

    pub(crate) fn channel(&self, terms: &ChannelTerms) -> Channel {
        self.get(&keys::channel(&terms.id())).unwrap()
    }

    pub(crate) fn lane(&self, terms: &ChannelTerms, lane: u32) -> Option<Lane> {
        self.get(&keys::lane(&terms.id(), lane))
    }

    pub(crate) fn model(&self, model: &ModelId) -> Option<Model> {
        self.get(&keys::model(model))
    }

    /// Ledger and block time go on.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.context.clock_ms += ms;
        self.context.time_ms += ms;
    }

    /// The terms of a channel that the payer's next transaction opens.
    pub(crate) fn terms(&self, payer: u8, payee: u8) -> ChannelTerms {
        ChannelTerms {
            chain: self.rules.chain,
            payer: id(payer),
            payee: id(payee),
            issuer: id(ISSUER),
            voucher_key: id(VOUCHER_KEY),
            receipt_key: id(RECEIPT_KEY),
            grace_ms: GRACE_MS,
            open_nonce: self.nonce(&id(payer)),
        }
    }

    pub(crate) fn sign(&self, sender: u8, body: impl Into<Body>) -> SignedTx {
        let tx = Transaction {
            chain: self.rules.chain,
            sender: id(sender),
            nonce: self.nonce(&id(sender)),
            fee_issuer: id(ISSUER),
            body: body.into(),
        };
        Signed::sign(tx, &key(sender))
    }

    /// Runs one signed transaction in a block of its own.
    pub(crate) fn run(&mut self, tx: SignedTx) -> Result<Outcome, Invalid> {
        let result = self.run_block(tx);
        self.context.height += 1;
        self.context.time_ms += 1;
        self.context.clock_ms += 1;
        result
    }

    fn run_block(&mut self, tx: SignedTx) -> Result<Outcome, Invalid> {
        let checked = CheckedTx::new(tx, &self.rules)?;
        let mut executor = Executor::new(self.rules.clone(), self.context);
        executor.load(checked.reads().iter().map(|key| (*key, self.state.get(key).cloned())));
        let result = executor.apply(&checked);
        let changes = executor.finish();
        assert!(result.is_ok() || changes.is_empty(), "an invalid transaction changed something");
        for (key, bytes) in changes {
            match bytes {
                Some(bytes) => {
                    assert_eq!(decode::<Record>(&bytes).unwrap().key(), key);
                    self.state.insert(key, bytes)
                }
                None => self.state.remove(&key),
            };
        }
        if self.scans {
            self.check();
        }
        result
    }

    /// Everything adds up.
    pub(crate) fn check(&self) {
        let audit = scan(self.state.values().map(|bytes| decode(bytes).unwrap()));
        assert!(audit.adds_up(), "{audit:#?}");
    }

    /// Runs a payload; it must be valid.
    pub(crate) fn send(&mut self, sender: u8, body: impl Into<Body>) -> Result<Vec<Event>, Rejection> {
        let before = self.nonce(&id(sender));
        let outcome = self.run(self.sign(sender, body)).unwrap();
        assert_eq!((outcome.fee, self.nonce(&id(sender))), (grains(FEE), before + 1));
        assert!(outcome.rejection.is_none() || outcome.events.is_empty());
        outcome.result().map(|()| outcome.events)
    }

    /// Runs a payload that must succeed.
    pub(crate) fn must(&mut self, sender: u8, body: impl Into<Body>) -> Vec<Event> {
        self.send(sender, body).unwrap()
    }

    /// Runs a payload that must fail by itself.
    pub(crate) fn malformed(&mut self, sender: u8, body: impl Into<Body>) -> gristmill_ledger::Malformed {
        match self.run(self.sign(sender, body)) {
            Err(Invalid::Malformed(malformed)) => malformed,
            other => panic!("expected a malformed transaction, found {other:?}"),
        }
    }

    /// Runs a payload that must be rejected, and must then cost the fee and do nothing else.
    pub(crate) fn rejected(&mut self, sender: u8, body: impl Into<Body>) -> Rejection {
        let mut expected = self.state.clone();
        let rejection = self.send(sender, body).unwrap_err();
        for (account, sign) in [(id(sender), -1), (id(TREASURY), 1)] {
            let key = keys::balance(&account, &id(ISSUER));
            let mut balance: Balance = decode_balance(&expected[&key]);
            let amount = i128::try_from(balance.amount.grains()).unwrap() + sign * FEE as i128;
            balance.amount = grains(u128::try_from(amount).unwrap());
            expected.insert(key, encode(&balance.into_record()));
        }
        let account = Account { account: id(sender), nonce: self.nonce(&id(sender)) };
        expected.insert(keys::account(&id(sender)), encode(&account.into_record()));
        assert_eq!(self.state, expected, "a rejected transaction did more than cost its fee");
        rejection
    }
}

fn decode_balance(bytes: &[u8]) -> Balance {
    let record: Record = decode(bytes).unwrap();
    Balance::of(&record).unwrap().clone()
}

pub(crate) fn publish(name: &str, model: ModelId) -> PublishModel {
    PublishModel {
        model,
        name: name.into(),
        licence: "MIT OR Apache-2.0".into(),
        royalty_bps: ROYALTY_BPS,
        parents: vec![],
        tokenizer: Digest::new([3; 32]),
        engine: "llama-f32".into(),
        size_bytes: 4_000_000,
        salt: SALT,
    }
}

pub(crate) fn register_foreign(name: &str, model: ModelId) -> RegisterForeign {
    RegisterForeign {
        model,
        name: name.into(),
        licence: "Apache-2.0".into(),
        tokenizer: Digest::new([3; 32]),
        engine: "llama-q8_0".into(),
        size_bytes: 600_000_000,
        salt: SALT,
    }
}

pub(crate) fn tokens(output_tokens: u64) -> Usage {
    Usage { output_tokens, ..Usage::default() }
}

/// A claim on the published model; its use follows its number.
pub(crate) fn claim(terms: &ChannelTerms, lane: u32, seq: u64, amount: u128) -> Claim {
    Claim {
        chain: terms.chain,
        channel: terms.id(),
        lane,
        seq,
        model: MODEL,
        quote: QUOTE,
        usage: tokens(seq),
        amount: grains(amount),
    }
}

pub(crate) fn voucher(claim: Claim) -> SettleClaim {
    let proof = ClaimProof::Voucher(Signed::sign(Voucher(claim), &key(VOUCHER_KEY)));
    SettleClaim { lines: vec![line()], proof, receipt: None }
}

pub(crate) fn approval(claim: Claim) -> SettleClaim {
    let proof = ClaimProof::Approval(Signed::sign(Approval(claim), &key(VOUCHER_KEY)));
    SettleClaim { lines: vec![line()], proof, receipt: None }
}

/// The payee's word that `spent` was spent on the lane up to `seq`.
pub(crate) fn receipt(terms: &ChannelTerms, lane: u32, seq: u64, spent: u128) -> Box<Signed<Receipt>> {
    let claim = claim(terms, lane, seq, spent);
    let body = Receipt {
        chain: claim.chain,
        channel: claim.channel,
        lane,
        seq,
        voucher: VoucherHash::new([4; 32]),
        model: claim.model,
        quote: claim.quote,
        usage: claim.usage,
        spent: claim.amount,
        request: Digest::new([5; 32]),
        response: Digest::new([6; 32]),
        last: true,
        audit: None,
    };
    Box::new(Signed::sign(body, &key(RECEIPT_KEY)))
}

pub(crate) fn with_receipt(mut item: SettleClaim, receipt: Box<Signed<Receipt>>) -> SettleClaim {
    item.receipt = Some(receipt);
    item
}
