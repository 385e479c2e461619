//! What a request costs while it runs. Both roles meter with this one piece of code.
//!
//! Counters are cumulative over the lane. A request starts from the lane's use before it (`base`),
//! and promises ahead: the prompt with the first window, then one window beyond what is delivered,
//! never beyond what the request asks for. The prompt and the request fee are used with the first
//! delivery. Time is metered only where the quote prices it.

use crate::error::MeterError;
use borsh::{BorshDeserialize, BorshSerialize};
use gristmill_types::{Amount, Limits, Prices, Usage};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Ask {
    /// Tokens of the prompt, counted with the quote's tokenizer and template.
    pub input_tokens: u64,
    /// Output tokens at most.
    pub max_output_tokens: u64,
    /// Milliseconds of processing at most, where time is priced.
    pub max_millis: u64,
}

impl Ask {
    /// The same request with as many output tokens as cost at most `amount` beyond `base`; `None`
    /// if that is not even one.
    pub fn affordable(mut self, prices: &Prices, base: &Usage, amount: Amount) -> Option<Self> {
        let limit = prices.cost(base)?.checked_add(amount).unwrap_or(Amount::from_grains(u128::MAX));
        let fits = |output: u64| {
            let usage = base.checked_add(&whole(&self, prices, output));
            usage.and_then(|usage| prices.cost(&usage)).is_some_and(|cost| cost <= limit)
        };
        // The largest number that fits: `low` fits (or is 0), everything above `high` does not.
        let (mut low, mut high) = (0u64, self.max_output_tokens);
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low).div_ceil(2));
            if fits(middle) { low = middle } else { high = middle.saturating_sub(1) }
        }
        self.max_output_tokens = low;
        (low > 0).then_some(self)
    }

    /// What all of it costs, on a lane that was not used before.
    pub fn cost(&self, prices: &Prices) -> Option<Amount> {
        prices.cost(&whole(self, prices, self.max_output_tokens))
    }
}

const fn timed(prices: &Prices) -> bool {
    !prices.per_msec.is_zero()
}

/// All that a request can come to with so much output.
const fn whole(ask: &Ask, prices: &Prices, output_tokens: u64) -> Usage {
    let millis = if timed(prices) { ask.max_millis } else { 0 };
    Usage { input_tokens: ask.input_tokens, output_tokens, millis, requests: 1 }
}

/// The meter of one request on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    prices: Prices,
    limits: Limits,
    ask: Ask,
    base: Usage,
    used: Usage,
    cap: Usage,
}

impl Meter {
    /// A meter for a request that follows on `base`. Checks the quote's limits and that every figure
    /// up to the cap fits.
    pub fn new(prices: &Prices, limits: &Limits, ask: Ask, base: Usage) -> Result<Self, MeterError> {
        if limits.window_tokens == 0 || ask.max_output_tokens == 0 {
            return Err(MeterError::Empty);
        }
        if timed(prices) && (limits.window_ms == 0 || ask.max_millis == 0) {
            return Err(MeterError::Empty);
        }
        let check = |asked: u64, allowed: u32| match asked > u64::from(allowed) {
            true => Err(MeterError::Limit { asked, allowed: u64::from(allowed) }),
            false => Ok(()),
        };
        check(ask.max_output_tokens, limits.output_tokens)?;
        check(ask.input_tokens.saturating_add(ask.max_output_tokens), limits.context_tokens)?;
        let cap =
            base.checked_add(&whole(&ask, prices, ask.max_output_tokens)).ok_or(MeterError::Overflow)?;
        prices.cost(&cap).ok_or(MeterError::Overflow)?;
        Ok(Self { prices: *prices, limits: *limits, ask, base, used: base, cap })
    }

    /// The lane's use before the request.
    pub const fn base(&self) -> &Usage {
        &self.base
    }

    /// The lane's use so far.
    pub const fn used(&self) -> &Usage {
        &self.used
    }

    /// What the request asked for.
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// The cost of cumulative use. Use up to the cap always fits.
    pub fn cost(&self, usage: &Usage) -> Result<Amount, MeterError> {
        self.prices.cost(usage).ok_or(MeterError::Overflow)
    }

    /// The hard cap: the lane's cumulative cost if the request delivers all that it asked for.
    pub fn cap_cost(&self) -> Result<Amount, MeterError> {
        self.cost(&self.cap)
    }

    /// The lane's use after one more delivery, without counting it yet.
    pub fn after(&self, output_tokens: u64, millis: u64) -> Result<Usage, MeterError> {
        let millis = if timed(&self.prices) { millis } else { 0 };
        let from = self.with_prompt()?;
        let after = from
            .checked_add(&Usage { output_tokens, millis, ..Usage::default() })
            .ok_or(MeterError::Overflow)?;
        if self.cap.covers(&after) { Ok(after) } else { Err(MeterError::BeyondCap) }
    }

    /// Counts a delivery.
    pub fn deliver(&mut self, output_tokens: u64, millis: u64) -> Result<(), MeterError> {
        self.used = self.after(output_tokens, millis)?;
        Ok(())
    }

    /// The use that the next voucher has to cover: prompt, what is delivered, one window ahead.
    pub fn promise(&self) -> Result<Usage, MeterError> {
        let mut promise = self.with_prompt()?;
        let window = u64::from(self.limits.window_tokens);
        promise.output_tokens = promise.output_tokens.saturating_add(window).min(self.cap.output_tokens);
        if timed(&self.prices) {
            let window = u64::from(self.limits.window_ms);
            promise.millis = promise.millis.saturating_add(window).min(self.cap.millis);
        }
        Ok(promise)
    }

    /// Whether half of the promised window is used, so that the next voucher should be sent.
    pub fn due(&self, promised: &Usage) -> Result<bool, MeterError> {
        let promise = self.promise()?;
        let half = |promised: u64, used: u64, window: u32| {
            promised.saturating_sub(used) <= u64::from(window).div_euclid(2)
        };
        let output = promise.output_tokens > promised.output_tokens
            && half(promised.output_tokens, self.used.output_tokens, self.limits.window_tokens);
        let millis = promise.millis > promised.millis
            && half(promised.millis, self.used.millis, self.limits.window_ms);
        Ok(output || millis || !promised.covers(&self.with_prompt()?))
    }

    /// The use so far, with prompt and request counted even before the first delivery.
    fn with_prompt(&self) -> Result<Usage, MeterError> {
        if self.used != self.base {
            return Ok(self.used);
        }
        let prompt = Usage { input_tokens: self.ask.input_tokens, requests: 1, ..Usage::default() };
        self.base.checked_add(&prompt).ok_or(MeterError::Overflow)
    }
}

/// The counters, each the larger of the two.
pub(crate) fn larger(a: &Usage, b: &Usage) -> Usage {
    Usage {
        input_tokens: a.input_tokens.max(b.input_tokens),
        output_tokens: a.output_tokens.max(b.output_tokens),
        millis: a.millis.max(b.millis),
        requests: a.requests.max(b.requests),
    }
}
