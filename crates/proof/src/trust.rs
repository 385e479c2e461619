//! Whom a light client trusts: the validators that the genesis names.

use crate::ProofError;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Hasher as _, Sha256, ed25519, sha256::Digest};
use commonware_utils::ordered::Set;
use gristmill_ledger::Genesis;
use gristmill_types::{AccountId, ChainId};

/// The signature scheme of votes and certificates. Attributable: a certificate names its signers.
pub type Scheme = commonware_consensus::simplex::scheme::ed25519::Scheme;

/// Most validators in a committee.
pub const MAX_VALIDATORS: usize = 128;

/// The validators of one epoch, in canonical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee(Set<ed25519::PublicKey>);

impl Committee {
    /// A committee of these accounts, in any order.
    pub fn new(validators: &[AccountId]) -> Result<Self, ProofError> {
        if validators.is_empty() {
            return Err(ProofError::Committee("a committee has at least one validator"));
        }
        if validators.len() > MAX_VALIDATORS {
            return Err(ProofError::Committee("a committee has at most 128 validators"));
        }
        let keys = validators
            .iter()
            .map(|account| ed25519::PublicKey::decode(Copying(account.as_bytes())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ProofError::Committee("a validator's account is not an ed25519 public key"))?;
        let set =
            Set::try_from(keys).map_err(|_| ProofError::Committee("a validator is listed more than once"))?;
        Ok(Self(set))
    }

    /// The validators' keys, in canonical order.
    pub fn keys(&self) -> &Set<ed25519::PublicKey> {
        &self.0
    }

    /// What a header carries to announce this committee.
    pub fn hash(&self) -> Digest {
        let mut parts: Vec<&[u8]> = vec![b"gristmill/committee/v1"];
        parts.extend(self.0.iter().map(AsRef::as_ref));
        Sha256::hash(&parts)
    }
}

/// A ledger and the validators that speak for it.
#[derive(Clone, Debug)]
pub struct Trust {
    chain: ChainId,
    committee: Committee,
    verifier: Scheme,
}

impl Trust {
    /// Trusts these validators for this ledger.
    pub fn new(chain: ChainId, committee: Committee) -> Self {
        // Votes are signed under the ledger's id, so that no vote counts on another ledger.
        let verifier = Scheme::verifier(chain.as_bytes(), committee.keys().clone());
        Self { chain, committee, verifier }
    }

    /// Trusts the validators that the genesis names. The genesis itself must come from somebody
    /// that the caller trusts.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, ProofError> {
        let validators: Vec<AccountId> = genesis.validators.iter().map(|validator| validator.key).collect();
        Ok(Self::new(genesis.chain_id(), Committee::new(&validators)?))
    }

    /// The ledger.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The validators.
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    pub(crate) const fn verifier(&self) -> &Scheme {
        &self.verifier
    }
}
