//! Both roles of a channel against each other, against rules, and against attacks.

mod attacks;
mod budget;
mod machine;
mod payee;
mod payer;
mod reconcile;
mod wire;
mod world;
