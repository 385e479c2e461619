//! Golden vectors, statistics and properties of the audit core, through its public interface.

mod golden;
mod nonce;
mod statistics;
