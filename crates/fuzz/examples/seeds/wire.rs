//! Text, artefacts, the payment headers, streams, requests and answers.

use crate::{Seed, of_kind};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fixtures::NOW;
use gristmill_fuzz::join;
use gristmill_net::{
    Base64,
    openai::{
        Answer, ApiError, Choice, ChoiceError, Chunk, Delta, EmbeddingList, Encoding, Extension,
        FinishReason, Logprob, Model, ModelList, Shape, TopLogprob, Usage, vector_line,
    },
    pay::{
        Action, Cashier, Challenge, Expected, Offer, PaymentReceipt, PlacedOrder,
        stream::{Item, NeedVoucher, Start},
    },
    peer::{ChannelState, LaneState, Quotes},
    trace::{Served, Settled, Stages},
};
use gristmill_types::{
    Amount, AuditCommitment, Digest, Finish, Manifest, ManifestFile, ProcessorNonce, Sampling, Signed,
    TxHash, Unit, encode,
};
use http::{HeaderMap, HeaderValue, header};

#[path = "../../../net/src/pay/fixtures.rs"]
#[allow(dead_code, reason = "only values are needed")]
mod fixtures;

const BODIES: &[(u8, &str)] = &[
    (0, r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
    (
        0,
        r#"{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c","tool_calls":[]}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"temperature":0.7,"top_k":40,"seed":-3,"stop":["x","y"],"n":3,"top_p":0.5,"logprobs":true,"top_logprobs":2}"#,
    ),
    (
        0,
        r#"{"model":"m","messages":[{"role":"system","content":""}],"max_completion_tokens":7,"stop":"z","n":1,"top_p":1.0,"tools":[],"response_format":{"type":"text"},"user":"u","logit_bias":{}}"#,
    ),
    (0, r#"{"model":"","messages":[]}"#),
    (0, r#"{"model":"m","messages":[{"role":"tool","content":null}],"tool_choice":"auto","logprobs":true}"#),
    (1, r#"{"model":"m","prompt":"go on","logprobs":3,"n":2,"stop":"\n","echo":false,"best_of":1}"#),
    (1, r#"{"model":"m","prompt":["go on"],"max_tokens":5,"stream":true,"suffix":null}"#),
    (2, r#"{"model":"m","input":"a text","encoding_format":"base64","user":"u"}"#),
    (2, r#"{"model":"m","input":["a","b"],"dimensions":null}"#),
];

pub(crate) fn add(seeds: &mut Vec<Seed>) {
    text(seeds);
    artefacts(seeds);
    headers(seeds);
    streams(seeds);
    answers(seeds);
    seeds.extend(BODIES.iter().map(|(shape, body)| ("request", of_kind(*shape, body))));
    upstream(seeds);
    metrics(seeds);
    for answer in gristmill_fuzz::parts(include_bytes!("../../data/node")) {
        seeds.push(("node", answer.to_vec()));
    }
    for receipt in gristmill_fuzz::parts(include_bytes!("../../data/receipts")) {
        seeds.push(("receipt", receipt.to_vec()));
    }
}

fn text(seeds: &mut Vec<Seed>) {
    let account = fixtures::issuer().to_string();
    for text in [
        "0",
        "12",
        "0.5",
        "340282366920938463463374607431.768211455",
        "340282366920938463463374607431768211455",
        "00.000000001",
        "1e3",
        &account,
        &account.to_uppercase(),
        &fixtures::terms().id().to_string(),
        &"ab".repeat(64),
    ] {
        seeds.push(("text", text.as_bytes().to_vec()));
    }
}

fn artefacts(seeds: &mut Vec<Seed>) {
    let mut receipt = fixtures::receipt();
    receipt.body.audit = Some(AuditCommitment {
        prompt_ids: Digest::new([9; 32]),
        output_ids: Digest::new([10; 32]),
        sampling: Sampling {
            temperature_micros: 700_000,
            top_k: 40,
            top_p_micros: 900_000,
            max_tokens: 16,
            stop: vec!["\n".into()],
        },
        consumer_nonce: Digest::new([11; 32]),
        processor_nonce: Some(nonce()),
        finish: Finish::Stop,
    });
    let file = |path: &str| ManifestFile { path: path.into(), bytes: 2, sha256: Digest::new([1; 32]) };
    let manifest = Manifest::new(vec![file("a"), file("b/c")], Digest::new([2; 32]));
    let all = [
        encode(&fixtures::quote()),
        encode(&fixtures::voucher()),
        encode(&fixtures::approval()),
        encode(&fixtures::placed().order),
        encode(&fixtures::receipt()),
        encode(&manifest),
        encode(&fixtures::terms()),
        encode(&nonce()),
        encode(&receipt),
    ];
    for (kind, bytes) in (0..).zip(all) {
        // The last is another receipt.
        let kind = if kind == 8 { 4 } else { kind };
        seeds.push(("artefacts", of_kind(kind | 0x80, URL_SAFE_NO_PAD.encode(&bytes))));
        seeds.push(("artefacts", of_kind(kind, bytes)));
    }
}

fn nonce() -> ProcessorNonce {
    ProcessorNonce { nonce: Digest::new([1; 32]), index: 3, path: vec![Digest::new([2; 32])] }
}

fn headers(seeds: &mut Vec<Seed>) {
    for offer in [fixtures::offer(), fixtures::cheap_offer()] {
        let header = fixtures::cashier().header(&offer).unwrap();
        seeds.push(("challenge", of_kind(0, join([header.as_bytes(), b"Bearer realm=\"x\""]))));
        let parameter = |name: &str| {
            let (_, rest) = header.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let request = URL_SAFE_NO_PAD.decode(parameter("request")).unwrap();
        let expires = parameter("expires").into_bytes();
        seeds.push(("challenge", of_kind(1, join([request, expires, b", opaque=\"e30\"".to_vec()]))));
    }
    let header = fixtures::cashier().header(&fixtures::offer()).unwrap();
    let value = HeaderValue::from_str(&header).unwrap();
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
    let challenge = Challenge::read(&headers, &fixtures::expected(), NOW).unwrap();
    for action in
        [fixtures::order(), Action::Voucher(fixtures::voucher()), Action::Approve(fixtures::approval())]
    {
        let value = challenge.authorize(&action).unwrap();
        let json = URL_SAFE_NO_PAD.decode(value.to_str().unwrap().strip_prefix("Payment ").unwrap()).unwrap();
        seeds.push(("credential", of_kind(0, value.as_bytes())));
        seeds.push(("credential", of_kind(1, json)));
    }
}

fn payment_receipt(signed: Option<Signed<gristmill_types::Receipt>>) -> PaymentReceipt {
    let claim = fixtures::claim();
    PaymentReceipt {
        challenge_id: "c-1".into(),
        channel: claim.channel,
        lane: claim.lane,
        accepted: claim.amount,
        spent: claim.amount,
        time_ms: NOW,
        signed,
    }
}

fn chunk() -> Chunk {
    let delta = Delta { role: Some("assistant".to_owned()), content: Some("four\n".to_owned()) };
    let mut chunk = Chunk::new(Shape::Chat, "r-1", 7, "m", delta, Some(FinishReason::Stop));
    let logprob = Logprob { logprob: -0.25, top: vec![TopLogprob { id: 5, logprob: -0.25 }] };
    let logprobs = vec![logprob.clone(), logprob];
    chunk.gristmill = Some(Extension { ids: vec![5, 6], logprobs, ..Extension::default() });
    chunk
}

fn streams(seeds: &mut Vec<Seed>) {
    let claim = fixtures::claim();
    let items = [
        Item::Start(Start {
            request_id: "r-1".into(),
            prompt_tokens: 20,
            processor_nonce: Some(Base64(nonce())),
        }),
        Item::Chunk(Box::new(chunk())),
        Item::NeedVoucher(NeedVoucher {
            channel: claim.channel,
            lane: claim.lane,
            required: Amount::from_grains(26_600),
            accepted: claim.amount,
            deposit: Amount::from_credits(1),
        }),
        Item::Failed(ApiError::processor_failed("the engine stopped")),
        Item::Receipt(Box::new(payment_receipt(Some(fixtures::receipt())))),
        Item::Done,
    ];
    let mut whole = Vec::new();
    for item in &items {
        let bytes = item.to_event().unwrap();
        seeds.push(("paid_stream", of_kind(0, &bytes)));
        whole.extend_from_slice(&bytes);
    }
    seeds.push(("paid_stream", of_kind(0, whole)));
    for signed in [None, Some(fixtures::receipt())] {
        let value = payment_receipt(signed).to_header().unwrap();
        seeds.push(("paid_stream", of_kind(1, value.as_bytes())));
    }
    for text in [
        "data: a\n\n",
        "\u{feff}event: e\r\ndata: a\r\ndata:b\r\n\r\n",
        ": c\rid: 7\rdata\r\revent:x\n\n",
        "data: \u{fffd}\n\ndata: [DONE]\n\n",
    ] {
        seeds.push(("sse", of_kind(3, text)));
    }
    seeds.push(("sse", of_kind(1, [b"data: ", &[0xff; 200][..], b"\n\n"].concat())));
}

fn answers(seeds: &mut Vec<Seed>) {
    let choice = |shape, index| Choice::new(shape, index, "hi".into(), FinishReason::Stop);
    let usage = Usage::new(3, 2, Unit::Token, None);
    let mut answer = Answer::new(Shape::Chat, "c-1".into(), 7, "m".into(), vec![choice(Shape::Chat, 0)]);
    answer.usage = Some(usage);
    let choices = vec![choice(Shape::Text, 0), choice(Shape::Text, 1)];
    let mut texts = Answer::new(Shape::Text, "c-2".into(), 7, "m".into(), choices);
    texts.usage = Some(Usage::new(3, 2, Unit::Byte, None));
    texts.gristmill = Some(Extension {
        receipt: Some(Digest::new([1; 32])),
        receipts: vec![Digest::new([1; 32])],
        processor: Some(fixtures::issuer()),
        errors: vec![ChoiceError { index: 1, message: "full".into() }],
        ..Extension::default()
    });
    let vectors = vector_line(&[1.0, -0.5]) + &vector_line(&[0.0, 0.25]);
    let list = |encoding| EmbeddingList::new(&vectors, encoding, "m".into(), usage).unwrap();
    let mut stages = Stages::begin("asked");
    stages.reach("window", Some("2".to_owned()));
    let trace = stages.trace("r-1".into(), Some("r-2".into()), fixtures::terms().id(), 3);
    let settled = Settled { transaction: TxHash::new([1; 32]), height: 7, fee: Amount::from_grains(9) };
    let served = Served { trace: trace.clone(), approved_us: Some(8), settled: Some(settled) };
    let model = Model {
        id: "a/b".into(),
        object: "model".into(),
        created: 1,
        owned_by: "gm1".into(),
        context_length: Some(7),
        unit: Unit::Byte,
        pricing: Some((&fixtures::quote_body().prices).into()),
    };
    let lane = LaneState {
        lane: 2,
        voucher: Some(Base64(fixtures::voucher())),
        receipt: Some(Base64(fixtures::receipt())),
        approval: Some(Base64(fixtures::approval())),
    };
    let state = ChannelState { channel: fixtures::terms().id(), lanes: vec![lane] };
    let quotes = Quotes { quotes: vec![Base64(fixtures::quote())] };
    let problem = r#"{"type":"https://paymentauth.org/problems/session/insufficient-balance","title":"t","status":402,"detail":"d"}"#;
    for (kind, json) in [
        (0, serde_json::to_string(&answer).unwrap()),
        (1, serde_json::to_string(&chunk()).unwrap()),
        (2, serde_json::to_string(&ModelList::new(vec![model])).unwrap()),
        (3, ApiError::unsupported("n", "one").body()),
        (3, r#"{"error":{"message":"m","code":7}}"#.to_owned()),
        (4, serde_json::to_string(&quotes).unwrap()),
        (5, serde_json::to_string(&state).unwrap()),
        (6, problem.to_owned()),
        (0, serde_json::to_string(&texts).unwrap()),
        (7, serde_json::to_string(&list(Encoding::Float)).unwrap()),
        (7, serde_json::to_string(&list(Encoding::Base64)).unwrap()),
        (8, serde_json::to_string(&trace).unwrap()),
        (9, serde_json::to_string(&served).unwrap()),
        (10, vectors.clone()),
    ] {
        seeds.push(("answers", of_kind(kind, json)));
    }
}

/// As other servers speak.
fn upstream(seeds: &mut Vec<Seed>) {
    let chat = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"reasoning_content":"hm","content":"the \u00e9nd. "},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"content":"end. no more"},"finish_reason":"length"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"total_tokens":3}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let text = "data: {\"choices\":[{\"text\":\"hi\",\"finish_reason\":null}]}\n\ndata: [DONE]\n\n";
    let failed = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    for (limit, width, events) in [(99, 4, chat), (9, 3, chat), (99, 99, text), (9, 1, failed)] {
        seeds.push(("upstream", [&[0, limit, width], events.as_bytes()].concat()));
    }
    for body in [
        r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"error":null}"#,
        r#"{"object":"error","message":"too long"}"#,
        r#"{"detail":[{"msg":"bad"}]}"#,
    ] {
        seeds.push(("upstream", [&[1, 9, 4], body.as_bytes()].concat()));
    }
    for address in [
        "http://127.0.0.1:8080/v1/",
        "https://a.example/b/v1#c",
        "http://[::1]",
        "http://u:p@a/?q",
        "http://v1",
        "http://a/v1/v1/",
    ] {
        seeds.push(("upstream", of_kind(2, address)));
    }
}

fn metrics(seeds: &mut Vec<Seed>) {
    for text in [
        "# HELP tea_cups Cups.\n# TYPE tea_cups counter\ntea_cups_total{kind=\"a \\\"b\\\" \\n\",place=\"a\"} 3\n# EOF\n",
        "tea_seconds_bucket{le=\"+Inf\"} 2 1700000000\nteaWarm -1.5e9\ntea{} NaN\nnonsense{a=\"b} 1\n",
    ] {
        seeds.push(("metrics", text.as_bytes().to_vec()));
    }
}
