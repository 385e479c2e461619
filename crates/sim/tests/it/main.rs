//! The exchange in one process, and what it is for.

mod alone;
mod budgets;
mod business;
mod choices;
mod disputes;
mod funding;
mod lanes;
mod liars;
mod lost;
mod market;
mod model;
mod outages;
mod readers;
mod selling;
mod smoke;
#[cfg(debug_assertions)]
mod steps;
mod way;
