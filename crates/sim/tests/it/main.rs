//! The exchange in one process, and what it is for.

mod choices;
mod disputes;
mod model;
mod outages;
mod smoke;
