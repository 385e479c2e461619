//! The real binary, started and used as a person or a program would.

mod api_keys;
mod bad_input;
mod clients;
mod corruption;
mod crash;
mod embeddings;
mod exchange;
mod failover;
mod full_disk;
mod http_surface;
mod members;
mod observe;
mod pay;
/// The scripted server that the upstream crate's own tests use.
#[allow(dead_code)]
#[path = "../../../upstream/tests/it/peer.rs"]
mod peer;
mod peers;
mod prove;
mod sell;
mod start;
mod storm;
