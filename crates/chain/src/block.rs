//! Transactions and blocks as consensus carries them.
//!
//! A block is a header and its transactions. Its hash is the header's; reading a block checks that
//! the header commits to the transactions, so the hash stands for both. Nothing here says that a
//! block is valid: that is the ledger's and the [application](crate::app)'s to decide.

use bytes::{BufMut, Bytes};
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, FixedSize as _,
    MaxEncodeSize as _, Read, ReadExt as _, Write,
};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable, types::Height,
};
use commonware_cryptography::{BatchEntry, BatchVerifier as _, Digestible, ed25519, sha256::Digest};
use commonware_parallel::Strategy;
use gristmill_ledger::{
    CheckedTx, Malformed, Rules, SignedTx, Transaction, decode_tx, params::MAX_TX_BYTES, tx_hash,
};
use gristmill_proof::{ConsensusContext, Header, body_root};
use gristmill_types::{AccountId, Signable as _, TxHash};
use rand_core::CryptoRng;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// Most transactions in a block.
pub const MAX_BLOCK_TXS: usize = 8_192;

/// Most bytes of transactions in a block, encoded.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// The length in front of each transaction, and the count in front of them all.
const PREFIX_BYTES: usize = u32::SIZE;

const SIGNATURE_BYTES: usize = ed25519::Signature::SIZE;

/// A decoded transaction with its bytes and its hash. Cheap to clone.
#[derive(Clone)]
pub struct Tx(Arc<Inner>);

struct Inner {
    signed: SignedTx,
    bytes: Bytes,
    hash: TxHash,
    checked: OnceLock<Result<CheckedTx, Malformed>>,
}

impl Tx {
    /// Reads the canonical bytes of a signed transaction. Nothing about it is checked here.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let signed = decode_tx(&bytes)?;
        let hash = tx_hash(&signed);
        Ok(Self(Arc::new(Inner { signed, bytes, hash, checked: OnceLock::new() })))
    }

    /// The ledger's verdict on what needs no state. Computed once; a node knows one ledger.
    pub fn checked(&self, rules: &Rules) -> Result<&CheckedTx, &Malformed> {
        self.0.checked.get_or_init(|| CheckedTx::new(self.0.signed.clone(), rules)).as_ref()
    }

    /// The transaction.
    pub fn signed(&self) -> &SignedTx {
        &self.0.signed
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The hash.
    pub fn hash(&self) -> TxHash {
        self.0.hash
    }

    /// What it takes in a block.
    pub fn block_bytes(&self) -> usize {
        PREFIX_BYTES + self.0.bytes.len()
    }

    /// What was signed: the canonical bytes without the signature at their end.
    fn message(&self) -> &[u8] {
        let end = self.0.bytes.len().saturating_sub(SIGNATURE_BYTES);
        self.0.bytes.get(..end).unwrap_or_default()
    }
}

/// Senders' keys that were decoded before. Decoding a key costs almost half of verifying a signature
/// in a batch, and senders come back.
#[derive(Default)]
pub(crate) struct Keys(HashMap<AccountId, ed25519::PublicKey>);

impl Keys {
    /// Most keys that are remembered.
    const REMEMBERED: usize = 65_536;

    fn get(&mut self, account: &AccountId) -> Option<ed25519::PublicKey> {
        if let Some(key) = self.0.get(account) {
            return Some(key.clone());
        }
        let key = ed25519::PublicKey::decode(Copying(account.as_bytes())).ok()?;
        if self.0.len() == Self::REMEMBERED {
            self.0.clear();
        }
        self.0.insert(*account, key.clone());
        Some(key)
    }
}

/// Verifies the signatures of all transactions together; about a quarter of the cost of one by one.
/// The rules are Commonware's, under which a batch and a single signature get the same verdict.
pub(crate) fn verify_signatures(
    rng: &mut impl CryptoRng,
    txs: &[Tx],
    keys: &mut Keys,
    strategy: &impl Strategy,
) -> bool {
    struct Entry<'a> {
        key: ed25519::PublicKey,
        signature: ed25519::Signature,
        message: &'a [u8],
    }
    if txs.is_empty() {
        return true;
    }
    let mut entry = |tx: &'_ Tx| {
        let signed = tx.signed();
        let key = keys.get(&signed.body.sender)?;
        let signature = ed25519::Signature::decode(Copying(signed.signature.as_bytes())).ok()?;
        Some((key, signature))
    };
    let Some(entries) = txs
        .iter()
        .map(|tx| entry(tx).map(|(key, signature)| Entry { key, signature, message: tx.message() }))
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    ed25519::PublicKey::verify_batch(
        rng,
        &entries,
        |_, entry| BatchEntry {
            namespace: Transaction::DOMAIN.as_bytes(),
            message: entry.message,
            public_key: &entry.key,
            signature: &entry.signature,
        },
        strategy,
    )
}

/// A block. Cheap to clone.
#[derive(Clone)]
pub struct Block {
    /// What the validators sign.
    pub header: Header,
    /// The transactions, in order.
    pub body: Arc<[Tx]>,
}

impl Block {
    /// The root that a header over these transactions carries.
    pub fn body_root(body: &[Tx]) -> Digest {
        body_root(body.iter().map(Tx::hash))
    }

    /// The block before the first: nobody signs it, everybody derives it from the genesis.
    pub fn genesis(mut header: Header) -> Self {
        header.body_root = Self::body_root(&[]);
        Self { header, body: Arc::new([]) }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode(Copying(bytes))
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        let count = u32::try_from(self.body.len()).expect("a body is bounded by MAX_BLOCK_TXS");
        count.write(buf);
        for tx in self.body.iter() {
            let length = u32::try_from(tx.bytes().len()).expect("bounded by MAX_TX_BYTES");
            length.write(buf);
            buf.put_slice(tx.bytes());
        }
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        let body: usize = self.body.iter().map(Tx::block_bytes).sum();
        self.header.encode_size() + PREFIX_BYTES + body
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let count = u32::read(buf)? as usize;
        if count > MAX_BLOCK_TXS {
            return Err(CodecError::Invalid("Block", "too many transactions"));
        }
        let mut body = Vec::with_capacity(count.min(buf.remaining() / PREFIX_BYTES));
        let mut total = 0;
        for _ in 0..count {
            let length = u32::read(buf)? as usize;
            total += PREFIX_BYTES + length;
            if length > MAX_TX_BYTES || total > MAX_BODY_BYTES {
                return Err(CodecError::Invalid("Block", "too many bytes of transactions"));
            }
            if buf.remaining() < length {
                return Err(CodecError::EndOfBuffer);
            }
            let tx = Tx::decode(buf.copy_to_bytes(length))
                .map_err(|_| CodecError::Invalid("Block", "a transaction does not decode"))?;
            body.push(tx);
        }
        if Self::body_root(&body) != header.body_root {
            return Err(CodecError::Invalid("Block", "the header is of another body"));
        }
        Ok(Self { header, body: body.into() })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.header.digest()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        self.header.height
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.header.parent
    }
}

impl CertifiableBlock for Block {
    type Context = ConsensusContext;

    fn context(&self) -> ConsensusContext {
        self.header.context.clone()
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        Header::MAX_ENCODE_SIZE + PREFIX_BYTES + MAX_BODY_BYTES
    }
}
