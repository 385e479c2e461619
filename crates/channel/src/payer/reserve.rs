//! Starting a request: its lane, its hard cap, its reservation.

use super::{Live, Payer, PayerRecord, Request, state::Lane, state::Reserve};
use crate::{
    budget::KeyId,
    error::PayerError,
    meter::{Ask, Meter},
    pending::Pending,
    view::Phase,
};
use gristmill_types::{Amount, Claim, Quote, QuoteHash, Signed};

/// Sequence numbers that one reservation covers at least. They cost nothing.
const SEQS: u64 = 1 << 20;

/// From this many open lanes on, idle lanes of other budgets are taken over before new ones open.
const LANES_BEFORE_REBINDING: usize = 32;

/// A request that is to be paid.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The processor's quote.
    pub quote: &'a Signed<Quote>,
    /// Whose budget pays.
    pub budget: KeyId,
    /// What that budget has left.
    pub room: Amount,
    /// What is asked for. The prompt is counted by the payer.
    pub ask: Ask,
    /// The most that the request may cost.
    pub max_amount: Amount,
    /// What to reserve beyond the request, for those that follow. Clipped to what deposit and
    /// budget allow.
    pub ahead: Amount,
    /// Unix time, for the quote's validity.
    pub now_ms: u64,
}

/// A request that has its lane.
#[must_use]
#[derive(Debug)]
pub struct Started {
    /// The lane. It belongs to this request until its last receipt.
    pub lane: u32,
    /// The most that the request can cost.
    pub max_amount: Amount,
    /// The reservation, if the lane's own did not suffice. The budget's record belongs into the same
    /// commit; confirm before the first voucher.
    pub pending: Option<Pending<PayerRecord>>,
}

/// A lane that could take a request, better ones first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rebinds: bool,
    reserves: bool,
    lane: u32,
}

impl Payer {
    /// Gives a request its lane and reserves its hard cap. On an error nothing has changed.
    pub fn start(&mut self, plan: &Plan<'_>) -> Result<Started, PayerError> {
        if self.state.view.phase != Phase::Open {
            return Err(PayerError::Closed);
        }
        let quote = &plan.quote.body;
        if plan.now_ms > quote.valid_until_ms {
            return Err(PayerError::QuoteExpired { valid_until_ms: quote.valid_until_ms });
        }
        let hash = quote.hash();
        let crowded = self.state.lanes.len() >= LANES_BEFORE_REBINDING;
        let next = self.state.next_lane.max(self.state.view.floor);
        let can_open = self.state.view.has_lane(next);
        let found = self.candidates(plan, &hash).min();
        match found {
            Some(Candidate { lane, rebinds, .. }) if !rebinds || crowded || !can_open => {
                self.start_on(lane, plan)
            }
            Some(_) | None if can_open => self.start_new(next, plan),
            Some(_) | None => Err(PayerError::NoLane),
        }
    }

    /// Gives up a request for which nothing was signed.
    pub fn cancel(&mut self, lane: u32) -> Result<(), PayerError> {
        let live = self.live_mut(lane)?;
        match &live.request {
            None => Err(PayerError::NoRequest { lane }),
            Some(request) if request.first_seq.is_some() => Err(PayerError::AlreadySigned { lane }),
            Some(_) => {
                live.request = None;
                Ok(())
            }
        }
    }

    /// Signs nothing more for a request whose first voucher was signed: nobody waits for its answer. The lane waits
    /// for its receipt, and [`free`](Self::free) frees what is reserved beyond its last voucher.
    pub fn give_up(&mut self, lane: u32) -> Result<(), PayerError> {
        let live = self.live_mut(lane)?;
        let signed = live.request.as_mut().filter(|request| request.first_seq.is_some());
        signed.ok_or(PayerError::NoRequest { lane })?.given_up = true;
        live.granted = Reserve::default();
        Ok(())
    }

    /// Shrinks the reservation of a lane whose request was given up to what was signed, unless it is that already.
    pub fn free(&mut self, lane: u32) -> Option<Pending<PayerRecord>> {
        let (of, live) = (self.state.lanes.get(&lane)?, self.live.get(&lane)?);
        let given_up = live.request.as_ref().is_some_and(|request| request.given_up);
        let last = live.last().filter(|_| live.known && given_up && live.unconfirmed == 0)?;
        let Claim { seq, amount, .. } = *last;
        // Where the amount is the same already, the number still says what to wait for after a restart.
        if of.reserved == (Reserve { seq, amount }) {
            return None;
        }
        self.change(PayerRecord::GivenUp { lane, seq, amount }).ok()
    }

    /// Shrinks all reservations to what may still be needed: to what was signed on lanes that are idle, or whose
    /// request was given up, and to what their request can cost on others. Frees deposit and budget; before a clean
    /// stop, no idle lane is in doubt after it.
    pub fn trim(&mut self) -> Vec<Pending<PayerRecord>> {
        let lanes: Vec<u32> = self.live.keys().copied().collect();
        let trim = |lane| self.trim_idle(lane).or_else(|| self.free(lane)).or_else(|| self.trim_busy(lane));
        lanes.into_iter().filter_map(trim).collect()
    }

    fn trim_busy(&mut self, lane: u32) -> Option<Pending<PayerRecord>> {
        let (of, live) = (self.state.lanes.get(&lane)?, self.live.get_mut(&lane)?);
        let settled = live.known && live.unconfirmed == 0;
        let request = live.request.as_ref().filter(|request| settled && !request.given_up)?;
        // Credit that an earlier request left may be above the cap.
        let amount = live.last().map_or(Amount::ZERO, |last| last.amount).max(request.cap);
        if of.reserved.amount <= amount {
            return None;
        }
        live.granted.amount = live.granted.amount.min(amount);
        self.change(PayerRecord::Capped { lane, amount }).ok()
    }

    fn trim_idle(&mut self, lane: u32) -> Option<Pending<PayerRecord>> {
        let (of, live) = (self.state.lanes.get(&lane)?, self.live.get_mut(&lane)?);
        if !live.known || live.request.is_some() || of.quiet || live.unconfirmed > 0 {
            return None;
        }
        // Before the record is durable already: to sign less is always safe.
        live.granted = Reserve::default();
        let voucher = live.recent.back().cloned().map(Box::new);
        self.change(PayerRecord::Trimmed { lane, voucher }).ok()
    }

    fn candidates<'a>(
        &'a self,
        plan: &'a Plan<'_>,
        hash: &'a QuoteHash,
    ) -> impl Iterator<Item = Candidate> + 'a {
        self.state.lanes.iter().filter_map(|(lane, of)| {
            let live = self.live.get(lane)?;
            if !live.known || live.request.is_some() || of.quote_hash != *hash {
                return None;
            }
            let quote = of.quote.as_ref()?;
            let meter = Meter::new(&quote.body.prices, &quote.body.limits, plan.ask, of.usage).ok()?;
            let cap = meter.cap_cost().ok()?;
            let last = live.last().map_or((0, Amount::ZERO), |claim| (claim.seq, claim.amount));
            // Credit left from a larger request would let this one cost more than its cap.
            if last.1 > cap {
                return None;
            }
            let rebinds = of.budget != Some(plan.budget);
            if rebinds && last.0 > 0 && !of.answered(last.0) {
                return None;
            }
            let reserves = rebinds || !covers(of, live, cap, plan.ask);
            Some(Candidate { rebinds, reserves, lane: *lane })
        })
    }

    fn start_on(&mut self, lane: u32, plan: &Plan<'_>) -> Result<Started, PayerError> {
        let of = self.lane(lane)?;
        let meter = Meter::new(&plan.quote.body.prices, &plan.quote.body.limits, plan.ask, of.usage)?;
        let (cap, max_amount) = cap_of(&meter, of.spent, plan.max_amount)?;
        let live = self.live.get(&lane).ok_or(PayerError::UnknownLane { lane })?;
        let rebinds = of.budget != Some(plan.budget);
        let mut pending = None;
        if rebinds || !covers(of, live, cap, plan.ask) {
            let of_budget = of.lane_use(lane, self.state.view.settled_on(lane));
            let held = if rebinds { of_budget.spent } else { of_budget.reserved };
            let reserved = Reserve {
                seq: self.next_seq(of, live)?.checked_add(seqs(plan.ask)).ok_or(PayerError::Overflow)?,
                amount: self.reservation(of.reserved.amount, held, cap, plan)?,
            };
            let reserved = reserved.larger(of.reserved);
            let record = PayerRecord::Reserved { lane, budget: plan.budget, reserved };
            pending = Some(self.change(record).map_err(|_| PayerError::UnknownLane { lane })?);
            let live = self.live_mut(lane)?;
            live.unconfirmed = live.unconfirmed.saturating_add(1);
        }
        self.live_mut(lane)?.request = Some(Request { meter, cap, first_seq: None, given_up: false });
        Ok(Started { lane, max_amount, pending })
    }

    fn start_new(&mut self, lane: u32, plan: &Plan<'_>) -> Result<Started, PayerError> {
        self.check_quote(plan.quote)?;
        let quote = &plan.quote.body;
        let meter = Meter::new(&quote.prices, &quote.limits, plan.ask, Default::default())?;
        let (cap, max_amount) = cap_of(&meter, Amount::ZERO, plan.max_amount)?;
        let amount = self.reservation(Amount::ZERO, Amount::ZERO, cap, plan)?;
        let record = PayerRecord::Lane {
            lane,
            quote: Box::new(plan.quote.clone()),
            budget: plan.budget,
            reserved: Reserve { seq: seqs(plan.ask), amount },
        };
        let pending = self.change(record).map_err(|_| PayerError::NoLane)?;
        let request = Some(Request { meter, cap, first_seq: None, given_up: false });
        self.live.insert(lane, Live { known: true, request, unconfirmed: 1, ..Live::default() });
        Ok(Started { lane, max_amount, pending: Some(pending) })
    }

    fn check_quote(&self, quote: &Signed<Quote>) -> Result<(), PayerError> {
        let (body, terms) = (&quote.body, &self.state.terms);
        let fits = body.chain == terms.chain
            && body.processor == terms.payee
            && body.receipt_key == terms.receipt_key
            && body.issuer == terms.issuer;
        if !fits {
            return Err(PayerError::WrongQuote);
        }
        quote.verify_strict(&self.keys.payee).map_err(|_| PayerError::BadSignature)
    }

    /// The new reservation of a lane that has `reserved` and for which the budget holds `held`: at
    /// least `cap`, and as much of the plan's `ahead` as deposit and budget allow.
    fn reservation(
        &self,
        reserved: Amount,
        held: Amount,
        cap: Amount,
        plan: &Plan<'_>,
    ) -> Result<Amount, PayerError> {
        let least = cap.max(reserved);
        let limit =
            |from: Amount, room: Amount| from.checked_add(room).unwrap_or(Amount::from_grains(u128::MAX));
        let by_deposit = limit(reserved, self.room());
        if least > by_deposit {
            return Err(PayerError::DepositTooSmall {
                needed: least.saturating_sub(reserved),
                room: self.room(),
            });
        }
        let by_budget = limit(held, plan.room);
        if least > by_budget {
            return Err(PayerError::BudgetTooSmall { needed: least.saturating_sub(held), room: plan.room });
        }
        Ok(limit(least, plan.ahead).min(by_deposit).min(by_budget))
    }

    /// The number of the next voucher.
    pub(super) fn next_seq(&self, of: &Lane, live: &Live) -> Result<u64, PayerError> {
        let last = live.last().map_or(0, |claim| claim.seq).max(of.used_seq);
        last.checked_add(1).ok_or(PayerError::Overflow)
    }
}

/// Whether the confirmed reservation suffices for the whole request.
fn covers(of: &Lane, live: &Live, cap: Amount, ask: Ask) -> bool {
    let last = live.last().map_or(0, |claim| claim.seq).max(of.used_seq);
    let seqs = ask.max_output_tokens.saturating_add(2);
    live.granted.amount >= cap && live.granted.seq >= last.saturating_add(seqs)
}

/// Every voucher of a request pays for at least one more token or millisecond.
fn seqs(ask: Ask) -> u64 {
    SEQS.saturating_add(ask.max_output_tokens).saturating_add(ask.max_millis)
}

/// The request's hard cap, cumulative on the lane and by itself.
fn cap_of(meter: &Meter, spent: Amount, max_amount: Amount) -> Result<(Amount, Amount), PayerError> {
    let cap = meter.cap_cost()?;
    let needed = cap.saturating_sub(spent);
    if needed > max_amount {
        return Err(PayerError::OverCap { needed, cap: max_amount });
    }
    Ok((cap, needed))
}
