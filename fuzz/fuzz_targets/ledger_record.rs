//! The target `ledger_record`; what it does stands in `crates/fuzz/src/ledger_record.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gristmill_fuzz::ledger_record::run(data));
