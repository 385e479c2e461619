//! Blocks as validators send them to each other.

use crate::parts;
use bytes::Bytes;
use gristmill_chain::{Block, MAX_BLOCK_TXS, MAX_BODY_BYTES, Tx};
use gristmill_proof::Header;

/// Either the whole bytes are a block, or they are put together to one: a header, then transactions.
pub fn run(data: &[u8]) {
    if let Ok(block) = Block::from_bytes(data) {
        assert!(block.to_bytes() == data, "these bytes are a second encoding of a block");
        assert!(block.body.len() <= MAX_BLOCK_TXS);
        assert!(block.body.iter().map(Tx::block_bytes).sum::<usize>() <= MAX_BODY_BYTES);
    }
    let mut parts = parts(data);
    let Some(mut header) = parts.next().and_then(|bytes| Header::from_bytes(bytes).ok()) else { return };
    let read = |bytes| Tx::decode(Bytes::copy_from_slice(bytes)).ok();
    let body: Vec<Tx> = parts.filter_map(read).take(64).collect();
    header.body_root = Block::body_root(&body);
    let block = Block { header, body: body.into() };
    let again = Block::from_bytes(&block.to_bytes()).expect("a block that was written is read");
    assert_eq!(again.header, block.header);
    let hashes = |block: &Block| block.body.iter().map(Tx::hash).collect::<Vec<_>>();
    assert_eq!(hashes(&again), hashes(&block));
}
