//! Operations for the model: half of them made from the state so that they are likely to succeed,
//! half with parts of them wrong, and amounts at the edges of bits.

// By its path: the fuzzer takes this file in from elsewhere.
#[path = "generate/channels.rs"]
mod channels;

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
}
