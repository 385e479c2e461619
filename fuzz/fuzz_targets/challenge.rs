//! The target `challenge`; what it does stands in `crates/fuzz/src/challenge.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::challenge::run(data));
