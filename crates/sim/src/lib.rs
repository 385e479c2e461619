//! A whole exchange in one process: for tests that stop, kill and restart its parts, and for
//! measurements that tell whose time is whose.
//!
//! [`Exchange::start`] runs a ledger node, publishes models, and starts a processor and a gateway
//! over real loopback HTTP, with real stores in a temporary folder. Ledger, processor and gateway
//! each run on a tokio runtime of their own, whose threads carry the names in [`threads`]; each of
//! the two sides can be stopped cleanly, killed where it stands, and started again on the same
//! folder, keys and port.
//!
//! A kill ends all tasks of a side at their next wait, as the end of a process would. What was
//! queued for the store before is still written: what becomes of half-written files is what the
//! store's own tests are for.
//!
//! Any [`Engine`](gristmill_engine::Engine) can answer. [`InstantEngine`] costs nothing, so that
//! what is measured beside it is the exchange.
//!
//! Nothing that is shipped depends on this crate.

mod consumer;
mod exchange;
mod instant;
mod journal;
mod keys;
mod options;
mod side;

pub use consumer::{Consumer, Stream};
pub use exchange::Exchange;
pub use instant::{Answers, InstantEngine, Script};
pub use journal::{Journal, Occurrence};
pub use keys::Keys;
pub use options::{ISSUED, ModelOptions, Options};
pub use side::threads;
