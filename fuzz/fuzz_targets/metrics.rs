//! The target `metrics`; what it does stands in `crates/fuzz/src/metrics.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::metrics::run(data));
