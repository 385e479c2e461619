//! The target `paid_stream`; what it does stands in `crates/fuzz/src/paid_stream.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::paid_stream::run(data));
