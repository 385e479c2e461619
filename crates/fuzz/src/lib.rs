//! What the fuzzer runs: for each decoder of bytes from outside one target, a function that takes any
//! bytes and panics where a rule is broken.
//!
//! A target asks for more than that nothing panics: what decodes encodes to the same bytes, what was
//! signed cannot be exchanged, a second way of reading agrees, memory stays within a bound. The fuzzer
//! itself, libFuzzer behind `cargo fuzz`, is a workspace of its own in the folder `fuzz`; it adds nothing
//! to a target but the bytes. So an ordinary test can feed every target with the files of
//! `fuzz/corpus`, which it does.
//!
//! Nothing here knows the fuzzer.

// The ledger's tests have a world, values of every type and a second, naive ledger; they are the oracle
// of a target here. They know the crate's root by these names.
#[path = "../../ledger/tests/it/random.rs"]
#[allow(dead_code, reason = "the generator of operations needs a part of it")]
mod random;
#[path = "../../ledger/tests/it/world.rs"]
mod world;

pub mod answers;
pub mod artefacts;
pub mod block;
pub mod bundle;
pub mod challenge;
pub mod channel;
pub mod config;
pub mod credential;
pub mod embedder;
pub mod gguf;
pub mod ledger_record;
pub mod ledger_run;
pub mod ledger_tx;
pub mod metrics;
pub mod node;
pub mod paid_stream;
pub mod proof;
pub mod receipt;
pub mod request;
pub mod safetensors;
pub mod sse;
pub mod store;
pub mod template;
pub mod text;
pub mod upstream;

mod payment;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Debug,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
};

/// A target's name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    ("answers", answers::run),
    ("artefacts", artefacts::run),
    ("block", block::run),
    ("bundle", bundle::run),
    ("challenge", challenge::run),
    ("channel", channel::run),
    ("config", config::run),
    ("credential", credential::run),
    ("embedder", embedder::run),
    ("gguf", gguf::run),
    ("ledger_record", ledger_record::run),
    ("ledger_run", ledger_run::run),
    ("ledger_tx", ledger_tx::run),
    ("metrics", metrics::run),
    ("node", node::run),
    ("paid_stream", paid_stream::run),
    ("proof", proof::run),
    ("receipt", receipt::run),
    ("request", request::run),
    ("safetensors", safetensors::run),
    ("sse", sse::run),
    ("store", store::run),
    ("template", template::run),
    ("text", text::run),
    ("upstream", upstream::run),
];

/// Parts of an input, each behind its length in two bytes, little endian. A last part may be cut short.
pub fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        data = rest;
        Some(part)
    })
}

/// The other direction, for seeds.
pub fn join<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> Vec<u8> {
    let mut data = Vec::new();
    for part in parts {
        let part = part.as_ref();
        let length = u16::try_from(part.len()).expect("a part has less than 64 KiB");
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(part);
    }
    data
}

/// What the last panic said.
static LAST: Mutex<String> = Mutex::new(String::new());

/// For targets whose code catches a library's panics: those are no findings, and the fuzzer's own hook
/// would end the run at each.
pub fn expect_panics() {
    panic::set_hook(Box::new(|info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
}

/// Runs such a target; says what a panic that nobody caught was about.
pub fn run(target: fn(&[u8]), data: &[u8]) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| target(data))) {
        eprintln!("{}", LAST.lock().unwrap_or_else(PoisonError::into_inner));
        panic::resume_unwind(payload);
    }
}

/// The value of the bytes, if they are one. Then they are its only encoding.
fn canonical<T: BorshSerialize + BorshDeserialize>(bytes: &[u8]) -> Option<T> {
    let value = gristmill_types::decode::<T>(bytes).ok()?;
    assert!(gristmill_types::encode(&value) == bytes, "these bytes are a second encoding of a value");
    Some(value)
}

/// JSON gives the value back.
fn through_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("a value is written as JSON");
    let again: T = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(&again, value, "JSON changed it: {json}");
}
