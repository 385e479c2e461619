//! The longest values that the bounds on transactions let through.

use super::*;
use crate::params;
use gristmill_types::encode;

/// The longest values that the bounds on transactions let through.
#[test]
fn records_stay_within_their_bound() {
    let name = "n".repeat(params::MAX_NAME_BYTES);
    let account = AccountId::new([1; 32]);
    let most = Amount::from_grains(u128::MAX);
    let prices = Prices { input_per_mtok: most, output_per_mtok: most, per_msec: most, per_mreq: most };
    let (line, model) = (LineId::new([1; 32]), ModelId::new([1; 32]));
    let part = RoyaltyPart { line, bps: 1 };
    let (usage, cap) = (Usage::default(), Cap { seq: 1, spent: most, usage: Usage::default() });
    let pending = Pending { seq: 1, amount: most, usage, cap: Some(cap), deadline_ms: 1, by_payee: true };
    let lane = Lane {
        channel: gristmill_types::ChannelId::new([1; 32]),
        lane: 1,
        model,
        quote: QuoteHash::new([1; 32]),
        royalties: vec![part; params::MAX_ROYALTIES],
        paid: most,
        seq: 1,
        usage,
        pending: Some(pending),
    };
    let records = [
        Processor {
            processor: account,
            receipt_key: account,
            endpoints: vec!["e".repeat(params::MAX_ENDPOINT_BYTES); params::MAX_ENDPOINTS],
            offers: 1,
            time_ms: 1,
        }
        .into_record(),
        Offer {
            processor: account,
            model,
            prices,
            issuers: vec![account; params::MAX_OFFER_ISSUERS],
            time_ms: 1,
        }
        .into_record(),
        lane.into_record(),
        Line { line, name: name.clone(), owner: Some(account), versions: 1, latest: model }.into_record(),
        Model {
            model,
            line,
            name: name.clone(),
            version: 1,
            publisher: account,
            foreign: false,
            licence: name.clone(),
            royalty_bps: 1,
            parents: vec![model; params::MAX_PARENTS],
            royalties: vec![part; params::MAX_ROYALTIES],
            tokenizer: Digest::new([1; 32]),
            engine: name,
            size_bytes: 1,
            time_ms: 1,
        }
        .into_record(),
    ];
    for record in records {
        assert!(encode(&record).len() <= params::MAX_RECORD_BYTES, "{record:?}");
    }
}
