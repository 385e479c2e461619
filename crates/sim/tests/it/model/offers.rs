//! What somebody may try in a state, honest or not.

use super::{
    Bounds, State,
    facts::*,
    ledger::{Claim, Phase},
    payee::Payee,
    payer::{Copy, Payer},
    steps::Step,
};

impl Bounds {
    /// The steps that somebody may try in this state, whether they are taken or refused.
    pub(super) fn offers(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.ledger.phase == Phase::Closed {
            return steps;
        }
        match (&state.payer, &state.payee) {
            (Some(payer), _) => self.honest_payer(state, payer, &mut steps),
            (None, Some(_)) => self.dishonest_payer(state, &mut steps),
            (None, None) => self.nobody_honest(&mut steps),
        }
        match &state.payee {
            Some(payee) => self.honest_payee(state, payee, &mut steps),
            None => self.dishonest_payee(state, &mut steps),
        }
        for lane in 0..self.lanes {
            if state.payer.is_some() {
                steps.push(Step::Arrive(lane));
            }
            if state.ledger.lanes[lane].pending.is_some() {
                steps.push(Step::Withdraw(lane));
            }
        }
        if self.closes {
            steps.push(Step::RequestClose);
            steps.push(Step::Close(false));
        }
        if state.topped < self.top_ups {
            steps.push(Step::TopUp);
        }
        if state.ledger.is_running() && !self.is_late(state) {
            steps.push(Step::Tick);
        }
        steps
    }

    fn honest_payer(&self, state: &State, payer: &Payer, steps: &mut Vec<Step>) {
        if state.started < self.requests {
            steps.push(Step::Start);
        }
        for lane in 0..self.lanes {
            let live = payer.live[lane].as_ref();
            if let Some(request) = live.and_then(|live| live.request.as_ref()) {
                if state.wire[lane].vouchers.len() < usize::from(self.vouchers) {
                    steps.extend([Step::Sign(lane), Step::Demand(lane)]);
                }
                if self.breaks {
                    steps.push(Step::BreakOff(lane));
                }
                let unseen =
                    state.payee.as_ref().is_none_or(|payee| payee.mem.lanes.iter().all(Option::is_none));
                if request.broken && unseen {
                    steps.push(Step::Doubt(lane));
                }
            }
            let approval = payer.approval(lane);
            if approval.is_some_and(|approval| !state.wire[lane].approvals.contains(&approval)) {
                steps.push(Step::Approve(lane));
            }
            if let Some(receipt) = state.challenge(lane) {
                steps.push(Step::Show(lane, receipt));
            }
        }
        match &state.payee {
            Some(payee) => {
                for (lane, wire) in state.wire.iter().enumerate() {
                    steps.extend(wire.receipts.iter().map(|receipt| Step::Take(lane, *receipt)));
                }
                steps.push(Step::Reconcile(payee.copy()));
            }
            None => self.any_word_of_the_payee(state, payer, steps),
        }
        if !payer.writes.is_empty() {
            steps.push(Step::PayerDisk);
        }
        if payer.restarts < self.payer_crashes {
            steps.push(Step::PayerCrash);
        }
        if self.payer_restores {
            match payer.backup {
                None => steps.push(Step::PayerBackup),
                Some(_) if payer.restarts == 0 => steps.push(Step::PayerRestore),
                Some(_) => {}
            }
        }
    }

    /// What a payee could say that it never delivered.
    fn any_word_of_the_payee(&self, state: &State, payer: &Payer, steps: &mut Vec<Step>) {
        for lane in 0..self.lanes {
            let receipts = self.possible_receipts(state, lane);
            steps.extend(receipts.iter().map(|receipt| Step::Take(lane, *receipt)));
            if !payer.in_doubt(lane) {
                continue;
            }
            steps.push(Step::Reconcile(Default::default()));
            let mut vouchers = state.wire[lane].vouchers.clone();
            if let Some(last) = vouchers.last().copied() {
                // One that the payer never signed.
                vouchers.push(Voucher {
                    seq: last.seq,
                    amount: last.amount + 1,
                    usage: last.usage.plus(0, 1),
                });
            }
            for voucher in vouchers {
                let forged = Receipt { voucher, usage: voucher.usage, last: true };
                let words = receipts.iter().filter(|receipt| receipt.seq() <= voucher.seq);
                for receipt in words.chain([&forged]).map(|receipt| Some(*receipt)).chain([None]) {
                    let approvals = &state.wire[lane].approvals;
                    let approval = receipt.map(|receipt| Approval::of(&receipt));
                    let approval = approval.filter(|approval| approvals.contains(approval));
                    let mut copy: [Option<Copy>; LANES] = Default::default();
                    copy[lane] = Some(Copy { voucher, receipt, approval });
                    steps.push(Step::Reconcile(copy));
                }
            }
        }
    }

    fn dishonest_payer(&self, state: &State, steps: &mut Vec<Step>) {
        for lane in 0..self.lanes {
            let held = state.payee.as_ref().and_then(|payee| payee.mem.lanes[lane].as_ref());
            let base = held.map(|of| of.used).unwrap_or_default();
            let mut vouchers = Vec::new();
            for seq in 1..=self.vouchers {
                for usage in [base.plus(1, 1), base.plus(0, 1), base.plus(1, 2)] {
                    for amount in [usage.cost(), usage.cost().saturating_sub(1)] {
                        vouchers.push(Voucher { seq, usage, amount });
                    }
                }
            }
            vouchers.extend(held.map(|of| of.voucher));
            vouchers.sort_unstable();
            vouchers.dedup();
            for voucher in &vouchers {
                for order in [None, Some(REQUEST)] {
                    steps.push(Step::Accept(lane, *voucher, order));
                }
            }
            for receipt in &state.wire[lane].receipts {
                let approval = Approval::of(receipt);
                steps.push(Step::TakeApproval(lane, approval));
                steps.push(Step::TakeApproval(
                    lane,
                    Approval { amount: approval.amount.saturating_sub(1), ..approval },
                ));
                steps.push(Step::Show(lane, *receipt));
                steps.push(Step::Claim(lane, Claim::Approval(approval, Some(*receipt)), false));
                // A promise of its own that the payee never saw, under the payee's receipt.
                for voucher in [receipt.voucher, Voucher { amount: receipt.spent(), ..receipt.voucher }] {
                    steps.push(Step::Claim(lane, Claim::Voucher(voucher, Some(*receipt)), false));
                    steps.push(Step::Claim(lane, Claim::Voucher(voucher, None), false));
                }
            }
        }
    }

    /// Both together against the ledger.
    fn nobody_honest(&self, steps: &mut Vec<Step>) {
        for lane in 0..self.lanes {
            for seq in 1..=self.vouchers {
                for amount in [PROMPT, self.deposit - 1, self.deposit, self.deposit + 1] {
                    let usage = Use::new(0, seq);
                    let voucher = Voucher { seq, usage, amount };
                    let receipt = Receipt { voucher, usage: Use::new(1, seq), last: true };
                    let approval = Approval { seq, usage, amount };
                    steps.push(Step::Claim(lane, Claim::Voucher(voucher, None), true));
                    steps.push(Step::Claim(lane, Claim::Voucher(voucher, Some(receipt)), false));
                    steps.push(Step::Claim(lane, Claim::Approval(approval, None), true));
                    steps.push(Step::Show(lane, receipt));
                }
            }
        }
    }

    fn honest_payee(&self, state: &State, payee: &Payee, steps: &mut Vec<Step>) {
        for lane in 0..self.lanes {
            if state.payer.is_some() {
                let wire = &state.wire[lane];
                for voucher in &wire.vouchers {
                    let order = wire.orders.iter().find(|order| order.voucher == *voucher);
                    steps.push(Step::Accept(lane, *voucher, order.map(|order| order.most)));
                    if order.is_some() {
                        steps.push(Step::Accept(lane, *voucher, None));
                    }
                }
                steps.extend(wire.approvals.iter().map(|approval| Step::TakeApproval(lane, *approval)));
            }
            let delivers = payee.is_delivering(lane);
            if delivers && state.ledger.phase == Phase::Open {
                steps.push(Step::Spend(lane));
                if self.mid_receipts {
                    steps.push(Step::Receipt(lane, false));
                }
            }
            if delivers || payee.is_unanswered(lane) {
                steps.push(Step::Receipt(lane, true));
            }
            steps.extend(state.payee_claims(lane).into_iter().map(|claim| Step::Claim(lane, claim, true)));
        }
        if !payee.writes.is_empty() {
            steps.push(Step::PayeeDisk);
        }
        if payee.restarts < self.payee_crashes {
            steps.push(Step::PayeeCrash);
        }
        if self.payee_restores {
            match payee.backup {
                None => steps.push(Step::PayeeBackup),
                Some(_) if payee.restarts == 0 => steps.push(Step::PayeeRestore),
                Some(_) => {}
            }
        }
        if self.retires {
            steps.push(Step::Retire);
            if payee.mem.retiring > state.ledger.floor && payee.writes.is_empty() {
                steps.push(Step::RaiseFloor(payee.mem.retiring));
            }
        }
        let claims = (0..self.lanes).any(|lane| !state.payee_claims(lane).is_empty());
        if matches!(state.ledger.phase, Phase::Closing(_)) && payee.is_idle() && !claims {
            steps.push(Step::Close(true));
        }
    }

    fn dishonest_payee(&self, state: &State, steps: &mut Vec<Step>) {
        for lane in 0..self.lanes {
            let receipts = self.possible_receipts(state, lane);
            for voucher in &state.wire[lane].vouchers {
                steps.push(Step::Claim(lane, Claim::Voucher(*voucher, None), true));
                // A receipt that lowers its own claim, to move its number up.
                for receipt in receipts.iter().filter(|receipt| receipt.last && receipt.seq() >= voucher.seq)
                {
                    steps.push(Step::Claim(lane, Claim::Voucher(*voucher, Some(*receipt)), true));
                }
            }
            let approvals = state.wire[lane].approvals.iter();
            steps.extend(approvals.map(|of| Step::Claim(lane, Claim::Approval(*of, None), true)));
            if state.ledger.lanes[lane].pending.is_some() {
                let last = receipts.iter().filter(|receipt| receipt.last);
                steps.extend(last.map(|receipt| Step::Show(lane, *receipt)));
            }
        }
        if self.closes {
            steps.push(Step::Close(true));
        }
        if self.retires {
            steps.push(Step::RaiseFloor(state.ledger.floor + 1));
        }
    }

    /// Every receipt that a payee could sign on the lane.
    fn possible_receipts(&self, state: &State, lane: usize) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for voucher in &state.wire[lane].vouchers {
            for requests in 0..=voucher.usage.requests {
                for tokens in 0..=voucher.usage.tokens {
                    let usage = Use::new(requests, tokens);
                    if usage.cost() <= voucher.amount && (requests > 0 || tokens == 0) {
                        receipts.push(Receipt { voucher: *voucher, usage, last: true });
                        let within = Receipt { voucher: *voucher, usage, last: false };
                        receipts.extend(self.mid_receipts.then_some(within));
                    }
                }
            }
        }
        receipts
    }

    /// Whether the next tick would be too late for an honest side that has still something to do.
    fn is_late(&self, state: &State) -> bool {
        let without = self.without;
        let shows = |lane: usize| {
            let pending = state.ledger.lanes[lane].pending;
            let due = pending.is_some_and(|pending| pending.left == 1 && !pending.lifted);
            let receipt = state.challenge(lane).filter(|_| due);
            receipt.is_some_and(|receipt| state.ledger.clone().show(without, lane, &receipt).is_some())
        };
        if without != Some(Rule::PayerInTime) && (0..self.lanes).any(shows) {
            return true;
        }
        let Some(payee) = &state.payee else { return false };
        if without == Some(Rule::PayeeInTime) || state.ledger.phase != Phase::Closing(1) {
            return false;
        }
        let claims = |lane: usize| {
            let claims = state.payee_claims(lane);
            claims.iter().any(|claim| state.ledger.clone().claim(without, lane, claim, true).is_some())
        };
        let busy = |lane: usize| payee.is_delivering(lane) || payee.is_unanswered(lane) || claims(lane);
        !payee.writes.is_empty() || (0..self.lanes).any(busy)
    }
}

impl State {
    /// The receipt that the payer would show against what is pending.
    pub(super) fn challenge(&self, lane: usize) -> Option<Receipt> {
        let pending = self.ledger.lanes[lane].pending?;
        let claim = Voucher { amount: pending.worth(), ..pending.voucher };
        self.payer.as_ref()?.challenge(lane, &claim)
    }

    /// What an honest payee brings to the ledger.
    pub(super) fn payee_claims(&self, lane: usize) -> Vec<Claim> {
        let Some(owed) = self.payee.as_ref().and_then(|payee| payee.owed(&self.ledger, lane)) else {
            return Vec::new();
        };
        let mut claims: Vec<Claim> = owed.approval.map(|of| Claim::Approval(of, None)).into_iter().collect();
        let closing = self.ledger.phase != Phase::Open;
        let waits = self.ledger.lanes[lane].pending.is_some_and(|pending| {
            let higher = owed.receipt.seq() > pending.through() && owed.receipt.spent() > pending.worth();
            !(closing && higher)
        });
        if owed.owed > owed.at_once && !waits {
            claims.push(Claim::Voucher(owed.receipt.voucher, Some(owed.receipt)));
        }
        claims
    }
}
