//! A client of the ledger, and the schema of its RPC.
//!
//! A [`Client`] talks to one node and believes it as little as possible. What it decides by is
//! **proven**: accounts, balances and channels come with the certificate by which the validators
//! made a block final, and with a proof against that block's state root; both are checked here
//! before a value is returned. Listings (models, offers, processors, events, supply) are the node's
//! word, and say so: find things by them, then read what you act on with a proof.
//!
//! A [`Sender`] signs for one account and counts its nonces. Persist a signed transaction before
//! you submit it, and submit the same bytes again after a crash: a transaction is applied at most
//! once, and submitting it again answers with the earlier outcome.
//!
//! [`schema`] holds what travels over HTTP; the node serves the same types, described by the
//! OpenAPI document at `/openapi.json`.

mod client;
mod closing;
mod error;
mod follow;
pub mod schema;
mod sender;
mod view;

pub use client::{AccountState, ChannelRecords, Client, Verified};
pub use closing::Closing;
pub use error::ClientError;
pub use sender::Sender;
pub use view::ledger_view;
