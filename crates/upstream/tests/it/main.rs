//! The engine and the probe against a scripted server: what servers do, and what they should not.

mod engine;
mod peer;
mod probe;
