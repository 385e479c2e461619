//! The real binary, started and used as a person or a program would.

mod bad_input;
mod clients;
mod crash;
mod exchange;
mod members;
mod pay;
mod prove;
