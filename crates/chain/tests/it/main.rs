//! A node as its users meet it: over HTTP, through the client, across restarts.

mod channels;
mod fixture;
mod kill;
mod node;
mod proofs;
mod refusals;
