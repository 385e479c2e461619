//! Tests of the events of a paid stream.

use super::*;
use crate::{
    openai::{Delta, Extension, FinishReason, Shape},
    pay::{
        fixtures::{self, NOW},
        golden::pinned,
    },
};
use gristmill_types::Digest;
use proptest::prelude::*;

fn items() -> Vec<Item> {
    let claim = fixtures::claim();
    let nonce = ProcessorNonce { nonce: Digest::new([1; 32]), index: 3, path: vec![Digest::new([2; 32])] };
    let delta = Delta { role: Some("assistant".to_owned()), content: Some("four\n".to_owned()) };
    let mut chunk = Chunk::new(Shape::Chat, "r-1", 7, "m", delta, Some(FinishReason::Stop));
    chunk.gristmill = Some(Extension { ids: vec![5, 6], ..Extension::default() });
    vec![
        Item::Start(Start {
            request_id: "r-1".into(),
            prompt_tokens: 20,
            processor_nonce: Some(Base64(nonce)),
        }),
        Item::Chunk(Box::new(chunk)),
        Item::NeedVoucher(NeedVoucher {
            channel: claim.channel,
            lane: claim.lane,
            required: Amount::from_grains(26_600),
            accepted: claim.amount,
            deposit: Amount::from_credits(1),
        }),
        Item::Failed(ApiError::processor_failed("the engine stopped")),
        Item::Receipt(Box::new(PaymentReceipt {
            challenge_id: "c-1".into(),
            channel: claim.channel,
            lane: claim.lane,
            accepted: claim.amount,
            spent: claim.amount,
            time_ms: NOW,
            signed: Some(fixtures::receipt()),
        })),
        Item::Done,
    ]
}

fn read(bytes: &[u8]) -> Vec<Item> {
    let mut reader = sse::Reader::default();
    reader.feed(bytes).unwrap();
    std::iter::from_fn(|| reader.next_event()).map(|event| Item::read(&event).unwrap()).collect()
}

#[test]
fn the_stream_is_pinned_and_read_back() {
    let mut bytes = Vec::new();
    for item in items() {
        bytes.extend_from_slice(&item.to_event().unwrap());
    }
    pinned("stream", std::str::from_utf8(&bytes).unwrap());
    assert_eq!(read(&bytes), items());
}

#[test]
fn a_stock_reader_of_the_protocol_understands_our_events() {
    use mpp::server::sse::{SseEvent, parse_event};
    for item in items() {
        let bytes = item.to_event().unwrap();
        let parsed = parse_event(std::str::from_utf8(&bytes).unwrap()).unwrap();
        if matches!(item, Item::NeedVoucher(_)) {
            assert!(
                matches!(parsed, SseEvent::PaymentNeedVoucher(event) if event.required_cumulative == "26600")
            );
        } else {
            assert!(matches!(parsed, SseEvent::Message(_)));
        }
    }
}

#[test]
fn payment_events_of_later_versions_are_skipped() {
    let event = Event { name: "payment-tick".into(), data: "{}".into() };
    assert_eq!(Item::read(&event), Ok(Item::Unknown));
    assert!(Item::Unknown.to_event().unwrap().is_empty());
}

#[test]
fn what_does_not_read_names_its_event() {
    let zero = "0".repeat(64);
    let need = |lane: &str, amount: &str, channel: &str| {
        format!(
            r#"{{"channelId":"{channel}","requiredCumulative":"{amount}","acceptedCumulative":"0","deposit":"0"{lane}}}"#
        )
    };
    for (name, data) in [
        ("payment-start", "{}".to_owned()),
        ("payment-start", "7".to_owned()),
        ("payment-need-voucher", need("", "1", &zero)),
        ("payment-need-voucher", need(r#","lane":1"#, "1.5", &zero)),
        ("payment-need-voucher", need(r#","lane":1"#, "1", "0x")),
        ("payment-need-voucher", need(r#","lane":-1"#, "1", &zero)),
        ("payment-receipt", "{}".to_owned()),
        ("", "{}".to_owned()),
        ("", "hello".to_owned()),
        ("message", r#"{"choices":7}"#.to_owned()),
    ] {
        let error = Item::read(&Event { name: name.to_owned(), data }).unwrap_err().to_string();
        assert!(error.contains(&format!("'{name}'")), "{error}");
    }
    let fine = Event { name: "payment-need-voucher".into(), data: need(r#","lane":1"#, "1", &zero) };
    assert!(Item::read(&fine).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_events_never_panic(which in 0usize..5, data in "\\PC{0,120}") {
        let name = [START, NEED_VOUCHER, RECEIPT, "", "payment-x"][which].to_owned();
        let _ = Item::read(&Event { name, data });
    }
}
