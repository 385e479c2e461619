//! The target `gguf`; what it does stands in `crates/fuzz/src/gguf.rs`.

#![no_main]

use gristmill_fuzz::{expect_panics, gguf, run};

libfuzzer_sys::fuzz_target!(init: expect_panics(), |data: &[u8]| run(gguf::run, data));
