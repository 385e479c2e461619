//! The engine through its public interface.

mod broken;
mod embed;
mod engine;
mod gguf;
mod golden;
mod replay;
mod support;
