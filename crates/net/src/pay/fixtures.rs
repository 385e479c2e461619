//! One processor, one consumer, one request: fixed keys and values, so that every byte can be pinned.

use super::{Action, Cashier, Expected, Offer, PlacedOrder};
use gristmill_types::{
    AccountId, Amount, Approval, ChainId, ChannelTerms, Claim, DataPolicy, Digest, Limits, ModelId, Order,
    Prices, Quote, Receipt, SecretKey, Signed, Usage, Voucher, sha256,
};

/// A day in 2026, in Unix milliseconds.
pub(crate) const NOW: u64 = 1_767_225_600_000;
pub(crate) const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const REALM: &str = "processor.test";

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub(crate) fn processor() -> SecretKey {
    key(1)
}

pub(crate) fn voucher_key() -> SecretKey {
    key(2)
}

pub(crate) fn issuer() -> AccountId {
    key(3).account()
}

pub(crate) fn chain() -> ChainId {
    ChainId::new([9; 32])
}

pub(crate) fn quote_body() -> Quote {
    Quote {
        chain: chain(),
        processor: processor().account(),
        receipt_key: key(4).account(),
        model: ModelId::new([7; 32]),
        issuer: issuer(),
        prices: Prices {
            input_per_mtok: Amount::from_grains(50_000_000),
            output_per_mtok: Amount::from_grains(200_000_000),
            ..Prices::default()
        },
        tokenizer: Digest::new([8; 32]),
        limits: Limits { context_tokens: 2_048, output_tokens: 512, window_tokens: 64, window_ms: 1_000 },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: NOW + 600_000,
        nonce_root: Digest::new([6; 32]),
        engine: "candle-f32".to_owned(),
    }
}

pub(crate) fn quote() -> Signed<Quote> {
    Signed::sign(quote_body(), &processor())
}

/// The same processor's cheaper model.
pub(crate) fn cheap_quote() -> Signed<Quote> {
    let mut quote = quote_body();
    quote.model = ModelId::new([17; 32]);
    quote.prices.output_per_mtok = Amount::from_grains(1_000_000);
    Signed::sign(quote, &processor())
}

pub(crate) fn offer() -> Offer {
    Offer::new(quote(), Amount::from_credits(1)).unwrap()
}

pub(crate) fn cheap_offer() -> Offer {
    Offer::new(cheap_quote(), Amount::from_credits(1)).unwrap()
}

pub(crate) fn cashier() -> Cashier {
    Cashier::new(REALM, &[5; 32]).unwrap()
}

pub(crate) fn expected() -> Expected {
    let quote = quote_body();
    Expected {
        chain: quote.chain,
        processor: quote.processor,
        model: quote.model,
        issuer: quote.issuer,
        at_most: Some(quote.prices),
    }
}

pub(crate) fn terms() -> ChannelTerms {
    ChannelTerms {
        chain: chain(),
        payer: key(10).account(),
        payee: processor().account(),
        issuer: issuer(),
        voucher_key: voucher_key().account(),
        receipt_key: key(4).account(),
        grace_ms: 900_000,
        open_nonce: 3,
    }
}

pub(crate) fn claim() -> Claim {
    Claim {
        chain: chain(),
        channel: terms().id(),
        lane: 2,
        seq: 5,
        model: quote_body().model,
        quote: quote_body().hash(),
        usage: Usage { input_tokens: 20, output_tokens: 64, millis: 0, requests: 1 },
        amount: Amount::from_grains(13_800),
    }
}

pub(crate) fn voucher() -> Signed<Voucher> {
    Signed::sign(Voucher(claim()), &voucher_key())
}

pub(crate) fn approval() -> Signed<Approval> {
    Signed::sign(Approval(claim()), &voucher_key())
}

pub(crate) fn order_body() -> Order {
    Order {
        chain: chain(),
        channel: terms().id(),
        lane: 2,
        voucher: Voucher(claim()).hash(),
        body: sha256(&[BODY]),
        consumer_nonce: Digest::new([11; 32]),
        salt: Digest::new([12; 32]),
        max_amount: Amount::from_grains(1_000_000),
    }
}

pub(crate) fn placed() -> PlacedOrder {
    PlacedOrder { terms: terms(), voucher: voucher(), order: Signed::sign(order_body(), &voucher_key()) }
}

pub(crate) fn order() -> Action {
    Action::Order(Box::new(placed()))
}

pub(crate) fn receipt() -> Signed<Receipt> {
    let claim = claim();
    let receipt = Receipt {
        chain: claim.chain,
        channel: claim.channel,
        lane: claim.lane,
        seq: claim.seq,
        voucher: Voucher(claim).hash(),
        model: claim.model,
        quote: claim.quote,
        usage: claim.usage,
        spent: claim.amount,
        request: Digest::new([13; 32]),
        response: Digest::new([14; 32]),
        last: true,
        audit: None,
    };
    Signed::sign(receipt, &key(4))
}
