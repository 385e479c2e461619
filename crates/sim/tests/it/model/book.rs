//! The real ledger in memory: one channel, a block for every transaction, no fees.

use super::real::{grains, receipt_key, voucher_key};
use gristmill_channel::LedgerView;
use gristmill_client::{ChannelRecords, ledger_view};
use gristmill_ledger::{
    Body, CheckedTx, Context, Executor, Fees, Genesis, GenesisBalance, GenesisIssuer, GenesisValidator,
    Params, Record, Rules, Transaction, keys,
    record::{Account, Balance, Channel, Lane, Pool, Stored},
    scan,
    tx::{
        CloseChannel, CommitModel, MaturedLane, OpenChannel, PublishModel, RaiseFloor, RequestClose, Settle,
        SettleClaim, ShowReceipt, TopUp, Withdraw,
    },
};
use gristmill_types::{
    AccountId, Amount, ChannelTerms, Digest, LineId, ModelId, Receipt, SecretKey, Signed, StateKey, decode,
    encode,
};
use std::{collections::BTreeMap, sync::Arc};

/// Everybody, by the number of its key.
const ISSUER: u8 = 1;
pub(super) const PAYER: u8 = 4;
pub(super) const PAYEE: u8 = 5;
const MODELER: u8 = 6;

const START: u128 = 1_000;
/// A tick of the model, in milliseconds of ledger time. The grace is two.
const TICK_MS: u64 = 60_000;
const MODEL: ModelId = ModelId::new([1; 32]);
const NAME: &str = "acme/speller";

pub(super) struct Book {
    rules: Arc<Rules>,
    state: BTreeMap<StateKey, Vec<u8>>,
    context: Context,
}

impl Book {
    pub(super) fn key(number: u8) -> SecretKey {
        SecretKey::from_seed(&[number; 32])
    }

    fn id(number: u8) -> AccountId {
        Self::key(number).account()
    }

    pub(super) const fn model() -> ModelId {
        MODEL
    }

    pub(super) fn line() -> LineId {
        keys::line_id(NAME)
    }

    /// A ledger with a model that gets half of what is paid, and an open channel.
    pub(super) fn with_channel(deposit: u8) -> (Self, ChannelTerms) {
        let amount = Amount::from_grains(START);
        let genesis = Genesis {
            name: "test".into(),
            time_ms: 1_000,
            fee_account: Self::id(ISSUER),
            issuers: vec![GenesisIssuer {
                account: Self::id(ISSUER),
                name: "issuer".into(),
                cap: Amount::from_grains(1 << 100),
                daily_limit: Amount::from_grains(1 << 99),
            }],
            balances: [PAYER, PAYEE, MODELER]
                .map(|number| GenesisBalance { account: Self::id(number), issuer: Self::id(ISSUER), amount })
                .into(),
            validators: vec![GenesisValidator { key: Self::id(30), address: None }],
            params: Params {
                fees: Fees::flat(Amount::ZERO),
                min_grace_ms: 2 * TICK_MS,
                min_deposit: grains(1),
                ..Params::default()
            },
        };
        genesis.check().unwrap();
        let state = genesis.records().iter().map(|record| (record.key(), encode(record))).collect();
        let context = Context { chain: genesis.chain_id(), height: 1, time_ms: 2_000, clock_ms: 0, epoch: 0 };
        let mut book = Self { rules: Arc::new(genesis.rules()), state, context };
        let publish = PublishModel {
            model: MODEL,
            name: NAME.into(),
            licence: "MIT".into(),
            royalty_bps: 5_000,
            parents: Vec::new(),
            tokenizer: Digest::new([3; 32]),
            engine: "llama-f32".into(),
            size_bytes: 1,
            salt: Digest::new([4; 32]),
        };
        assert!(book.run(MODELER, CommitModel::to(&Self::id(MODELER), &publish.clone().into())));
        assert!(book.run(MODELER, publish));
        let terms = ChannelTerms {
            chain: book.rules.chain,
            payer: Self::id(PAYER),
            payee: Self::id(PAYEE),
            issuer: Self::id(ISSUER),
            voucher_key: voucher_key().account(),
            receipt_key: receipt_key().account(),
            grace_ms: 2 * TICK_MS,
            open_nonce: 0,
        };
        assert!(book.run(PAYER, OpenChannel { terms, deposit: grains(deposit) }));
        (book, terms)
    }

    /// Runs one transaction in a block of its own; false if it was refused.
    fn run(&mut self, sender: u8, body: impl Into<Body>) -> bool {
        let key = keys::account(&Self::id(sender));
        let nonce = self.get::<Account>(&key).map_or(0, |account| account.nonce);
        let tx = Transaction {
            chain: self.rules.chain,
            sender: Self::id(sender),
            nonce,
            fee_issuer: Self::id(ISSUER),
            body: body.into(),
        };
        self.context.height += 1;
        self.context.time_ms += 1;
        let Ok(checked) = CheckedTx::new(Signed::sign(tx, &Self::key(sender)), &self.rules) else {
            return false;
        };
        let mut executor = Executor::new(Arc::clone(&self.rules), self.context);
        executor.load(checked.reads().iter().map(|key| (*key, self.state.get(key).cloned())));
        let outcome = executor.apply(&checked).expect("a transaction that can be in a block");
        for (key, bytes) in executor.finish() {
            match bytes {
                Some(bytes) => drop(self.state.insert(key, bytes)),
                None => drop(self.state.remove(&key)),
            }
        }
        outcome.rejection.is_none()
    }

    fn get<T: Stored + Clone>(&self, key: &StateKey) -> Option<T> {
        let record: Record = decode(self.state.get(key)?).unwrap();
        T::of(&record).cloned()
    }

    pub(super) fn tick(&mut self) {
        self.context.clock_ms += TICK_MS;
        self.context.time_ms += TICK_MS;
    }

    pub(super) const fn clock_ms(&self) -> u64 {
        self.context.clock_ms
    }

    /// The ticks until a deadline.
    pub(super) fn left(&self, deadline_ms: u64) -> u8 {
        u8::try_from(deadline_ms.saturating_sub(self.context.clock_ms).div_ceil(TICK_MS)).unwrap()
    }

    pub(super) fn channel(&self, terms: &ChannelTerms) -> Channel {
        self.get(&keys::channel(&terms.id())).unwrap()
    }

    pub(super) fn lane(&self, terms: &ChannelTerms, lane: u32) -> Option<Lane> {
        self.get(&keys::lane(&terms.id(), lane))
    }

    /// What somebody holds more than at the start.
    pub(super) fn gained(&self, number: u8) -> i128 {
        let balance = self.get::<Balance>(&keys::balance(&Self::id(number), &Self::id(ISSUER)));
        balance.map_or(0, |balance| balance.amount.grains() as i128) - START as i128
    }

    /// What waits for the model's holders.
    pub(super) fn pool(&self) -> u128 {
        let pool = self.get::<Pool>(&keys::pool(&Self::line(), &Self::id(ISSUER)));
        pool.map_or(0, |pool| pool.balance.grains())
    }

    /// Whether the whole state adds up.
    pub(super) fn adds_up(&self) -> bool {
        scan(self.state.values().map(|bytes| decode(bytes).unwrap())).adds_up()
    }

    /// The channel as both sides see it.
    pub(super) fn view(&self, terms: &ChannelTerms) -> LedgerView {
        let channel = self.channel(terms);
        let lanes = channel.open_lanes().filter_map(|lane| self.lane(terms, lane)).collect();
        ledger_view(&ChannelRecords { channel, lanes })
    }

    pub(super) fn settle(
        &mut self,
        sender: u8,
        terms: &ChannelTerms,
        claims: Vec<SettleClaim>,
        floor: Option<u32>,
    ) -> bool {
        let below = |to: u32| self.channel(terms).open_lanes().filter(|lane| *lane < to).collect();
        let floor = floor.map(|to| RaiseFloor { to, remove: below(to) });
        self.run(sender, Settle { terms: *terms, claims, floor })
    }

    pub(super) fn show(&mut self, terms: &ChannelTerms, receipt: Signed<Receipt>) -> bool {
        self.run(PAYER, ShowReceipt { terms: *terms, receipt: Box::new(receipt) })
    }

    pub(super) fn withdraw(&mut self, terms: &ChannelTerms, lane: u32) -> bool {
        let lanes = vec![MaturedLane { lane, lines: vec![Self::line()] }];
        self.run(PAYER, Withdraw { terms: *terms, lanes })
    }

    pub(super) fn request_close(&mut self, terms: &ChannelTerms) -> bool {
        self.run(PAYER, RequestClose { terms: *terms })
    }

    pub(super) fn close(&mut self, sender: u8, terms: &ChannelTerms) -> bool {
        let lanes = self.channel(terms).open_lanes().collect();
        self.run(sender, CloseChannel { terms: *terms, lanes })
    }

    pub(super) fn top_up(&mut self, terms: &ChannelTerms, more: u8) -> bool {
        self.run(PAYER, TopUp { terms: *terms, amount: grains(more) })
    }
}
