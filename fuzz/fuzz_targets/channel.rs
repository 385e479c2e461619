//! The target `channel`; what it does stands in `crates/fuzz/src/channel.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::channel::run(data));
