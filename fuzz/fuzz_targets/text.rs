//! The target `text`; what it does stands in `crates/fuzz/src/text.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::text::run(data));
