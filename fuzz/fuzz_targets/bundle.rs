//! The target `bundle`; what it does stands in `crates/fuzz/src/bundle.rs`.

#![no_main]

use gristmill_fuzz::{expect_panics, bundle, run};

libfuzzer_sys::fuzz_target!(init: expect_panics(), |data: &[u8]| run(bundle::run, data));
