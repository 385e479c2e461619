//! Transactions about channels, valid and not.

use super::*;

impl Maker<'_> {
    pub(super) fn open(&mut self, payer: u8) -> (u8, Body) {
        let known = self.key_of(payer);
        let sender = if known.is_some() || self.wrong(12) { VOUCHER_KEY } else { payer };
        let issuer = match known {
            Some((issuer, ..)) if !self.wrong(8) => {
                if issuer == id(1) {
                    1
                } else {
                    2
                }
            }
            _ => self.issuer(),
        };
        let terms = ChannelTerms {
            chain: self.naive.chain,
            payer: id(payer),
            payee: id(if self.random.chance(3) { self.random.pick(&NEWCOMERS) } else { payer % 6 + 1 }),
            issuer: id(issuer),
            voucher_key: id(VOUCHER_KEY),
            receipt_key: id(RECEIPT_KEY),
            grace_ms: GRACE_MS,
            open_nonce: self.naive.nonces.get(&id(sender)).copied().unwrap_or(0),
        };
        let held = self.naive.balance(id(payer), id(issuer)).saturating_sub(world::FEE);
        let held = known.map_or(held, |(_, limit, spent)| held.min(limit.saturating_sub(spent + world::FEE)));
        let deposit = self.amount(held.min(MAX_DEPOSIT)).max(100);
        self.malformed = deposit > MAX_DEPOSIT;
        (sender, OpenChannel { terms, deposit: Amount::from_grains(deposit) }.into())
    }

    /// A channel, preferably not closed.
    pub(super) fn channel(&mut self) -> Option<NaiveChannel> {
        let all: Vec<_> = self.naive.channels.values().collect();
        let live: Vec<_> = all.iter().copied().filter(|channel| !channel.closed).collect();
        let from = if live.is_empty() || self.wrong(12) { all } else { live };
        (!from.is_empty()).then(|| from[self.random.index(from.len())].clone())
    }

    pub(super) fn on_channel(&mut self, channel: &NaiveChannel) -> (u8, Body) {
        let (payer, payee) = (number(channel.terms.payer), number(channel.terms.payee));
        let mut terms = channel.terms;
        let foreign = self.wrong(25);
        if foreign {
            terms.grace_ms += 1;
        }
        let anybody = if self.key_of(payer).is_some() { VOUCHER_KEY } else { self.person() };
        let over = channel.closing.is_some_and(|deadline| deadline <= self.naive.clock);
        match if over && !self.wrong(4) { self.random.pick(&[13, 19]) } else { self.random.below(20) } {
            0..=8 => {
                let sender = if self.random.chance(4) { anybody } else { payee };
                (sender, self.settle(channel, terms, id(sender) == terms.payee))
            }
            9..=12 if self.pending_lane(channel).is_some() || self.wrong(2) => {
                (anybody, self.show(channel, terms))
            }
            13..=14 if self.pending_lane(channel).is_some() || self.wrong(2) => {
                (anybody, self.withdraw(channel, terms))
            }
            9..=14 => (payee, self.settle(channel, terms, true)),
            15..=16 => {
                let most = MAX_DEPOSIT - channel.deposit;
                let held = self.naive.balance(terms.payer, terms.issuer).saturating_sub(world::FEE);
                let amount = self.amount(held.min(most));
                self.malformed = amount > MAX_DEPOSIT;
                let sender = if self.key_of(payer).is_some() { VOUCHER_KEY } else { payer };
                (sender, TopUp { terms, amount: Amount::from_grains(amount) }.into())
            }
            17 => {
                self.malformed = self.wrong(4);
                let sender = if self.key_of(payer).is_some() || self.wrong(6) { VOUCHER_KEY } else { payer };
                (if self.malformed { payee } else { sender }, RequestClose { terms }.into())
            }
            _ => {
                let mut lanes: Vec<_> = channel.lanes.keys().copied().collect();
                if self.wrong(4) {
                    lanes.pop();
                }
                let sender = if over || self.wrong(2) { anybody } else { payee };
                (sender, CloseChannel { terms, lanes }.into())
            }
        }
    }

    pub(super) fn lane_number(&mut self, channel: &NaiveChannel) -> u32 {
        let near = channel.floor.saturating_add(self.random.below(4) as u32);
        if self.wrong(6) {
            return self.random.pick(&[near.wrapping_sub(4), channel.floor.saturating_add(64), u32::MAX]);
        }
        if self.random.chance(8) { channel.floor.saturating_add(63) } else { near }
    }

    pub(super) fn settle(&mut self, channel: &NaiveChannel, terms: ChannelTerms, by_payee: bool) -> Body {
        let mut lanes = vec![self.lane_number(channel)];
        if self.random.chance(3) {
            lanes.push(self.lane_number(channel));
        }
        lanes.sort_unstable();
        lanes.dedup();
        let claims = lanes.into_iter().map(|lane| self.claim(channel, &terms, lane, by_payee)).collect();
        let floor = (by_payee && self.random.chance(8)).then(|| {
            let to = channel.floor.saturating_add(self.random.pick(&[0, 1, 2, 3, 64, 100]));
            let mut remove: Vec<_> = channel.lanes.range(..to).map(|(lane, _)| *lane).collect();
            if self.wrong(4) {
                remove.pop();
            }
            RaiseFloor { to, remove }
        });
        Settle { terms, claims, floor }.into()
    }

    pub(super) fn claim(
        &mut self,
        channel: &NaiveChannel,
        terms: &ChannelTerms,
        lane: u32,
        by_payee: bool,
    ) -> SettleClaim {
        let known: Option<&NaiveLane> = channel.lanes.get(&lane);
        let pending = known.and_then(|of| of.pending.as_ref());
        let (paid, last) = known.map_or((0, 0), |of| (of.paid, of.seq));
        let base = pending.map_or(last, |pending| pending.through().max(last));
        let seq = match self.wrong(4) {
            true => self.random.pick(&[0, last, base, u64::MAX]),
            false => base.saturating_add(1).saturating_add(self.random.below(3)),
        };
        let least = pending.map_or(paid, |pending| pending.worth().max(paid));
        let most = channel.rest().saturating_add(paid).saturating_sub(least);
        let share = if self.random.chance(3) { most } else { most / 8 };
        let amount = least.saturating_add(self.amount(share)).clamp(1, MAX_DEPOSIT);
        let amount = if self.wrong(6) { paid.max(1) } else { amount };
        let usage = match known {
            Some(_) if self.wrong(8) => Usage::default(),
            Some(of) => Usage { output_tokens: of.usage.output_tokens.saturating_add(1), ..of.usage },
            None => Usage { output_tokens: 1, ..Usage::default() },
        };
        let model = match known {
            Some(of) if !self.wrong(8) => of.model,
            _ => self.known_model(),
        };
        let claim = Claim {
            chain: terms.chain,
            channel: terms.id(),
            lane,
            seq,
            model,
            quote: QuoteHash::new([u8::from(self.wrong(12)); 32]),
            usage,
            amount: Amount::from_grains(amount),
        };
        let approves = self.random.chance(3);
        let proof = match approves {
            true => ClaimProof::Approval(Signed::sign(Approval(claim), &key(VOUCHER_KEY))),
            false => ClaimProof::Voucher(Signed::sign(Voucher(claim), &key(VOUCHER_KEY))),
        };
        let wanted = if by_payee { self.random.chance(4) } else { true };
        let without = !by_payee && self.wrong(10);
        self.malformed |= without;
        let receipt = (wanted && !without).then(|| {
            let (seq, spent) = match approves {
                true => (seq, amount),
                false => (seq.saturating_add(self.random.below(2)), self.amount(amount)),
            };
            receipt(&claim, seq, spent)
        });
        SettleClaim { lines: self.lines_of(&model), proof, receipt }
    }

    /// A lane with a pending claim, if there is one.
    pub(super) fn pending_lane(&mut self, channel: &NaiveChannel) -> Option<u32> {
        let lanes: Vec<_> =
            channel.lanes.iter().filter(|(_, of)| of.pending.is_some()).map(|(l, _)| *l).collect();
        (!lanes.is_empty()).then(|| self.random.pick(&lanes))
    }

    pub(super) fn show(&mut self, channel: &NaiveChannel, terms: ChannelTerms) -> Body {
        let any = self.lane_number(channel);
        let lane = self.pending_lane(channel).filter(|_| !self.wrong(5)).unwrap_or(any);
        let of = channel.lanes.get(&lane);
        let pending = of.and_then(|of| of.pending.as_ref());
        let seq = pending.map_or(1, |pending| pending.seq);
        let seq =
            if self.wrong(4) { seq.saturating_sub(1) } else { seq.saturating_add(self.random.below(3)) };
        let worth = pending.map_or(1, |pending| pending.worth());
        let spent = match self.random.below(3) {
            0 => of.map_or(0, |of| of.paid),
            _ => self.amount(worth).saturating_sub(1),
        };
        let claim = Claim {
            chain: terms.chain,
            channel: terms.id(),
            lane,
            seq,
            model: ModelId::new([0; 32]),
            quote: QuoteHash::new([0; 32]),
            usage: of.map_or_else(Usage::default, |of| of.usage),
            amount: Amount::ZERO,
        };
        ShowReceipt { terms, receipt: receipt(&claim, seq, spent) }.into()
    }

    pub(super) fn withdraw(&mut self, channel: &NaiveChannel, terms: ChannelTerms) -> Body {
        let due = |of: &NaiveLane| of.pending.as_ref().is_some_and(|p| p.deadline <= self.naive.clock);
        let mut lanes: Vec<u32> = channel.lanes.iter().filter(|(_, of)| due(of)).map(|(l, _)| *l).collect();
        if lanes.is_empty() || self.wrong(3) {
            lanes = vec![self.pending_lane(channel).unwrap_or(0)];
        }
        if self.wrong(8) {
            lanes = vec![self.lane_number(channel)];
        }
        let lanes = lanes
            .into_iter()
            .map(|lane| {
                let model = channel.lanes.get(&lane).map(|of| of.model);
                MaturedLane { lane, lines: self.lines_of(&model.unwrap_or(ModelId::new([0; 32]))) }
            })
            .collect();
        Withdraw { terms, lanes }.into()
    }
}

fn receipt(claim: &Claim, seq: u64, spent: u128) -> Box<Signed<Receipt>> {
    let body = Receipt {
        chain: claim.chain,
        channel: claim.channel,
        lane: claim.lane,
        seq,
        voucher: VoucherHash::new([0; 32]),
        model: claim.model,
        quote: claim.quote,
        usage: claim.usage,
        spent: Amount::from_grains(spent),
        request: Digest::new([0; 32]),
        response: Digest::new([0; 32]),
        last: true,
        audit: None,
    };
    Box::new(Signed::sign(body, &key(RECEIPT_KEY)))
}
