//! The model. It keeps numbers in maps and states the rules once more, as plainly as it can.

use super::generate::Op;
use gristmill_ledger::{
    Body, Genesis, Params, Record, Rejection, keys,
    record::{ChannelState, Lane},
    tx::{
        ClaimProof, CloseChannel, CommitModel, OpenChannel, RequestClose, Settle, ShowReceipt, TopUp,
        Withdraw,
    },
};
use gristmill_types::{
    AccountId, ChainId, ChannelId, ChannelTerms, Claim, Digest, LineId, ModelId, QuoteHash, Usage,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Rejected(Rejection),
    Invalid,
}

#[derive(Clone, Debug)]
pub(crate) struct NaiveIssuer {
    pub(crate) cap: u128,
    pub(crate) limit: u128,
    genesis: u128,
    minted: u128,
    burned: u128,
    by_day: BTreeMap<u64, u128>,
}

#[derive(Clone, Debug)]
pub(crate) struct NaivePending {
    pub(crate) seq: u64,
    amount: u128,
    usage: Usage,
    cap: Option<(u64, u128, Usage)>,
    pub(crate) deadline: u64,
    by_payee: bool,
}

impl NaivePending {
    pub(crate) fn worth(&self) -> u128 {
        self.cap.map_or(self.amount, |(_, spent, _)| spent.min(self.amount))
    }

    pub(crate) fn through(&self) -> u64 {
        self.cap.map_or(self.seq, |(seq, ..)| seq.max(self.seq))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct NaiveLane {
    pub(crate) model: ModelId,
    quote: QuoteHash,
    pub(crate) paid: u128,
    pub(crate) seq: u64,
    pub(crate) usage: Usage,
    pub(crate) pending: Option<NaivePending>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaiveModel {
    pub(crate) name: String,
    pub(crate) bps: u16,
    parents: Vec<ModelId>,
    /// Lines and their parts.
    pub(crate) parts: Vec<(LineId, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NaiveBond {
    pub(crate) held: u128,
    target: u128,
    bps: u16,
    pub(crate) unbonding: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct NaiveChannel {
    pub(crate) terms: ChannelTerms,
    /// `None` open, `Some(deadline)` closing.
    pub(crate) closing: Option<u64>,
    pub(crate) closed: bool,
    pub(crate) deposit: u128,
    pub(crate) settled: u128,
    refunded: u128,
    pub(crate) floor: u32,
    pub(crate) lanes: BTreeMap<u32, NaiveLane>,
}

impl NaiveChannel {
    pub(crate) fn rest(&self) -> u128 {
        self.deposit - self.settled - self.refunded
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    pub(crate) chain: ChainId,
    fee_account: AccountId,
    params: Params,
    /// Blocks so far.
    height: u64,
    pub(crate) clock: u64,
    pub(crate) time: u64,
    /// Last stated: amount and day.
    reserves: BTreeMap<AccountId, (u128, u64)>,
    pub(crate) nonces: BTreeMap<AccountId, u64>,
    pub(crate) balances: BTreeMap<(AccountId, AccountId), u128>,
    pub(crate) issuers: BTreeMap<AccountId, NaiveIssuer>,
    deposits: BTreeSet<(AccountId, Digest)>,
    processors: BTreeSet<AccountId>,
    pub(crate) offers: BTreeSet<(AccountId, ModelId)>,
    pub(crate) models: BTreeMap<ModelId, NaiveModel>,
    /// Commitments and their blocks.
    pub(crate) commitments: BTreeMap<(AccountId, Digest), u64>,
    /// What newcomers owe: issuer and amount.
    pub(crate) debts: BTreeMap<AccountId, (AccountId, u128)>,
    /// Those of the latest day.
    newcomers: Option<(u64, u32)>,
    /// By processor and issuer.
    pub(crate) bonds: BTreeMap<(AccountId, AccountId), NaiveBond>,
    /// Owner and versions by name.
    pub(crate) lines: BTreeMap<String, (Option<AccountId>, u32)>,
    /// Paid in and drawn.
    pub(crate) pools: BTreeMap<(LineId, AccountId), (u128, u128)>,
    /// Locked credits by holder and number: issuer, amount, deadline.
    pub(crate) redemptions: BTreeMap<(AccountId, u64), (AccountId, u128, u64)>,
    /// Spending keys by owner and key: issuer, limit, spent.
    pub(crate) spending: BTreeMap<(AccountId, AccountId), (AccountId, u128, u128)>,
    /// Shares by line and holder.
    pub(crate) shares: BTreeMap<(LineId, AccountId), u64>,
    /// What holders have earned and not drawn, by line, issuer and holder: grains and 2⁻⁶⁴ grains.
    due: BTreeMap<(LineId, AccountId, AccountId), (u128, u64)>,
    pub(crate) channels: BTreeMap<ChannelId, NaiveChannel>,
    latest_deadline: u64,
}

type Step = Result<(), Rejection>;

fn ensure(condition: bool, rejection: Rejection) -> Step {
    condition.then_some(()).ok_or(rejection)
}

fn covers(a: &Usage, b: &Usage) -> bool {
    let list = |u: &Usage| [u.input_tokens, u.output_tokens, u.millis, u.requests];
    list(a).iter().zip(list(b)).all(|(a, b)| *a >= b)
}

/// What one share has earned when so much was paid in: a millionth of it, in 2⁻⁶⁴ grains.
fn index(paid_in: u128) -> u128 {
    ((paid_in / 1_000_000) << 64) + ((paid_in % 1_000_000) << 64) / 1_000_000
}

impl Naive {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let mut issuers: BTreeMap<_, _> = genesis
            .issuers
            .iter()
            .map(|issuer| {
                let naive = NaiveIssuer {
                    cap: issuer.cap.grains(),
                    limit: issuer.daily_limit.grains(),
                    genesis: 0,
                    minted: 0,
                    burned: 0,
                    by_day: BTreeMap::new(),
                };
                (issuer.account, naive)
            })
            .collect();
        let mut balances = BTreeMap::new();
        for balance in &genesis.balances {
            balances.insert((balance.account, balance.issuer), balance.amount.grains());
            issuers.get_mut(&balance.issuer).unwrap().genesis += balance.amount.grains();
        }
        Self {
            chain: genesis.chain_id(),
            fee_account: genesis.fee_account,
            params: genesis.params.clone(),
            height: 1,
            clock: 1,
            time: genesis.time_ms + 1,
            nonces: BTreeMap::new(),
            balances,
            issuers,
            deposits: BTreeSet::new(),
            processors: BTreeSet::new(),
            offers: BTreeSet::new(),
            models: BTreeMap::new(),
            commitments: BTreeMap::new(),
            debts: BTreeMap::new(),
            newcomers: None,
            bonds: BTreeMap::new(),
            lines: BTreeMap::new(),
            pools: BTreeMap::new(),
            redemptions: BTreeMap::new(),
            reserves: BTreeMap::new(),
            spending: BTreeMap::new(),
            shares: BTreeMap::new(),
            due: BTreeMap::new(),
            channels: BTreeMap::new(),
            latest_deadline: 0,
        }
    }

    pub(crate) fn balance(&self, account: AccountId, issuer: AccountId) -> u128 {
        self.balances.get(&(account, issuer)).copied().unwrap_or(0)
    }

    fn take(&mut self, account: AccountId, issuer: AccountId, amount: u128) -> Step {
        let held = self.balance(account, issuer);
        ensure(held >= amount, Rejection::InsufficientBalance)?;
        self.balances.insert((account, issuer), held - amount);
        Ok(())
    }

    fn give(&mut self, account: AccountId, issuer: AccountId, amount: u128) {
        *self.balances.entry((account, issuer)).or_default() += amount;
    }

    /// What becomes of the operation.
    pub(crate) fn step(&mut self, op: &Op) -> Verdict {
        self.clock += op.wait_ms;
        self.time += op.wait_ms;
        let verdict = self.decide(op);
        self.clock += 1;
        self.time += 1;
        self.height += 1;
        verdict
    }

    fn decide(&mut self, op: &Op) -> Verdict {
        let tx = &op.tx.body;
        let nonce = self.nonces.get(&tx.sender).copied().unwrap_or(0);
        let fee = self.params.fees.of(&tx.body).grains();
        if op.malformed || tx.chain != self.chain || tx.nonce != nonce {
            return Verdict::Invalid;
        }
        let payer = match &tx.body {
            Body::OpenChannel(OpenChannel { terms, .. })
            | Body::TopUp(TopUp { terms, .. })
            | Body::RequestClose(RequestClose { terms })
            | Body::ShowReceipt(ShowReceipt { terms, .. })
            | Body::Withdraw(Withdraw { terms, .. })
            | Body::CloseChannel(CloseChannel { terms, .. })
                if terms.voucher_key == tx.sender =>
            {
                terms.payer
            }
            _ => tx.sender,
        };
        let mut paid = self.clone();
        let by_key = paid.spend(payer, tx.sender, tx.fee_issuer, fee);
        if by_key.is_err() {
            paid = self.clone();
        }
        // What is no key, or has spent its limit, pays for itself.
        if by_key.is_ok() || paid.take(tx.sender, tx.fee_issuer, fee).is_ok() {
            *self = paid;
            self.give(self.fee_account, tx.fee_issuer, fee);
        } else if !self.owe(op, fee) {
            return Verdict::Invalid;
        }
        self.nonces.insert(tx.sender, nonce + 1);
        let mut after = self.clone();
        match after.act(tx.sender, nonce, &tx.body) {
            Ok(()) => {
                *self = after;
                Verdict::Accepted
            }
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    /// Whether a fee that cannot be paid may be owed; then it is.
    fn owe(&mut self, op: &Op, fee: u128) -> bool {
        let tx = &op.tx.body;
        let may = match &tx.body {
            Body::RegisterProcessor(_) => true,
            Body::PostOffer(t) => t.issuers.contains(&tx.fee_issuer),
            Body::Settle(Settle { terms, .. }) | Body::Withdraw(Withdraw { terms, .. }) => {
                terms.payee == tx.sender && terms.issuer == tx.fee_issuer
            }
            _ => false,
        };
        let limit = self.params.newcomer_debt.grains();
        if let Some((issuer, owed)) = self.debts.get_mut(&tx.sender) {
            let fits = may && *issuer == tx.fee_issuer && *owed + fee <= limit;
            *owed += if fits { fee } else { 0 };
            return fits;
        }
        let today = self.time / 86_400_000;
        let before = self.newcomers.filter(|(day, _)| *day == today).map_or(0, |(_, count)| count);
        let first = matches!(tx.body, Body::RegisterProcessor(_)) && tx.nonce == 0;
        let room = before < self.params.newcomers_per_day && fee <= limit;
        if !first || !room || !self.issuers.contains_key(&tx.fee_issuer) {
            return false;
        }
        self.newcomers = Some((today, before + 1));
        self.debts.insert(tx.sender, (tx.fee_issuer, fee));
        true
    }

    /// Takes from the payer, and from the limit of its spending key if that is who sends.
    fn spend(&mut self, payer: AccountId, sender: AccountId, issuer: AccountId, amount: u128) -> Step {
        if payer != sender {
            let key = self.spending.get_mut(&(payer, sender)).ok_or(Rejection::NoSuchKey)?;
            ensure(key.0 == issuer, Rejection::KeyIssuer)?;
            let rest = key.1.saturating_sub(key.2);
            ensure(amount <= rest && key.2 <= key.1, Rejection::OverKeyLimit)?;
            key.2 += amount;
        }
        self.take(payer, issuer, amount)
    }

    fn act(&mut self, sender: AccountId, nonce: u64, body: &Body) -> Step {
        match body {
            Body::Transfer(t) => {
                self.take(sender, t.issuer, t.amount.grains())?;
                self.give(t.to, t.issuer, t.amount.grains());
            }
            Body::Mint(t) => {
                let amount = t.amount.grains();
                let day = self.time / 86_400_000;
                let issuer = self.issuers.get_mut(&sender).ok_or(Rejection::NotIssuer)?;
                ensure(!self.deposits.contains(&(sender, t.deposit)), Rejection::DepositUsed)?;
                let outstanding = issuer.genesis + issuer.minted - issuer.burned;
                ensure(amount <= issuer.cap - outstanding, Rejection::OverCap)?;
                let today = issuer.by_day.entry(day).or_default();
                ensure(amount <= issuer.limit - *today, Rejection::OverDailyLimit)?;
                *today += amount;
                issuer.minted += amount;
                self.deposits.insert((sender, t.deposit));
                self.give(t.to, sender, amount);
            }
            Body::Burn(t) => {
                ensure(self.issuers.contains_key(&sender), Rejection::NotIssuer)?;
                self.take(sender, sender, t.amount.grains())?;
                self.issuers.get_mut(&sender).unwrap().burned += t.amount.grains();
            }
            Body::RegisterProcessor(_) => {
                self.processors.insert(sender);
            }
            Body::PostOffer(t) => {
                ensure(self.processors.contains(&sender), Rejection::NotProcessor)?;
                ensure(self.models.contains_key(&t.model), Rejection::UnknownModel)?;
                let known = t.issuers.iter().all(|issuer| self.issuers.contains_key(issuer));
                ensure(known, Rejection::UnknownIssuer)?;
                let others = self.offers.iter().any(|(of, model)| (*of, *model != t.model) == (sender, true));
                ensure(!self.debts.contains_key(&sender) || !others, Rejection::OwesFees)?;
                self.offers.insert((sender, t.model));
            }
            Body::WithdrawOffer(t) => {
                ensure(self.offers.remove(&(sender, t.model)), Rejection::NoSuchOffer)?;
            }
            Body::PublishModel(t) => {
                ensure(!self.models.contains_key(&t.model), Rejection::ModelExists)?;
                let line = self.lines.entry(t.name.clone()).or_insert((Some(sender), 0));
                ensure(line.0 == Some(sender), Rejection::NotLineOwner)?;
                if line.1 == 0 {
                    self.shares.insert((keys::line_id(&t.name), sender), 1_000_000);
                }
                line.1 += 1;
                let parts = self.parts(keys::line_id(&t.name), &t.parents, t.royalty_bps)?;
                self.reveal(sender, body)?;
                let (name, parents) = (t.name.clone(), t.parents.clone());
                self.models.insert(t.model, NaiveModel { name, bps: t.royalty_bps, parents, parts });
            }
            Body::RegisterForeign(t) => {
                ensure(!self.models.contains_key(&t.model), Rejection::ModelExists)?;
                ensure(!self.lines.contains_key(&t.name), Rejection::NameTaken)?;
                self.reveal(sender, body)?;
                self.lines.insert(t.name.clone(), (None, 1));
                let model = NaiveModel { name: t.name.clone(), bps: 0, parents: vec![], parts: vec![] };
                self.models.insert(t.model, model);
            }
            Body::CommitModel(t) => {
                self.commitments.insert((sender, t.commitment), self.height);
            }
            Body::PostBond(t) => {
                ensure(self.processors.contains(&sender), Rejection::NotProcessor)?;
                ensure(self.issuers.contains_key(&t.issuer), Rejection::UnknownIssuer)?;
                let held = match self.bonds.get(&(sender, t.issuer)) {
                    Some(bond) if bond.unbonding.is_some() => return Err(Rejection::Unbonding),
                    bond => bond.map_or(0, |bond| bond.held),
                };
                ensure(t.amount.grains() <= (1 << 63) - held, Rejection::BondTooLarge)?;
                self.take(sender, t.issuer, t.amount.grains())?;
                let (held, target) = (held + t.amount.grains(), t.target.grains());
                let bond = NaiveBond { held, target, bps: t.withhold_bps, unbonding: None };
                self.bonds.insert((sender, t.issuer), bond);
            }
            Body::Unbond(t) => {
                let deadline = self.time + t.wait_ms;
                let bond = self.bonds.get_mut(&(sender, t.issuer)).ok_or(Rejection::NoBond)?;
                ensure(bond.unbonding.is_none(), Rejection::Unbonding)?;
                bond.unbonding = Some(deadline);
            }
            Body::WithdrawBond(t) => {
                let bond = self.bonds.remove(&(sender, t.issuer)).ok_or(Rejection::NoBond)?;
                let deadline = bond.unbonding.ok_or(Rejection::NotUnbonding)?;
                ensure(deadline <= self.time, Rejection::UnbondingNotOver)?;
                self.give(sender, t.issuer, bond.held);
            }
            Body::ClaimRoyalty(t) => {
                ensure(self.shares.contains_key(&(t.line, sender)), Rejection::NoShares)?;
                ensure(self.draw(t.line, t.issuer, sender) > 0, Rejection::NothingToClaim)?;
            }
            Body::TransferShares(t) => {
                let held = *self.shares.get(&(t.line, sender)).ok_or(Rejection::NoShares)?;
                ensure(held >= t.shares, Rejection::TooFewShares)?;
                let pools = self.pools.keys().filter(|(line, _)| *line == t.line).map(|(_, issuer)| issuer);
                ensure(pools.eq(&t.issuers), Rejection::PoolsDiffer)?;
                for issuer in &t.issuers {
                    self.draw(t.line, *issuer, sender);
                    self.draw(t.line, *issuer, t.to);
                }
                self.shares.insert((t.line, sender), held - t.shares);
                *self.shares.entry((t.line, t.to)).or_default() += t.shares;
                if held == t.shares {
                    self.shares.remove(&(t.line, sender));
                    self.due.retain(|(line, _, holder), _| (*line, *holder) != (t.line, sender));
                }
            }
            Body::RequestRedemption(t) => {
                self.take(sender, t.issuer, t.amount.grains())?;
                let deadline = self.time + t.wait_ms;
                self.redemptions.insert((sender, nonce), (t.issuer, t.amount.grains(), deadline));
            }
            Body::PayRedemption(t) => {
                let locked = self.redemptions.remove(&(t.holder, t.number));
                let (issuer, amount, _) = locked.ok_or(Rejection::NoSuchRedemption)?;
                ensure(issuer == sender, Rejection::OtherIssuer)?;
                self.issuers.get_mut(&issuer).unwrap().burned += amount;
            }
            Body::CancelRedemption(t) => {
                let locked = self.redemptions.remove(&(sender, t.number));
                let (issuer, amount, deadline) = locked.ok_or(Rejection::NoSuchRedemption)?;
                ensure(issuer == t.issuer, Rejection::OtherIssuer)?;
                ensure(self.time >= deadline, Rejection::RedemptionNotDue)?;
                self.give(sender, issuer, amount);
            }
            Body::StateReserve(t) => {
                ensure(self.issuers.contains_key(&sender), Rejection::NotIssuer)?;
                ensure(t.day <= self.time / 86_400_000, Rejection::ReserveInFuture)?;
                let last = self.reserves.insert(sender, (t.amount.grains(), t.day));
                ensure(last.is_none_or(|(_, day)| day <= t.day), Rejection::ReserveOlder)?;
            }
            Body::AuthoriseKey(t) => {
                let key = self.spending.entry((sender, t.key)).or_insert((t.issuer, 0, 0));
                ensure(key.0 == t.issuer, Rejection::KeyIssuer)?;
                key.1 = t.limit.grains();
            }
            Body::RevokeKey(t) => {
                ensure(self.spending.remove(&(sender, t.key)).is_some(), Rejection::NoSuchKey)?;
                let clock = self.clock;
                for terms in &t.channels {
                    let channel = self.channel(terms)?;
                    if !channel.closed && channel.closing.is_none() {
                        channel.closing = Some(clock + terms.grace_ms);
                        self.latest_deadline = self.latest_deadline.max(clock + terms.grace_ms);
                    }
                }
            }
            Body::OpenChannel(_)
            | Body::TopUp(_)
            | Body::Settle(_)
            | Body::ShowReceipt(_)
            | Body::RequestClose(_)
            | Body::CloseChannel(_)
            | Body::Withdraw(_) => self.act_on_channel(sender, body)?,
        }
        Ok(())
    }

    /// Uses up a commitment of an earlier block.
    fn reveal(&mut self, sender: AccountId, body: &Body) -> Step {
        let name = (sender, CommitModel::to(&sender, body).commitment);
        let height = self.commitments.get(&name).ok_or(Rejection::NotCommitted)?;
        ensure(*height < self.height, Rejection::NotCommitted)?;
        self.commitments.remove(&name);
        Ok(())
    }

    /// How a version's royalty is shared out.
    pub(crate) fn parts(
        &self,
        own: LineId,
        parents: &[ModelId],
        bps: u16,
    ) -> Result<Vec<(LineId, u16)>, Rejection> {
        let mut parts: Vec<(LineId, u16)> = Vec::new();
        for parent in parents {
            let parent = self.models.get(parent).ok_or(Rejection::UnknownParent)?;
            for (line, part) in parent.parts.iter().filter(|(line, _)| *line != own) {
                match parts.iter().position(|(known, _)| known == line) {
                    Some(at) => parts[at].1 = parts[at].1.max(*part),
                    None => parts.push((*line, *part)),
                }
            }
        }
        let sum: u32 = parts.iter().map(|(_, part)| u32::from(*part)).sum();
        ensure(u32::from(bps) >= sum, Rejection::RoyaltyBelowParents)?;
        if u32::from(bps) > sum {
            parts.push((own, bps - sum as u16));
        }
        ensure(parts.len() <= 8, Rejection::TooManyRoyalties)?;
        Ok(parts)
    }

    /// Pays a line, and looks at every holder.
    fn pay_line(&mut self, line: LineId, issuer: AccountId, amount: u128) {
        let pool = self.pools.entry((line, issuer)).or_default();
        let rise = index(pool.0 + amount) - index(pool.0);
        pool.0 += amount;
        for ((_, holder), shares) in self.shares.iter().filter(|((of, _), _)| *of == line) {
            let due = self.due.entry((line, issuer, *holder)).or_default();
            let low = (rise & u128::from(u64::MAX)) * u128::from(*shares) + u128::from(due.1);
            *due = (due.0 + (rise >> 64) * u128::from(*shares) + (low >> 64), low as u64);
        }
    }

    /// Pays out the whole grains that are due.
    fn draw(&mut self, line: LineId, issuer: AccountId, holder: AccountId) -> u128 {
        let Some(due) = self.due.get_mut(&(line, issuer, holder)) else { return 0 };
        let amount = std::mem::take(&mut due.0);
        self.pools.get_mut(&(line, issuer)).unwrap().1 += amount;
        self.give(holder, issuer, amount);
        amount
    }

    fn act_on_channel(&mut self, sender: AccountId, body: &Body) -> Step {
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

    fn show(&mut self, t: &ShowReceipt) -> Step {
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

    fn channel(&mut self, terms: &ChannelTerms) -> Result<&mut NaiveChannel, Rejection> {
        self.channels.get_mut(&terms.id()).ok_or(Rejection::UnknownChannel)
    }

    fn lines_of(&self, model: &ModelId) -> Vec<LineId> {
        self.models[model].parts.iter().map(|(line, _)| *line).collect()
    }

    /// Moves a lane's total from what was paid to `total`.
    fn pay(&mut self, terms: &ChannelTerms, lane: u32, total: u128) {
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

    fn mature(&mut self, terms: &ChannelTerms, lane: u32) -> bool {
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

    fn settle(&mut self, sender: AccountId, settle: &Settle) -> Step {
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

    fn pin(&mut self, terms: &ChannelTerms, claim: &Claim, lines: &[LineId]) -> Step {
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

    fn approve(&mut self, terms: &ChannelTerms, claim: &Claim) -> Step {
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

    /// Every number of the model is on the ledger, and nothing else.
    pub(crate) fn compare(&self, records: impl Iterator<Item = Record>) {
        let mut balances = self.balances.clone();
        balances.retain(|_, amount| *amount > 0);
        let (mut nonces, mut issuers, mut channels) =
            (self.nonces.clone(), self.issuers.clone(), self.channels.clone());
        let (mut deposits, mut offers, mut models) =
            (self.deposits.clone(), self.offers.clone(), self.models.clone());
        let (mut processors, mut pools, mut lines) =
            (self.processors.clone(), self.pools.clone(), self.lines.clone());
        let (mut shares, mut redemptions) = (self.shares.clone(), self.redemptions.clone());
        let mut reserves = self.reserves.clone();
        let (mut commitments, mut debts) = (self.commitments.clone(), self.debts.clone());
        let (mut bonds, mut newcomers) = (self.bonds.clone(), None);
        let mut lanes = BTreeSet::new();
        let mut keys = 0;
        let mut latest = 0;
        for record in records {
            match record {
                Record::Account(r) => assert_eq!(nonces.remove(&r.account), Some(r.nonce)),
                Record::Balance(r) => {
                    assert_eq!(balances.remove(&(r.account, r.issuer)), Some(r.amount.grains()));
                }
                Record::Issuer(r) => {
                    let naive = issuers.remove(&r.issuer).unwrap();
                    let found = (r.genesis.grains(), r.minted.grains(), r.burned.grains());
                    assert_eq!(found, (naive.genesis, naive.minted, naive.burned));
                }
                Record::Deposit(r) => assert!(deposits.remove(&(r.issuer, r.deposit))),
                Record::Processor(r) => assert!(processors.remove(&r.processor)),
                Record::Offer(r) => assert!(offers.remove(&(r.processor, r.model))),
                Record::Line(r) => assert_eq!(lines.remove(&r.name), Some((r.owner, r.versions))),
                Record::Model(r) => {
                    let parts = r.royalties.iter().map(|part| (part.line, part.bps)).collect();
                    let (name, parents) = (r.name.clone(), r.parents.clone());
                    let found = NaiveModel { name, bps: r.royalty_bps, parents, parts };
                    assert_eq!(models.remove(&r.model), Some(found));
                }
                Record::Shares(r) => assert_eq!(shares.remove(&(r.line, r.holder)), Some(r.shares)),
                Record::Pool(r) => {
                    let (paid_in, drawn) = pools.remove(&(r.line, r.issuer)).unwrap();
                    assert_eq!(r.balance.grains(), paid_in - drawn);
                }
                Record::Accrual(r) => assert!(self.shares.contains_key(&(r.line, r.holder))),
                Record::Channel(r) => {
                    let naive = channels.remove(&r.terms.id()).unwrap();
                    let state = match (naive.closed, naive.closing) {
                        (true, _) => ChannelState::Closed,
                        (false, Some(deadline_ms)) => ChannelState::Closing { deadline_ms },
                        (false, None) => ChannelState::Open,
                    };
                    assert_eq!(r.state, state);
                    let found = [r.deposit, r.settled, r.refunded].map(|amount| amount.grains());
                    assert_eq!(found, [naive.deposit, naive.settled, naive.refunded]);
                    assert_eq!(r.lane_floor, naive.floor);
                    assert!(r.open_lanes().eq(naive.lanes.keys().copied()));
                }
                Record::Lane(r) => {
                    assert!(lanes.insert((r.channel, r.lane)));
                    self.compare_lane(&r);
                }
                Record::Deadlines(r) => latest = r.latest_ms,
                Record::Redemption(r) => {
                    let naive = redemptions.remove(&(r.holder, r.number));
                    assert_eq!(naive, Some((r.issuer, r.amount.grains(), r.deadline_ms)));
                }
                Record::Reserve(r) => {
                    assert_eq!(reserves.remove(&r.issuer), Some((r.amount.grains(), r.day)));
                }
                Record::SpendingKey(r) => {
                    let naive = self.spending[&(r.owner, r.key)];
                    assert_eq!((r.issuer, r.limit.grains(), r.spent.grains()), naive);
                    keys += 1;
                }
                Record::Commitment(r) => {
                    assert_eq!(commitments.remove(&(r.publisher, r.commitment)), Some(r.height));
                }
                Record::Debt(r) => {
                    assert_eq!(debts.remove(&r.account), Some((r.issuer, r.amount.grains())));
                    assert_eq!(r.creditor, self.fee_account);
                }
                Record::Newcomers(r) => newcomers = Some((r.day, r.count)),
                Record::Bond(r) => {
                    let (held, target) = (r.held.grains(), r.target.grains());
                    let found = NaiveBond { held, target, bps: r.withhold_bps, unbonding: r.unbonding_ms };
                    assert_eq!(bonds.remove(&(r.processor, r.issuer)), Some(found));
                }
                Record::LinePools(r) => {
                    let pools = self.pools.keys().filter(|(line, _)| *line == r.line);
                    assert_eq!(usize::from(r.count), pools.count());
                }
            }
        }
        let naive = self.channels.iter().flat_map(|(id, of)| of.lanes.keys().map(|lane| (*id, *lane)));
        assert_eq!(lanes, naive.collect::<BTreeSet<_>>());
        assert_eq!((latest, keys), (self.latest_deadline, self.spending.len()));
        assert!(balances.is_empty() && nonces.is_empty() && issuers.is_empty() && channels.is_empty());
        assert!(deposits.is_empty() && offers.is_empty() && models.is_empty() && processors.is_empty());
        assert!(pools.is_empty() && lines.is_empty());
        assert!(commitments.is_empty() && debts.is_empty() && bonds.is_empty());
        assert_eq!(newcomers, self.newcomers);
        assert!(shares.is_empty() && redemptions.is_empty() && reserves.is_empty());
    }

    fn compare_lane(&self, lane: &Lane) {
        let naive = &self.channels[&lane.channel].lanes[&lane.lane];
        assert_eq!((lane.model, lane.quote, lane.seq), (naive.model, naive.quote, naive.seq));
        assert_eq!((lane.paid.grains(), lane.usage), (naive.paid, naive.usage));
        match (&lane.pending, &naive.pending) {
            (None, None) => {}
            (Some(found), Some(pending)) => {
                assert_eq!((found.seq, found.effective().grains()), (pending.seq, pending.worth()));
                assert_eq!((found.through(), found.deadline_ms), (pending.through(), pending.deadline));
                assert_eq!(found.by_payee, pending.by_payee);
            }
            other => panic!("{other:?}"),
        }
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
