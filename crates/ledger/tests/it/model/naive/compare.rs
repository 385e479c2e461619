//! Every record of the ledger beside the model.

use super::*;

impl Naive {
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
