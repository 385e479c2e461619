//! The words of the model: small amounts, what is signed, and the rules that can be left out.

/// What a prompt costs.
pub(super) const PROMPT: u8 = 2;
/// The most tokens of an answer; each costs 1, and a window is one token.
pub(super) const ANSWER: u8 = 2;
/// What a payer promises ahead at most: the prompt and the first window.
pub(super) const AHEAD: u8 = PROMPT + 1;
/// What a whole request costs.
pub(super) const REQUEST: u8 = PROMPT + ANSWER;
/// The grace, in ticks of the ledger's clock.
pub(super) const GRACE: u8 = 2;
/// Numbers that one reservation covers.
pub(super) const NUMBERS: u8 = 8;
/// The lanes that there are.
pub(super) const LANES: usize = 2;

/// Cumulative use of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) requests: u8,
    pub(super) tokens: u8,
}

impl Use {
    pub(super) const fn new(requests: u8, tokens: u8) -> Self {
        Self { requests, tokens }
    }

    pub(super) const fn cost(self) -> u8 {
        self.requests * PROMPT + self.tokens
    }

    pub(super) const fn covers(self, other: Self) -> bool {
        self.requests >= other.requests && self.tokens >= other.tokens
    }

    pub(super) const fn plus(self, requests: u8, tokens: u8) -> Self {
        Self::new(self.requests + requests, self.tokens + tokens)
    }

    pub(super) fn larger(self, other: Self) -> Self {
        Self::new(self.requests.max(other.requests), self.tokens.max(other.tokens))
    }
}

/// A promise of the payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Voucher {
    pub(super) seq: u8,
    pub(super) usage: Use,
    pub(super) amount: u8,
}

/// The payee's word on what a voucher bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Receipt {
    pub(super) voucher: Voucher,
    pub(super) usage: Use,
    pub(super) last: bool,
}

impl Receipt {
    pub(super) const fn seq(&self) -> u8 {
        self.voucher.seq
    }

    pub(super) const fn spent(&self) -> u8 {
        self.usage.cost()
    }
}

/// The payer's co-signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Approval {
    pub(super) seq: u8,
    pub(super) usage: Use,
    pub(super) amount: u8,
}

impl Approval {
    pub(super) const fn of(receipt: &Receipt) -> Self {
        Self { seq: receipt.seq(), usage: receipt.usage, amount: receipt.spent() }
    }
}

/// An order, by the voucher that it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) voucher: Voucher,
    /// The most that the request may cost.
    pub(super) most: u8,
}

/// A rule of the protocol, or an assumption, that a model can be without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// Ledger: a receipt caps a pending claim.
    ReceiptCaps,
    /// Ledger: a voucher waits for the grace before it pays.
    VoucherWaits,
    /// Ledger: of contradictory receipts the lowest counts.
    LowestCounts,
    /// Ledger: a claim is paid as far as the channel holds.
    WithinHolding,
    /// Ledger: no channel closes over a pending claim.
    PendingKeepsOpen,
    /// Payee: the lanes' sum is within the deposit.
    SumInDeposit,
    /// Payee: nothing is delivered ahead of a durable voucher.
    DurableFirst,
    /// Payee: nothing is delivered under a voucher that a receipt answers.
    ReceiptEndsVoucher,
    /// Payee: a voucher never promises less than the one before.
    NeverBackwards,
    /// Payee: one delivery for one voucher.
    OneDelivery,
    /// Payee: nothing is taken on a lane that was given up.
    GivenUpLanes,
    /// Payer: after a crash numbers go on above the whole reservation.
    NumbersJump,
    /// Payer: what is signed was durably reserved before.
    ReservedFirst,
    /// Payer: a copy is believed as far as its own signature goes.
    OwnSignature,
    /// Payer: a copy's receipt that contradicts a lower one that is held is not believed.
    LowerHeld,
    /// Payer: a receipt counts no more than what arrived.
    CountedHere,
    /// Payer: it never signs because the other side asks.
    NotOnDemand,
    /// Assumption: the payer shows its receipts before the grace is over.
    PayerInTime,
    /// Assumption: the payee claims before a closing channel's deadline.
    PayeeInTime,
}
