//! The events of a paid answer and `Payment-Receipt`, as a gateway reads them of a processor.

use gristmill_net::{
    pay::{PaymentReceipt, stream::Item},
    sse,
};
use http::HeaderValue;

/// The first byte says whether a stream follows, a header's value, or the data of a receipt's event.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        0 => stream(rest),
        1 => {
            let Ok(value) = HeaderValue::from_bytes(rest) else { return };
            let Ok(receipt) = PaymentReceipt::from_header(&value) else { return };
            let again = PaymentReceipt::from_header(&receipt.to_header().unwrap());
            assert_eq!(again, Ok(receipt));
        }
        _ => {}
    }
}

fn stream(bytes: &[u8]) {
    for event in events(bytes) {
        let Ok(item) = Item::read(&event) else { continue };
        if item == Item::Unknown || inexact(&item) {
            continue;
        }
        let written = item.to_event().expect("an item that was read is written");
        let again = events(&written).pop().map(|event| Item::read(&event));
        assert_eq!(again, Some(Ok(item)));
    }
}

fn events(bytes: &[u8]) -> Vec<sse::Event> {
    let mut reader = sse::Reader::default();
    let _ = reader.feed(bytes);
    std::iter::from_fn(|| reader.next_event()).collect()
}

/// A cost in JSON is exact up to four million credits.
fn inexact(item: &Item) -> bool {
    let Item::Chunk(chunk) = item else { return false };
    let cost = chunk.usage.and_then(|usage| usage.cost);
    cost.is_some_and(|cost| cost.0 > gristmill_types::Amount::from_credits(4_000_000))
}
