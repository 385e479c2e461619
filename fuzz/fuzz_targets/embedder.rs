//! The target `embedder`; what it does stands in `crates/fuzz/src/embedder.rs`.

#![no_main]

use gristmill_fuzz::{embedder, expect_panics, run};

libfuzzer_sys::fuzz_target!(init: expect_panics(), |data: &[u8]| run(embedder::run, data));
