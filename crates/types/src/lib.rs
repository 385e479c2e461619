//! Amounts, ids, keys and the signed artefacts that the other crates exchange.
//!
//! This crate is a pure core: it knows no clock, no randomness, no I/O, no ledger state and no
//! network. Everything in it has exactly one byte encoding (borsh), and every signature covers a
//! domain separator in front of that encoding, so that no artefact can be passed off as another.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod amount;
mod channel;
mod hash;
mod id;
mod key;
mod manifest;
mod price;
mod quote;
mod receipt;
mod signed;
mod unit;

pub use amount::{Amount, ParseAmountError};
pub use channel::{Approval, ChannelTerms, Claim, Order, Voucher};
pub use hash::sha256;
pub use id::{
    AccountId, BlockHash, ChainId, ChannelId, Digest, LineId, ModelId, ParseIdError, QuoteHash, StateKey,
    TxHash, VoucherHash,
};
pub use key::{BadKey, PublicKey, SecretKey};
pub use manifest::{Manifest, ManifestFile};
pub use price::{Prices, Usage};
pub use quote::{DataPolicy, EMBEDDINGS_CLASS, Limits, Quote, UPSTREAM_CLASS};
pub use receipt::{AuditCommitment, Finish, ProcessorNonce, Receipt, Sampling};
pub use signed::{BadSignature, Signable, Signature, Signed};
pub use unit::Unit;

/// Encodes to the one canonical byte form.
///
/// Encoding into memory fails only for a collection of more than `u32::MAX` items, which every
/// type of ours bounds far below; such a value encodes to nothing rather than to a wrong prefix.
pub fn encode<T: borsh::BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).unwrap_or_default()
}

/// Decodes the canonical form; trailing bytes are an error, and so is a map in another order.
pub fn decode<T: borsh::BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    borsh::from_slice(bytes).map_err(|error| DecodeError(error.to_string()))
}

/// Bytes that are not the canonical form of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes do not decode: {0}")]
pub struct DecodeError(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_map_has_one_encoding() {
        let bytes = |keys: [u8; 2]| [&2_u32.to_le_bytes()[..], &[keys[0], 7, keys[1], 8]].concat();
        for (keys, fits) in [([1, 2], true), ([2, 1], false), ([1, 1], false)] {
            assert_eq!(decode::<BTreeMap<u8, u8>>(&bytes(keys)).is_ok(), fits, "{keys:?}");
        }
        assert!(decode::<u8>(&[1, 2]).is_err());
    }
}
