//! The target `artefacts`; what it does stands in `crates/fuzz/src/artefacts.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::artefacts::run(data));
