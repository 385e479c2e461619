//! The target `credential`; what it does stands in `crates/fuzz/src/credential.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::credential::run(data));
