//! The target `proof`; what it does stands in `crates/fuzz/src/proof.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::proof::run(data));
