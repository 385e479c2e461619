//! The target `node`; what it does stands in `crates/fuzz/src/node.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::node::run(data));
