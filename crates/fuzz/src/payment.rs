//! The processor, the consumer and the keys of the payment wire's own tests.

use gristmill_net::pay::{Action, Cashier, Expected, Offer, PlacedOrder};

#[path = "../../net/src/pay/fixtures.rs"]
#[allow(dead_code, reason = "each user of this file needs another part of it")]
pub(crate) mod fixtures;
