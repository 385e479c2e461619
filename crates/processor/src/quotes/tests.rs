//! Which quotes are kept, and how much of them.

use super::*;
use gristmill_store::Store;
use gristmill_types::Digest;
use std::sync::Weak;

const VALID_MS: u64 = 1_000;

/// A quote of a model that was made at this time. Few nonces, so that they run out.
fn quote(model: u8, now_ms: u64) -> Arc<OwnQuote> {
    let key = SecretKey::from_seed(&[4; 32]);
    let tree = NonceTree::new(&[5; 32], 8).unwrap();
    let nothing = Digest::new([0; 32]);
    let quote = Quote {
        chain: ChainId::new([9; 32]),
        processor: key.account(),
        receipt_key: key.account(),
        model: ModelId::new([model; 32]),
        issuer: key.account(),
        prices: gristmill_types::Prices::default(),
        tokenizer: nothing,
        limits: Limits { context_tokens: 4096, output_tokens: 1024, window_tokens: 16, window_ms: 1_000 },
        data_policy: DataPolicy::NotStored,
        valid_until_ms: now_ms + VALID_MS,
        nonce_root: tree.root(),
        engine: "test".into(),
    };
    Arc::new(OwnQuote::new(Signed::sign(quote, &key), Some(tree)).unwrap())
}

#[test]
fn the_trees_of_replaced_quotes_go() {
    let mut quotes = Quotes::default();
    let mut made: Vec<(QuoteHash, Weak<OwnQuote>)> = Vec::new();
    for (time, model) in [(0, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 2)] {
        let quote = quote(model, time);
        drop(quotes.record(&quote, time));
        quotes.replace(&quote);
        made.push((quote.hash, Arc::downgrade(&quote)));
    }
    // Of each model the current one and the one before.
    let there: Vec<bool> = made.iter().map(|(_, quote)| quote.upgrade().is_some()).collect();
    assert_eq!(there, [false, true, false, true, true, true]);
    for (hash, quote) in &made {
        assert_eq!(quotes.starting(hash).is_some(), quote.upgrade().is_some());
        let earlier = earlier(quotes.known(hash).unwrap().clone()).unwrap();
        assert!(earlier.hash == *hash && !earlier.has_nonce() && earlier.nonce().is_none());
    }
}

#[test]
fn a_nonce_that_nobody_saw_is_drawn_again_and_no_other() {
    let quote = quote(1, 0);
    let drawn: Vec<u32> = (0..3).map(|_| quote.nonce().unwrap().index).collect();
    assert_eq!(drawn, [0, 1, 2]);
    let nonce = quote.nonce().unwrap();
    quote.give_back(&nonce);
    assert_eq!(quote.nonce(), Some(nonce.clone()));
    let rest: Vec<u32> = std::iter::from_fn(|| quote.nonce()).map(|nonce| nonce.index).collect();
    assert_eq!(rest, [4, 5, 6, 7]);
    assert!(!quote.has_nonce());
    quote.give_back(&nonce);
    assert!(quote.has_nonce() && quote.nonce() == Some(nonce) && quote.nonce().is_none());
}

#[tokio::test]
async fn the_log_of_quotes_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("processor.db"), &[]).unwrap();
    let mut quotes = Quotes::default();
    // Ten at a time are remembered.
    let step_ms = (VALID_MS + KEPT_MS) / 10;
    for turn in 0..100 {
        let now_ms = turn * step_ms;
        let quote = quote(1, now_ms);
        store.write(quotes.record(&quote, now_ms)).await.unwrap();
        quotes.replace(&quote);
        let rows = store.load(QUOTES_LOG).unwrap();
        assert!(rows.len() <= 25, "{} records after {turn} quotes", rows.len());
        let logged: Vec<QuoteHash> =
            rows.iter().map(|row| Signed::<Quote>::from_bytes(&row.record).unwrap().body.hash()).collect();
        assert!(quotes.known.len() <= 12 && quotes.known.keys().all(|hash| logged.contains(hash)));
    }
}
