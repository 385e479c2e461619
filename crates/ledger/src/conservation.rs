//! Checks that no value appears or vanishes, without any of the code that moves it.
//!
//! Two checks. After every transaction, a tally decodes the records that it wrote, as bytes before
//! and after, and compares per issuer what is held with what was brought into being. At start and at
//! each epoch, [`scan`] adds up the whole state, and checks that its records agree with each other.

use crate::{
    invalid::Fault,
    keys, params,
    record::{ChannelState, Record, tag},
};
use gristmill_types::{AccountId, Amount, ChannelId, LineId, StateKey, decode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sums of one issuer's credits over the records that a transaction wrote.
#[derive(Debug)]
struct Sums {
    issuer: AccountId,
    held_before: u128,
    held_after: u128,
    made_before: u128,
    made_after: u128,
}

/// The running comparison of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Tally(Vec<Sums>);

/// The tags of the records that say something about value.
const VALUABLE: [u8; 6] = [tag::BALANCE, tag::CHANNEL, tag::POOL, tag::ISSUER, tag::REDEMPTION, tag::BOND];

/// What a record says about value: whose credits, how much is held, how much was made.
fn value(record: &Record) -> Option<(AccountId, u128, u128)> {
    match record {
        Record::Balance(r) => Some((r.issuer, r.amount.grains(), 0)),
        Record::Channel(r) => {
            let out = r.settled.grains().checked_add(r.refunded.grains())?;
            Some((r.terms.issuer, r.deposit.grains().checked_sub(out)?, 0))
        }
        Record::Pool(r) => Some((r.issuer, r.balance.grains(), 0)),
        Record::Redemption(r) => Some((r.issuer, r.amount.grains(), 0)),
        Record::Bond(r) => Some((r.issuer, r.held.grains(), 0)),
        Record::Issuer(r) => {
            let made = r.genesis.grains().checked_add(r.minted.grains())?.checked_sub(r.burned.grains())?;
            Some((r.issuer, 0, made))
        }
        Record::Account(_)
        | Record::Deposit(_)
        | Record::Processor(_)
        | Record::Offer(_)
        | Record::Line(_)
        | Record::Model(_)
        | Record::Shares(_)
        | Record::Accrual(_)
        | Record::Lane(_)
        | Record::Deadlines(_)
        | Record::LinePools(_)
        | Record::SpendingKey(_)
        | Record::Reserve(_)
        | Record::Commitment(_)
        | Record::Debt(_)
        | Record::Newcomers(_) => None,
    }
}

impl Tally {
    /// Takes in one record's bytes before and after.
    pub(crate) fn change(
        &mut self,
        key: &StateKey,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), Fault> {
        for (bytes, is_after) in [(before, false), (after, true)] {
            let Some(bytes) = bytes else { continue };
            // The tag says whether the record holds value; most of the others need no decoding.
            if !bytes.first().is_some_and(|tag| VALUABLE.contains(tag)) {
                continue;
            }
            let record = decode::<Record>(bytes).map_err(|_| Fault::Damaged(*key))?;
            let (issuer, held, made) = value(&record).ok_or(Fault::Damaged(*key))?;
            let sums = self.sums(issuer)?;
            let (held_sum, made_sum) = if is_after {
                (&mut sums.held_after, &mut sums.made_after)
            } else {
                (&mut sums.held_before, &mut sums.made_before)
            };
            *held_sum = held_sum.checked_add(held).ok_or(Fault::Range)?;
            *made_sum = made_sum.checked_add(made).ok_or(Fault::Range)?;
        }
        Ok(())
    }

    fn sums(&mut self, issuer: AccountId) -> Result<&mut Sums, Fault> {
        let index = match self.0.iter().position(|sums| sums.issuer == issuer) {
            Some(index) => index,
            None => {
                self.0.push(Sums { issuer, held_before: 0, held_after: 0, made_before: 0, made_after: 0 });
                self.0.len().saturating_sub(1)
            }
        };
        self.0.get_mut(index).ok_or(Fault::Range)
    }

    /// Whether what is held changed by exactly what was made.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        for sums in &self.0 {
            // held_after − held_before = made_after − made_before, without leaving the naturals.
            let left = sums.held_after.checked_add(sums.made_before);
            let right = sums.held_before.checked_add(sums.made_after);
            if left.is_none() || left != right {
                return Err(Fault::NotConserved(sums.issuer));
            }
        }
        Ok(())
    }
}

/// Where an issuer's credits are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// In accounts.
    pub balances: Amount,
    /// In channels.
    pub channels: Amount,
    /// In royalty pools.
    pub royalties: Amount,
    /// Locked until their issuer pays for them.
    #[serde(default)]
    pub redemptions: Amount,
    /// Bonds of processors.
    #[serde(default)]
    pub bonds: Amount,
}

impl Parts {
    /// All parts together; `None` if the sum does not fit, which no valid state reaches.
    pub fn total(&self) -> Option<Amount> {
        let parts = [self.balances, self.channels, self.royalties, self.redemptions, self.bonds];
        parts.into_iter().try_fold(Amount::ZERO, Amount::checked_add)
    }
}

/// One issuer's credits, counted two ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Whose credits.
    pub issuer: AccountId,
    /// At genesis.
    pub genesis: Amount,
    /// Minted since.
    pub minted: Amount,
    /// Burned since.
    pub burned: Amount,
    /// genesis + minted − burned.
    pub total: Amount,
    /// Where they are.
    pub parts: Parts,
    /// Whether the parts come to the total.
    pub adds_up: bool,
}

/// The result of a scan of the whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Every issuer's credits.
    pub supplies: Vec<Supply>,
    /// Records seen.
    pub records: u64,
    /// What does not hold. Empty for every state that this crate produces.
    pub faults: Vec<String>,
}

impl Audit {
    /// Whether everything holds.
    pub fn adds_up(&self) -> bool {
        self.faults.is_empty() && self.supplies.iter().all(|supply| supply.adds_up)
    }
}

#[derive(Default)]
struct Scan {
    audit: Audit,
    parts: BTreeMap<AccountId, Parts>,
    /// Bits that channels say: open lanes and lanes with a pending claim.
    channels: BTreeMap<ChannelId, (u32, u64, u64, Amount)>,
    /// Bits that the lanes themselves say.
    lanes: BTreeMap<ChannelId, Vec<(u32, bool, Amount)>>,
    shares: BTreeMap<LineId, u64>,
    /// Offers as the processors count them, minus the offers seen.
    offers: BTreeMap<AccountId, i64>,
    /// Pools as the lines count them, minus the pools seen.
    pools: BTreeMap<LineId, i64>,
}

/// Adds up a whole state.
pub fn scan(records: impl IntoIterator<Item = Record>) -> Audit {
    let mut scan = Scan::default();
    for record in records {
        scan.take(&record);
    }
    scan.finish()
}

impl Scan {
    fn fault(&mut self, text: String) {
        // A damaged state may have millions; the first hundred tell the story.
        if self.audit.faults.len() < 100 {
            self.audit.faults.push(text);
        }
    }

    fn add(&mut self, issuer: AccountId, part: fn(&mut Parts) -> &mut Amount, amount: Amount) {
        let sum = part(self.parts.entry(issuer).or_default());
        match sum.checked_add(amount) {
            Some(total) => *sum = total,
            None => self.fault(format!("holdings in credits of {issuer} exceed 128 bits")),
        }
    }

    fn take(&mut self, record: &Record) {
        self.audit.records = self.audit.records.saturating_add(1);
        match record {
            Record::Balance(r) => {
                if r.amount.is_zero() {
                    self.fault(format!("a balance of zero is stored for {}", r.account));
                }
                self.add(r.issuer, |parts| &mut parts.balances, r.amount);
            }
            Record::Channel(r) => self.take_channel(r),
            Record::Pool(r) => {
                self.add(r.issuer, |parts| &mut parts.royalties, r.balance);
                let count = self.pools.entry(r.line).or_default();
                *count = count.saturating_sub(1);
            }
            Record::Redemption(r) => {
                if r.amount.is_zero() {
                    self.fault(format!("a redemption of nothing is stored for {}", r.holder));
                }
                self.add(r.issuer, |parts| &mut parts.redemptions, r.amount);
            }
            Record::Bond(r) => self.add(r.issuer, |parts| &mut parts.bonds, r.held),
            Record::Debt(r) => {
                if r.amount.is_zero() {
                    self.fault(format!("a debt of nothing is stored for {}", r.account));
                }
            }
            Record::LinePools(r) => {
                let count = self.pools.entry(r.line).or_default();
                *count = count.saturating_add(i64::from(r.count));
            }
            Record::Issuer(r) => {
                let total = r.genesis.checked_add(r.minted).and_then(|sum| sum.checked_sub(r.burned));
                if total.is_none_or(|total| total > r.cap) {
                    self.fault(format!("the supply of {} is out of its range", r.issuer));
                }
                self.parts.entry(r.issuer).or_default();
                self.audit.supplies.push(Supply {
                    issuer: r.issuer,
                    genesis: r.genesis,
                    minted: r.minted,
                    burned: r.burned,
                    total: total.unwrap_or_default(),
                    parts: Parts::default(),
                    adds_up: false,
                });
            }
            Record::Lane(r) => {
                self.lanes.entry(r.channel).or_default().push((r.lane, r.pending.is_some(), r.paid));
            }
            Record::Shares(r) => {
                let sum = self.shares.entry(r.line).or_default();
                *sum = sum.saturating_add(r.shares);
            }
            Record::Line(r) => {
                if keys::line_id(&r.name) != r.line {
                    self.fault(format!("the line {} is not the hash of its name", r.line));
                }
                // A foreign line has no shares at all.
                let expected = if r.owner.is_none() { params::SHARES } else { 0 };
                let sum = self.shares.entry(r.line).or_default();
                *sum = sum.saturating_add(expected);
            }
            Record::Processor(r) => {
                let count = self.offers.entry(r.processor).or_default();
                *count = count.saturating_add(i64::from(r.offers));
            }
            Record::Offer(r) => {
                let count = self.offers.entry(r.processor).or_default();
                *count = count.saturating_sub(1);
            }
            Record::SpendingKey(r) => {
                // A limit may be set below what was spent, so only the key itself can be wrong.
                if r.owner == r.key {
                    self.fault(format!("{} is its own spending key", r.owner));
                }
            }
            Record::Account(_)
            | Record::Deposit(_)
            | Record::Model(_)
            | Record::Accrual(_)
            | Record::Reserve(_)
            | Record::Commitment(_)
            | Record::Newcomers(_)
            | Record::Deadlines(_) => {}
        }
    }

    fn take_channel(&mut self, channel: &crate::record::Channel) {
        let id = channel.terms.id();
        let held =
            channel.deposit.checked_sub(channel.settled).and_then(|rest| rest.checked_sub(channel.refunded));
        match held {
            Some(held) => self.add(channel.terms.issuer, |parts| &mut parts.channels, held),
            None => self.fault(format!("the channel {id} has paid out more than its deposit")),
        }
        let empty = held.is_none_or(Amount::is_zero) && channel.lanes == 0;
        if channel.state == ChannelState::Closed && !empty {
            self.fault(format!("the channel {id} is closed and not empty"));
        }
        let bits = (channel.lane_floor, channel.lanes, channel.pending, channel.settled);
        self.channels.insert(id, bits);
    }

    fn finish(mut self) -> Audit {
        for (id, (floor, lanes, pending, settled)) in std::mem::take(&mut self.channels) {
            let mut seen = (0u64, 0u64);
            let mut paid = Some(Amount::ZERO);
            for (lane, is_pending, lane_paid) in self.lanes.remove(&id).unwrap_or_default() {
                let bit = lane.checked_sub(floor).and_then(|i| 1u64.checked_shl(i)).unwrap_or(0);
                if bit == 0 {
                    self.fault(format!("the lane {lane} of the channel {id} is out of its range"));
                }
                seen.0 |= bit;
                seen.1 |= if is_pending { bit } else { 0 };
                paid = paid.and_then(|sum| sum.checked_add(lane_paid));
            }
            if seen != (lanes, pending) {
                self.fault(format!("the channel {id} disagrees with its lanes"));
            }
            // Lanes below the floor and those of a closed channel are gone, so less may be seen.
            if paid.is_none_or(|paid| paid > settled) {
                self.fault(format!("the lanes of the channel {id} were paid more than it settled"));
            }
        }
        for id in std::mem::take(&mut self.lanes).into_keys() {
            self.fault(format!("lanes of the unknown channel {id} are stored"));
        }
        for (line, shares) in std::mem::take(&mut self.shares) {
            if shares != params::SHARES {
                self.fault(format!("the shares of the line {line} do not come to their fixed number"));
            }
        }
        for (processor, difference) in std::mem::take(&mut self.offers) {
            if difference != 0 {
                self.fault(format!("the processor {processor} miscounts its offers"));
            }
        }
        for (line, difference) in std::mem::take(&mut self.pools) {
            if difference != 0 {
                self.fault(format!("the line {line} miscounts its pools"));
            }
        }
        let mut supplies = std::mem::take(&mut self.audit.supplies);
        for supply in &mut supplies {
            supply.parts = self.parts.remove(&supply.issuer).unwrap_or_default();
            supply.adds_up = supply.parts.total() == Some(supply.total);
        }
        for issuer in std::mem::take(&mut self.parts).into_keys() {
            self.fault(format!("credits of {issuer}, which is no issuer, are held"));
        }
        supplies.sort_by_key(|supply| supply.issuer);
        self.audit.supplies = supplies;
        self.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Balance, Channel, Stored},
        tx::{PostBond, RegisterProcessor, RequestRedemption, Settle},
        world::*,
    };
    use gristmill_types::encode;

    fn balance(account: u8, issuer: u8, amount: u128) -> Record {
        Balance { account: id(account), issuer: id(issuer), amount: grains(amount) }.into_record()
    }

    #[test]
    fn a_tally_sees_what_appears_and_vanishes() {
        let (a, b) = (balance(4, 1, 100), balance(5, 1, 50));
        for (after, balanced) in [
            ((Some(balance(4, 1, 70)), Some(balance(5, 1, 80))), true),
            ((None, Some(balance(5, 1, 150))), true),
            ((Some(balance(4, 1, 100)), Some(balance(5, 1, 50))), true),
            ((Some(balance(4, 1, 70)), Some(balance(5, 1, 81))), false),
            ((Some(balance(4, 1, 70)), Some(balance(5, 1, 79))), false),
            ((None, None), false),
            // The same amount in another issuer's credits is not the same.
            ((Some(balance(4, 2, 100)), Some(balance(5, 1, 50))), false),
        ] {
            let mut tally = Tally::default();
            for (before, after) in [(&a, &after.0), (&b, &after.1)] {
                let after = after.as_ref().map(encode);
                tally.change(&before.key(), Some(&encode(before)), after.as_deref()).unwrap();
            }
            assert_eq!(tally.check().is_ok(), balanced, "{after:?}");
        }
    }

    #[test]
    fn a_tally_that_cannot_count_says_so() {
        let mut tally = Tally::default();
        let huge = encode(&balance(4, 1, u128::MAX));
        let key = balance(4, 1, 1).key();
        tally.change(&key, None, Some(&huge)).unwrap();
        assert_eq!(tally.change(&key, None, Some(&huge)), Err(Fault::Range));
        let cut = &huge[..huge.len() - 1];
        assert_eq!(Tally::default().change(&key, Some(cut), None), Err(Fault::Damaged(key)));
    }

    fn records(world: &World) -> Vec<Record> {
        world.state.values().map(|bytes| decode(bytes).unwrap()).collect()
    }

    fn edited(world: &World, edit: impl Fn(&mut Record)) -> Audit {
        let mut records = records(world);
        records.iter_mut().for_each(edit);
        scan(records)
    }

    #[test]
    fn a_scan_counts_every_part() {
        let (mut world, terms) = World::with_channel(1_000);
        world.must(PAYEE, Settle { terms, claims: vec![approval(claim(&terms, 0, 1, 100))], floor: None });
        let redemption = RequestRedemption {
            issuer: id(ISSUER),
            amount: grains(107),
            reference: "r".into(),
            wait_ms: world.rules.params.min_redemption_ms,
        };
        world.must(PAYER, redemption);
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        let (amount, target) = (grains(30), grains(0));
        world.must(PAYEE, PostBond { issuer: id(ISSUER), amount, target, withhold_bps: 0 });
        let audit = scan(records(&world));
        assert!(audit.adds_up());
        let supply = audit.supplies.iter().find(|supply| supply.issuer == id(ISSUER)).unwrap();
        let Parts { balances, channels, royalties, redemptions, bonds } = supply.parts;
        assert_eq!((channels, royalties), (grains(900), grains(10)));
        assert_eq!((redemptions, bonds), (grains(107), grains(30)));
        assert_eq!(supply.total, grains(6 * START));
        assert_eq!(balances, grains(6 * START - 1_047));
    }

    #[test]
    fn a_scan_finds_damage() {
        let (mut world, terms) = World::with_channel(1_000);
        let pays = approval(claim(&terms, 1, 1, 100));
        world.must(
            PAYEE,
            Settle { terms, claims: vec![voucher(claim(&terms, 0, 1, 100)), pays], floor: None },
        );
        world.must(PAYEE, RegisterProcessor { receipt_key: id(RECEIPT_KEY), endpoints: vec![] });
        assert!(edited(&world, |_| {}).adds_up());
        let damages: [fn(&mut Record); 11] = [
            |record| {
                if let Record::Balance(r) = record {
                    r.amount = r.amount.checked_add(grains(1)).unwrap();
                }
            },
            |record| {
                if let Record::Balance(r) = record
                    && r.account == id(PAYER)
                {
                    r.issuer = id(STRANGER);
                }
            },
            |record| {
                if let Record::Channel(r) = record {
                    r.settled = grains(1_001);
                }
            },
            |record| {
                if let Record::Channel(r) = record {
                    r.state = ChannelState::Closed;
                }
            },
            |record| {
                if let Record::Channel(r) = record {
                    r.pending = 0;
                }
            },
            |record| {
                if let Record::Channel(r) = record {
                    r.lane_floor = 1;
                }
            },
            |record| {
                if let Record::Lane(r) = record {
                    r.paid = grains(1_000);
                }
            },
            |record| {
                if let Record::Issuer(r) = record {
                    r.burned = grains(1);
                }
            },
            |record| {
                if let Record::Shares(r) = record {
                    r.shares -= 1;
                }
            },
            |record| {
                if let Record::Processor(r) = record {
                    r.offers = 1;
                }
            },
            |record| {
                if let Record::LinePools(r) = record {
                    r.count = 2;
                }
            },
        ];
        for (number, damage) in damages.into_iter().enumerate() {
            assert!(!edited(&world, damage).adds_up(), "damage {number} went unseen");
        }
        let orphans = records(&world).into_iter().filter(|r| Channel::of(r).is_none());
        assert!(!scan(orphans).adds_up());
    }
}
