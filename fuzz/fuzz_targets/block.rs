//! The target `block`; what it does stands in `crates/fuzz/src/block.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::block::run(data));
