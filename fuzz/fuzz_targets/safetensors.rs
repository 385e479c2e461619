//! The target `safetensors`; what it does stands in `crates/fuzz/src/safetensors.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::safetensors::run(data));
