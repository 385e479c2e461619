//! Operations for the model: half of them made from the state so that they are likely to succeed,
//! half with parts of them wrong, and amounts at the edges of bits.

use super::naive::{Naive, NaiveChannel, NaiveLane};
use crate::{
    random::Random,
    world::{self, RECEIPT_KEY, VOUCHER_KEY, id, key},
};
use gristmill_ledger::{
    Body, Genesis, GenesisBalance, SignedTx, Transaction, keys,
    tx::{
        AuthoriseKey, Burn, CancelRedemption, ClaimProof, ClaimRoyalty, CloseChannel, CommitModel,
        MaturedLane, Mint, OpenChannel, PayRedemption, PostBond, PostOffer, PublishModel, RaiseFloor,
        RegisterForeign, RegisterProcessor, RequestClose, RequestRedemption, RevokeKey, Settle, SettleClaim,
        ShowReceipt, StateReserve, TopUp, Transfer, TransferShares, Unbond, Withdraw, WithdrawBond,
        WithdrawOffer,
    },
};
use gristmill_types::{
    AccountId, Amount, Approval, ChainId, ChannelTerms, Claim, Digest, LineId, ModelId, Prices, QuoteHash,
    Receipt, Signed, Usage, Voucher, VoucherHash,
};

/// One step of a run.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// How long nothing happens before it.
    pub(crate) wait_ms: u64,
    pub(crate) tx: SignedTx,
    /// Whether it fails by itself.
    pub(crate) malformed: bool,
}

const PEOPLE: [u8; 6] = [1, 2, 3, 4, 5, 6];
/// They hold nothing at genesis.
const NEWCOMERS: [u8; 3] = [8, 9, 10];
const ISSUERS: [u8; 2] = [1, 2];
const MAX_DEPOSIT: u128 = 1 << 63;
const GRACE_MS: u64 = 60_000;
const REDEMPTION_MS: u64 = 40_000;
const UNBONDING_MS: u64 = 50_000;

/// The number of an account that acts for itself.
fn number(account: AccountId) -> u8 {
    PEOPLE.into_iter().chain(NEWCOMERS).find(|person| id(*person) == account).unwrap()
}

/// Everybody holds much of both issuers' credits, at edges of bits.
pub(crate) fn genesis() -> Genesis {
    let mut genesis = world::genesis();
    genesis.issuers.iter_mut().for_each(|issuer| {
        issuer.cap = Amount::from_grains(1 << 120);
        issuer.daily_limit = Amount::from_grains(1 << 118);
    });
    genesis.params.min_redemption_ms = REDEMPTION_MS;
    genesis.params.unbonding_ms = UNBONDING_MS;
    genesis.params.newcomers_per_day = 2;
    genesis.params.newcomer_debt = Amount::from_grains(5 * world::FEE);
    genesis.balances = [(1, 1, 1 << 64), (2, 1, (1 << 63) - 1), (3, 1, 1 << 20), (4, 1, 1 << 100)]
        .into_iter()
        .chain([(5, 1, (1 << 64) + 1), (6, 1, 1_000), (2, 2, 1 << 96), (4, 2, 1 << 90), (5, 2, 11)])
        .map(|(account, issuer, amount)| GenesisBalance {
            account: id(account),
            issuer: id(issuer),
            amount: Amount::from_grains(amount),
        })
        .collect();
    genesis
}

fn pick<T: Copy>(random: &mut Random, items: &[T]) -> Option<T> {
    (!items.is_empty()).then(|| random.pick(items))
}

/// The operation of this seed in this state.
pub(crate) fn op(naive: &Naive, seed: u64) -> Op {
    let mut random = Random(seed);
    let wild = random.chance(2);
    let wait_ms = match random.below(24) {
        0 => random.pick(&[GRACE_MS / 2, GRACE_MS, GRACE_MS - 1, 86_400_000]),
        _ => random.below(3),
    };
    let mut maker = Maker { naive, random, wild, malformed: false };
    let (sender, body) = maker.body();
    let mut tx = Transaction {
        chain: naive.chain,
        sender: id(sender),
        nonce: naive.nonces.get(&id(sender)).copied().unwrap_or(0),
        fee_issuer: id(maker.fee_issuer(sender)),
        body,
    };
    if maker.wrong(8) {
        match maker.random.below(3) {
            0 => tx.nonce = tx.nonce.wrapping_sub(1),
            1 => tx.nonce += 1,
            _ => tx.chain = ChainId::new([0; 32]),
        }
        // The terms of a new channel name the nonce, so this may fail by itself, too.
    }
    Op { wait_ms, tx: Signed::sign(tx, &key(sender)), malformed: maker.malformed }
}

struct Maker<'a> {
    naive: &'a Naive,
    random: Random,
    wild: bool,
    malformed: bool,
}

impl Maker<'_> {
    /// Whether to spoil this part, in one of so many cases, if at all.
    fn wrong(&mut self, one_in: u64) -> bool {
        self.wild && self.random.chance(one_in)
    }

    fn person(&mut self) -> u8 {
        self.random.pick(&PEOPLE)
    }

    fn issuer(&mut self) -> u8 {
        self.random.pick(&ISSUERS)
    }

    fn fee_issuer(&mut self, sender: u8) -> u8 {
        // A spending key pays in its own issuer's credits.
        let of_key =
            self.naive.spending.iter().find(|((_, key), _)| sender == VOUCHER_KEY && *key == id(sender));
        if let Some((_, (issuer, ..))) = of_key
            && !self.wrong(12)
        {
            return if *issuer == id(1) { 1 } else { 2 };
        }
        let rich = ISSUERS.into_iter().find(|issuer| self.naive.balance(id(sender), id(*issuer)) > 100);
        if self.wrong(12) { self.random.pick(&[1, 2, 7]) } else { rich.unwrap_or(1) }
    }

    /// An amount up to `most`; a wild one may be anything but zero.
    fn amount(&mut self, most: u128) -> u128 {
        if self.wrong(3) {
            return match self.random.below(3) {
                0 => most.saturating_add(1),
                _ => self.random.u128(),
            }
            .max(1);
        }
        match self.random.below(4) {
            0 => most,
            1 => self.random.u128().min(most),
            2 => self.random.u128() % most.max(1),
            _ => u128::from(self.random.below(100_000)).min(most),
        }
        .max(1)
    }

    fn model_id(&mut self) -> ModelId {
        ModelId::new([self.random.below(60) as u8; 32])
    }

    fn known_model(&mut self) -> ModelId {
        let known: Vec<_> = self.naive.models.keys().copied().collect();
        if known.is_empty() || self.wrong(12) { self.model_id() } else { self.random.pick(&known) }
    }

    fn name(&mut self) -> String {
        format!("line/{}", self.random.below(30))
    }

    fn lines_of(&mut self, model: &ModelId) -> Vec<LineId> {
        if self.wrong(8) {
            return vec![keys::line_id(&self.name())];
        }
        let parts = self.naive.models.get(model).map(|model| model.parts.clone()).unwrap_or_default();
        parts.into_iter().map(|(line, _)| line).collect()
    }

    fn body(&mut self) -> (u8, Body) {
        let person = self.person();
        match self.random.below(40) {
            0..=1 => self.redemption(person),
            2 => self.transfer(person),
            3..=4 => self.mint(),
            5 if self.random.chance(2) => self.state_reserve(),
            5 => self.burn(),
            6 if self.random.chance(2) => self.authorise(person),
            6 => {
                let endpoints = vec!["https://somewhere".to_owned()];
                let person = if self.random.chance(2) { self.random.pick(&NEWCOMERS) } else { person };
                (person, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints }.into())
            }
            7 => self.post_offer(person),
            8 => self.bond(person),
            9 if self.random.chance(2) => self.revoke(person),
            9 => self.withdraw_offer(person),
            10..=11 => self.publish(person),
            12..=13 => self.claim_royalty(person),
            14 => self.transfer_shares(person),
            15..=18 if self.naive.channels.values().filter(|channel| !channel.closed).count() < 4 => {
                self.open(person)
            }
            _ => match self.channel() {
                Some(channel) => self.on_channel(&channel),
                None => self.open(person),
            },
        }
    }

    fn transfer(&mut self, person: u8) -> (u8, Body) {
        let issuer = self.issuer();
        let held = self.naive.balance(id(person), id(issuer));
        let amount = self.amount(held.saturating_sub(world::FEE));
        let to = (person % 6) + 1;
        self.malformed = self.wrong(20);
        let amount = Amount::from_grains(if self.malformed { 0 } else { amount });
        (person, Transfer { to: id(to), issuer: id(issuer), amount }.into())
    }

    fn mint(&mut self) -> (u8, Body) {
        let issuer = if self.wrong(6) { 3 } else { self.issuer() };
        let limit = self.naive.issuers.get(&id(issuer)).map_or(1, |issuer| issuer.limit.min(issuer.cap));
        let amount = self.amount(limit / 4);
        let fresh = self.random.below(200) as u8;
        let deposit = Digest::new([if self.wrong(4) { 0 } else { fresh }; 32]);
        (issuer, Mint { deposit, to: id(self.person()), amount: Amount::from_grains(amount) }.into())
    }

    fn burn(&mut self) -> (u8, Body) {
        let issuer = if self.wrong(3) { 4 } else { self.issuer() };
        let held = self.naive.balance(id(issuer), id(issuer));
        let amount = self.amount(held.saturating_sub(world::FEE));
        (issuer, Burn { amount: Amount::from_grains(amount) }.into())
    }

    fn post_offer(&mut self, person: u8) -> (u8, Body) {
        let person = if self.random.chance(4) { self.random.pick(&NEWCOMERS) } else { person };
        let model = self.known_model();
        let mut issuers = vec![id(self.issuer())];
        if self.wrong(4) {
            issuers = vec![id(5)];
        }
        (person, PostOffer { model, prices: Prices::default(), issuers }.into())
    }

    fn withdraw_offer(&mut self, person: u8) -> (u8, Body) {
        let offers: Vec<_> = self.naive.offers.iter().copied().collect();
        if offers.is_empty() || self.wrong(3) {
            return (person, WithdrawOffer { model: self.model_id() }.into());
        }
        let (processor, model) = self.random.pick(&offers);
        (number(processor), WithdrawOffer { model }.into())
    }

    /// A commitment, or the publication that follows it. A payload follows from a number, so that it can
    /// be made again when its commitment is found.
    fn publish(&mut self, person: u8) -> (u8, Body) {
        let payload = |seed: u64| -> Body {
            let mut random = Random(seed);
            let model = ModelId::new([random.below(80) as u8; 32]);
            let name = format!("line/{}", random.below(60));
            if random.chance(3) {
                return RegisterForeign { name, ..world::register_foreign("a", model) }.into();
            }
            let known: Vec<_> = self.naive.models.keys().copied().collect();
            let mut parents: Vec<_> =
                (0..random.below(3)).filter_map(|_| pick(&mut random, &known)).collect();
            parents.sort_unstable();
            parents.dedup();
            let own = keys::line_id(&name);
            let least = self.naive.parts(own, &parents, 10_000).map_or(0, |parts| {
                parts.iter().filter(|(line, _)| *line != own).map(|(_, bps)| *bps).sum::<u16>()
            });
            let royalty_bps = random.pick(&[0, 1, 333, 1_000, 2_000, 9_999, 10_000]);
            let royalty_bps = if random.chance(6) { royalty_bps } else { royalty_bps.max(least) };
            PublishModel { name, royalty_bps, parents, ..world::publish("a", model) }.into()
        };
        let all = PEOPLE.into_iter().flat_map(|of| (0..90).map(move |seed| (of, seed)));
        let committed: Vec<_> = all
            .filter(|(of, seed)| {
                let commitment = CommitModel::to(&id(*of), &payload(*seed)).commitment;
                self.naive.commitments.contains_key(&(id(*of), commitment))
            })
            .collect();
        if committed.is_empty() || self.random.chance(3) {
            let seed = self.random.below(90);
            return (person, CommitModel::to(&id(person), &payload(seed)).into());
        }
        let (publisher, seed) = committed[self.random.index(committed.len())];
        let seed = if self.random.chance(12) { seed + 1 } else { seed };
        (publisher, payload(seed))
    }

    fn bond(&mut self, person: u8) -> (u8, Body) {
        let known: Vec<_> = self.naive.bonds.iter().map(|(name, bond)| (*name, *bond)).collect();
        if known.is_empty() || self.random.chance(3) {
            let issuer = self.issuer();
            let held = self.naive.balance(id(person), id(issuer)).saturating_sub(world::FEE);
            let amount = if self.random.chance(3) { 0 } else { self.amount(held.min(MAX_DEPOSIT)) };
            let withhold_bps = self.random.pick(&[0, 1, 5_000, 10_000, 10_001]);
            self.malformed = amount > MAX_DEPOSIT || withhold_bps > 10_000;
            let post = PostBond {
                issuer: id(issuer),
                amount: Amount::from_grains(amount),
                target: Amount::from_grains(self.random.u128() % MAX_DEPOSIT),
                withhold_bps,
            };
            return (person, post.into());
        }
        let ((processor, issuer), bond) = self.random.pick(&known);
        let processor = if self.wrong(8) { person } else { number(processor) };
        let over = bond.unbonding.is_some_and(|deadline| deadline <= self.naive.time);
        if over || (bond.unbonding.is_some() && self.random.chance(2)) {
            return (processor, WithdrawBond { issuer }.into());
        }
        self.malformed = self.wrong(12);
        let wait_ms = if self.malformed { UNBONDING_MS + 1 } else { UNBONDING_MS };
        (processor, Unbond { issuer, wait_ms }.into())
    }

    fn claim_royalty(&mut self, person: u8) -> (u8, Body) {
        let issuer = id(self.issuer());
        match self.holding() {
            Some((line, holder, _)) if !self.wrong(3) => (holder, ClaimRoyalty { line, issuer }.into()),
            _ => (person, ClaimRoyalty { line: keys::line_id(&self.name()), issuer }.into()),
        }
    }

    /// Somebody's shares of a line, preferably one that was paid for.
    fn holding(&mut self) -> Option<(LineId, u8, u64)> {
        let all: Vec<_> =
            self.naive.shares.iter().map(|((line, holder), held)| (*line, *holder, *held)).collect();
        let paid = |line: &LineId| self.naive.pools.keys().any(|(of, _)| of == line);
        let earning: Vec<_> = all.iter().copied().filter(|(line, ..)| paid(line)).collect();
        let from = if earning.is_empty() || self.random.chance(4) { all } else { earning };
        let (line, holder, held) = *from.get(self.random.index(from.len().max(1)))?;
        Some((line, number(holder), held))
    }

    fn transfer_shares(&mut self, person: u8) -> (u8, Body) {
        let to = id(person);
        let (line, holder, held) = self.holding().unwrap_or((keys::line_id("nothing"), 1, 1));
        let holder = if self.wrong(8) { self.person() } else { holder };
        let mut issuers: Vec<_> =
            self.naive.pools.keys().filter(|(of, _)| *of == line).map(|(_, issuer)| *issuer).collect();
        if self.wrong(4) {
            issuers = vec![id(self.issuer())];
        }
        let shares = match self.random.below(3) {
            0 => held,
            _ => self.random.below(held) + 1,
        };
        let shares = if self.wrong(6) { held + 1 } else { shares };
        self.malformed = id(holder) == to;
        (holder, TransferShares { line, to, shares, issuers }.into())
    }

    /// The payer's spending key, in half of the cases where it has one.
    fn key_of(&mut self, payer: u8) -> Option<(AccountId, u128, u128)> {
        let known = self.naive.spending.get(&(id(payer), id(VOUCHER_KEY))).copied();
        known.filter(|_| self.random.chance(2))
    }

    fn redemption(&mut self, person: u8) -> (u8, Body) {
        let known: Vec<_> = self.naive.redemptions.iter().map(|(name, of)| (*name, *of)).collect();
        let over: Vec<_> = known.iter().copied().filter(|(_, of)| of.2 <= self.naive.time).collect();
        let from = if over.is_empty() || self.wrong(2) { known } else { over };
        if from.is_empty() || self.random.chance(3) {
            let issuer = self.issuer();
            let held = self.naive.balance(id(person), id(issuer)).saturating_sub(world::FEE);
            let (wait_ms, short) = (REDEMPTION_MS, self.wrong(12));
            let amount = self.amount(held);
            self.malformed = short || issuer == person || amount < 100;
            let request = RequestRedemption {
                issuer: id(issuer),
                amount: Amount::from_grains(amount),
                reference: "somewhere".into(),
                wait_ms: if short { wait_ms - 1 } else { wait_ms },
            };
            return (person, request.into());
        }
        let ((holder, name), (issuer, ..)) = self.random.pick(&from);
        let name = if self.wrong(8) { name + 1 } else { name };
        if self.random.chance(2) {
            let sender = if self.wrong(4) { person } else { number(issuer) };
            return (sender, PayRedemption { holder, number: name }.into());
        }
        let issuer = if self.wrong(8) { id(self.issuer()) } else { issuer };
        (number(holder), CancelRedemption { issuer, number: name }.into())
    }

    fn state_reserve(&mut self) -> (u8, Body) {
        let issuer = if self.wrong(6) { 3 } else { self.issuer() };
        let today = self.naive.time / 86_400_000;
        let day = if self.wrong(2) { self.random.below(today + 3) } else { today };
        let amount = Amount::from_grains(self.random.u128());
        (issuer, StateReserve { amount, day, document: Digest::new([1; 32]) }.into())
    }

    fn authorise(&mut self, person: u8) -> (u8, Body) {
        let known = self.naive.spending.get(&(id(person), id(VOUCHER_KEY))).map(|(issuer, ..)| *issuer);
        let issuer = match known {
            Some(issuer) if !self.wrong(3) => issuer,
            _ => id(self.issuer()),
        };
        let limit = self.random.u128().max(1);
        let limit = if self.random.chance(3) { limit } else { limit % 1_000_000_000 + 1 };
        (person, AuthoriseKey { key: id(VOUCHER_KEY), issuer, limit: Amount::from_grains(limit) }.into())
    }

    fn revoke(&mut self, person: u8) -> (u8, Body) {
        let owners: Vec<_> = PEOPLE
            .into_iter()
            .filter(|owner| self.naive.spending.contains_key(&(id(*owner), id(VOUCHER_KEY))))
            .collect();
        let owner = if owners.is_empty() || self.wrong(4) { person } else { self.random.pick(&owners) };
        let mut channels: Vec<_> = self
            .naive
            .channels
            .values()
            .map(|of| of.terms)
            .filter(|terms| terms.payer == id(owner))
            .collect();
        channels.sort_by_key(ChannelTerms::id);
        channels.truncate(3);
        if self.wrong(6) {
            channels.iter_mut().for_each(|terms| terms.voucher_key = id(RECEIPT_KEY));
            channels.sort_by_key(ChannelTerms::id);
            self.malformed = !channels.is_empty();
        }
        (owner, RevokeKey { key: id(VOUCHER_KEY), channels }.into())
    }

    fn open(&mut self, payer: u8) -> (u8, Body) {
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
    fn channel(&mut self) -> Option<NaiveChannel> {
        let all: Vec<_> = self.naive.channels.values().collect();
        let live: Vec<_> = all.iter().copied().filter(|channel| !channel.closed).collect();
        let from = if live.is_empty() || self.wrong(12) { all } else { live };
        (!from.is_empty()).then(|| from[self.random.index(from.len())].clone())
    }

    fn on_channel(&mut self, channel: &NaiveChannel) -> (u8, Body) {
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

    fn lane_number(&mut self, channel: &NaiveChannel) -> u32 {
        let near = channel.floor.saturating_add(self.random.below(4) as u32);
        if self.wrong(6) {
            return self.random.pick(&[near.wrapping_sub(4), channel.floor.saturating_add(64), u32::MAX]);
        }
        if self.random.chance(8) { channel.floor.saturating_add(63) } else { near }
    }

    fn settle(&mut self, channel: &NaiveChannel, terms: ChannelTerms, by_payee: bool) -> Body {
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

    fn claim(
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
    fn pending_lane(&mut self, channel: &NaiveChannel) -> Option<u32> {
        let lanes: Vec<_> =
            channel.lanes.iter().filter(|(_, of)| of.pending.is_some()).map(|(l, _)| *l).collect();
        (!lanes.is_empty()).then(|| self.random.pick(&lanes))
    }

    fn show(&mut self, channel: &NaiveChannel, terms: ChannelTerms) -> Body {
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

    fn withdraw(&mut self, channel: &NaiveChannel, terms: ChannelTerms) -> Body {
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
