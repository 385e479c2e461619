//! The block header: everything that the validators sign, in about 300 bytes.
//!
//! A block's hash is the hash of its header, and the header commits to the body and to the state
//! after it. A light client therefore never needs a body.

use crate::ProofError;
use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, FixedSize as _,
    MaxEncodeSize, Read, ReadExt as _, Write,
};
use commonware_consensus::{
    Epochable as _,
    simplex::types::Context,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digest as _, Digestible, Hasher as _, Sha256, ed25519, sha256::Digest};
use commonware_storage::mmr::Location;
use commonware_utils::range::NonEmptyRange;
use gristmill_types::BlockHash;

/// The consensus round in which a block was proposed, its leader, and its parent.
pub type ConsensusContext = Context<Digest, ed25519::PublicKey>;

/// The header of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The round, its leader, and the parent that the leader built on.
    pub context: ConsensusContext,
    /// The parent's hash.
    pub parent: Digest,
    /// Blocks since genesis.
    pub height: Height,
    /// Unix time in milliseconds; later than the parent's.
    pub time_ms: u64,
    /// Ledger time in milliseconds: the sum over blocks of the time between them, each counted for
    /// at most ten seconds. Deadlines count in it, so a halted ledger expires nothing.
    pub clock_ms: u64,
    /// The hash of the committee of the next epoch.
    pub next_committee: Digest,
    /// Commits to the transactions, in order.
    pub body_root: Digest,
    /// Commits to the state after the block; state proofs lead to it.
    pub state_root: Digest,
    /// Commits to the log of state operations; a node that copies the state checks against it.
    pub ops_root: Digest,
    /// The operations that such a node needs.
    pub range: NonEmptyRange<Location>,
}

impl Header {
    /// The header of the empty ledger of the chain, which no validator signs. The records of the
    /// genesis are written by block 1.
    pub fn genesis(
        leader: ed25519::PublicKey,
        chain: &gristmill_types::ChainId,
        time_ms: u64,
        next_committee: Digest,
        ops_root: Digest,
        range: NonEmptyRange<Location>,
    ) -> Self {
        let chain = Digest::from(*chain.as_bytes());
        Self {
            context: Context {
                round: Round::new(Epoch::zero(), View::zero()),
                leader,
                parent: (View::zero(), Digest::EMPTY),
            },
            // Binds every block of the chain to its genesis, through the parents' hashes.
            parent: chain,
            height: Height::zero(),
            time_ms,
            clock_ms: 0,
            next_committee,
            body_root: Digest::EMPTY,
            state_root: Digest::EMPTY,
            ops_root,
            range,
        }
    }

    /// The block's hash.
    pub fn hash(&self) -> BlockHash {
        BlockHash::new(self.digest().0)
    }

    /// The parent's hash.
    pub fn parent_hash(&self) -> BlockHash {
        BlockHash::new(self.parent.0)
    }

    /// The epoch, and thus which committee made the block.
    pub fn epoch(&self) -> u64 {
        self.context.epoch().get()
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Self::decode(Copying(bytes))
            .map_err(|error| ProofError::Malformed { what: "block header", reason: error.to_string() })
    }
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        self.context.write(buf);
        self.parent.write(buf);
        self.height.write(buf);
        self.time_ms.write(buf);
        self.clock_ms.write(buf);
        self.next_committee.write(buf);
        self.body_root.write(buf);
        self.state_root.write(buf);
        self.ops_root.write(buf);
        self.range.write(buf);
    }
}

/// Five digests and two times.
const FIXED_BYTES: usize = 5 * 32 + 2 * 8;

impl EncodeSize for Header {
    fn encode_size(&self) -> usize {
        self.context
            .encode_size()
            .saturating_add(self.height.encode_size())
            .saturating_add(self.range.encode_size())
            .saturating_add(FIXED_BYTES)
    }
}

impl MaxEncodeSize for Header {
    const MAX_ENCODE_SIZE: usize = ConsensusContext::MAX_ENCODE_SIZE
        .saturating_add(Height::MAX_ENCODE_SIZE)
        .saturating_add(NonEmptyRange::<Location>::MAX_ENCODE_SIZE)
        .saturating_add(FIXED_BYTES);
}

impl Read for Header {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Ok(Self {
            context: ConsensusContext::read(buf)?,
            parent: Digest::read(buf)?,
            height: Height::read(buf)?,
            time_ms: u64::read(buf)?,
            clock_ms: u64::read(buf)?,
            next_committee: Digest::read(buf)?,
            body_root: Digest::read(buf)?,
            state_root: Digest::read(buf)?,
            ops_root: Digest::read(buf)?,
            range: NonEmptyRange::read(buf)?,
        })
    }
}

impl Digestible for Header {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Sha256::hash(&[b"gristmill/header/v1", &self.encode()])
    }
}

// A digest is 32 bytes on the wire; `FIXED_BYTES` relies on it.
const _: () = assert!(Digest::SIZE == 32);
