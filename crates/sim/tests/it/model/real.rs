//! The real machines, stepped along with the model: `gristmill_channel`'s payer and payee with their
//! logs, and `gristmill_ledger`'s executor.

use super::{
    Bounds, State,
    book::{Book, PAYEE, PAYER},
    facts::*,
    payer::Copy,
    steps::Step,
};
use gristmill_channel::{
    Accepted, Ask, ChannelCopy, KeyId, LaneCopy, LedgerView, Payee, PayeeRecord, Payer, PayerError,
    PayerRecord, Pending, Plan, ReceiptParts, Received, Spend,
};
use gristmill_ledger::tx::{ClaimProof, SettleClaim};
use gristmill_types::{
    Amount, ChannelTerms, Claim, DataPolicy, Digest, Limits, Order as SignedOrder, Prices, Quote, SecretKey,
    Signed, Usage, sha256,
};
use std::collections::BTreeMap;

type SignedVoucher = Signed<gristmill_types::Voucher>;
type SignedReceipt = Signed<gristmill_types::Receipt>;
type SignedApproval = Signed<gristmill_types::Approval>;

const NOW_MS: u64 = 1_000;
const VALID_UNTIL_MS: u64 = 1_000_000;
const BODY: &[u8] = b"{}";
const NOTHING: Digest = Digest::new([0; 32]);

pub(super) fn grains(grains: u8) -> Amount {
    Amount::from_grains(grains.into())
}

pub(super) fn usage(of: Use) -> Usage {
    Usage {
        input_tokens: of.requests.into(),
        output_tokens: of.tokens.into(),
        millis: 0,
        requests: of.requests.into(),
    }
}

pub(super) fn voucher_key() -> SecretKey {
    SecretKey::from_seed(&[20; 32])
}

pub(super) fn receipt_key() -> SecretKey {
    SecretKey::from_seed(&[21; 32])
}

/// A machine with its log, and records that are not in it yet.
pub(super) struct Side<M, R> {
    pub(super) machine: M,
    log: Vec<Vec<u8>>,
    queue: Vec<Pending<R>>,
    backup: usize,
}

/// Both sides and the ledger.
pub(super) struct Real {
    pub(super) book: Book,
    pub(super) terms: ChannelTerms,
    quote: Signed<Quote>,
    top_up: u8,
    pub(super) payer: Option<Side<Payer, PayerRecord>>,
    pub(super) payee: Option<Side<Payee, PayeeRecord>>,
    /// The real numbers of the model's, and what was signed.
    numbers: [BTreeMap<u8, u64>; LANES],
    vouchers: BTreeMap<(usize, Voucher), SignedVoucher>,
    orders: BTreeMap<(usize, Voucher), Signed<SignedOrder>>,
    receipts: BTreeMap<(usize, Receipt), SignedReceipt>,
    approvals: BTreeMap<(usize, Approval), SignedApproval>,
}

impl<M, R: borsh::BorshSerialize> Side<M, R> {
    fn new(machine: M, first: &Pending<R>) -> Self {
        Self { machine, log: vec![first.bytes()], queue: Vec::new(), backup: 0 }
    }

    /// The records of one change; none are waited for.
    fn queue(&mut self, records: impl IntoIterator<Item = Pending<R>>) -> bool {
        let before = self.queue.len();
        self.queue.extend(records);
        self.queue.len() > before
    }

    fn write(&mut self, confirm: impl Fn(&mut M, Pending<R>)) {
        for pending in std::mem::take(&mut self.queue) {
            self.log.push(pending.bytes());
            confirm(&mut self.machine, pending);
        }
    }
}

impl Real {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let (book, terms) = Book::with_channel(bounds.deposit);
        let view = LedgerView::opened(grains(bounds.deposit));
        let payer = bounds.honest_payer.then(|| {
            let (machine, first) = Payer::open(terms, view.clone(), voucher_key()).unwrap();
            Side::new(machine, &first)
        });
        let payee = bounds.honest_payee.then(|| {
            let (machine, first) = Payee::open(terms, view.clone()).unwrap();
            Side::new(machine, &first)
        });
        let quote = quote(&terms);
        let quote = Signed::sign(quote, &Book::key(PAYEE));
        Self {
            book,
            terms,
            quote,
            top_up: bounds.top_up,
            payer,
            payee,
            numbers: Default::default(),
            vouchers: BTreeMap::new(),
            orders: BTreeMap::new(),
            receipts: BTreeMap::new(),
            approvals: BTreeMap::new(),
        }
    }

    /// Does what the step says; false if it was refused or changed nothing. `before` is the model before
    /// it, and `after` where the model takes it.
    pub(super) fn step(&mut self, step: &Step, before: &State, after: Option<&State>) -> bool {
        match step {
            Step::Claim(..)
            | Step::Show(..)
            | Step::Withdraw(_)
            | Step::RaiseFloor(_)
            | Step::RequestClose
            | Step::Close(_)
            | Step::TopUp
            | Step::Tick => {
                let done = self.step_ledger(step, before);
                self.observe();
                done
            }
            Step::Accept(..)
            | Step::Spend(_)
            | Step::Receipt(..)
            | Step::TakeApproval(..)
            | Step::PayeeDisk
            | Step::PayeeCrash
            | Step::PayeeBackup
            | Step::PayeeRestore
            | Step::Retire => self.step_payee(step, before),
            _ => self.step_payer(step, before, after),
        }
    }

    fn step_ledger(&mut self, step: &Step, before: &State) -> bool {
        let terms = self.terms;
        match step {
            Step::Claim(lane, claim, by_payee) => {
                let item = self.claim(*lane, claim, before);
                self.book.settle(if *by_payee { PAYEE } else { PAYER }, &terms, vec![item], None)
            }
            Step::Show(lane, receipt) => {
                let receipt = self.receipt_of(*lane, receipt, before);
                self.book.show(&terms, receipt)
            }
            Step::Withdraw(lane) => self.book.withdraw(&terms, *lane as u32),
            Step::RaiseFloor(to) => self.book.settle(PAYEE, &terms, vec![], Some(u32::from(*to))),
            Step::RequestClose => self.book.request_close(&terms),
            Step::Close(by_payee) => self.book.close(if *by_payee { PAYEE } else { PAYER }, &terms),
            Step::TopUp => self.book.top_up(&terms, self.top_up),
            Step::Tick => {
                self.book.tick();
                true
            }
            other => panic!("{other:?} is not the ledger's"),
        }
    }

    fn claim(&mut self, lane: usize, claim: &super::ledger::Claim, before: &State) -> SettleClaim {
        use super::ledger::Claim::{Approval, Voucher};
        let (Voucher(_, receipt) | Approval(_, receipt)) = claim;
        let receipt = receipt.map(|receipt| Box::new(self.receipt_of(lane, &receipt, before)));
        let proof = match claim {
            Voucher(voucher, _) => ClaimProof::Voucher(self.voucher_of(lane, voucher, before)),
            Approval(approval, _) => ClaimProof::Approval(self.approval_of(lane, approval, before)),
        };
        SettleClaim { lines: vec![Book::line()], proof, receipt }
    }

    fn step_payer(&mut self, step: &Step, before: &State, after: Option<&State>) -> bool {
        let confirm = Payer::confirm;
        match step {
            Step::Start => {
                let plan = Plan {
                    quote: &self.quote,
                    budget: KeyId(NOTHING),
                    room: grains(u8::MAX),
                    ask: ask(),
                    max_amount: grains(u8::MAX),
                    ahead: Amount::ZERO,
                    now_ms: NOW_MS,
                };
                let side = self.payer.as_mut().unwrap();
                let started = side.machine.start(&plan);
                started.map(|started| side.queue(started.pending)).is_ok()
            }
            Step::Sign(lane) => {
                let machine = &mut self.payer.as_mut().unwrap().machine;
                let Ok(voucher) = machine.voucher(*lane as u32) else { return false };
                let Some(after) = after else { return true };
                let signed =
                    *after.payer.as_ref().unwrap().live[*lane].as_ref().unwrap().recent.last().unwrap();
                if after.wire[*lane].orders.iter().any(|order| order.voucher == signed) {
                    let order = machine.order(*lane as u32, sha256(&[BODY]), NOTHING, NOTHING).unwrap();
                    let most =
                        after.wire[*lane].orders.iter().find(|order| order.voucher == signed).unwrap().most;
                    assert_eq!(order.body.max_amount, grains(most));
                    self.orders.insert((*lane, signed), order);
                }
                self.note(*lane, signed, voucher);
                true
            }
            Step::Demand(lane) => {
                let request =
                    before.payer.as_ref().unwrap().live[*lane].as_ref().unwrap().request.as_ref().unwrap();
                let due = request.base.plus(1, (request.got + 1).min(ANSWER)).cost();
                let machine = &mut self.payer.as_mut().unwrap().machine;
                machine.voucher_for(*lane as u32, grains(due + 1)).is_ok()
            }
            // The machine is not told; the shell concedes what it would refuse otherwise.
            Step::BreakOff(_) => true,
            Step::Doubt(lane) => self.payer.as_mut().unwrap().machine.doubt(*lane as u32).is_ok(),
            Step::Take(lane, receipt) => {
                let signed = self.receipt_of(*lane, receipt, before);
                let live = before.payer.as_ref().unwrap().live[*lane].as_ref();
                let broken =
                    live.and_then(|live| live.request.as_ref()).is_some_and(|request| request.broken);
                let side = self.payer.as_mut().unwrap();
                let taken = match side.machine.receipt(&signed) {
                    Err(PayerError::Overcounted { .. }) if broken => side.machine.concede(&signed),
                    taken => taken,
                };
                match taken {
                    Ok(Received::New(pending) | Received::Evidence(pending)) => side.queue([pending]),
                    Ok(Received::Duplicate) | Err(_) => false,
                }
            }
            Step::Approve(lane) => {
                let approval = self.payer.as_ref().unwrap().machine.approve(*lane as u32).unwrap();
                let body = Approval::of(
                    before.payer.as_ref().unwrap().mem[*lane].as_ref().unwrap().receipt.as_ref().unwrap(),
                );
                assert_eq!(approval.body.0.amount, grains(body.amount));
                self.approvals.insert((*lane, body), approval);
                true
            }
            Step::Reconcile(copy) => {
                let copy = self.copy_of(copy, before);
                let side = self.payer.as_mut().unwrap();
                let result = side.machine.reconcile(&copy);
                side.queue(result.pending)
            }
            Step::PayerDisk => {
                self.payer.as_mut().unwrap().write(confirm);
                true
            }
            Step::PayerCrash | Step::PayerRestore => {
                let side = self.payer.as_mut().unwrap();
                side.queue.clear();
                if *step == Step::PayerRestore {
                    side.log.truncate(side.backup);
                }
                side.machine = Payer::replay_bytes(&side.log, voucher_key()).unwrap();
                assert_eq!(side.machine.verify(), Ok(()));
                self.observe();
                true
            }
            Step::PayerBackup => {
                let side = self.payer.as_mut().unwrap();
                side.backup = side.log.len();
                true
            }
            Step::Arrive(lane) => {
                // It counts, whether or not a further voucher can be signed.
                self.payer.as_mut().unwrap().machine.delivered(*lane as u32, 1, 0).ok();
                true
            }
            other => panic!("{other:?} is not the payer's"),
        }
    }

    fn step_payee(&mut self, step: &Step, before: &State) -> bool {
        match step {
            Step::Accept(lane, voucher, order) => {
                let signed = self.voucher_of(*lane, voucher, before);
                let order = order.map(|most| self.order_of(*lane, voucher, &signed, most));
                self.accept(&signed, order.as_ref())
            }
            Step::Spend(lane) => {
                let machine = &mut self.payee.as_mut().unwrap().machine;
                machine.spend(*lane as u32, 1, 0) == Ok(Spend::Paid)
            }
            Step::Receipt(lane, last) => {
                let parts = ReceiptParts { request: NOTHING, response: NOTHING, last: *last, audit: None };
                let side = self.payee.as_mut().unwrap();
                let (signed, pending) = side.machine.receipt(*lane as u32, parts, &receipt_key()).unwrap();
                side.queue([pending]);
                let payee = before.payee.as_ref().unwrap();
                let voucher = payee.mem.lanes[*lane].as_ref().unwrap().voucher;
                let used = payee.live[*lane].as_ref().unwrap().used;
                self.receipts.insert((*lane, Receipt { voucher, usage: used, last: *last }), signed);
                true
            }
            Step::TakeApproval(lane, approval) => {
                let signed = self.approval_of(*lane, approval, before);
                let side = self.payee.as_mut().unwrap();
                match side.machine.approve(&signed) {
                    Ok(Accepted::New(pending)) => side.queue([pending]),
                    Ok(Accepted::Duplicate) | Err(_) => false,
                }
            }
            Step::PayeeDisk => {
                self.payee.as_mut().unwrap().write(Payee::confirm);
                true
            }
            Step::PayeeCrash | Step::PayeeRestore => {
                let side = self.payee.as_mut().unwrap();
                side.queue.clear();
                if *step == Step::PayeeRestore {
                    side.log.truncate(side.backup);
                }
                side.machine = Payee::replay_bytes(&side.log).unwrap();
                assert_eq!(side.machine.verify(), Ok(()));
                self.observe();
                true
            }
            Step::PayeeBackup => {
                let side = self.payee.as_mut().unwrap();
                side.backup = side.log.len();
                true
            }
            Step::Retire => {
                let side = self.payee.as_mut().unwrap();
                let pending = side.machine.retire(VALID_UNTIL_MS + 1).unwrap();
                side.queue(pending)
            }
            other => panic!("{other:?} is not the payee's"),
        }
    }

    /// As the processor does: who it is from before anything, then the voucher, then the order.
    fn accept(&mut self, voucher: &SignedVoucher, order: Option<&Signed<SignedOrder>>) -> bool {
        let quote = self.quote.body.clone();
        let clock_ms = self.book.clock_ms();
        let side = self.payee.as_mut().unwrap();
        let machine = &mut side.machine;
        let Some(order) = order else {
            return match machine.accept(voucher, |_| Some(quote), clock_ms) {
                Ok(Accepted::New(pending)) => side.queue([pending]),
                Ok(Accepted::Duplicate) | Err(_) => false,
            };
        };
        let Ok(authentic) = machine.authenticate(voucher, order, &sha256(&[BODY])) else { return false };
        let new = match machine.accept_authentic(&authentic, |_| Some(quote), clock_ms) {
            Ok(Accepted::New(pending)) => Some(pending),
            Ok(Accepted::Duplicate) => None,
            Err(_) => return false,
        };
        let ordered = machine.order_authentic(&authentic, ask(), NOW_MS).ok();
        side.queue(new.into_iter().chain(ordered))
    }

    /// Both sides see the ledger's last block.
    fn observe(&mut self) {
        let view = self.book.view(&self.terms);
        if let Some(side) = &mut self.payer {
            let (_, pending) = side.machine.observe(view.clone()).unwrap();
            let waits = !side.queue.is_empty();
            side.queue(pending);
            if !waits {
                side.write(Payer::confirm);
            }
        }
        if let Some(side) = &mut self.payee {
            let pending = side.machine.observe(view).unwrap();
            let waits = !side.queue.is_empty();
            side.queue(pending);
            if !waits {
                side.write(Payee::confirm);
            }
        }
    }

    /// Remembers a voucher. Numbers keep the model's order.
    fn note(&mut self, lane: usize, of: Voucher, signed: SignedVoucher) {
        let claim = signed.body.0;
        assert_eq!((claim.usage, claim.amount), (usage(of.usage), grains(of.amount)));
        let known = self.numbers[lane].insert(of.seq, claim.seq);
        assert!(known.is_none_or(|known| known == claim.seq), "number {} of the model is one number", of.seq);
        assert!(self.numbers[lane].values().is_sorted_by(|a, b| a < b), "the numbers' order is the model's");
        self.vouchers.insert((lane, of), signed);
    }

    pub(super) fn number(&self, lane: usize, seq: u8) -> u64 {
        match self.payer {
            Some(_) => self.numbers[lane].get(&seq).copied().unwrap_or_default(),
            // A dishonest payer numbers as it likes.
            None => seq.into(),
        }
    }

    fn claim_body(&self, lane: usize, seq: u8, of: Use, amount: u8) -> Claim {
        Claim {
            chain: self.terms.chain,
            channel: self.terms.id(),
            lane: lane as u32,
            seq: self.number(lane, seq),
            model: self.quote.body.model,
            quote: self.quote.body.hash(),
            usage: usage(of),
            amount: grains(amount),
        }
    }

    /// What the payer signed; or what it would have to sign, by somebody who cannot.
    fn voucher_of(&self, lane: usize, of: &Voucher, before: &State) -> SignedVoucher {
        if let Some(signed) = self.vouchers.get(&(lane, *of)) {
            return signed.clone();
        }
        let body = gristmill_types::Voucher(self.claim_body(lane, of.seq, of.usage, of.amount));
        let forged = before.payer.is_some();
        Signed::sign(body, &if forged { receipt_key() } else { voucher_key() })
    }

    fn order_of(&self, lane: usize, of: &Voucher, signed: &SignedVoucher, most: u8) -> Signed<SignedOrder> {
        if let Some(order) = self.orders.get(&(lane, *of)) {
            return order.clone();
        }
        let claim = signed.body.0;
        let order = SignedOrder {
            chain: claim.chain,
            channel: claim.channel,
            lane: claim.lane,
            voucher: signed.body.hash(),
            body: sha256(&[BODY]),
            consumer_nonce: NOTHING,
            salt: NOTHING,
            max_amount: grains(most),
        };
        Signed::sign(order, &voucher_key())
    }

    fn receipt_of(&self, lane: usize, of: &Receipt, before: &State) -> SignedReceipt {
        if let Some(signed) = self.receipts.get(&(lane, *of)) {
            return signed.clone();
        }
        assert!(before.payee.is_none(), "an honest payee signed no {of:?}");
        let voucher = self.voucher_of(lane, &of.voucher, before);
        let claim = voucher.body.0;
        let receipt = gristmill_types::Receipt {
            chain: claim.chain,
            channel: claim.channel,
            lane: claim.lane,
            seq: claim.seq,
            voucher: voucher.body.hash(),
            model: claim.model,
            quote: claim.quote,
            usage: usage(of.usage),
            spent: grains(of.spent()),
            request: NOTHING,
            response: NOTHING,
            last: of.last,
            audit: None,
        };
        Signed::sign(receipt, &receipt_key())
    }

    fn approval_of(&self, lane: usize, of: &Approval, before: &State) -> SignedApproval {
        if let Some(signed) = self.approvals.get(&(lane, *of)) {
            return signed.clone();
        }
        assert!(before.payer.is_none(), "an honest payer signed no {of:?}");
        let body = gristmill_types::Approval(self.claim_body(lane, of.seq, of.usage, of.amount));
        Signed::sign(body, &voucher_key())
    }

    fn copy_of(&self, copy: &[Option<Copy>; LANES], before: &State) -> ChannelCopy {
        if let Some(side) = &self.payee {
            return side.machine.copy();
        }
        let lanes = copy.iter().enumerate().filter_map(|(lane, of)| {
            let of = of.as_ref()?;
            Some(LaneCopy {
                lane: lane as u32,
                voucher: self.voucher_of(lane, &of.voucher, before),
                receipt: of.receipt.map(|receipt| self.receipt_of(lane, &receipt, before)),
                approval: of.approval.map(|approval| self.approval_of(lane, &approval, before)),
            })
        });
        ChannelCopy { lanes: lanes.collect() }
    }
}

fn ask() -> Ask {
    Ask { input_tokens: 1, max_output_tokens: ANSWER.into(), max_millis: 0 }
}

fn quote(terms: &ChannelTerms) -> Quote {
    Quote {
        chain: terms.chain,
        processor: terms.payee,
        receipt_key: terms.receipt_key,
        model: Book::model(),
        issuer: terms.issuer,
        prices: Prices {
            input_per_mtok: Amount::from_grains(u128::from(PROMPT) * 1_000_000),
            output_per_mtok: Amount::from_grains(1_000_000),
            per_msec: Amount::ZERO,
            per_mreq: Amount::ZERO,
        },
        tokenizer: NOTHING,
        limits: Limits { context_tokens: 100, output_tokens: 100, window_tokens: 1, window_ms: 1_000 },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: VALID_UNTIL_MS,
        nonce_root: NOTHING,
        engine: "test".into(),
    }
}
