//! Tests of the crate through its public interface: the executor's promises, codecs and pinned wire
//! formats, and a model that computes everything a second time.

#![allow(missing_docs, reason = "a test binary")]

mod attacks;
mod codec;
mod executor;
mod model;
mod random;
mod wire;
mod world;
