//! A payer and a payee with their logs, for the tests.

use gristmill_channel::{
    Accepted, Ask, KeyId, LedgerView, Payee, PayeeRecord, Payer, PayerRecord, Pending, Plan, ReceiptParts,
    Received, Spend,
};
use gristmill_types::{
    AccountId, Amount, Approval, ChainId, ChannelTerms, Claim, DataPolicy, Digest, Limits, ModelId, Order,
    Prices, Quote, Receipt, SecretKey, Signed, Usage, Voucher, sha256,
};

pub(crate) const WINDOW: u64 = 16;
pub(crate) const NOW: u64 = 1_000;
pub(crate) const VALID_UNTIL: u64 = 1_000_000;
pub(crate) const DEPOSIT: u128 = 1_000_000;
pub(crate) const ANN: KeyId = KeyId(Digest::new([1; 32]));
pub(crate) const BOB: KeyId = KeyId(Digest::new([2; 32]));

pub(crate) fn grains(grains: u128) -> Amount {
    Amount::from_grains(grains)
}

pub(crate) fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn voucher_key() -> SecretKey {
    secret(2)
}

pub(crate) fn receipt_key() -> SecretKey {
    secret(3)
}

/// Signs quotes.
pub(crate) fn processor_key() -> SecretKey {
    secret(4)
}

pub(crate) fn terms() -> ChannelTerms {
    ChannelTerms {
        chain: ChainId::new([9; 32]),
        payer: secret(1).account(),
        payee: processor_key().account(),
        issuer: AccountId::new([5; 32]),
        voucher_key: voucher_key().account(),
        receipt_key: receipt_key().account(),
        grace_ms: 900_000,
        open_nonce: 0,
    }
}

/// Prices that do not come out even: 1.5 and 2.700001 grains a token, 1.25 a request.
pub(crate) fn prices() -> Prices {
    Prices {
        input_per_mtok: grains(1_500_000),
        output_per_mtok: grains(2_700_001),
        per_msec: Amount::ZERO,
        per_mreq: grains(1_250_000),
    }
}

pub(crate) fn quote_of(model: u8, prices: Prices) -> Quote {
    Quote {
        chain: terms().chain,
        processor: terms().payee,
        receipt_key: terms().receipt_key,
        model: ModelId::new([model; 32]),
        issuer: terms().issuer,
        prices,
        tokenizer: Digest::new([0; 32]),
        limits: Limits {
            context_tokens: 4096,
            output_tokens: 1024,
            window_tokens: WINDOW as u32,
            window_ms: 1_000,
        },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: VALID_UNTIL,
        nonce_root: Digest::new([0; 32]),
        engine: "test".into(),
    }
}

pub(crate) fn quote() -> Quote {
    quote_of(7, prices())
}

pub(crate) fn usage(input_tokens: u64, output_tokens: u64, requests: u64) -> Usage {
    Usage { input_tokens, output_tokens, millis: 0, requests }
}

pub(crate) fn cost(usage: &Usage) -> Amount {
    prices().cost(usage).unwrap()
}

pub(crate) fn ask(input_tokens: u64, max_output_tokens: u64) -> Ask {
    Ask { input_tokens, max_output_tokens, max_millis: 0 }
}

/// A claim on the quote's lane that promises just what its use costs.
pub(crate) fn claim(lane: u32, seq: u64, usage: Usage) -> Claim {
    let quote = quote();
    Claim {
        chain: terms().chain,
        channel: terms().id(),
        lane,
        seq,
        model: quote.model,
        quote: quote.hash(),
        usage,
        amount: cost(&usage),
    }
}

pub(crate) fn voucher(claim: Claim) -> Signed<Voucher> {
    Signed::sign(Voucher(claim), &voucher_key())
}

pub(crate) fn order_for(voucher: &Signed<Voucher>, body: &[u8], max_amount: Amount) -> Signed<Order> {
    let claim = voucher.body.0;
    let order = Order {
        chain: claim.chain,
        channel: claim.channel,
        lane: claim.lane,
        voucher: voucher.body.hash(),
        body: sha256(&[body]),
        consumer_nonce: Digest::new([0; 32]),
        salt: Digest::new([0; 32]),
        max_amount,
    };
    Signed::sign(order, &voucher_key())
}

/// A receipt that a processor could sign for the voucher.
pub(crate) fn receipt_for(voucher: &Signed<Voucher>, usage: Usage, last: bool) -> Receipt {
    let claim = voucher.body.0;
    Receipt {
        chain: claim.chain,
        channel: claim.channel,
        lane: claim.lane,
        seq: claim.seq,
        voucher: voucher.body.hash(),
        model: claim.model,
        quote: claim.quote,
        usage,
        spent: cost(&usage),
        request: Digest::new([0; 32]),
        response: Digest::new([0; 32]),
        last,
        audit: None,
    }
}

pub(crate) fn signed(receipt: Receipt) -> Signed<Receipt> {
    Signed::sign(receipt, &receipt_key())
}

pub(crate) fn parts(last: bool) -> ReceiptParts {
    ReceiptParts { request: Digest::new([0; 32]), response: Digest::new([0; 32]), last, audit: None }
}

/// A payer and a payee on one channel; every change is durable at once.
pub(crate) struct World {
    pub(crate) payer: Payer,
    pub(crate) payee: Payee,
    pub(crate) payer_log: Vec<Vec<u8>>,
    pub(crate) payee_log: Vec<Vec<u8>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_deposit(DEPOSIT)
    }

    pub(crate) fn with_deposit(deposit: u128) -> Self {
        let view = LedgerView::opened(grains(deposit));
        let (payer, first_payer) = Payer::open(terms(), view.clone(), voucher_key()).unwrap();
        let (payee, first_payee) = Payee::open(terms(), view).unwrap();
        let (payer_log, payee_log) = (vec![first_payer.bytes()], vec![first_payee.bytes()]);
        Self { payer, payee, payer_log, payee_log }
    }

    pub(crate) fn payer_does(&mut self, pending: Pending<PayerRecord>) {
        self.payer_log.push(pending.bytes());
        self.payer.confirm(pending);
    }

    pub(crate) fn payee_does(&mut self, pending: Pending<PayeeRecord>) {
        self.payee_log.push(pending.bytes());
        self.payee.confirm(pending);
    }

    pub(crate) fn accept(&mut self, voucher: &Signed<Voucher>) {
        match self.payee.accept(voucher, |_| Some(quote()), 0).unwrap() {
            Accepted::New(pending) => self.payee_does(pending),
            Accepted::Duplicate => panic!("a duplicate"),
        }
    }

    pub(crate) fn approve(&mut self, approval: &Signed<Approval>) {
        match self.payee.approve(approval).unwrap() {
            Accepted::New(pending) => self.payee_does(pending),
            Accepted::Duplicate => panic!("a duplicate"),
        }
    }

    /// The payer starts a request; returns its lane.
    pub(crate) fn start(&mut self, input_tokens: u64, max_output_tokens: u64) -> u32 {
        self.start_for(ANN, input_tokens, max_output_tokens)
    }

    pub(crate) fn start_for(&mut self, budget: KeyId, input_tokens: u64, max_output_tokens: u64) -> u32 {
        let quote = Signed::sign(quote(), &processor_key());
        let started = self.payer.start(&plan(&quote, budget, ask(input_tokens, max_output_tokens))).unwrap();
        if let Some(pending) = started.pending {
            self.payer_does(pending);
        }
        started.lane
    }

    /// The first voucher and the order reach the payee.
    pub(crate) fn place(&mut self, lane: u32, body: &[u8], ask: Ask) {
        let voucher = self.payer.voucher(lane).unwrap();
        let nothing = Digest::new([0; 32]);
        let order = self.payer.order(lane, sha256(&[body]), nothing, nothing).unwrap();
        self.accept(&voucher);
        let pending = self.payee.order(&order, &sha256(&[body]), ask, NOW).unwrap();
        self.payee_does(pending);
    }

    /// So many tokens are delivered, with vouchers as they are due.
    pub(crate) fn stream(&mut self, lane: u32, tokens: u64) {
        for _ in 0..tokens {
            assert_eq!(self.payee.spend(lane, 1, 0), Ok(Spend::Paid));
            if self.payer.delivered(lane, 1, 0).unwrap() {
                let voucher = self.payer.voucher(lane).unwrap();
                self.accept(&voucher);
            }
        }
    }

    /// The payee ends the request; the payer takes the receipt and approves.
    pub(crate) fn finish(&mut self, lane: u32) -> Signed<Receipt> {
        let receipt = self.finish_unapproved(lane);
        let approval = self.payer.approve(lane).unwrap();
        self.approve(&approval);
        receipt
    }

    pub(crate) fn finish_unapproved(&mut self, lane: u32) -> Signed<Receipt> {
        let (receipt, pending) = self.payee.receipt(lane, parts(true), &receipt_key()).unwrap();
        self.payee_does(pending);
        self.take(&receipt);
        receipt
    }

    pub(crate) fn take(&mut self, receipt: &Signed<Receipt>) {
        match self.payer.receipt(receipt).unwrap() {
            Received::New(pending) => self.payer_does(pending),
            other => panic!("{other:?}"),
        }
    }

    /// A whole request with an answer of so many tokens.
    pub(crate) fn request(&mut self, input_tokens: u64, max_output_tokens: u64, tokens: u64) -> u32 {
        let lane = self.start(input_tokens, max_output_tokens);
        self.place(lane, b"{}", ask(input_tokens, max_output_tokens));
        self.stream(lane, tokens);
        self.finish(lane);
        lane
    }

    pub(crate) fn restart_payer(&mut self) {
        self.payer = Payer::replay_bytes(&self.payer_log, voucher_key()).unwrap();
    }

    pub(crate) fn restart_payee(&mut self) {
        self.payee = Payee::replay_bytes(&self.payee_log).unwrap();
    }
}

pub(crate) fn plan(quote: &Signed<Quote>, budget: KeyId, ask: Ask) -> Plan<'_> {
    Plan {
        quote,
        budget,
        room: grains(u128::MAX),
        ask,
        max_amount: grains(u128::MAX),
        ahead: Amount::ZERO,
        now_ms: NOW,
    }
}

pub(crate) fn signed_quote() -> Signed<Quote> {
    Signed::sign(quote(), &processor_key())
}
