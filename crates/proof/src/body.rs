//! That a transaction is part of a block.

use crate::{Header, ProofError};
use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, Read, ReadExt as _, Write,
};
use commonware_cryptography::{Sha256, sha256};
use commonware_storage::bmt;
use gristmill_types::TxHash;

fn tree(transactions: impl ExactSizeIterator<Item = TxHash>) -> bmt::Tree<sha256::Digest> {
    let mut builder = bmt::Builder::<Sha256>::new(transactions.len());
    for hash in transactions {
        builder.add(&sha256::Digest::from(*hash.as_bytes()));
    }
    builder.build()
}

/// What a header commits to: a binary Merkle tree over the transactions' hashes, in order.
pub fn body_root(transactions: impl ExactSizeIterator<Item = TxHash>) -> sha256::Digest {
    tree(transactions).root()
}

/// The path from a transaction to the body root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyProof {
    position: u32,
    path: bmt::Proof<sha256::Digest>,
}

impl BodyProof {
    /// Proves the transaction at the position; `None` if there is none.
    pub fn new(transactions: impl ExactSizeIterator<Item = TxHash>, position: u32) -> Option<Self> {
        let path = tree(transactions).proof(position).ok()?;
        Some(Self { position, path })
    }

    /// Checks that the transaction is in the header's block. The header itself must have been
    /// verified.
    pub fn verify(&self, transaction: &TxHash, header: &Header) -> Result<(), ProofError> {
        let leaf = sha256::Digest::from(*transaction.as_bytes());
        self.path
            .verify_element_inclusion::<Sha256>(&leaf, self.position, &header.body_root)
            .map_err(|_| ProofError::BadBodyProof { height: header.height.get() })
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Self::decode(Copying(bytes))
            .map_err(|error| ProofError::Malformed { what: "body proof", reason: error.to_string() })
    }
}

impl Write for BodyProof {
    fn write(&self, buf: &mut impl BufMut) {
        self.position.write(buf);
        self.path.write(buf);
    }
}

impl EncodeSize for BodyProof {
    fn encode_size(&self) -> usize {
        self.path.encode_size().saturating_add(4)
    }
}

impl Read for BodyProof {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        // One transaction is proven at a time.
        const ITEMS: usize = 1;
        Ok(Self { position: u32::read(buf)?, path: bmt::Proof::read_cfg(buf, &ITEMS)? })
    }
}
