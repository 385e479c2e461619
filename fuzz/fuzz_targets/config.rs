//! The target `config`; what it does stands in `crates/fuzz/src/config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::config::run(data));
