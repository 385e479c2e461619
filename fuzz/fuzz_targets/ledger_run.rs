//! The target `ledger_run`; what it does stands in `crates/fuzz/src/ledger_run.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::ledger_run::run(data));
