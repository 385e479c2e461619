//! How a lone validator notices that its files went back, and how damage is told to people.
//!
//! The engine checks its files by checksum, and cuts off what a crash left half written at their ends.
//! It cannot tell that from an end that was cut by something else. The *mark* beside its files names the
//! last block that was reported as final: a ledger without that block is refused. Two copies of the mark
//! are written in turns, so that a torn write leaves the other; it is not synced, so after a power cut it
//! may be older than the ledger, and then notices less.

use crate::view::Head;
use gristmill_types::{BlockHash, sha256};
use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};
use tokio::sync::watch;

/// Bytes of a copy: height, hash, checksum.
const COPY: usize = 48;

/// A block that was reported as final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) height: u64,
    pub(crate) hash: BlockHash,
}

/// The mark.
#[derive(Debug)]
pub(crate) struct HeadMark(File);

impl HeadMark {
    /// Opens the mark, and reads the highest block that it names.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Reported>)> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let copy = |place: u64| {
            let mut bytes = [0; COPY];
            file.read_exact_at(&mut bytes, place * COPY as u64).ok()?;
            decode(&bytes)
        };
        let reported = [0, 1].into_iter().filter_map(copy).max_by_key(|reported| reported.height);
        Ok((Self(file), reported))
    }

    fn set(&self, reported: Reported, place: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(&reported), place * COPY as u64)
    }

    /// Notes every block that is reported from now on.
    pub(crate) async fn keep(self, mut heads: watch::Receiver<Head>) {
        let mut place = 0;
        loop {
            let Head { height, hash, .. } = *heads.borrow_and_update();
            if height > 0 {
                place = 1 - place;
                if let Err(error) = self.set(Reported { height, hash }, place) {
                    tracing::warn!(%error, "the last final block was not noted");
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    }
}

fn encode(reported: &Reported) -> [u8; COPY] {
    let mut bytes = [0; COPY];
    bytes[..8].copy_from_slice(&reported.height.to_le_bytes());
    bytes[8..40].copy_from_slice(reported.hash.as_bytes());
    let sum = sha256(&[&bytes[..40]]);
    bytes[40..].copy_from_slice(&sum.as_bytes()[..8]);
    bytes
}

fn decode(bytes: &[u8; COPY]) -> Option<Reported> {
    let (mut height, mut hash) = ([0; 8], [0; 32]);
    height.copy_from_slice(&bytes[..8]);
    hash.copy_from_slice(&bytes[8..40]);
    let reported = Reported { height: u64::from_le_bytes(height), hash: BlockHash::new(hash) };
    (encode(&reported) == *bytes).then_some(reported)
}

/// The reason of a failure for people: where the engine names a damaged file, the file.
pub fn reason(text: &str) -> String {
    let damaged = || {
        let (_, rest) = text.split_once("BlobCorrupt(")?;
        let mut parts = rest.split('"').skip(1).step_by(2);
        let (folder, file, what) = (parts.next()?, parts.next()?, parts.next()?);
        Some(format!("the file chain/{folder}/{file} is damaged: {what}"))
    };
    damaged().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_copy_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let (mark, none) = HeadMark::open(&path).unwrap();
        assert_eq!(none, None);
        let block = |height| Reported { height, hash: BlockHash::new([7; 32]) };
        for height in 1..=7 {
            mark.set(block(height), height % 2).unwrap();
        }
        assert_eq!(HeadMark::open(&path).unwrap().1, Some(block(7)));
        mark.0.write_all_at(&[0xee; 5], COPY as u64 + 3).unwrap();
        assert_eq!(HeadMark::open(&path).unwrap().1, Some(block(6)));
    }

    #[test]
    fn the_damaged_file_is_named() {
        let text = r#"cannot be opened: Metadata(Runtime(BlobCorrupt("v-a", "6c656674", "bad sum")))"#;
        assert_eq!(reason(text), "the file chain/v-a/6c656674 is damaged: bad sum");
        assert_eq!(reason("block 7 is missing"), "block 7 is missing");
    }
}
