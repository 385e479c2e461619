//! What comes at once, and what comes in floods.

use super::*;
use gristmill_channel::{Ask, LedgerView};
use gristmill_types::{
    AccountId, Amount, ChainId, ChannelTerms, Claim, DataPolicy, Digest, Limits, ModelId, Order, Prices,
    Quote, SecretKey, Signed, Usage, Voucher, sha256,
};
use std::collections::BTreeSet;

const NOTHING: Digest = Digest::new([0; 32]);
/// What one token costs.
const PRICE: u128 = 3;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn terms(open_nonce: u64) -> ChannelTerms {
    ChannelTerms {
        chain: ChainId::new([9; 32]),
        payer: key(1).account(),
        payee: key(4).account(),
        issuer: AccountId::new([5; 32]),
        voucher_key: key(2).account(),
        receipt_key: key(3).account(),
        grace_ms: 900_000,
        open_nonce,
    }
}

fn quote() -> Quote {
    let terms = terms(0);
    Quote {
        chain: terms.chain,
        processor: terms.payee,
        receipt_key: terms.receipt_key,
        model: ModelId::new([7; 32]),
        issuer: terms.issuer,
        prices: Prices { output_per_mtok: Amount::from_grains(PRICE * 1_000_000), ..Prices::default() },
        tokenizer: NOTHING,
        limits: Limits { context_tokens: 4096, output_tokens: 1024, window_tokens: 16, window_ms: 1_000 },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: 1_000_000,
        nonce_root: NOTHING,
        engine: "test".into(),
    }
}

/// A promise of so many tokens.
fn voucher(lane: u32, seq: u64, tokens: u64) -> Signed<Voucher> {
    let quote = quote();
    let usage = Usage { input_tokens: 1, output_tokens: tokens, millis: 0, requests: 1 };
    let claim = Claim {
        chain: quote.chain,
        channel: terms(0).id(),
        lane,
        seq,
        model: quote.model,
        quote: quote.hash(),
        usage,
        amount: Amount::from_grains(PRICE * u128::from(tokens)),
    };
    Signed::sign(Voucher(claim), &key(2))
}

fn order(voucher: &Signed<Voucher>) -> Signed<Order> {
    let claim = voucher.body.0;
    let order = Order {
        chain: claim.chain,
        channel: claim.channel,
        lane: claim.lane,
        voucher: voucher.body.hash(),
        body: sha256(&[b"{}"]),
        consumer_nonce: NOTHING,
        salt: NOTHING,
        max_amount: Amount::from_grains(1_000),
    };
    Signed::sign(order, &key(2))
}

struct Shop {
    books: Books,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("processor.db"), &[]).unwrap();
        Self { books: Books::load(store.clone()).unwrap(), store, _folder: folder }
    }

    async fn open(&self, deposit: u128, open_nonce: u64) -> Result<Arc<Book>, Refused> {
        let view = LedgerView::opened(Amount::from_grains(deposit));
        let (payee, first) = Payee::open(terms(open_nonce), view).unwrap();
        self.books.open(payee, first).await
    }

    /// The book as a restart would find it.
    fn again(&self, book: &Book) -> Payee {
        Payee::replay_bytes(self.store.load(&book.log).unwrap()).unwrap()
    }
}

async fn accept(book: &Arc<Book>, voucher: &Signed<Voucher>) -> Result<(), Refused> {
    let take = |payee: &mut Payee| {
        let accepted = payee.accept(voucher, |_| Some(quote()), 0)?;
        Ok(((), record_of(accepted).into_iter().collect()))
    };
    let ((), queued) = book.change(take).await?;
    queued.durable().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_lanes_at_once_stay_within_the_deposit() {
    let shop = Shop::new();
    // Sixteen tokens each: the deposit is enough for 20.
    let book = shop.open(20 * 16 * PRICE + 1, 0).await.unwrap();
    let calls = (0..64).map(|lane| {
        let book = Arc::clone(&book);
        tokio::spawn(async move { (lane, accept(&book, &voucher(lane, 1, 16)).await.is_ok()) })
    });
    let mut told = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let (lane, taken) = call.await.unwrap();
        told.extend(taken.then_some(lane));
    }
    assert_eq!(told.len(), 20);
    // Exactly what payers were told is on disk.
    let again = shop.again(&book);
    assert!(again.same_state(&book.payee()));
    let kept: BTreeSet<u32> = again.copy().lanes.iter().map(|of| of.lane).collect();
    assert_eq!(kept, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_voucher_a_hundred_times_at_once_is_one_delivery() {
    let shop = Shop::new();
    let book = shop.open(10_000, 0).await.unwrap();
    let given = voucher(0, 1, 16);
    let calls = (0..100).map(|_| {
        let (book, given) = (Arc::clone(&book), given.clone());
        tokio::spawn(async move {
            let order = order(&given);
            let Ok(authentic) = book.payee().authenticate(&given, &order, &order.body.body) else { return 0 };
            let ask = Ask { input_tokens: 1, max_output_tokens: 100, max_millis: 0 };
            let take = |payee: &mut Payee| {
                let accepted = payee.accept_authentic(&authentic, |_| Some(quote()), 0)?;
                let mut pending: Vec<_> = record_of(accepted).into_iter().collect();
                let ordered = payee.order_authentic(&authentic, ask, 1_000);
                let begun = usize::from(ordered.is_ok());
                pending.extend(ordered);
                Ok((begun, pending))
            };
            let (begun, queued) = book.change(take).await.unwrap();
            queued.durable().await.unwrap();
            begun
        })
    });
    let mut begun = 0;
    for call in calls.collect::<Vec<_>>() {
        begun += call.await.unwrap();
    }
    assert_eq!(begun, 1);
    assert!(shop.again(&book).same_state(&book.payee()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_vouchers_keeps_the_log_short() {
    let shop = Shop::new();
    let book = shop.open(1_000_000, 0).await.unwrap();
    for seq in 1..=600 {
        accept(&book, &voucher(0, seq, 16)).await.unwrap();
    }
    // Ones that are refused are not written at all.
    let before = shop.store.load(&book.log).unwrap().len();
    assert!(before <= LONG, "{before} records");
    for seq in 1..=600 {
        assert!(accept(&book, &voucher(0, seq, 15)).await.is_err());
    }
    assert_eq!(shop.store.load(&book.log).unwrap().len(), before);
    assert!(shop.again(&book).same_state(&book.payee()));
}

#[tokio::test]
async fn there_are_only_so_many_channels() {
    let mut shop = Shop::new();
    shop.books.most = 3;
    for nonce in 0..3 {
        shop.open(1, nonce).await.unwrap();
    }
    assert!(shop.open(1, 3).await.is_err());
    assert!(shop.open(1, 2).await.is_ok(), "one that is there stays there");
    assert_eq!(shop.store.logs(LOG_PREFIX).unwrap().len(), 3);
}
