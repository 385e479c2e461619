//! The target `request`; what it does stands in `crates/fuzz/src/request.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::request::run(data));
