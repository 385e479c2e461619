//! The ledger as a replicated machine.
//!
//! [`gristmill_ledger`] says what transactions do; this crate makes a set of validators agree on
//! their order, keeps the state and its proofs, and serves it. The consensus engine, block
//! dissemination and the authenticated database are Commonware's; ours are the application on top,
//! the mempool, the index, durability, and the RPC.
//!
//! The life of a transaction: `rpc` → `admission` (checks, signatures) → `pool` → a block
//! (`app`, `on_demand`) → final, by the validators' certificate → state and outcomes durable
//! (`publish`, `index`) → the `view`, the submitter, the followers.
//!
//! [`Node::start`] runs all of it in this process. One validator is a committee of one: there is no
//! other code path.

mod admission;
mod app;
mod block;
mod catalog;
mod damage;
mod index;
mod metrics;
mod node;
mod on_demand;
mod own_votes;
mod pool;
#[cfg(test)]
mod pool_model;
#[cfg(test)]
mod pool_tests;
mod publish;
mod query;
mod recompute;
mod restore;
mod rpc;
mod settings;
#[cfg(test)]
mod simulation;
mod state;
mod view;
mod wiring;

pub use app::App;
pub use block::{Block, MAX_BLOCK_TXS, MAX_BODY_BYTES, Tx};
pub use damage::reason;
pub use node::{Config, Node, NodeError, NodeHandle, THREAD};
pub use pool::{Limits, Pool, Refusal};
pub use query::{BlockId, ProvenState, QueryError, Reader};
pub use rpc::document as openapi;
pub use view::Head;
