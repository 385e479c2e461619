//! The target `ledger_tx`; what it does stands in `crates/fuzz/src/ledger_tx.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::ledger_tx::run(data));
