//! What becomes of channels, lanes and claims.

use super::*;

impl Naive {
    pub(super) fn act_on_channel(&mut self, sender: AccountId, body: &Body) -> Step {
        match body {
            Body::OpenChannel(t) => {
                ensure(!self.channels.contains_key(&t.terms.id()), Rejection::ChannelExists)?;
                self.spend(t.terms.payer, sender, t.terms.issuer, t.deposit.grains())?;
                let channel = NaiveChannel {
                    terms: t.terms,
                    closing: None,
                    closed: false,
                    deposit: t.deposit.grains(),
                    settled: 0,
                    refunded: 0,
                    floor: 0,
                    lanes: BTreeMap::new(),
                };
                self.channels.insert(t.terms.id(), channel);
            }
            Body::TopUp(t) => {
                let channel = self.channel(&t.terms)?.clone();
                ensure(!channel.closed, Rejection::ChannelClosed)?;
                ensure(channel.closing.is_none(), Rejection::ChannelClosing)?;
                ensure(t.amount.grains() <= (1 << 63) - channel.deposit, Rejection::DepositTooLarge)?;
                self.spend(t.terms.payer, sender, t.terms.issuer, t.amount.grains())?;
                self.channel(&t.terms)?.deposit += t.amount.grains();
            }
            Body::Settle(t) => self.settle(sender, t)?,
            Body::ShowReceipt(t) => self.show(t)?,
            Body::RequestClose(t) => {
                let deadline = self.clock + t.terms.grace_ms;
                self.spend(t.terms.payer, sender, t.terms.issuer, 0)?;
                let channel = self.channel(&t.terms)?;
                ensure(!channel.closed, Rejection::ChannelClosed)?;
                ensure(channel.closing.is_none(), Rejection::ChannelClosing)?;
                channel.closing = Some(deadline);
                self.latest_deadline = self.latest_deadline.max(deadline);
            }
            Body::CloseChannel(t) => {
                let clock = self.clock;
                let channel = self.channel(&t.terms)?;
                ensure(!channel.closed, Rejection::ChannelClosed)?;
                let due = channel.closing.is_some_and(|deadline| deadline <= clock);
                ensure(due || sender == t.terms.payee, Rejection::NotYetClosable)?;
                let pending = channel.lanes.values().any(|lane| lane.pending.is_some());
                ensure(!pending, Rejection::ClaimsPending)?;
                ensure(channel.lanes.keys().eq(&t.lanes), Rejection::LanesDiffer)?;
                let refund = channel.rest();
                channel.refunded = refund;
                channel.closed = true;
                channel.lanes.clear();
                self.give(t.terms.payer, t.terms.issuer, refund);
            }
            Body::Withdraw(t) => {
                ensure(!self.channel(&t.terms)?.closed, Rejection::ChannelClosed)?;
                for item in &t.lanes {
                    let channel = self.channel(&t.terms)?;
                    in_range(channel, item.lane)?;
                    let lane = channel.lanes.get(&item.lane).ok_or(Rejection::NothingPending)?.clone();
                    ensure(lane.pending.is_some(), Rejection::NothingPending)?;
                    ensure(self.lines_of(&lane.model) == item.lines, Rejection::WrongLine)?;
                    ensure(self.mature(&t.terms, item.lane), Rejection::NotDue)?;
                }
            }
            other => panic!("{} is not about a channel", other.kind()),
        }
        Ok(())
    }

    pub(super) fn show(&mut self, t: &ShowReceipt) -> Step {
        let clock = self.clock;
        let channel = self.channel(&t.terms)?;
        let receipt = &t.receipt.body;
        ensure(!channel.closed, Rejection::ChannelClosed)?;
        in_range(channel, receipt.lane)?;
        let lane = channel.lanes.get_mut(&receipt.lane).ok_or(Rejection::NothingPending)?;
        let pending = lane.pending.as_mut().ok_or(Rejection::NothingPending)?;
        ensure(clock < pending.deadline, Rejection::ContestOver)?;
        ensure(receipt.seq >= pending.seq, Rejection::ReceiptTooOld)?;
        let spent = receipt.spent.grains();
        ensure(spent < pending.worth(), Rejection::ReceiptChangesNothing)?;
        pending.cap = Some((receipt.seq, spent, receipt.usage));
        if spent <= lane.paid {
            lane.seq = lane.seq.max(receipt.seq);
            lane.pending = None;
        }
        Ok(())
    }

    pub(super) fn channel(&mut self, terms: &ChannelTerms) -> Result<&mut NaiveChannel, Rejection> {
        self.channels.get_mut(&terms.id()).ok_or(Rejection::UnknownChannel)
    }

    pub(super) fn lines_of(&self, model: &ModelId) -> Vec<LineId> {
        self.models[model].parts.iter().map(|(line, _)| *line).collect()
    }

    /// Moves a lane's total from what was paid to `total`.
    pub(super) fn pay(&mut self, terms: &ChannelTerms, lane: u32, total: u128) {
        let channel = self.channels.get_mut(&terms.id()).unwrap();
        let of = channel.lanes.get_mut(&lane).unwrap();
        let (before, parts) = (of.paid, self.models[&of.model].parts.clone());
        let mut rest = total - before;
        of.paid = total;
        channel.settled += rest;
        for (line, bps) in parts {
            let part = |amount| amount * u128::from(bps) / 10_000;
            let royalty = (part(total) - part(before)).min(rest);
            rest -= royalty;
            if royalty > 0 {
                self.pay_line(line, terms.issuer, royalty);
            }
        }
        if let Some((issuer, owed)) = self.debts.get_mut(&terms.payee)
            && *issuer == terms.issuer
        {
            let part = rest.min(*owed);
            *owed -= part;
            rest -= part;
            self.give(self.fee_account, terms.issuer, part);
            self.debts.retain(|_, (_, owed)| *owed > 0);
        }
        if let Some(bond) = self.bonds.get_mut(&(terms.payee, terms.issuer))
            && bond.unbonding.is_none()
        {
            let part = (rest * u128::from(bond.bps) / 10_000).min(bond.target.saturating_sub(bond.held));
            bond.held += part;
            rest -= part;
        }
        self.give(terms.payee, terms.issuer, rest);
    }

    pub(super) fn mature(&mut self, terms: &ChannelTerms, lane: u32) -> bool {
        let clock = self.clock;
        let channel = self.channels.get_mut(&terms.id()).unwrap();
        let rest = channel.rest();
        let of = channel.lanes.get_mut(&lane).unwrap();
        let Some(pending) = of.pending.clone().filter(|pending| pending.deadline <= clock) else {
            return false;
        };
        of.pending = None;
        let total = pending.worth().min(of.paid + rest);
        if total == pending.worth() {
            of.seq = of.seq.max(pending.through());
            of.usage = pending.cap.map_or(pending.usage, |(_, _, usage)| usage);
        }
        self.pay(terms, lane, total);
        true
    }

    pub(super) fn settle(&mut self, sender: AccountId, settle: &Settle) -> Step {
        let clock = self.clock;
        let terms = &settle.terms;
        let channel = self.channel(terms)?;
        ensure(!channel.closed, Rejection::ChannelClosed)?;
        ensure(channel.closing.is_none_or(|deadline| clock < deadline), Rejection::ClosingOver)?;
        for item in &settle.claims {
            let claim = item.proof.claim();
            self.pin(terms, claim, &item.lines)?;
            self.mature(terms, claim.lane);
            let cap = item.receipt.as_ref().map(|r| (r.body.seq, r.body.spent.grains(), r.body.usage));
            let new = NaivePending {
                seq: claim.seq,
                amount: claim.amount.grains(),
                usage: claim.usage,
                cap,
                deadline: clock + terms.grace_ms,
                by_payee: sender == terms.payee,
            };
            let channel = self.channel(terms)?;
            let rest = channel.rest();
            let lane = channel.lanes.get_mut(&claim.lane).unwrap();
            ensure(new.worth() > lane.paid, Rejection::NotHigher)?;
            ensure(new.worth() - lane.paid <= rest, Rejection::OverDeposit)?;
            match item.proof {
                ClaimProof::Approval(_) => self.approve(terms, claim)?,
                ClaimProof::Voucher(_) => {
                    replaceable(lane, &new)?;
                    self.latest_deadline = self.latest_deadline.max(new.deadline);
                    let lane = self.channel(terms)?.lanes.get_mut(&claim.lane).unwrap();
                    lane.pending = Some(new);
                }
            }
        }
        let Some(floor) = &settle.floor else { return Ok(()) };
        let channel = self.channel(terms)?;
        ensure(floor.to > channel.floor, Rejection::FloorNotHigher)?;
        let keep = channel.lanes.split_off(&floor.to);
        let below = std::mem::replace(&mut channel.lanes, keep);
        ensure(!below.values().any(|lane| lane.pending.is_some()), Rejection::ClaimsPending)?;
        ensure(below.keys().eq(&floor.remove), Rejection::LanesDiffer)?;
        channel.floor = floor.to;
        Ok(())
    }

    pub(super) fn pin(&mut self, terms: &ChannelTerms, claim: &Claim, lines: &[LineId]) -> Step {
        let known = self.models.contains_key(&claim.model).then(|| self.lines_of(&claim.model));
        let channel = self.channel(terms)?;
        in_range(channel, claim.lane)?;
        match channel.lanes.get(&claim.lane) {
            Some(lane) => {
                ensure(lane.model == claim.model && lane.quote == claim.quote, Rejection::LanePinned)?;
                ensure(known.as_deref() == Some(lines), Rejection::WrongLine)
            }
            None => {
                ensure(known.is_some(), Rejection::UnknownModel)?;
                ensure(known.as_deref() == Some(lines), Rejection::WrongLine)?;
                let lane = NaiveLane {
                    model: claim.model,
                    quote: claim.quote,
                    paid: 0,
                    seq: 0,
                    usage: Usage::default(),
                    pending: None,
                };
                channel.lanes.insert(claim.lane, lane);
                Ok(())
            }
        }
    }

    pub(super) fn approve(&mut self, terms: &ChannelTerms, claim: &Claim) -> Step {
        let lane = self.channel(terms)?.lanes.get_mut(&claim.lane).unwrap();
        ensure(claim.seq >= lane.seq, Rejection::StaleClaim)?;
        lane.seq = claim.seq;
        lane.usage = claim.usage;
        if lane.pending.as_ref().is_some_and(|pending| pending.worth() <= claim.amount.grains()) {
            let done = lane.pending.take().unwrap();
            lane.seq = lane.seq.max(done.through());
        }
        self.pay(terms, claim.lane, claim.amount.grains());
        Ok(())
    }
}

fn in_range(channel: &NaiveChannel, lane: u32) -> Step {
    ensure(lane >= channel.floor, Rejection::LaneRetired)?;
    ensure(u64::from(lane) < u64::from(channel.floor) + 64, Rejection::LaneTooHigh)
}

fn replaceable(lane: &NaiveLane, new: &NaivePending) -> Step {
    ensure(new.seq > lane.seq, Rejection::StaleClaim)?;
    ensure(covers(&new.usage, &lane.usage), Rejection::UsageFell)?;
    let Some(old) = &lane.pending else { return Ok(()) };
    ensure(new.by_payee || !old.by_payee, Rejection::HeldByPayee)?;
    ensure(new.seq > old.through(), Rejection::StaleClaim)?;
    ensure(new.worth() > old.worth(), Rejection::NotHigher)
}
