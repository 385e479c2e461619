//! That a key has a value, or none, in the state after a block.

use crate::{Header, ProofError};
use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt as _,
    Write,
};
use commonware_cryptography::{Sha256, sha256};
use commonware_storage::{
    merkle::MAX_PROOF_DIGESTS_PER_ELEMENT,
    mmr,
    qmdb::{any::value::VariableEncoding, current::ordered::proof::constant},
};
use commonware_utils::sequence::FixedBytes;
use gristmill_types::StateKey;

/// A state key as the database knows it.
pub type Key = FixedBytes<32>;

/// A state value as the database knows it: a record in its canonical bytes.
pub type Value = Vec<u8>;

/// Most bytes of a value.
pub const MAX_VALUE_BYTES: usize = gristmill_ledger::params::MAX_RECORD_BYTES;

/// Bytes of one chunk of the database's bitmap of live operations.
pub const CHUNK_BYTES: usize = 32;

type Inclusion = constant::KeyValueProof<mmr::Family, Key, sha256::Digest, CHUNK_BYTES>;
type Exclusion =
    constant::ExclusionProof<mmr::Family, Key, VariableEncoding<Value>, sha256::Digest, CHUNK_BYTES>;

/// The database's own proof of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofParts {
    /// The key has this value.
    Present(Value, Inclusion),
    /// The key lies between two neighbours, so it has no value.
    Absent(Exclusion),
}

/// A key with its value, if it has one, and the proof of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// The key.
    pub key: StateKey,
    /// The proof, which holds the value.
    pub parts: ProofParts,
}

impl StateProof {
    /// The value if the proof leads to the header's state root; `None` if the key is proven to have
    /// none. The header itself must have been verified.
    pub fn verify(&self, header: &Header) -> Result<Option<&[u8]>, ProofError> {
        let key = Key::new(*self.key.as_bytes());
        let (holds, value) = match &self.parts {
            ProofParts::Present(value, proof) => {
                let holds =
                    proof.verify::<Sha256, VariableEncoding<Value>>(key, value.clone(), &header.state_root);
                (holds, Some(value.as_slice()))
            }
            ProofParts::Absent(proof) => (proof.verify::<Sha256>(&key, &header.state_root), None),
        };
        if holds { Ok(value) } else { Err(ProofError::BadStateProof { height: header.height.get() }) }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Self::decode(Copying(bytes))
            .map_err(|error| ProofError::Malformed { what: "state proof", reason: error.to_string() })
    }
}

const PRESENT: u8 = 0;
const ABSENT: u8 = 1;

impl Write for StateProof {
    fn write(&self, buf: &mut impl BufMut) {
        self.key.as_bytes().write(buf);
        match &self.parts {
            ProofParts::Present(value, proof) => {
                PRESENT.write(buf);
                value.write(buf);
                proof.write(buf);
            }
            ProofParts::Absent(proof) => {
                ABSENT.write(buf);
                proof.write(buf);
            }
        }
    }
}

impl EncodeSize for StateProof {
    fn encode_size(&self) -> usize {
        let parts = match &self.parts {
            ProofParts::Present(value, proof) => value.encode_size().saturating_add(proof.encode_size()),
            ProofParts::Absent(proof) => proof.encode_size(),
        };
        parts.saturating_add(32 + 1)
    }
}

impl Read for StateProof {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let value = (RangeCfg::new(0..=MAX_VALUE_BYTES), ());
        let digests = MAX_PROOF_DIGESTS_PER_ELEMENT;
        let key = StateKey::new(<[u8; 32]>::read(buf)?);
        let parts = match u8::read(buf)? {
            PRESENT => {
                let value = Value::read_cfg(buf, &value)?;
                ProofParts::Present(value, Inclusion::read_cfg(buf, &(digests, ()))?)
            }
            ABSENT => ProofParts::Absent(Exclusion::read_cfg(buf, &(digests, ((), value), value))?),
            tag => return Err(CodecError::InvalidEnum(tag)),
        };
        Ok(Self { key, parts })
    }
}
