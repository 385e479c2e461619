//! The payer's machine, as `gristmill_channel::Payer` has it, in small.

use super::{
    facts::*,
    ledger::{Ledger, Phase},
};

/// What is durable of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    /// Reserved: the amount, and the highest number.
    pub(super) reserved: u8,
    pub(super) top: u8,
    /// Numbers up to this one may have been used.
    pub(super) used: u8,
    /// Whether nothing beyond `voucher` can have been signed.
    pub(super) quiet: bool,
    /// Whether its quote is known: not where only the payee's copy showed it.
    pub(super) quoted: bool,
    pub(super) voucher: Option<Voucher>,
    pub(super) receipt: Option<Receipt>,
    pub(super) verified: bool,
    pub(super) lowest: Option<Receipt>,
}

/// What a crash forgets of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) known: bool,
    pub(super) reconciling: bool,
    pub(super) granted: u8,
    pub(super) recent: Vec<Voucher>,
    pub(super) request: Option<Request>,
    pub(super) approvable: bool,
}

/// A request in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) base: Use,
    /// Tokens that arrived.
    pub(super) got: u8,
    pub(super) first: Option<u8>,
    /// Whether its connection broke.
    pub(super) broken: bool,
}

/// What has to be done when the record is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Granted(usize, u8),
    /// True if it ends its request as it was counted here, and answers all that was signed.
    Receipt(usize, bool),
    Reconciled(usize),
}

pub(super) type Lanes = [Option<Lane>; LANES];

/// One lane of the payee's copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub(super) voucher: Voucher,
    pub(super) receipt: Option<Receipt>,
    pub(super) approval: Option<Approval>,
}

/// The payer: what is on its disk, what it holds in memory, and what waits for the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Payer {
    pub(super) disk: Lanes,
    pub(super) mem: Lanes,
    pub(super) live: [Option<Live>; LANES],
    pub(super) writes: Vec<Write>,
    pub(super) backup: Option<Box<Lanes>>,
    pub(super) restarts: u8,
}

impl Lane {
    fn new(quoted: bool) -> Self {
        Self {
            reserved: 0,
            top: 0,
            used: 0,
            quiet: true,
            quoted,
            voucher: None,
            receipt: None,
            verified: false,
            lowest: None,
        }
    }

    pub(super) fn usage(&self) -> Use {
        self.receipt.map(|receipt| receipt.usage).unwrap_or_default()
    }

    fn capped(&self, seq: u8) -> bool {
        self.receipt.is_some_and(|receipt| receipt.seq() >= seq)
    }

    fn live(&self) -> Live {
        Live {
            known: self.quiet,
            granted: if self.quiet { 0 } else { self.reserved },
            recent: self.voucher.into_iter().collect(),
            approvable: self.verified,
            ..Live::default()
        }
    }

    /// What the lane may come to, and what it came to.
    pub(super) fn held(&self, paid: u8) -> (u8, u8) {
        let spent = self.usage().cost().max(paid);
        let seq = self.voucher.map_or(0, |voucher| voucher.seq);
        let answered = self.capped(seq) && self.receipt.is_some_and(|receipt| receipt.last);
        let capped = self.quiet && (self.voucher.is_none() || answered);
        (if capped { spent } else { self.reserved.max(spent) }, spent)
    }
}

impl Live {
    fn last(&self) -> Option<&Voucher> {
        self.recent.last()
    }
}

impl Request {
    fn with_prompt(&self) -> Use {
        self.base.plus(1, self.got)
    }

    fn counted(&self) -> Use {
        if self.got == 0 { self.base } else { self.with_prompt() }
    }

    fn most(&self) -> Use {
        self.base.plus(1, ANSWER)
    }

    fn promise(&self) -> Use {
        self.base.plus(1, (self.got + 1).min(ANSWER))
    }
}

/// The last number of the reservation that is made for this one.
const fn top_of(seq: u8) -> u8 {
    (seq - 1) / NUMBERS * NUMBERS + NUMBERS
}

impl Payer {
    fn pair(&self, lane: usize) -> Option<(&Lane, &Live)> {
        Some((self.mem[lane].as_ref()?, self.live[lane].as_ref()?))
    }

    fn next_seq(of: &Lane, live: &Live) -> u8 {
        live.last().map_or(0, |last| last.seq).max(of.used) + 1
    }

    pub(super) fn room(&self, ledger: &Ledger) -> u8 {
        let lane = |(of, on): (&Option<Lane>, &super::ledger::Lane)| {
            of.as_ref().map_or(0, |of| of.reserved).max(on.paid)
        };
        let committed: u8 = self.mem.iter().zip(&ledger.lanes).map(lane).sum();
        ledger.deposit.saturating_sub(committed)
    }

    /// Where a new request goes: an idle lane, else a new one.
    pub(super) fn start(&mut self, ledger: &Ledger) -> Option<usize> {
        if ledger.phase != Phase::Open {
            return None;
        }
        let candidate = |lane: usize| {
            let (of, live) = self.pair(lane)?;
            let cap = of.usage().plus(1, ANSWER).cost();
            let fits = live.last().is_none_or(|last| last.amount <= cap);
            let free = live.known && live.request.is_none() && of.quoted && fits;
            free.then_some((live.granted < cap, lane, cap))
        };
        let next = (0..LANES).rev().find(|lane| self.mem[*lane].is_some()).map_or(0, |lane| lane + 1);
        let next = next.max(usize::from(ledger.floor));
        let (lane, cap) = match (0..LANES).filter_map(candidate).min() {
            Some((false, lane, _)) => {
                self.begin(lane);
                return Some(lane);
            }
            Some((true, lane, cap)) => (lane, cap),
            None if next < LANES => (next, REQUEST),
            None => return None,
        };
        let reserved = self.mem[lane].as_ref().map_or(0, |of| of.reserved);
        let least = cap.max(reserved);
        if !self.writes.is_empty() || least > reserved + self.room(ledger) {
            return None;
        }
        let of = self.mem[lane].get_or_insert_with(|| Lane::new(true));
        let live = self.live[lane].get_or_insert_with(|| Live { known: true, ..Live::default() });
        of.reserved = least;
        of.top = of.top.max(top_of(Self::next_seq(of, live)));
        of.quiet = false;
        self.writes.push(Write::Granted(lane, least));
        self.begin(lane);
        Some(lane)
    }

    fn begin(&mut self, lane: usize) {
        let base = self.mem[lane].as_ref().map(Lane::usage).unwrap_or_default();
        if let Some(live) = &mut self.live[lane] {
            live.request = Some(Request { base, got: 0, first: None, broken: false });
        }
    }

    fn due(of: &Lane, live: &Live, request: &Request) -> bool {
        let promise = request.promise();
        match live.last() {
            Some(last) if request.first.is_some_and(|first| last.seq >= first) => {
                let ahead = promise.tokens > last.usage.tokens
                    && last.usage.tokens.saturating_sub(request.counted().tokens) == 0;
                of.capped(last.seq) || ahead || !last.usage.covers(request.with_prompt())
            }
            Some(_) | None => true,
        }
    }

    /// Signs the next voucher; with its order if it is the first of its request. `asked` is what the
    /// payee says it requires.
    pub(super) fn sign(
        &mut self,
        without: Option<Rule>,
        lane: usize,
        asked: Option<u8>,
    ) -> Option<(Voucher, Option<Order>)> {
        let reserved = match without {
            Some(Rule::ReservedFirst) => self.mem[lane].as_ref()?.reserved,
            _ => self.live[lane].as_ref()?.granted,
        };
        let (of, live) = self.pair(lane)?;
        let request = live.request.as_ref().filter(|_| live.known)?;
        let promise = request.promise();
        let mut cost = promise.cost();
        let inflated = asked.filter(|asked| *asked > cost);
        match inflated {
            Some(asked) if without == Some(Rule::NotOnDemand) => cost = asked,
            Some(_) => return None,
            None if !Self::due(of, live, request) => return None,
            None => {}
        }
        let last = live.last();
        let usage = last.map_or(promise, |last| promise.larger(last.usage));
        let amount = last.map_or(cost, |last| cost.max(last.amount));
        let cap = request.most().cost();
        if amount > cap || amount > reserved {
            return None;
        }
        let voucher = Voucher { seq: Self::next_seq(of, live), usage, amount };
        let order =
            request.first.is_none().then(|| Order { voucher, most: cap.saturating_sub(of.usage().cost()) });
        let live = self.live[lane].as_mut()?;
        live.recent.push(voucher);
        live.request.as_mut()?.first.get_or_insert(voucher.seq);
        Some((voucher, order))
    }

    /// A token arrives.
    pub(super) fn arrive(&mut self, lane: usize) -> Option<bool> {
        let request = self.live[lane].as_mut()?.request.as_mut()?;
        if request.first.is_none() || request.broken || request.got == ANSWER {
            return None;
        }
        request.got += 1;
        Some(request.got == 1)
    }

    /// The request's connection breaks.
    pub(super) fn break_off(&mut self, lane: usize) -> Option<()> {
        let request = self.live[lane].as_mut()?.request.as_mut()?;
        (request.first.is_some() && !request.broken).then(|| request.broken = true)
    }

    /// Gives up a request of which the payee shows nothing.
    pub(super) fn doubt(&mut self, lane: usize) -> Option<()> {
        let live = self.live[lane].as_mut()?;
        live.request.take_if(|request| request.broken)?;
        live.known = false;
        Some(())
    }

    pub(super) fn take(&mut self, without: Option<Rule>, lane: usize, receipt: &Receipt) -> Option<()> {
        let (of, live) = self.pair(lane)?;
        let known = of.receipt.as_ref() == Some(receipt) || of.lowest.as_ref() == Some(receipt);
        let answers = live.recent.contains(&receipt.voucher);
        if known || !live.known || !answers || !self.writes.is_empty() || !within(receipt, &receipt.voucher) {
            return None;
        }
        let mut evidence = false;
        if let Some(earlier) = &of.receipt {
            if receipt.seq() < earlier.seq() {
                return None;
            }
            let same = receipt.seq() == earlier.seq();
            if !receipt.usage.covers(earlier.usage) {
                let lowest = of.lowest.map_or(earlier.spent(), |lowest| lowest.spent());
                evidence = receipt.spent() < lowest.min(earlier.spent());
                if !evidence {
                    return None;
                }
            } else if same && (receipt.usage != earlier.usage || !receipt.last || earlier.last) {
                return None;
            }
        }
        let request = live.request.as_ref();
        let counted = request.map_or(of.usage(), Request::counted);
        let broken = request.is_some_and(|request| request.broken);
        let ends = receipt.last
            && request.is_some_and(|request| request.first.is_some_and(|first| receipt.seq() >= first));
        let right = counted.covers(receipt.usage) || without == Some(Rule::CountedHere);
        if !evidence && !right && !broken {
            return None;
        }
        let good = right && ends && !evidence && live.last() == Some(&receipt.voucher);
        let of = self.mem[lane].as_mut()?;
        self.writes.push(Write::Receipt(lane, good));
        if evidence {
            of.lowest = Some(*receipt);
            return Some(());
        }
        if of.voucher.is_none_or(|voucher| receipt.seq() >= voucher.seq) {
            of.voucher = Some(receipt.voucher);
        }
        (of.receipt, of.verified) = (Some(*receipt), true);
        let live = self.live[lane].as_mut()?;
        live.approvable = false;
        if ends {
            live.request = None;
        }
        Some(())
    }

    pub(super) fn approval(&self, lane: usize) -> Option<Approval> {
        let (of, live) = self.pair(lane)?;
        of.receipt.as_ref().filter(|_| of.verified && live.approvable).map(Approval::of)
    }

    /// The receipt to show against a claim.
    pub(super) fn challenge(&self, lane: usize, claim: &Voucher) -> Option<Receipt> {
        let of = self.mem[lane].as_ref()?;
        let held = [of.receipt, of.lowest].into_iter().flatten();
        held.filter(|receipt| receipt.seq() >= claim.seq && receipt.spent() < claim.amount)
            .min_by_key(Receipt::spent)
    }

    /// The lowest receipt that speaks for the number.
    pub(super) fn lowest(&self, lane: usize, seq: u8) -> Option<u8> {
        let of = self.mem[lane].as_ref()?;
        let held = [of.receipt, of.lowest].into_iter().flatten();
        held.filter(|receipt| receipt.seq() >= seq).map(|receipt| receipt.spent()).min()
    }

    pub(super) fn in_doubt(&self, lane: usize) -> bool {
        self.live[lane].as_ref().is_some_and(|live| !live.known)
    }

    /// Compares with the payee's copy; `None` if nothing comes of it.
    pub(super) fn reconcile(
        &mut self,
        without: Option<Rule>,
        copy: &[Option<Copy>; LANES],
        floor: u8,
    ) -> Option<()> {
        if !self.writes.is_empty() {
            return None;
        }
        let mut refused = false;
        for (lane, of) in copy.iter().enumerate() {
            if let Some(of) = of {
                refused |= self.reconcile_lane(without, lane, of, floor).is_none();
            }
        }
        for (lane, of) in copy.iter().enumerate() {
            let waits = self.live[lane].as_ref().is_some_and(|live| live.reconciling);
            if refused || of.is_some() || waits || !self.in_doubt(lane) {
                continue;
            }
            if self.mem[lane].as_ref().is_some_and(|of| of.voucher.is_none()) {
                self.adopt(without, lane, None, None, false, true);
            }
        }
        (!self.writes.is_empty()).then_some(())
    }

    /// `None` if the lane of the copy is not believed.
    fn reconcile_lane(&mut self, without: Option<Rule>, lane: usize, copy: &Copy, floor: u8) -> Option<()> {
        let Copy { voucher, receipt, approval } = copy;
        if lane < usize::from(floor) {
            return None;
        }
        if let Some(receipt) = receipt {
            let other = receipt.seq() == voucher.seq && receipt.voucher != *voucher;
            if other || receipt.seq() > voucher.seq || !within(receipt, voucher) {
                return None;
            }
        }
        let done = receipt.is_some_and(|receipt| receipt.last && receipt.seq() == voucher.seq);
        let mut adopts = false;
        if let Some((of, live)) = self.pair(lane) {
            let last = live.last().map_or(0, |last| last.seq);
            let beyond = voucher.seq > of.top || voucher.amount > of.reserved;
            let more = |held: Receipt, shown: &Receipt| {
                held.seq() == shown.seq() && shown.usage != held.usage && shown.usage.covers(held.usage)
            };
            let contradicts = of.receipt.zip(receipt.as_ref()).is_some_and(|(held, shown)| more(held, shown));
            if contradicts && without != Some(Rule::LowerHeld) {
                return None;
            }
            let forgot = match receipt {
                Some(receipt) => !receipt.usage.covers(of.usage()),
                None => of.receipt.is_some(),
            };
            let same = live.last() == Some(voucher);
            let open = !live.known && !beyond && !done;
            if live.reconciling || voucher.seq < last || forgot || live.known && same || open {
                return Some(());
            }
            adopts = !live.known && !beyond;
        }
        let shown = receipt.is_some_and(|receipt| *approval == Some(Approval::of(&receipt)));
        self.adopt(without, lane, Some(*voucher), *receipt, adopts || shown, done);
        Some(())
    }

    fn adopt(
        &mut self,
        without: Option<Rule>,
        lane: usize,
        voucher: Option<Voucher>,
        receipt: Option<Receipt>,
        approved: bool,
        done: bool,
    ) {
        let of = self.mem[lane].get_or_insert_with(|| Lane::new(false));
        of.voucher = voucher.or(of.voucher);
        if let Some(receipt) = receipt {
            of.verified = approved || of.verified && of.receipt == Some(receipt);
            of.receipt = Some(receipt);
        }
        let jump = if without == Some(Rule::NumbersJump) { 0 } else { of.top };
        of.used = of.used.max(jump).max(of.voucher.map_or(0, |voucher| voucher.seq));
        of.top = of.used;
        let amount = of.voucher.map_or(0, |voucher| voucher.amount);
        of.reserved = if done { amount } else { of.reserved.max(amount) };
        of.quiet = done;
        let live = self.live[lane].get_or_insert_with(Live::default);
        (live.known, live.reconciling) = (false, true);
        self.writes.push(Write::Reconciled(lane));
    }

    /// What was written is durable. Returns the lanes whose request ended as it was counted here.
    pub(super) fn flush(&mut self) -> Option<Vec<usize>> {
        if self.writes.is_empty() {
            return None;
        }
        self.disk = self.mem.clone();
        let mut ended = Vec::new();
        for write in std::mem::take(&mut self.writes) {
            match write {
                Write::Granted(lane, amount) => {
                    if let Some(live) = &mut self.live[lane] {
                        live.granted = live.granted.max(amount);
                    }
                }
                Write::Receipt(lane, good) => {
                    ended.extend(good.then_some(lane));
                    if let (Some(of), Some(live)) = (&self.mem[lane], &mut self.live[lane]) {
                        live.approvable = of.verified;
                    }
                }
                Write::Reconciled(lane) => self.live[lane] = self.mem[lane].as_ref().map(Lane::live),
            }
        }
        Some(ended)
    }

    pub(super) fn crash(&mut self) {
        self.mem = self.disk.clone();
        self.live = self.disk.each_ref().map(|of| of.as_ref().map(Lane::live));
        self.writes.clear();
        self.restarts += 1;
    }

    /// Drops lanes that are over.
    pub(super) fn observe(&mut self, ledger: &Ledger) {
        for lane in (0..LANES).filter(|lane| ledger.phase == Phase::Closed || !ledger.has(*lane)) {
            (self.disk[lane], self.mem[lane], self.live[lane]) = (None, None, None);
        }
    }
}

/// Whether a receipt is within its voucher.
fn within(receipt: &Receipt, voucher: &Voucher) -> bool {
    receipt.spent() <= voucher.amount && voucher.usage.covers(receipt.usage)
}
