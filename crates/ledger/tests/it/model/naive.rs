//! The model. It keeps numbers in maps and states the rules once more, as plainly as it can.

// By their paths: the fuzzer takes this file in from elsewhere.
#[path = "naive/channels.rs"]
mod channels;
#[path = "naive/compare.rs"]
mod compare;

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
}
