//! The target `sse`; what it does stands in `crates/fuzz/src/sse.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::sse::run(data));
