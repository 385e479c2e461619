//! The engine through its public interface.

mod broken;
mod engine;
mod gguf;
mod golden;
mod replay;
mod support;
