//! The exchange in one process, and what it is for.

mod budgets;
mod choices;
mod disputes;
mod lost;
mod model;
mod outages;
mod readers;
mod smoke;
