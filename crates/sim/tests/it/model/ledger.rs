//! The channel on the ledger, as `gristmill_ledger` has it, in small.

use super::facts::*;

/// Where the channel stands. Deadlines count the ticks that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Open,
    Closing(u8),
    Closed,
}

/// A claim that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) voucher: Voucher,
    /// Number and use of the receipt that caps it.
    pub(super) cap: Option<(u8, Use)>,
    pub(super) left: u8,
    pub(super) by_payee: bool,
    /// Whether a higher receipt took the place of a lower one in the last tick, too late for an answer. Never,
    /// unless that rule is left out.
    pub(super) lifted: bool,
}

impl Pending {
    pub(super) fn worth(&self) -> u8 {
        self.cap.map_or(self.voucher.amount, |(_, usage)| usage.cost().min(self.voucher.amount))
    }

    pub(super) fn through(&self) -> u8 {
        self.cap.map_or(self.voucher.seq, |(seq, _)| seq.max(self.voucher.seq))
    }

    fn usage(&self) -> Use {
        self.cap.map_or(self.voucher.usage, |(_, usage)| usage)
    }
}

/// A lane's record. What was paid stays after the record is deleted, for the invariants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) exists: bool,
    pub(super) paid: u8,
    pub(super) seq: u8,
    pub(super) usage: Use,
    pub(super) pending: Option<Pending>,
}

/// A claim as it is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    Voucher(Voucher, Option<Receipt>),
    Approval(Approval, Option<Receipt>),
}

/// The channel, and where its money went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ledger {
    pub(super) phase: Phase,
    pub(super) deposit: u8,
    pub(super) settled: u8,
    pub(super) refunded: u8,
    /// What the payee and the model's line got.
    pub(super) earned: u8,
    pub(super) pool: u8,
    pub(super) floor: u8,
    pub(super) lanes: [Lane; LANES],
}

/// The line's part of what was paid on a lane: a half, rounded down.
pub(super) const fn royalty(paid: u8) -> u8 {
    paid / 2
}

impl Ledger {
    pub(super) fn new(deposit: u8) -> Self {
        Self {
            phase: Phase::Open,
            deposit,
            settled: 0,
            refunded: 0,
            earned: 0,
            pool: 0,
            floor: 0,
            lanes: Default::default(),
        }
    }

    pub(super) const fn available(&self) -> u8 {
        self.deposit.saturating_sub(self.settled).saturating_sub(self.refunded)
    }

    pub(super) fn has(&self, lane: usize) -> bool {
        lane >= usize::from(self.floor)
    }

    /// A claim whose signatures are right.
    pub(super) fn claim(
        &mut self,
        without: Option<Rule>,
        lane: usize,
        claim: &Claim,
        by_payee: bool,
    ) -> Option<()> {
        if !matches!(self.phase, Phase::Open | Phase::Closing(1..)) || !self.has(lane) {
            return None;
        }
        let (seq, amount) = match claim {
            Claim::Voucher(voucher, _) => (voucher.seq, voucher.amount),
            Claim::Approval(approval, _) => (approval.seq, approval.amount),
        };
        let receipt = match claim {
            Claim::Voucher(_, receipt) | Claim::Approval(_, receipt) => receipt.as_ref(),
        };
        let fits = match (claim, receipt) {
            (_, None) => by_payee,
            (Claim::Voucher(..), Some(receipt)) => receipt.seq() >= seq,
            (Claim::Approval(approval, _), Some(receipt)) => *approval == Approval::of(receipt),
        };
        if amount == 0 || !fits {
            return None;
        }
        self.mature(without, lane);
        let cap = receipt.map(|receipt| (receipt.seq(), receipt.usage));
        let worth = cap.map_or(amount, |(_, usage)| usage.cost().min(amount));
        let rise = worth.checked_sub(self.lanes[lane].paid).filter(|rise| *rise > 0)?;
        if rise > self.available() {
            return None;
        }
        self.lanes[lane].exists = true;
        match claim {
            Claim::Approval(approval, _) => self.approve(lane, approval),
            Claim::Voucher(voucher, _) => {
                let pending = Pending { voucher: *voucher, cap, left: GRACE, by_payee, lifted: false };
                self.wait(without, lane, pending)
            }
        }
    }

    fn approve(&mut self, lane: usize, approval: &Approval) -> Option<()> {
        if approval.seq < self.lanes[lane].seq {
            return None;
        }
        self.pay(lane, approval.amount, approval.usage, approval.seq);
        let of = &mut self.lanes[lane];
        if let Some(done) = of.pending.take_if(|pending| pending.worth() <= approval.amount) {
            of.seq = of.seq.max(done.through());
        }
        Some(())
    }

    fn wait(&mut self, without: Option<Rule>, lane: usize, new: Pending) -> Option<()> {
        let of = &mut self.lanes[lane];
        if new.voucher.seq <= of.seq || !new.voucher.usage.covers(of.usage) {
            return None;
        }
        if let Some(old) = &of.pending {
            let held = old.by_payee && !new.by_payee;
            if held || new.voucher.seq <= old.through() || new.worth() <= old.worth() {
                return None;
            }
        }
        of.pending = Some(new);
        if without == Some(Rule::VoucherWaits) {
            of.pending = Some(Pending { left: 0, ..new });
            self.mature(without, lane);
        }
        Some(())
    }

    /// A receipt against a pending claim.
    pub(super) fn show(&mut self, without: Option<Rule>, lane: usize, receipt: &Receipt) -> Option<()> {
        if self.phase == Phase::Closed || !self.has(lane) || without == Some(Rule::ReceiptCaps) {
            return None;
        }
        let of = &mut self.lanes[lane];
        let pending = of.pending.as_mut()?;
        let lowers = receipt.spent() < pending.worth();
        let takes = lowers || without == Some(Rule::LowestCounts);
        if pending.left == 0 || receipt.seq() < pending.voucher.seq || !takes {
            return None;
        }
        pending.lifted = !lowers && pending.left == 1;
        pending.cap = Some((receipt.seq(), receipt.usage));
        let paid = of.paid;
        if let Some(removed) = of.pending.take_if(|pending| pending.worth() <= paid) {
            of.seq = of.seq.max(removed.through());
        }
        Some(())
    }

    /// Pays out a claim whose time has come.
    pub(super) fn withdraw(&mut self, without: Option<Rule>, lane: usize) -> Option<()> {
        (self.phase != Phase::Closed && self.has(lane) && self.mature(without, lane)).then_some(())
    }

    fn mature(&mut self, without: Option<Rule>, lane: usize) -> bool {
        let of = &mut self.lanes[lane];
        let Some(pending) = of.pending.take_if(|pending| pending.left == 0) else { return false };
        let (paid, usage, seq) = (of.paid, of.usage, of.seq);
        let reach = paid + self.available();
        if pending.worth() <= reach || without == Some(Rule::WithinHolding) {
            self.pay(lane, pending.worth().max(paid), pending.usage(), pending.through());
        } else {
            self.pay(lane, reach, usage, seq);
        }
        true
    }

    fn pay(&mut self, lane: usize, amount: u8, usage: Use, seq: u8) {
        let of = &mut self.lanes[lane];
        let (rise, part) = (amount - of.paid, royalty(amount) - royalty(of.paid));
        self.settled += rise;
        self.pool += part;
        self.earned += rise - part;
        of.paid = amount;
        of.usage = usage;
        of.seq = of.seq.max(seq);
    }

    pub(super) fn request_close(&mut self) -> Option<()> {
        (self.phase == Phase::Open).then(|| self.phase = Phase::Closing(GRACE))
    }

    pub(super) fn close(&mut self, without: Option<Rule>, by_payee: bool) -> Option<()> {
        let due = self.phase == Phase::Closing(0);
        let pending = self.lanes.iter().any(|lane| lane.pending.is_some());
        let keeps = pending && without != Some(Rule::PendingKeepsOpen);
        if self.phase == Phase::Closed || keeps || !(due || by_payee) {
            return None;
        }
        self.refunded = self.available();
        self.phase = Phase::Closed;
        Some(())
    }

    /// The payee gives up the lanes below.
    pub(super) fn raise(&mut self, floor: u8) -> Option<()> {
        let takes = matches!(self.phase, Phase::Open | Phase::Closing(1..));
        let below = self.lanes.iter().take(usize::from(floor));
        if !takes || floor <= self.floor || below.clone().any(|lane| lane.pending.is_some()) {
            return None;
        }
        self.floor = floor;
        Some(())
    }

    pub(super) fn top_up(&mut self, more: u8) -> Option<()> {
        (self.phase == Phase::Open).then(|| self.deposit += more)
    }

    /// One tick of the ledger's clock.
    pub(super) fn tick(&mut self) {
        if let Phase::Closing(left) = &mut self.phase {
            *left = left.saturating_sub(1);
        }
        for pending in self.lanes.iter_mut().filter_map(|lane| lane.pending.as_mut()) {
            pending.left = pending.left.saturating_sub(1);
        }
    }

    /// Whether a tick would change anything.
    pub(super) fn is_running(&self) -> bool {
        let closing = matches!(self.phase, Phase::Closing(1..));
        closing || self.lanes.iter().any(|lane| lane.pending.is_some_and(|pending| pending.left > 0))
    }
}
