//! The payee's machine, as `gristmill_channel::Payee` has it, in small.

use super::{
    facts::*,
    ledger::{Ledger, Phase},
    payer::Copy,
};

/// What is durable of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) voucher: Voucher,
    /// The highest number under which a request was taken on.
    pub(super) ordered: u8,
    pub(super) open: bool,
    pub(super) used: Use,
    pub(super) receipt: Option<Receipt>,
    pub(super) approval: Option<Approval>,
}

/// What a crash forgets of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Live {
    /// The voucher that may be spent.
    pub(super) paid: Voucher,
    pub(super) used: Use,
    pub(super) delivery: Option<Delivery>,
    pub(super) receipt: Option<Receipt>,
    pub(super) approval: Option<Approval>,
    /// The number of the voucher that the last receipt answers, while a later one is there; 0 for none. The
    /// voucher itself stands in the receipt.
    pub(super) answered: u8,
}

/// A request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Delivery {
    pub(super) base: Use,
    pub(super) cap: u8,
    pub(super) started: bool,
}

/// What has to be done when the record is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Voucher(usize, Voucher),
    Ordered(usize),
    Receipt(usize, Receipt),
    Approval(usize, Approval),
    Retiring,
}

/// What is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Book {
    pub(super) lanes: [Option<Lane>; LANES],
    /// Lanes below are given up.
    pub(super) retiring: u8,
}

/// The payee: what is on its disk, what it holds in memory, and what waits for the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Payee {
    pub(super) disk: Book,
    pub(super) mem: Book,
    pub(super) live: [Option<Live>; LANES],
    pub(super) writes: Vec<Write>,
    pub(super) backup: Option<Box<Book>>,
    pub(super) restarts: u8,
}

/// What a lane has to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) approval: Option<Approval>,
    pub(super) receipt: Receipt,
    pub(super) at_once: u8,
    pub(super) owed: u8,
}

/// The part of a lane that is there after a restart.
fn live(of: &Lane) -> Live {
    let (receipt, approval) = (of.receipt, of.approval);
    Live { paid: of.voucher, used: of.used, delivery: None, receipt, approval, answered: 0 }
}

impl Payee {
    fn pair(&self, lane: usize) -> Option<(&Lane, &Live)> {
        Some((self.mem.lanes[lane].as_ref()?, self.live[lane].as_ref()?))
    }

    /// A voucher comes in, alone or with its order. True if a request was taken on.
    pub(super) fn accept(
        &mut self,
        without: Option<Rule>,
        ledger: &Ledger,
        lane: usize,
        voucher: &Voucher,
        order: Option<u8>,
    ) -> Option<bool> {
        let known = self.mem.lanes[lane].as_ref();
        let busy = known.is_some_and(|of| of.open);
        let ordered = known.is_some_and(|of| of.ordered >= voucher.seq);
        let answered = known.and_then(|of| of.receipt).is_some_and(|receipt| receipt.seq() >= voucher.seq);
        let again = (ordered || answered) && without != Some(Rule::OneDelivery);
        if !self.writes.is_empty() || order.is_some() && (ledger.phase != Phase::Open || again || busy) {
            return None;
        }
        // With a tick left a closing channel takes nothing more: it needs the time to settle.
        let takes = matches!(ledger.phase, Phase::Open | Phase::Closing(GRACE..));
        let given_up = lane < usize::from(self.mem.retiring) && without != Some(Rule::GivenUpLanes);
        if !takes || given_up || !ledger.has(lane) || voucher.seq == 0 {
            return None;
        }
        let mut new = true;
        if let Some((of, live)) = self.pair(lane) {
            let last = &of.voucher;
            let back = voucher.amount < last.amount || !voucher.usage.covers(last.usage);
            let spent = live.used.cost().max(of.receipt.map_or(0, |receipt| receipt.spent()));
            let below = voucher.amount < spent || voucher.amount < ledger.lanes[lane].paid;
            if voucher.seq == last.seq {
                new = false;
                if voucher != last {
                    return None;
                }
            } else if voucher.seq < last.seq || (back || below) && without != Some(Rule::NeverBackwards) {
                return None;
            }
        }
        if new {
            self.check_sum(without, ledger, lane, voucher)?;
            let used = self.live[lane].as_ref().map(|live| live.used).unwrap_or_default();
            let before = self.mem.lanes[lane].as_ref();
            let answered = before.and_then(|of| of.receipt.filter(|receipt| receipt.seq() >= of.voucher.seq));
            let of = self.mem.lanes[lane].get_or_insert(Lane {
                voucher: *voucher,
                ordered: 0,
                open: false,
                used,
                receipt: None,
                approval: None,
            });
            (of.voucher, of.used) = (*voucher, used);
            let nothing = Voucher { seq: 0, usage: Use::default(), amount: 0 };
            let live = self.live[lane].get_or_insert(Live {
                paid: nothing,
                used: Use::default(),
                delivery: None,
                receipt: None,
                approval: None,
                answered: 0,
            });
            live.answered = answered.map_or(live.answered, |receipt| receipt.seq());
            self.writes.push(Write::Voucher(lane, *voucher));
        }
        let begun = order.is_some_and(|most| self.begin(lane, voucher, most).is_some());
        (new || begun).then_some(begun)
    }

    fn check_sum(
        &self,
        without: Option<Rule>,
        ledger: &Ledger,
        lane: usize,
        voucher: &Voucher,
    ) -> Option<()> {
        let promised = |other: usize| {
            let amount = match &self.mem.lanes[other] {
                _ if other == lane => voucher.amount,
                Some(of) => of.voucher.amount,
                None => 0,
            };
            amount.max(ledger.lanes[other].paid)
        };
        let fits = (0..LANES).map(promised).sum::<u8>() <= ledger.deposit;
        (fits || without == Some(Rule::SumInDeposit)).then_some(())
    }

    fn begin(&mut self, lane: usize, voucher: &Voucher, most: u8) -> Option<()> {
        let of = self.mem.lanes[lane].as_mut()?;
        let live = self.live[lane].as_mut()?;
        let first = live.used.plus(1, 1);
        let cap = live.used.cost() + most;
        if voucher.amount.min(cap) < first.cost() || !voucher.usage.covers(first) {
            return None;
        }
        live.delivery = Some(Delivery { base: live.used, cap, started: false });
        (of.ordered, of.open) = (voucher.seq, true);
        self.writes.push(Write::Ordered(lane));
        Some(())
    }

    /// Delivers one token, if it is paid. True with the first one of a request.
    pub(super) fn spend(&mut self, without: Option<Rule>, lane: usize) -> Option<bool> {
        let of = self.mem.lanes[lane].as_ref()?;
        let live = self.live[lane].as_mut()?;
        let delivery = live.delivery.as_mut()?;
        let first = live.used == delivery.base;
        let after = live.used.plus(u8::from(first), 1);
        let ahead = without == Some(Rule::DurableFirst);
        let paid = if ahead { of.voucher } else { live.paid };
        let answered = of.receipt.is_some_and(|receipt| receipt.seq() >= paid.seq);
        let uncovered = after.cost() > paid.amount || !paid.usage.covers(after);
        let over = after.tokens > delivery.base.tokens + ANSWER || after.cost() > delivery.cap;
        let answered = answered && without != Some(Rule::ReceiptEndsVoucher);
        if !(delivery.started || ahead) || over || answered || uncovered {
            return None;
        }
        live.used = after;
        Some(first)
    }

    /// Signs a receipt for all that the lane has come to.
    pub(super) fn receipt(&mut self, lane: usize, last: bool) -> Option<()> {
        if !self.writes.is_empty() {
            return None;
        }
        let of = self.mem.lanes[lane].as_mut()?;
        let live = self.live[lane].as_mut()?;
        let receipt = Receipt { voucher: of.voucher, usage: live.used, last };
        if of.receipt == Some(receipt) {
            return None;
        }
        of.used = live.used;
        of.receipt = Some(receipt);
        if last {
            of.open = false;
            live.delivery = None;
        }
        self.writes.push(Write::Receipt(lane, receipt));
        Some(())
    }

    pub(super) fn approve(&mut self, lane: usize, approval: &Approval) -> Option<()> {
        let (of, live) = self.pair(lane)?;
        let receipt = of.receipt.as_ref()?;
        let matches = approval.seq <= receipt.seq()
            && approval.usage == receipt.usage
            && approval.amount == receipt.spent();
        if !matches || live.approval == Some(*approval) || !self.writes.is_empty() {
            return None;
        }
        self.mem.lanes[lane].as_mut()?.approval = Some(*approval);
        self.writes.push(Write::Approval(lane, *approval));
        Some(())
    }

    /// Whether the lane's last voucher has no last receipt and nothing runs on it.
    pub(super) fn is_unanswered(&self, lane: usize) -> bool {
        self.pair(lane).is_some_and(|(of, live)| {
            let answered = of.receipt.is_some_and(|receipt| receipt.last && receipt.seq() >= of.voucher.seq);
            !answered && live.delivery.is_none()
        })
    }

    pub(super) fn is_delivering(&self, lane: usize) -> bool {
        self.live[lane].as_ref().is_some_and(|live| live.delivery.is_some())
    }

    pub(super) fn is_idle(&self) -> bool {
        (0..LANES).filter_map(|lane| self.pair(lane)).all(|(of, live)| {
            let answered =
                live.receipt.is_some_and(|receipt| receipt.last && receipt.seq() >= of.voucher.seq);
            live.delivery.is_none() && answered
        })
    }

    /// What the lane has to claim beyond what was paid.
    pub(super) fn owed(&self, ledger: &Ledger, lane: usize) -> Option<Owed> {
        let (of, live) = self.pair(lane)?;
        // What was answered is claimed also while the next request runs.
        let known = |receipt: &Receipt| [of.voucher.seq, live.answered].contains(&receipt.seq());
        let receipt = live.receipt.filter(known)?;
        let paid = ledger.lanes[lane].paid;
        let owed = receipt.spent().checked_sub(paid).filter(|owed| *owed > 0)?;
        let at_once = live.approval.map_or(0, |approval| approval.amount).saturating_sub(paid);
        Some(Owed { approval: live.approval.filter(|_| at_once > 0), receipt, at_once, owed })
    }

    /// Gives up the lowest lanes that are done.
    pub(super) fn retire(&mut self, ledger: &Ledger) -> Option<()> {
        let done = |lane: &usize| {
            self.pair(*lane).is_some_and(|(of, live)| {
                let answered =
                    of.receipt.is_some_and(|receipt| receipt.last && receipt.seq() >= of.voucher.seq);
                answered && !of.open && live.used.cost() <= ledger.lanes[*lane].paid
            })
        };
        // A lane that no voucher came for is given up with a later one.
        let from = usize::from(self.mem.retiring);
        let known = (from..LANES).filter(|lane| self.mem.lanes[*lane].is_some());
        let to = known.take_while(done).last().map_or(from, |lane| lane + 1);
        if to <= from || !self.writes.is_empty() {
            return None;
        }
        self.mem.retiring = u8::try_from(to).unwrap_or(u8::MAX);
        self.writes.push(Write::Retiring);
        Some(())
    }

    /// What the payer may see.
    pub(super) fn copy(&self) -> [Option<Copy>; LANES] {
        std::array::from_fn(|lane| {
            let (of, live) = self.pair(lane)?;
            Some(Copy { voucher: of.voucher, receipt: live.receipt, approval: live.approval })
        })
    }

    /// What was written is durable. Returns the receipts that may be sent now.
    pub(super) fn flush(&mut self) -> Option<Vec<(usize, Receipt)>> {
        if self.writes.is_empty() {
            return None;
        }
        self.disk = self.mem.clone();
        let mut sends = Vec::new();
        for write in std::mem::take(&mut self.writes) {
            match write {
                Write::Voucher(lane, voucher) => {
                    if let Some(live) = &mut self.live[lane] {
                        live.paid = voucher;
                    }
                }
                Write::Ordered(lane) => {
                    if let Some(delivery) = self.live[lane].as_mut().and_then(|live| live.delivery.as_mut()) {
                        delivery.started = true;
                    }
                }
                Write::Receipt(lane, receipt) => {
                    if let Some(live) = &mut self.live[lane] {
                        live.receipt = Some(receipt);
                        live.answered = 0;
                        sends.push((lane, receipt));
                    }
                }
                Write::Approval(lane, approval) => {
                    if let Some(live) = &mut self.live[lane] {
                        live.approval = Some(approval);
                    }
                }
                Write::Retiring => {}
            }
        }
        Some(sends)
    }

    pub(super) fn crash(&mut self) {
        self.mem = self.disk.clone();
        self.live = self.disk.lanes.each_ref().map(|of| of.as_ref().map(live));
        self.writes.clear();
        self.restarts += 1;
    }

    /// Drops lanes that are over.
    pub(super) fn observe(&mut self, ledger: &Ledger) {
        for lane in (0..LANES).filter(|lane| ledger.phase == Phase::Closed || !ledger.has(*lane)) {
            (self.disk.lanes[lane], self.mem.lanes[lane], self.live[lane]) = (None, None, None);
        }
        for book in [&mut self.disk, &mut self.mem] {
            book.retiring = book.retiring.max(ledger.floor);
        }
    }
}
