//! The target `answers`; what it does stands in `crates/fuzz/src/answers.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::answers::run(data));
