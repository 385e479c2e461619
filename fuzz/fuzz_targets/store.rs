//! The target `store`; what it does stands in `crates/fuzz/src/store.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::store::run(data));
