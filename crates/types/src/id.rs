//! Identifiers: 32 bytes each, one type per meaning.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Text that is not an identifier of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not 64 hexadecimal digits.
    #[error("expected 64 lower-case hexadecimal digits")]
    Hex,
    /// Not an account address.
    #[error("expected an account address: gm1 and 58 more characters; check it for typing errors")]
    Account,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        id!($(#[$doc])* $name);

        impl $name {
            /// The first eight digits, for people. JSON and files carry the whole id.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // One spelling per id: upper-case digits are refused.
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseIdError::Hex);
                }
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError::Hex)?;
                Ok(Self(bytes))
            }
        }
    };
}

id!(
    /// A SHA-256 digest of something that has no id type of its own.
    Digest
);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<BlockHash>().map(|id| Self(id.0))
    }
}

hex_id!(
    /// A ledger: the hash of its genesis.
    ChainId
);
hex_id!(
    /// A block: the hash of its header.
    BlockHash
);
hex_id!(
    /// A transaction: the hash of its signed bytes.
    TxHash
);
hex_id!(
    /// Where a record stands in the ledger's state.
    StateKey
);
hex_id!(
    /// One version of a model: the hash of its manifest, thus of its content.
    ModelId
);
hex_id!(
    /// A model line: all versions of one model; shares belong to it.
    LineId
);
hex_id!(
    /// A payment channel: the hash of its terms.
    ChannelId
);
hex_id!(
    /// A quote: the hash of its signed bytes' body.
    QuoteHash
);
hex_id!(
    /// A voucher: the hash of its body.
    VoucherHash
);

id!(
    /// An account: its ed25519 public key. As text, bech32m with the prefix `gm`, so that a typing
    /// error is noticed before money moves.
    AccountId
);

const ACCOUNT_PREFIX: bech32::Hrp = bech32::Hrp::parse_unchecked("gm");

impl AccountId {
    /// The first ten characters, for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<bech32::Bech32m>(ACCOUNT_PREFIX, &self.0).map_err(|_| fmt::Error)?;
        f.pad(&text)
    }
}

impl FromStr for AccountId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32m>(text)
            .map_err(|_| ParseIdError::Account)?;
        if checked.hrp() != ACCOUNT_PREFIX || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseIdError::Account);
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        bytes.try_into().map(Self).map_err(|_| ParseIdError::Account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_text_with_a_checksum() {
        let account = AccountId::new([7; 32]);
        let text = account.to_string();
        assert!(text.starts_with("gm1") && text.len() == 61, "{text}");
        assert_eq!(text.parse(), Ok(account));
        for position in 3..text.len() {
            let mut typo: Vec<u8> = text.clone().into_bytes();
            typo[position] = if typo[position] == b'q' { b'p' } else { b'q' };
            let typo = String::from_utf8(typo).unwrap();
            assert_eq!(typo.parse::<AccountId>(), Err(ParseIdError::Account), "{typo}");
        }
        assert!(text.to_uppercase().parse::<AccountId>().is_err());
    }

    #[test]
    fn other_ids_are_lower_case_hex() {
        let id = TxHash::new([0xab; 32]);
        assert_eq!(id.to_string(), "ab".repeat(32));
        assert_eq!(id.short(), "abababab");
        assert_eq!("ab".repeat(32).parse(), Ok(id));
        for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32), &"ab".repeat(33)] {
            assert_eq!(bad.parse::<TxHash>(), Err(ParseIdError::Hex), "{bad}");
        }
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{}\"", "ab".repeat(32)));
    }
}
