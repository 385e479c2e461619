//! Payment channels on the ledger: the protocol, and what its transactions have in common.
//!
//! # Parties
//!
//! The **payer** deposits; its voucher key signs vouchers ("you may claim up to this much on the
//! lane") and approvals ("exactly this was spent"). The **payee** is paid; its receipt key signs
//! receipts ("this much was spent"). A channel is named by the hash of its terms, which every
//! transaction on it carries whole, so that all keys follow from the payload. Amounts, use and
//! numbers on a lane are cumulative; a lane is pinned to the model and the quote of its first claim.
//!
//! # Life
//!
//! `Open` → (the payer requests to close) `Closing{deadline = now + grace}` → `Closed`. Both steps are
//! irreversible. Claims are taken while the channel is open, and while it is closing until the
//! deadline. It is closed by the payee at any time, and by anybody after the deadline, but never
//! while a claim is pending. What it still holds goes back to the payer, its lanes are deleted, and
//! the channel's record stays. All times are ledger time.
//!
//! # Claims
//!
//! A claim is a voucher or an approval. Anybody may submit one, and money goes only to the payee and
//! to lines of models; but nothing leaves a channel without a word from each side:
//!
//! * From the payer, always: the claim is signed by the voucher key.
//! * From the payee: it submits the claim itself, or the claim carries a **receipt** of its receipt
//!   key. Without this rule a payer could sign claims for work that nobody did, on a model whose
//!   royalties it receives itself, and so empty the deposit past the payee; or hold a lane with a
//!   claim that is too high and shoot it down with a receipt at the last moment.
//!
//! An **approval** pays at once. Its number, use and amount must be exactly those of its receipt, if
//! it carries one. An approval never cancels or lowers a pending claim; a pending
//! claim that is worth no more than what has been paid since is done and removed.
//!
//! A **voucher** becomes pending until now + grace. In that time anybody may show a receipt of the
//! payee; afterwards anybody may withdraw it, to the payee's benefit. A matured claim is also paid
//! before anything else happens on its lane. With a receipt, which an honest payee adds to its own
//! claim too, a voucher is worth no more than the receipt says from the start.
//!
//! A claim is taken if
//!
//! 1. its lane is one of the 64 from the floor up, and it names the lane's model and quote (the
//!    first claim pins them, on a model that the ledger knows);
//! 2. it is worth more than what was paid, and its number is above the lane's (an approval's may
//!    equal it: a stream may be approved in steps), and a voucher's use covers what was paid for (an
//!    approval states what was really used, which may be less than an earlier voucher promised);
//! 3. what it is worth beyond that does not exceed what the channel holds;
//! 4. where another voucher is pending on the lane: its number is above all that the pending one
//!    speaks for, it is worth more, and, if the payee submitted the pending one, the payee submits
//!    this one too (otherwise the payer could postpone for ever with claims a grain higher).
//!
//! A replacement starts its time anew: otherwise an inflated claim could slip in at the end of a
//! small one's time. Because of rule 2, an approval settles its number: the voucher that promised
//! more under the same number cannot be claimed any more.
//!
//! # Receipts against a pending claim
//!
//! A receipt at number n caps every claim with a number up to n at its `spent`. It is taken before
//! the deadline if n is not below the pending claim's number and it lowers what the claim is worth;
//! so of contradictory receipts the lowest wins. The ledger remembers the cap as part of the pending
//! claim, with the receipt's number: a later claim must have a number above it (rule 4), so a claim
//! that a receipt speaks about cannot come back under another number. When the claim is paid or
//! removed the lane's number rises to the cap's, for the same reason (rule 2). Only the lowest cap is
//! kept: if the payer shows two receipts, the later one first, then the earlier and lower one, and
//! the payee then claims with a number between the two, the payer has that claim's whole time to
//! show the later receipt again.
//!
//! # Paying out
//!
//! The lane's cumulative amount rises from `old` to `new`; of this each line in the model's royalties
//! gets ⌊new·bps/10⁴⌋ − ⌊old·bps/10⁴⌋ with its own part, in their order, and the payee the rest. Where
//! several parts round up and more than the rise would be given away, the later lines get less. A pending claim that exceeds what the
//! channel holds when it matures (because other lanes were paid meanwhile) is paid as far as that
//! goes, and its number stays claimable, should the payer top up.
//!
//! # The floor
//!
//! The payee alone raises the floor, to get fresh lanes. Lanes below it are unpayable for good and
//! their records are deleted; the floor cannot pass a lane with a pending claim.

pub(crate) mod claim;

use crate::{
    bond, deadline, debt,
    event::{Event, Royalty},
    executor::Context,
    invalid::{Fault, Malformed},
    keys,
    overlay::Overlay,
    params::LANES,
    posting::{Side, post},
    record::{Channel, ChannelState, Lane, RoyaltyPart},
    rejection::Rejection,
    royalty,
    tx::{Stop, Transaction},
};
use gristmill_types::{AccountId, Amount, ChannelId, ChannelTerms, Usage};

/// Refuses terms of another ledger.
pub(crate) fn check_terms(terms: &ChannelTerms, tx: &Transaction) -> Result<(), Malformed> {
    (terms.chain == tx.chain).then_some(()).ok_or(Malformed::Mismatch { what: "the channel's terms" })
}

/// Refuses a sender that is not this side of the channel.
pub(crate) fn check_sender(side: &AccountId, tx: &Transaction, who: &'static str) -> Result<(), Malformed> {
    (*side == tx.sender).then_some(()).ok_or(Malformed::Sender { who })
}

/// One channel while a transaction works on it.
pub(crate) struct ChannelBook<'o, 'a> {
    overlay: &'o mut Overlay<'a>,
    context: &'o Context,
    terms: &'o ChannelTerms,
    id: ChannelId,
    events: Vec<Event>,
}

impl<'o, 'a> ChannelBook<'o, 'a> {
    /// The book of the channel with these terms, which must exist.
    pub(crate) fn open(
        overlay: &'o mut Overlay<'a>,
        context: &'o Context,
        terms: &'o ChannelTerms,
    ) -> Result<Self, Stop> {
        let id = terms.id();
        if overlay.get::<Channel>(&keys::channel(&id))?.is_none() {
            return Err(Rejection::UnknownChannel.into());
        }
        Ok(Self { overlay, context, terms, id, events: Vec::new() })
    }

    /// The channel's id.
    pub(crate) const fn id(&self) -> ChannelId {
        self.id
    }

    /// Adds an event.
    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What happened.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The channel as it is now.
    pub(crate) fn channel(&mut self) -> Result<Channel, Fault> {
        self.overlay.expect(&keys::channel(&self.id))
    }

    /// Changes the channel's record, but none of its amounts: those are `posting`'s.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Channel)) -> Result<(), Fault> {
        let mut channel = self.channel()?;
        change(&mut channel);
        self.overlay.put(&keys::channel(&self.id), channel)
    }

    /// Refuses a closed channel.
    pub(crate) fn require_not_closed(&mut self) -> Result<(), Stop> {
        match self.channel()?.state {
            ChannelState::Open | ChannelState::Closing { .. } => Ok(()),
            ChannelState::Closed => Err(Rejection::ChannelClosed.into()),
        }
    }

    /// Refuses a channel that takes no claims any more.
    pub(crate) fn require_claimable(&mut self) -> Result<(), Stop> {
        match self.channel()?.state {
            ChannelState::Open => Ok(()),
            ChannelState::Closing { deadline_ms } if self.context.clock_ms < deadline_ms => Ok(()),
            ChannelState::Closing { .. } => Err(Rejection::ClosingOver.into()),
            ChannelState::Closed => Err(Rejection::ChannelClosed.into()),
        }
    }

    /// Refuses a channel that is closing or closed.
    pub(crate) fn require_open(&mut self) -> Result<(), Stop> {
        match self.channel()?.state {
            ChannelState::Open => Ok(()),
            ChannelState::Closing { .. } => Err(Rejection::ChannelClosing.into()),
            ChannelState::Closed => Err(Rejection::ChannelClosed.into()),
        }
    }

    /// Now + grace, noted so that the ledger's clock keeps running until then.
    pub(crate) fn set_deadline(&mut self) -> Result<u64, Fault> {
        deadline::set(self.overlay, self.context, self.terms.grace_ms)
    }

    /// The lane's record, if it was ever claimed on.
    pub(crate) fn lane(&mut self, lane: u32) -> Result<Option<Lane>, Stop> {
        lane_bit(&self.channel()?, lane)?;
        Ok(self.overlay.get(&keys::lane(&self.id, lane))?)
    }

    /// Stores the lane and keeps the channel's bits in step.
    pub(crate) fn put_lane(&mut self, lane: Lane) -> Result<(), Stop> {
        let bit = lane_bit(&self.channel()?, lane.lane)?;
        let pending = lane.pending.is_some();
        self.edit(|channel| {
            channel.lanes |= bit;
            channel.pending = if pending { channel.pending | bit } else { channel.pending & !bit };
        })?;
        self.overlay.put(&keys::lane(&self.id, lane.lane), lane)?;
        Ok(())
    }

    /// Deletes lanes without pending claims. They must be exactly those with a record among the
    /// channel's lanes that `which` selects.
    pub(crate) fn remove_lanes(&mut self, named: &[u32], which: impl Fn(u32) -> bool) -> Result<(), Stop> {
        let channel = self.channel()?;
        if channel.pending_lanes().any(&which) {
            return Err(Rejection::ClaimsPending.into());
        }
        if !channel.open_lanes().filter(|lane| which(*lane)).eq(named.iter().copied()) {
            return Err(Rejection::LanesDiffer.into());
        }
        let mut lanes = channel.lanes;
        for lane in named {
            lanes &= !lane_bit(&channel, *lane)?;
            self.overlay.remove(&keys::lane(&self.id, *lane))?;
        }
        self.edit(|channel| channel.lanes = lanes)?;
        Ok(())
    }

    /// Pays the lane up to `amount`, which the channel holds, and notes what this was for.
    fn pay(&mut self, lane: &mut Lane, amount: Amount, usage: Usage, seq: u64) -> Result<(), Stop> {
        let rise = amount.checked_sub(lane.paid).ok_or(Fault::Range)?;
        let ChannelTerms { payer, payee, issuer, .. } = *self.terms;
        let from = Side::Channel(&self.id);
        let mut earned = rise;
        let mut royalties = Vec::with_capacity(lane.royalties.len());
        for RoyaltyPart { line, bps } in &lane.royalties {
            let part = royalty::part(lane.paid, amount, *bps).ok_or(Fault::Range)?.min(earned);
            earned = earned.checked_sub(part).ok_or(Fault::Range)?;
            post(self.overlay, &issuer, from, Side::Pool(line), part)?;
            royalties.push(Royalty { line: *line, amount: part });
        }
        let owed = debt::repay(self.overlay, &payee, &issuer, &self.id, earned)?;
        let rest = earned.checked_sub(owed).ok_or(Fault::Range)?;
        let bonded = bond::withhold(self.overlay, &payee, &issuer, &self.id, rest)?;
        let rest = rest.checked_sub(bonded).ok_or(Fault::Range)?;
        post(self.overlay, &issuer, from, Side::Account(&payee), rest)?;
        lane.paid = amount;
        lane.usage = usage;
        lane.seq = lane.seq.max(seq);
        self.events.push(Event::ClaimPaid {
            channel: self.id,
            payer,
            payee,
            issuer,
            lane: lane.lane,
            seq,
            model: lane.model,
            usage,
            paid: amount,
            earned,
            owed,
            bonded,
            royalties,
        });
        Ok(())
    }

    /// Pays out the lane's pending claim if its time has come; says whether it had.
    pub(crate) fn mature(&mut self, lane: &mut Lane) -> Result<bool, Stop> {
        let Some(pending) = lane.pending.take_if(|p| p.deadline_ms <= self.context.clock_ms) else {
            return Ok(false);
        };
        let worth = pending.effective();
        let reach = lane.paid.checked_add(self.channel()?.available()).ok_or(Fault::Range)?;
        if worth <= reach {
            self.pay(lane, worth.max(lane.paid), pending.used(), pending.through())?;
        } else {
            // The number stays claimable, and the use that was paid for is not known.
            let (usage, seq) = (lane.usage, lane.seq);
            self.pay(lane, reach, usage, seq)?;
        }
        Ok(true)
    }

    /// The time for claims begins to run out; the channel must be open.
    pub(crate) fn request_close(&mut self) -> Result<(), Stop> {
        let deadline_ms = self.set_deadline()?;
        self.edit(|channel| channel.state = ChannelState::Closing { deadline_ms })?;
        let (channel, ChannelTerms { payer, payee, .. }) = (self.id, *self.terms);
        self.event(Event::CloseRequested { channel, payer, payee, deadline_ms });
        Ok(())
    }

    /// Gives back what the channel holds and ends it.
    pub(crate) fn close(&mut self) -> Result<(), Stop> {
        let channel = self.channel()?;
        let ChannelTerms { payer, payee, issuer, .. } = *self.terms;
        let refund = channel.available();
        post(self.overlay, &issuer, Side::Refund(&self.id), Side::Account(&payer), refund)?;
        self.edit(|channel| channel.state = ChannelState::Closed)?;
        let (channel, settled) = (self.id, channel.settled);
        self.events.push(Event::ChannelClosed { channel, payer, payee, issuer, settled, refund });
        Ok(())
    }
}

/// The lane's bit in the channel's sets.
fn lane_bit(channel: &Channel, lane: u32) -> Result<u64, Rejection> {
    let index = lane.checked_sub(channel.lane_floor).ok_or(Rejection::LaneRetired)?;
    if index >= LANES {
        return Err(Rejection::LaneTooHigh);
    }
    1u64.checked_shl(index).ok_or(Rejection::LaneTooHigh)
}
