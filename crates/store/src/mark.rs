//! The mark: the number of the last acknowledged commit, in a file beside the database.
//!
//! Two copies of (number, checksum) at fixed places, written in turns, so that a torn write leaves
//! the other. Not synced: see the crate's documentation.

use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

const COPY: usize = 16;

#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
}

impl Mark {
    /// Opens the mark and reads the highest number that it holds, 0 if none.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, u64)> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut highest = 0;
        for copy in [0, 1] {
            let mut bytes = [0; COPY];
            if file.read_exact_at(&mut bytes, copy * COPY as u64).is_ok() {
                highest = highest.max(decode(&bytes).unwrap_or(0));
            }
        }
        Ok((Self { file }, highest))
    }

    /// Notes that all commits up to this one are about to be acknowledged.
    pub(crate) fn set(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(number), (number % 2) * COPY as u64)
    }

    /// Forgets what was noted, and notes this instead.
    pub(crate) fn reset(&self, number: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        self.set(number)
    }
}

fn encode(number: u64) -> [u8; COPY] {
    let mut bytes = [0; COPY];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = Sha256::digest(&bytes[..8]);
    bytes[8..].copy_from_slice(&sum[..8]);
    bytes
}

fn decode(bytes: &[u8; COPY]) -> Option<u64> {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    let number = u64::from_le_bytes(number);
    (encode(number) == *bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_copy_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let (mark, none) = Mark::open(&path).unwrap();
        assert_eq!(none, 0);
        for number in 1..=7 {
            mark.set(number).unwrap();
        }
        assert_eq!(Mark::open(&path).unwrap().1, 7);
        mark.file.write_all_at(&[0xee; 5], COPY as u64).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, 6);
        mark.reset(2).unwrap();
        assert_eq!(Mark::open(&path).unwrap().1, 2);
    }
}
