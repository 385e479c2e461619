//! What the settling task remembers of a channel between two rounds: what waits to be claimed, and since when.
//!
//! Each lane waits for itself, until it is paid or brought to the ledger: neither the next request on it nor a
//! round that does not find it among the claims lets its time begin anew.

use crate::{books::Book, config::Config};
use gristmill_channel::{LedgerView, Settlement};
use gristmill_types::{Amount, LineId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// What the settling task remembers of a channel between two rounds.
#[derive(Default)]
pub(super) struct Memory {
    /// What approvals pay on lanes that nothing is bought on now, and since when that has not changed.
    quiet: Option<(Amount, Instant)>,
    /// Lanes with an approval that was not brought to the ledger yet.
    approved: BTreeMap<u32, Waiting>,
    /// Lanes with a receipt that no approval has come for.
    unapproved: BTreeMap<u32, Waiting>,
    /// Claims that wait on the ledger.
    pub(super) pending: Vec<PendingClaim>,
    pub(super) read: Option<Instant>,
    /// When it was last tried to make room, and how often that was paid for.
    pub(super) tried: Option<Instant>,
    pub(super) rooms: u128,
    /// Whether the owner knows that the account cannot pay a fee.
    pub(super) warned: bool,
    pub(super) retry_at: Option<Instant>,
    /// Claims, by lane and number, that the ledger refused: sending them again would only cost fees.
    pub(super) refused: BTreeSet<(u32, u64)>,
}

/// A claim that waits on the ledger for its time of contest to end.
#[derive(Clone, Debug)]
pub(super) struct PendingClaim {
    pub(super) lane: u32,
    pub(super) lines: Vec<LineId>,
    /// Up to which number it speaks, and what it is worth, cumulative.
    pub(super) through: u64,
    pub(super) amount: Amount,
    /// Ledger time.
    pub(super) deadline_ms: u64,
}

/// What a lane had come to when it began to wait.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Cumulative on the lane.
    amount: Amount,
    since: Instant,
}

impl Memory {
    /// What there is to claim that the ledger has not, and did not refuse.
    pub(super) fn news(&self, claims: Vec<Settlement>, closing: bool) -> Vec<Settlement> {
        let refused = |lane, seq| self.refused.contains(&(lane, seq));
        let claims = claims.into_iter().filter_map(|mut claim| {
            // Where the approval was refused, the voucher may still do.
            if claim.approval.take_if(|of| refused(claim.lane, of.body.0.seq)).is_some() {
                claim.at_once = Amount::ZERO;
            }
            let voucher = !refused(claim.lane, claim.voucher.body.0.seq) && !self.waits(&claim, closing);
            (voucher || claim.approval.is_some()).then_some(claim)
        });
        claims.collect()
    }

    /// Whether the lane's voucher need not be claimed, as a claim is pending. What came after that claim is
    /// claimed when it is over; on a closing channel that could be too late, so it is claimed in its
    /// place.
    pub(super) fn waits(&self, claim: &Settlement, closing: bool) -> bool {
        self.pending.iter().any(|of| {
            let higher = claim.voucher.body.0.seq > of.through && claim.receipt.body.spent > of.amount;
            of.lane == claim.lane && !(closing && higher)
        })
    }

    /// Notes what can be claimed now. `view` is the ledger's.
    pub(super) fn note(&mut self, claims: &[Settlement], view: &LedgerView, now: Instant) {
        let quiet = total(claims.iter().filter(|claim| !claim.goes_on).map(|claim| claim.at_once));
        let before = self.quiet.filter(|(amount, _)| *amount == quiet);
        self.quiet = (!quiet.is_zero()).then(|| before.unwrap_or((quiet, now)));
        for lanes in [&mut self.approved, &mut self.unapproved] {
            lanes.retain(|lane, of| view.has_lane(*lane) && view.settled_on(*lane) < of.amount);
        }
        for claim in claims {
            let up_to = |part| total([view.settled_on(claim.lane), part].into_iter());
            let (approved, owed) = (up_to(claim.at_once), up_to(claim.owed));
            if !claim.at_once.is_zero() {
                self.approved.entry(claim.lane).or_insert(Waiting { amount: approved, since: now });
            }
            // An approval ends the wait of all receipts that it covers.
            if self.unapproved.get(&claim.lane).is_some_and(|of| of.amount <= approved) {
                self.unapproved.remove(&claim.lane);
            }
            if owed > approved {
                self.unapproved.entry(claim.lane).or_insert(Waiting { amount: owed, since: now });
            }
        }
    }

    /// What was brought to the ledger waits no more; `late` of it without an approval.
    pub(super) fn brought(&mut self, claims: &[Settlement], late: &BTreeSet<u32>) {
        self.quiet = None;
        for Settlement { lane, .. } in claims {
            let waiting = if late.contains(lane) { &mut self.unapproved } else { &mut self.approved };
            waiting.remove(lane);
        }
    }

    /// What waits on the ledger for its time to come.
    pub(super) fn pending_on(&self, book: &Book) -> Amount {
        if self.pending.is_empty() {
            return Amount::ZERO;
        }
        let payee = book.payee();
        let rest = |of: &PendingClaim| of.amount.saturating_sub(payee.view().settled_on(of.lane));
        total(self.pending.iter().map(rest))
    }

    /// Whether what is approved has waited long enough: the channel is quiet, or it never is.
    pub(super) fn is_due(&self, config: &Config, now: Instant) -> bool {
        let waited = |since| now.duration_since(since);
        self.quiet.is_some_and(|(_, since)| waited(since) >= config.settle_after)
            || self.approved.values().any(|of| waited(of.since) >= config.settle_at_latest)
    }

    /// Those of the claims whose approval has not come in the time that it is given.
    pub(super) fn late(
        &self,
        claims: &[Settlement],
        patience: Duration,
        closing: bool,
        now: Instant,
    ) -> BTreeSet<u32> {
        let late = claims.iter().filter(|claim| {
            let waiting = self.unapproved.get(&claim.lane);
            // An approval is taken beside a pending claim.
            waiting.is_some_and(|of| now.duration_since(of.since) >= patience) && !self.waits(claim, closing)
        });
        late.map(|claim| claim.lane).collect()
    }
}

/// The sum, as far as it fits.
pub(super) fn total(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum))
}
