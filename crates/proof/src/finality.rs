//! That a header is final: the validators' certificate, for it or for a descendant.

use crate::{Header, MAX_VALIDATORS, ProofError, Scheme, Trust};
use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt as _,
    Write,
};
use commonware_consensus::{Epochable as _, simplex::types::Finalization};
use commonware_cryptography::{Digestible as _, Hasher as _, Sha256, sha256};
use commonware_parallel::Sequential;
use gristmill_types::Digest;
use rand::{SeedableRng as _, rngs::StdRng};

/// A finalization certificate: the proposal and the signatures of a quorum.
pub type Certificate = Finalization<Scheme, sha256::Digest>;

/// Most headers between a proven one and the one that the certificate is for.
pub const MAX_DESCENDANTS: usize = 256;

/// A header, and why it is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finality {
    /// The header that is shown to be final.
    pub header: Header,
    /// Its descendants up to the one that the certificate is for; empty if the header has its own.
    /// A round that times out leaves its block without a certificate.
    pub descendants: Vec<Header>,
    /// The certificate for the last of them.
    pub certificate: Certificate,
}

impl Finality {
    /// The epoch whose committee a [`Trust`] knows: that of the genesis.
    const KNOWN_EPOCH: u64 = 0;

    /// Checks that a quorum of the trusted validators made the header final, and returns it.
    pub fn verify(&self, trust: &Trust) -> Result<&Header, ProofError> {
        let mut certified = &self.header;
        for next in &self.descendants {
            let follows = next.parent == certified.digest() && next.height == certified.height.next();
            if !follows {
                return Err(ProofError::BrokenChain { height: certified.height.get() });
            }
            certified = next;
        }
        let digest = certified.digest();
        if self.certificate.proposal.payload != digest {
            return Err(ProofError::OtherBlock {
                certified: Digest::new(self.certificate.proposal.payload.0),
                header: Digest::new(digest.0),
            });
        }
        let epoch = self.certificate.epoch().get();
        if epoch != Self::KNOWN_EPOCH || certified.epoch() != epoch {
            return Err(ProofError::UnknownEpoch { epoch, known: Self::KNOWN_EPOCH });
        }
        if certified.next_committee != trust.committee().hash() {
            return Err(ProofError::UnexpectedCommittee);
        }
        if !self.certificate.verify(&mut self.coefficients(), trust.verifier(), &Sequential) {
            return Err(ProofError::BadCertificate);
        }
        Ok(&self.header)
    }

    /// Batch verification weighs the signatures with numbers that their author must not foresee.
    /// Drawn from a hash of everything that is verified, they are as good as random, and the
    /// verdict is the same everywhere.
    fn coefficients(&self) -> StdRng {
        StdRng::from_seed(Sha256::hash(&[b"gristmill/verify/v1", &self.certificate.encode()]).0)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        Self::decode(Copying(bytes))
            .map_err(|error| ProofError::Malformed { what: "finality proof", reason: error.to_string() })
    }
}

impl Write for Finality {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.descendants.write(buf);
        self.certificate.write(buf);
    }
}

impl EncodeSize for Finality {
    fn encode_size(&self) -> usize {
        self.header
            .encode_size()
            .saturating_add(self.descendants.encode_size())
            .saturating_add(self.certificate.encode_size())
    }
}

impl Read for Finality {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Ok(Self {
            header: Header::read(buf)?,
            descendants: Vec::read_cfg(buf, &(RangeCfg::new(0..=MAX_DESCENDANTS), ()))?,
            certificate: Certificate::read_cfg(buf, &MAX_VALIDATORS)?,
        })
    }
}
