//! Vouchers, orders and counting.

use super::{Payer, RECENT, Request};
use crate::{error::PayerError, meter::larger, view::Phase};
use gristmill_types::{Amount, Claim, Digest, Order, Signed, Voucher};

impl Payer {
    /// Signs the next voucher of the request in flight: the first for prompt and first window, a
    /// further one when half of the promised window is used. [`PayerError::NotDue`] otherwise.
    ///
    /// Needs no record: it stays within the confirmed reservation and the request's hard cap.
    pub fn voucher(&mut self, lane: u32) -> Result<Signed<Voucher>, PayerError> {
        if !self.due(lane)? {
            return Err(PayerError::NotDue { lane });
        }
        self.sign_voucher(lane)
    }

    /// Signs the voucher that the processor asks for, if what it requires is due by what was
    /// delivered here, even before half of the window is used.
    pub fn voucher_for(&mut self, lane: u32, required: Amount) -> Result<Signed<Voucher>, PayerError> {
        let request = self.request(lane)?;
        let promise = request.meter.promise()?;
        let computed = request.meter.cost(&promise)?;
        if required > computed {
            return Err(PayerError::InflatedRequired { required, computed });
        }
        let last = self.live.get(&lane).and_then(|live| live.last());
        if request.first_seq.is_some()
            && !self.due(lane)?
            && last.is_some_and(|last| last.usage.covers(&promise) && last.amount >= computed)
        {
            return Err(PayerError::NotDue { lane });
        }
        self.sign_voucher(lane)
    }

    /// Signs the order for the request's body under the last voucher.
    pub fn order(
        &self,
        lane: u32,
        body: Digest,
        consumer_nonce: Digest,
        salt: Digest,
    ) -> Result<Signed<Order>, PayerError> {
        let request = self.request(lane)?;
        let voucher = self
            .latest(lane)
            .filter(|_| request.first_seq.is_some())
            .ok_or(PayerError::NoRequest { lane })?;
        let order = Order {
            chain: self.state.terms.chain,
            channel: self.id,
            lane,
            voucher: voucher.body.hash(),
            body,
            consumer_nonce,
            salt,
            max_amount: request.cap.saturating_sub(self.lane(lane)?.spent),
        };
        Ok(Signed::sign(order, &self.secret))
    }

    /// Counts what arrived: so many output tokens, and the time by the payer's own clock. True if a
    /// further voucher should be sent.
    pub fn delivered(&mut self, lane: u32, output_tokens: u64, millis: u64) -> Result<bool, PayerError> {
        let request = self.live_mut(lane)?.request.as_mut().ok_or(PayerError::NoRequest { lane })?;
        request.meter.deliver(output_tokens, millis)?;
        self.due(lane)
    }

    /// What is owed on the lane by what was counted here, cumulative.
    pub fn owed(&self, lane: u32) -> Result<Amount, PayerError> {
        match self.live.get(&lane).and_then(|live| live.request.as_ref()) {
            Some(request) => Ok(request.meter.cost(request.meter.used())?),
            None => Ok(self.lane(lane)?.spent),
        }
    }

    /// Whether the next voucher should be signed.
    pub fn due(&self, lane: u32) -> Result<bool, PayerError> {
        let request = self.request(lane)?;
        match self.live.get(&lane).and_then(|live| live.last()) {
            // A receipt within the stream uses its voucher up: the stream goes on under the next.
            Some(last) if request.first_seq.is_some_and(|first| last.seq >= first) => {
                Ok(self.lane(lane)?.capped(last.seq) || request.meter.due(&last.usage)?)
            }
            Some(_) | None => Ok(true),
        }
    }

    fn request(&self, lane: u32) -> Result<&Request, PayerError> {
        let live = self.live.get(&lane).ok_or(PayerError::UnknownLane { lane })?;
        if !live.known {
            return Err(PayerError::InDoubt { lane });
        }
        live.request.as_ref().filter(|request| !request.given_up).ok_or(PayerError::NoRequest { lane })
    }

    fn sign_voucher(&mut self, lane: u32) -> Result<Signed<Voucher>, PayerError> {
        if self.state.view.phase == Phase::Closed {
            return Err(PayerError::Closed);
        }
        let request = self.request(lane)?;
        let of = self.lane(lane)?;
        let live = self.live.get(&lane).ok_or(PayerError::UnknownLane { lane })?;
        let promise = request.meter.promise()?;
        let cost = request.meter.cost(&promise)?;
        // What an earlier request left is used first: neither counters nor amount ever go back.
        let (usage, amount) = match live.last() {
            Some(last) => (larger(&promise, &last.usage), cost.max(last.amount)),
            None => (promise, cost),
        };
        if amount > request.cap {
            return Err(PayerError::OverCap { needed: amount, cap: request.cap });
        }
        let seq = self.next_seq(of, live)?;
        if seq > live.granted.seq || amount > live.granted.amount {
            return Err(PayerError::BeyondReservation { lane });
        }
        let claim = Claim {
            chain: self.state.terms.chain,
            channel: self.id,
            lane,
            seq,
            model: of.model,
            quote: of.quote_hash,
            usage,
            amount,
        };
        let voucher = Signed::sign(Voucher(claim), &self.secret);
        let live = self.live_mut(lane)?;
        if live.recent.len() >= RECENT {
            live.recent.pop_front();
        }
        live.recent.push_back(voucher.clone());
        if let Some(request) = &mut live.request {
            request.first_seq.get_or_insert(seq);
        }
        Ok(voucher)
    }
}
