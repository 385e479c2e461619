//! The target `template`; what it does stands in `crates/fuzz/src/template.rs`.

#![no_main]

use gristmill_fuzz::{expect_panics, template, run};

libfuzzer_sys::fuzz_target!(init: expect_panics(), |data: &[u8]| run(template::run, data));
