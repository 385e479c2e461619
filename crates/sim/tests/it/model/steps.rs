//! What can happen, and what it comes to.

use super::{Bounds, State, Truth, facts::*, ledger::Claim, payee::Payee, payer::Copy};

/// One step of a side, of the network, or of the ledger's clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    // The payer.
    Start,
    Sign(usize),
    /// The payee asks for more than is due.
    Demand(usize),
    BreakOff(usize),
    Doubt(usize),
    Take(usize, Receipt),
    Approve(usize),
    Reconcile([Option<Copy>; LANES]),
    PayerDisk,
    PayerCrash,
    PayerBackup,
    PayerRestore,
    // The network.
    Arrive(usize),
    // The payee.
    Accept(usize, Voucher, Option<u8>),
    Spend(usize),
    Receipt(usize, bool),
    TakeApproval(usize, Approval),
    PayeeDisk,
    PayeeCrash,
    PayeeBackup,
    PayeeRestore,
    Retire,
    // The ledger; true where the payee sends it.
    Claim(usize, Claim, bool),
    Show(usize, Receipt),
    Withdraw(usize),
    RaiseFloor(u8),
    RequestClose,
    Close(bool),
    TopUp,
    Tick,
}

impl Bounds {
    /// What a step comes to; `None` if it is refused or changes nothing.
    pub(super) fn step(&self, before: &State, step: &Step) -> Option<State> {
        let mut state = before.clone();
        let without = self.without;
        let on_ledger = match step {
            Step::Claim(lane, claim, by_payee) => {
                state.ledger.claim(without, *lane, claim, *by_payee)?;
                state.judge_claim(self, *lane, claim);
                true
            }
            Step::Show(lane, receipt) => state.ledger.show(without, *lane, receipt).map(|()| true)?,
            Step::Withdraw(lane) => state.ledger.withdraw(without, *lane).map(|()| true)?,
            Step::RaiseFloor(to) => state.ledger.raise(*to).map(|()| true)?,
            Step::RequestClose => state.ledger.request_close().map(|()| true)?,
            Step::Close(by_payee) => state.ledger.close(without, *by_payee).map(|()| true)?,
            Step::TopUp => {
                state.topped += 1;
                state.ledger.top_up(self.top_up).map(|()| true)?
            }
            Step::Tick => {
                state.judge_deadlines(self);
                state.ledger.tick();
                true
            }
            _ => false,
        };
        if on_ledger {
            state.observe();
        } else {
            self.step_off_ledger(&mut state, step)?;
        }
        (state != *before).then_some(state)
    }

    fn step_off_ledger(&self, state: &mut State, step: &Step) -> Option<()> {
        match step {
            Step::Accept(..)
            | Step::Spend(_)
            | Step::Receipt(..)
            | Step::TakeApproval(..)
            | Step::PayeeDisk
            | Step::PayeeCrash
            | Step::PayeeBackup
            | Step::PayeeRestore
            | Step::Retire => self.step_payee(state, step),
            _ => self.step_payer(state, step),
        }
    }

    fn step_payer(&self, state: &mut State, step: &Step) -> Option<()> {
        let without = self.without;
        let State { payer, ledger, wire, truth, payee, .. } = state;
        let payer = payer.as_mut()?;
        match step {
            Step::Start => {
                payer.start(ledger).filter(|lane| *lane < self.lanes)?;
                state.started += 1;
            }
            Step::Sign(lane) | Step::Demand(lane) => {
                let asked = match step {
                    Step::Demand(_) => {
                        let request = payer.live[*lane].as_ref()?.request.as_ref()?;
                        Some(request.base.plus(1, (request.got + 1).min(ANSWER)).cost() + 1)
                    }
                    _ => None,
                };
                let (voucher, order) = payer.sign(without, *lane, asked)?;
                truth[*lane].unsure += u8::from(order.is_some());
                let durable = payer.disk[*lane].as_ref().map_or(0, |of| of.reserved);
                state.oversigned |= voucher.amount > durable;
                insert(&mut wire[*lane].vouchers, voucher);
                if let Some(order) = order {
                    insert(&mut wire[*lane].orders, order);
                }
            }
            Step::BreakOff(lane) => payer.break_off(*lane)?,
            Step::Doubt(lane) => payer.doubt(*lane)?,
            Step::Take(lane, receipt) => payer.take(without, *lane, receipt)?,
            Step::Approve(lane) => insert(&mut wire[*lane].approvals, payer.approval(*lane)?),
            Step::Reconcile(copy) => {
                // Believed as far as the payer's own signature goes.
                let forged = |(lane, of): (usize, &Option<Copy>)| {
                    of.as_ref().is_some_and(|of| !wire[lane].vouchers.contains(&of.voucher))
                };
                if without != Some(Rule::OwnSignature) && copy.iter().enumerate().any(forged) {
                    return None;
                }
                payer.reconcile(without, copy, ledger.floor)?;
            }
            Step::PayerDisk => {
                for lane in payer.flush()? {
                    truth[lane].unsure -= 1;
                }
            }
            Step::PayerCrash => {
                payer.crash();
                payer.observe(ledger);
            }
            Step::PayerBackup => {
                payer.backup = payer.writes.is_empty().then(|| Box::new(payer.disk.clone()));
                payer.backup.as_ref()?;
            }
            Step::PayerRestore => {
                payer.disk = *payer.backup.take()?;
                payer.crash();
                payer.observe(ledger);
                state.restored = true;
            }
            Step::Arrive(lane) => {
                let request = payer.live[*lane].as_ref()?.request.as_ref()?;
                if payee.is_some() {
                    let (first, sent) = wire[*lane].stream?;
                    if request.first != Some(first) || request.got >= sent {
                        return None;
                    }
                }
                let first = payer.arrive(*lane)?;
                let of = &mut truth[*lane].arrived;
                *of = of.plus(u8::from(first), 1);
            }
            _ => return None,
        }
        Some(())
    }

    fn step_payee(&self, state: &mut State, step: &Step) -> Option<()> {
        let without = self.without;
        let State { payee, ledger, wire, truth, .. } = state;
        let payee = payee.as_mut()?;
        match step {
            Step::Accept(lane, voucher, order) => {
                let before = payee.mem.lanes[*lane].as_ref().map(|of| of.voucher);
                let begun = payee.accept(without, ledger, *lane, voucher, *order)?;
                truth[*lane].accepted += u8::from(before != Some(*voucher));
                if begun {
                    truth[*lane].prefills += 1;
                    wire[*lane].stream = state.payer.as_ref().map(|_| (voucher.seq, 0));
                }
            }
            Step::Spend(lane) => {
                let first = payee.spend(without, *lane)?;
                let of = &mut truth[*lane].delivered;
                *of = of.plus(u8::from(first), 1);
                if let Some((_, sent)) = &mut wire[*lane].stream {
                    *sent += 1;
                }
            }
            Step::Receipt(lane, last) => payee.receipt(*lane, *last)?,
            Step::TakeApproval(lane, approval) => payee.approve(*lane, approval)?,
            Step::PayeeDisk => {
                for (lane, receipt) in payee.flush()? {
                    insert(&mut wire[lane].receipts, receipt);
                }
            }
            Step::PayeeCrash | Step::PayeeRestore => {
                let used = |payee: &Payee, lane: usize| {
                    payee.live[lane].as_ref().map(|live| live.used).unwrap_or_default().cost()
                };
                let before: [u8; LANES] = std::array::from_fn(|lane| used(payee, lane));
                if *step == Step::PayeeRestore {
                    payee.disk = *payee.backup.take()?;
                    state.restored = true;
                }
                payee.crash();
                payee.observe(ledger);
                for (lane, before) in before.into_iter().enumerate() {
                    truth[lane].lost += before.saturating_sub(used(payee, lane));
                    wire[lane].stream = None;
                }
            }
            Step::PayeeBackup => {
                payee.backup = payee.writes.is_empty().then(|| Box::new(payee.disk.clone()));
                payee.backup.as_ref()?;
            }
            Step::Retire => payee.retire(ledger)?,
            _ => return None,
        }
        Some(())
    }
}

/// Adds to a sorted set.
fn insert<T: Ord>(set: &mut Vec<T>, item: T) {
    if let Err(at) = set.binary_search(&item) {
        set.insert(at, item);
    }
}

impl State {
    fn observe(&mut self) {
        if let Some(payer) = &mut self.payer {
            payer.observe(&self.ledger);
        }
        if let Some(payee) = &mut self.payee {
            payee.observe(&self.ledger);
        }
    }

    /// What is decided to be paid on a lane, for a claim with this number, is within what the payer's
    /// receipts say; and within what arrived, and a prompt and a window for each request without a good end.
    fn judge(&mut self, lane: usize, seq: u8, worth: u8) {
        let Some(payer) = &self.payer else { return };
        let Truth { arrived, unsure, .. } = &self.truth[lane];
        self.overpaid |= payer.lowest(lane, seq).is_some_and(|lowest| worth > lowest);
        self.overcharged |= worth > arrived.cost() + unsure * AHEAD;
    }

    /// A pending claim is decided when its deadline comes.
    fn judge_deadlines(&mut self, bounds: &Bounds) {
        for lane in 0..bounds.lanes {
            let due = self.ledger.lanes[lane].pending.filter(|pending| pending.left == 1);
            if let Some(pending) = due {
                self.judge(lane, pending.voucher.seq, pending.worth());
            }
        }
    }

    /// What pays at once is decided at once.
    fn judge_claim(&mut self, bounds: &Bounds, lane: usize, claim: &Claim) {
        match claim {
            // It was signed before whatever contradicts it came.
            Claim::Approval(approval, _) => self.judge(lane, u8::MAX, approval.amount),
            Claim::Voucher(voucher, _) if bounds.without == Some(Rule::VoucherWaits) => {
                self.judge(lane, voucher.seq, self.ledger.lanes[lane].paid);
            }
            Claim::Voucher(..) => {}
        }
    }
}
