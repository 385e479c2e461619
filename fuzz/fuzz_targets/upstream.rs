//! The target `upstream`; what it does stands in `crates/fuzz/src/upstream.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::upstream::run(data));
