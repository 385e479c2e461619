//! Requests: taken on, delivered while paid, answered with a receipt.

use super::{Authentic, Delivery, Payee, PayeeRecord};
use crate::{
    error::{MeterError, PayeeError},
    meter::Ask,
    pending::Pending,
    view::Phase,
};
use gristmill_types::{Amount, AuditCommitment, Claim, Digest, Order, Receipt, SecretKey, Signed, Usage};

/// Whether a delivery is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// It is, and it is counted: deliver it.
    Paid,
    /// The durable voucher does not cover it: deliver nothing more until one comes.
    NeedVoucher {
        /// The amount that the next voucher has to promise, cumulative on the lane.
        required: Amount,
        /// The use that it has to cover.
        usage: Usage,
    },
    /// The order's cap is reached: end the request.
    CapReached,
}

/// The parts of a receipt that the channel does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptParts {
    /// HMAC of the request's body.
    pub request: Digest,
    /// HMAC of the answer.
    pub response: Digest,
    /// Whether the request has ended.
    pub last: bool,
    /// What an audit recomputes.
    pub audit: Option<AuditCommitment>,
}

impl Payee {
    /// Takes on a request: one delivery per voucher, bound to the body with this SHA-256.
    ///
    /// The voucher has to be accepted before; both records may go into one commit. `now_ms` is Unix
    /// time, for the quote's validity.
    pub fn order(
        &mut self,
        order: &Signed<Order>,
        body: &Digest,
        ask: Ask,
        now_ms: u64,
    ) -> Result<Pending<PayeeRecord>, PayeeError> {
        let verify =
            |payee: &Self| order.verify_strict(&payee.keys.voucher).map_err(|_| PayeeError::BadSignature);
        self.begin(order, body, ask, now_ms, verify)
    }

    /// Takes on a request whose signatures and body were checked before.
    pub fn order_authentic(
        &mut self,
        authentic: &Authentic,
        ask: Ask,
        now_ms: u64,
    ) -> Result<Pending<PayeeRecord>, PayeeError> {
        let order = authentic.order();
        self.begin(order, &order.body.body, ask, now_ms, |_| Ok(()))
    }

    /// What an order and the claim that it goes with have to be, whatever is asked for.
    pub(super) fn check_order(&self, order: &Order, claim: &Claim, body: &Digest) -> Result<(), PayeeError> {
        if order.chain != self.state.terms.chain {
            return Err(PayeeError::WrongChain);
        }
        if order.channel != self.id {
            return Err(PayeeError::WrongChannel);
        }
        if self.state.view.phase != Phase::Open {
            return Err(PayeeError::Closed);
        }
        if let Some(lane) = self.state.lanes.get(&order.lane) {
            // A receipt uses its voucher up, even where nothing was ordered under it: the payer may have
            // ended its request with that receipt before a late order comes in.
            let answered = lane.receipt.as_ref().is_some_and(|receipt| receipt.body.seq >= claim.seq);
            if answered || lane.ordered_seq >= claim.seq {
                return Err(PayeeError::AlreadyDelivered);
            }
            if lane.request.is_some() {
                return Err(PayeeError::LaneBusy { lane: order.lane });
            }
        }
        if order.body != *body { Err(PayeeError::WrongBody) } else { Ok(()) }
    }

    fn begin(
        &mut self,
        order: &Signed<Order>,
        body: &Digest,
        ask: Ask,
        now_ms: u64,
        verify: impl FnOnce(&Self) -> Result<(), PayeeError>,
    ) -> Result<Pending<PayeeRecord>, PayeeError> {
        let inner = &order.body;
        let lane = self.state.lanes.get(&inner.lane).ok_or(PayeeError::UnknownLane { lane: inner.lane })?;
        let claim = lane.voucher.body.0;
        if inner.voucher != lane.voucher.body.hash() {
            return Err(PayeeError::WrongVoucher);
        }
        self.check_order(inner, &claim, body)?;
        let quote = self.state.quote_of(lane).ok_or(PayeeError::WrongQuote)?;
        if now_ms > quote.valid_until_ms {
            return Err(PayeeError::QuoteExpired { valid_until_ms: quote.valid_until_ms });
        }
        let used = self.live.get(&inner.lane).map_or(lane.used, |live| live.used);
        let meter =
            self.state.meter(lane, ask, used).ok_or(PayeeError::WrongQuote)?.map_err(PayeeError::Meter)?;
        let spent = meter.cost(&used)?;
        let cap = spent.checked_add(inner.max_amount).ok_or(PayeeError::Overflow)?;
        let first = meter.promise()?;
        let required = meter.cost(&first)?;
        let found = claim.amount.min(cap);
        if found < required || !claim.usage.covers(&first) {
            return Err(PayeeError::TooSmall { found, required });
        }
        verify(self)?;
        let live = self.live.entry(inner.lane).or_default();
        live.ordered_ms = now_ms;
        live.delivery = Some(Delivery { meter, cap, started: false });
        let record = PayeeRecord::Ordered { order: order.clone(), ask };
        self.change(record).map_err(|_| PayeeError::UnknownLane { lane: inner.lane })
    }

    /// Asks whether the next delivery is paid, and counts it if so. The first delivery includes the
    /// prompt and the request fee. Nothing is ever delivered ahead of a durable voucher.
    pub fn spend(&mut self, lane: u32, output_tokens: u64, millis: u64) -> Result<Spend, PayeeError> {
        let live = self.live.get_mut(&lane).ok_or(PayeeError::UnknownLane { lane })?;
        let delivery = live.delivery.as_mut().ok_or(PayeeError::NoRequest { lane })?;
        if !delivery.started {
            return Err(PayeeError::NotDurable);
        }
        let after = match delivery.meter.after(output_tokens, millis) {
            Ok(after) => after,
            Err(MeterError::BeyondCap) => return Ok(Spend::CapReached),
            Err(error) => return Err(error.into()),
        };
        let cost = delivery.meter.cost(&after)?;
        if cost > delivery.cap {
            return Ok(Spend::CapReached);
        }
        // Two receipts of one number must say the same: the lower one would count.
        let receipt = self.state.lanes.get(&lane).and_then(|of| of.receipt.as_ref());
        let answered = receipt.is_some_and(|receipt| receipt.body.seq >= live.paid.seq);
        if answered || cost > live.paid.amount || !live.paid.usage.covers(&after) {
            let usage = delivery.meter.promise()?;
            return Ok(Spend::NeedVoucher { required: delivery.meter.cost(&usage)?, usage });
        }
        delivery.meter.deliver(output_tokens, millis)?;
        live.used = *delivery.meter.used();
        Ok(Spend::Paid)
    }

    /// What the lane's use has come to, and what it costs.
    pub fn spent(&self, lane: u32) -> Result<(Usage, Amount), PayeeError> {
        let of = self.state.lanes.get(&lane).ok_or(PayeeError::UnknownLane { lane })?;
        let used = self.live.get(&lane).map_or(of.used, |live| live.used);
        let cost = self.state.cost(of, &used).ok_or(PayeeError::Overflow)?;
        Ok((used, cost))
    }

    /// Whether nothing is being delivered and every voucher is answered by a receipt that is durable:
    /// all that can be claimed is known.
    pub fn is_idle(&self) -> bool {
        self.state.lanes.iter().all(|(lane, of)| {
            self.live.get(lane).is_some_and(|live| {
                let seq = of.voucher.body.0.seq;
                let answered = live.receipt.as_ref().is_some_and(|r| r.body.last && r.body.seq >= seq);
                live.delivery.is_none() && answered
            })
        })
    }

    /// The highest amount that is promised on the lane.
    pub fn promised(&self, lane: u32) -> Amount {
        self.state.lanes.get(&lane).map_or(Amount::ZERO, |of| of.voucher.body.0.amount)
    }

    /// Signs a receipt for all that the lane has come to, answering its last voucher. With
    /// [`ReceiptParts::last`] the request is over; otherwise it goes on under the next voucher,
    /// because a receipt caps every claim up to its number.
    ///
    /// Send it only when the record is durable: a receipt that the payee forgets is one that the
    /// payer can show against it.
    pub fn receipt(
        &mut self,
        lane: u32,
        parts: ReceiptParts,
        key: &SecretKey,
    ) -> Result<(Signed<Receipt>, Pending<PayeeRecord>), PayeeError> {
        if key.account() != self.state.terms.receipt_key {
            return Err(PayeeError::WrongKey);
        }
        let (usage, spent) = self.spent(lane)?;
        let of = self.state.lanes.get(&lane).ok_or(PayeeError::UnknownLane { lane })?;
        let claim = of.voucher.body.0;
        let last = parts.last;
        let receipt = Signed::sign(
            Receipt {
                chain: claim.chain,
                channel: claim.channel,
                lane,
                seq: claim.seq,
                voucher: of.voucher.body.hash(),
                model: claim.model,
                quote: claim.quote,
                usage,
                spent,
                request: parts.request,
                response: parts.response,
                last,
                audit: parts.audit,
            },
            key,
        );
        let record = PayeeRecord::Receipt(Box::new(receipt.clone()));
        let pending = self.change(record).map_err(|_| PayeeError::UnknownLane { lane })?;
        if last && let Some(live) = self.live.get_mut(&lane) {
            live.delivery = None;
        }
        Ok((receipt, pending))
    }

    /// Lanes whose last voucher no receipt answers and on which nothing runs: after a crash, or
    /// after a voucher that came too late. A receipt for each lets the payer know where it stands.
    pub fn unanswered(&self) -> Vec<u32> {
        let running = |lane: &u32| self.live.get(lane).is_some_and(|live| live.delivery.is_some());
        let open = self.state.lanes.iter().filter(|(lane, of)| {
            let answered = of
                .receipt
                .as_ref()
                .is_some_and(|receipt| receipt.body.last && receipt.body.seq >= of.voucher.body.0.seq);
            !answered && !running(lane)
        });
        open.map(|(lane, _)| *lane).collect()
    }
}
