//! The target `receipt`; what it does stands in `crates/fuzz/src/receipt.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::receipt::run(data));
